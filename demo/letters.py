"""The messages that the demo delivers."""

from demo.accounts import ANNA, CARLA, OTHER_ANNA, Account

_LETTER = """\
From: {sender}
To: {name}@{namespace}
Subject: {subject}
Message-ID: <{number}@letters.{namespace}>
Date: Mon, 05 Jan 2026 09:0{number}:00 +0000

Dear {name},

{text}
.. and a line that begins with dots arrives as it was sent.
"""
LETTERS: tuple[tuple[Account, str, str, str], ...] = (
    (ANNA, "Ben <ben@example.org>", "Lunch", "will you be there at noon?"),
    (ANNA, "Carla <carla@example.org>", "Minutes of Monday", "here they are, as promised."),
    (ANNA, "News <news@example.com>", "This week", "nothing happened, and that is good news."),
    (OTHER_ANNA, "Dora <dora@example.net>", "Same name, other house", "this is the other namespace."),
    (CARLA, "Ben <ben@example.org>", "From another server", "your mail is on its own POP3 server."),
)


def letter(number: int) -> bytes:
    """Return one of LETTERS as an MTA passes it to pdeliver: with LF line ends."""
    account, sender, subject, text = LETTERS[number]
    return _LETTER.format(sender=sender, name=account.name, namespace=account.namespace, subject=subject,
                          text=text, number=number + 1).encode()
