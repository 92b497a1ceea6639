"""Which names are well-formed: ids, mailboxes, session ids, and text cleaned for a POP3 line.

Pure functions, used in every process.  Names come from clients, datagrams, databases and
backends, and must not be trusted before they are checked here.
"""

import re

MAX_MAILBOX = 512        # octets of a mailbox name, so that name and file stay below PATH_MAX
MAX_SID = 64             # octets of a session id on the wire
MAX_RESPONSE = 510       # octets of a response line without CRLF (RFC 2449 section 4)

_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_SID = re.compile(r"[A-Za-z0-9._:-]{1,%d}" % MAX_SID, re.ASCII)
_MAILBOX = re.compile(r"[A-Za-z0-9._+/=%-]+", re.ASCII)
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]+")


def is_id(text: str) -> bool:
    """Tell whether `text` is an Id (spec 1.2): letters, digits, `_`, `-`, `.`, up to 64."""
    return _ID.fullmatch(text) is not None


def is_sid(text: str) -> bool:
    """Tell whether `text` is valid as a session id in an XPOP preamble."""
    return _SID.fullmatch(text) is not None


def is_mailbox(name: str) -> bool:
    """Tell whether `name` may name a mailbox below the spool (spec 2.4 and 8.1).

    Only `a-z A-Z 0-9 . _ - + / = %`, never `..`, no leading `/`, at most `MAX_MAILBOX` octets.
    """
    return (len(name) <= MAX_MAILBOX and _MAILBOX.fullmatch(name) is not None
            and ".." not in name and name[0] != "/")


def clean_line(raw: bytes, limit: int = MAX_RESPONSE) -> str:
    """Return `raw` as one short printable line: each run of other octets than printable ASCII becomes one `?`."""
    return _UNPRINTABLE.sub(b"?", raw.rstrip(b"\r\n"))[:limit].decode("ascii")
