"""Which names are well-formed: ids, mailboxes, session ids, and text cleaned for a POP3 line.

Pure functions, used in every process.  Names come from clients, datagrams, databases and
backends, and must not be trusted before they are checked here.
"""

MAX_MAILBOX = 512        # octets of a mailbox name, so that name and file stay below PATH_MAX
MAX_SID = 64             # octets of a session id on the wire
MAX_RESPONSE = 510       # octets of a response line without CRLF (RFC 2449 section 4)

MAX_ID = 64              # octets

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
_LETTERS_OF_SID = _LETTERS + ":"
_LETTERS_OF_MAILBOX = _LETTERS + "+/=%"
_UNPRINTABLE = bytes(octet if 0x20 <= octet <= 0x7e else 0 for octet in range(256))


def is_id(text: str) -> bool:
    """Tell whether `text` is an Id (spec 1.2): letters, digits, `_`, `-`, `.`, up to 64."""
    return _has_only(text, _LETTERS, MAX_ID)


def is_sid(text: str) -> bool:
    """Tell whether `text` is valid as a session id in an XPOP preamble."""
    return _has_only(text, _LETTERS_OF_SID, MAX_SID)


def is_mailbox(name: str) -> bool:
    """Tell whether `name` may name a mailbox below the spool (spec 2.4 and 8.1).

    Only `a-z A-Z 0-9 . _ - + / = %`, never `..`, no leading `/`, at most `MAX_MAILBOX` octets.
    """
    return _has_only(name, _LETTERS_OF_MAILBOX, MAX_MAILBOX) and ".." not in name and name[0] != "/"


def clean_line(raw: bytes, limit: int = MAX_RESPONSE) -> str:
    """Return `raw` as one short printable line: each run of other octets than printable ASCII becomes one `?`."""
    text = raw.rstrip(b"\r\n").translate(_UNPRINTABLE)
    while b"\0\0" in text:
        text = text.replace(b"\0\0", b"\0")
    return text.replace(b"\0", b"?")[:limit].decode("ascii")


def _has_only(text: str, letters: str, limit: int) -> bool:
    """Tell whether a text has at least one character, at most `limit`, and none but `letters`."""
    return 0 < len(text) <= limit and not text.strip(letters)
