"""A server's one-line response as a client reads it, and response codes (RFC 1939 section 3, RFC 2449 section 8).

Used in the children of pproxy, for the answers of backends, and of pserv.  Backends are not trusted: the result is
printable ASCII and short.
"""

import re
from dataclasses import dataclass

from popular.errors import MailboxError, StoreError
from popular.names import clean_line

_CODE = re.compile(r"\[([A-Za-z0-9/_.-]{1,64}(?: [\x20-\x5a\x5c\x5e-\x7e]{1,64})?)\] ?(.*)")


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer: status, response code without brackets (or empty), and text for people."""

    ok: bool
    code: str
    text: str

    def __str__(self) -> str:
        status = "+OK" if self.ok else "-ERR"
        return " ".join(part for part in (status, f"[{self.code}]" if self.code else "", self.text) if part)


def parse_response(line: bytes) -> Response:
    """Read one response line, given without its CRLF; raises ValueError if it is not a response."""
    status, _, rest = clean_line(line).partition(" ")
    if status not in ("+OK", "-ERR"):
        raise ValueError("neither +OK nor -ERR")
    match = _CODE.fullmatch(rest)
    code, text = match.groups() if match else ("", rest)
    return Response(status == "+OK", code, text.strip())


def code_for(why: StoreError) -> str:
    """Return the response code for a fault of the store: SYS/PERM where trying again does not help (RFC 3206)."""
    return "SYS/PERM" if isinstance(why, MailboxError) and why.no_such_mailbox else "SYS/TEMP"
