"""Warnings that a mailbox fills up: messages in the mailbox itself, when a delivery takes it to a level of its quota.

Used in pdeliver and in the children of plmtpd, where levels are set.  Usage is counted before and after each delivery:
so nothing has to be remembered, and of deliveries at the same time at least one sees that the level was reached.
"""

import io
import os
import time
from collections.abc import Sequence

from popular.store.delivery.deliver import deliver
from popular.store.lineends import MailForm
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota, Usage, usage_of

MAX_WARNING = 65536    # octets of the file

_TEXT = """\
Subject: Your mailbox is {percent} % full

Your mailbox holds {used} of {limit}.

When it is full, it takes no more mail, and new messages go back to their
senders.  Please delete messages that you no longer need.  If your mail
program leaves messages on the server, let it remove them after some days.
"""
_MADE = ("From", "To", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
         "Auto-Submitted")


def warn_of_quota(mailbox: Mailbox, quota: Quota, before: Usage, levels: Sequence[int], path: str = "") -> int:
    """Warn the user if the mailbox has reached a level, in percent, since `before`; return its percent then, else 0.

    `path`: a file with the message, see `warning`; empty: a short English text.  The warning is delivered whatever the
    quota says.  Raises OSError, StoreError, and ValueError for the text; whatever it raises, the delivery is done.
    """
    former = quota.percent(before)
    if not any(level > former for level in levels):
        return 0
    after = usage_of(mailbox)
    percent = quota.percent(after)
    if not any(former < level <= percent for level in levels):
        return 0
    text = _TEXT
    if path:
        with open(path, "rb") as file:
            octets = file.read(MAX_WARNING + 1)
        if len(octets) > MAX_WARNING:
            raise ValueError(f"{path}: more than {MAX_WARNING} octets")
        text = octets.decode("utf-8")
    deliver(mailbox, io.BytesIO(warning(text, mailbox.name, quota, after)), MailForm.LF)
    return percent


def warning(text: str, name: str, quota: Quota, usage: Usage) -> bytes:
    """Return the message to the user of the mailbox `name`, with LF line ends.

    `text` is headers, such as Subject, and after an empty line what the user reads.  `{mailbox}`, `{percent}`, `{used}`
    and `{limit}` in it are replaced; if both size and number are limited, the last two are those of which more is used.
    Headers that it lacks are added.  Raises ValueError if it does not begin with headers.
    """
    used, limit = quota.nearer(usage)
    for mark, value in (("mailbox", name), ("percent", str(quota.percent(usage))), ("used", used), ("limit", limit)):
        text = text.replace(f"{{{mark}}}", value)
    head, found, body = text.replace("\r\n", "\n").partition("\n\n")
    lines = [_header(line) for line in head.splitlines()]
    given = {line.partition(":")[0].lower() for line in lines}
    if not found or not lines:
        raise ValueError("the warning has no headers with an empty line after them")
    host = os.uname().nodename
    made = (f"Mail system <postmaster@{host}>", "undisclosed-recipients:;",
            time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime()), f"<{time.time_ns()}.{os.getpid()}@{host}>",
            "1.0", "text/plain; charset=utf-8", "8bit", "auto-generated")
    lines += [f"{name}: {value}" for name, value in zip(_MADE, made, strict=True) if name.lower() not in given]
    return "\n".join((*lines, "", body)).encode()


def _header(line: str) -> str:
    """Return a header line as it may be sent; raises ValueError."""
    name, colon, value = line.partition(":")
    if not colon or not name.isascii() or not name.replace("-", "").isalnum():
        raise ValueError(f"not a header of a message: {line[:40]!r}")
    if value.isascii():
        return line
    from email.header import Header    # few texts need it

    return f"{name}: {Header(value.strip(), 'utf-8').encode()}"
