"""Capability lists (RFC 2449, spec 9.2): our own, and those an administrator writes.

Used in the children, which answer CAPA; `parse_list` is used wherever a list is read from `capadir`.
"""

from collections.abc import Sequence
from functools import lru_cache

MAXLEN_CAPA = 4096     # octets of a list on the wire, CRLF included, without the final dot

# RFC 2449 section 6 does not allow these to differ between the states.
AUTHORIZATION: tuple[str, ...] = ("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING")

# Section 6.9: before the login it helps attackers more than users.  It has no version for the same reason.
TRANSACTION: tuple[str, ...] = (*AUTHORIZATION, "IMPLEMENTATION POPular")


@lru_cache(maxsize=64)
def before_login(*, offers_tls: bool, needs_tls: bool, mechanisms: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return what is supported before the login: STLS if it is offered, no USER if a password needs TLS first."""
    caps = with_sasl([word for word in AUTHORIZATION if word != "USER" or not needs_tls], mechanisms)
    return (*caps, "STLS") if offers_tls else caps


def with_sasl(caps: Sequence[str], mechanisms: Sequence[str]) -> tuple[str, ...]:
    """Return `caps` with a line for the `mechanisms`, if there are any (RFC 5034 section 3)."""
    return (*caps, " ".join(("SASL", *mechanisms))) if mechanisms else tuple(caps)


def parse_list(text: str) -> tuple[str, ...]:
    """Return the lines of an administrator's list, each exactly as it stands in the answer.

    Only the size and NUL are checked, as in the original: a wrong list gives a wrong answer.  CRLF
    line ends are taken as LF.  `text` was decoded as UTF-8 with surrogateescape.  Raises ValueError
    with a text that says what is allowed, for a list longer than MAXLEN_CAPA or with a NUL, for
    which our own proxy would drop the connection (spec 1.5).
    """
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    caps = tuple(line.removesuffix("\r") for line in lines)
    if "\0" in text:
        raise ValueError("a text without NUL characters")
    if sum(len(_octets(line)) + 2 for line in caps) > MAXLEN_CAPA:
        raise ValueError(f"at most {MAXLEN_CAPA} octets, line ends counted as two")
    return caps


def render(caps: Sequence[str]) -> bytes:
    """Return the whole answer to CAPA; a line that starts with a dot is stuffed and cannot end it."""
    lines = [b"+OK capability list follows"]
    for line in map(_octets, caps):
        lines.append(b"." + line if line.startswith(b".") else line)
    return b"\r\n".join(lines) + b"\r\n.\r\n"


def _octets(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")
