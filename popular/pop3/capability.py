"""Capability lists (RFC 2449, spec 9.2): our own, and those an administrator writes.

Used in the children, which answer CAPA; `parse_list` is used wherever a list is read from `capadir`.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

HEAD = "capability list follows"
MAXLEN_CAPA = 4096     # octets of a list on the wire, CRLF included, without the final dot

_NEVER = "NEVER"
_MAX_DAYS = 36_500

# RFC 6856 and RFC 2449 section 6 do not allow these to differ between the states.
AUTHORIZATION: tuple[str, ...] = ("TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "LANG")

# RFC 2449 section 6.9: before the login it helps attackers more than users.  It has no version for the same reason.
IMPLEMENTATION = "IMPLEMENTATION POPular"
TRANSACTION: tuple[str, ...] = (*AUTHORIZATION, IMPLEMENTATION)

# What whoever holds the mail must be able to do.  LANG and UTF8 are said before it is known: only our pserv is told.
OF_POP3_BACKENDS = frozenset(("TOP", "UIDL", "RESP-CODES", "PIPELINING"))
OF_BACKENDS = OF_POP3_BACKENDS | {"UTF8", "LANG"}


def leaving_out(caps: Iterable[str], names: Container[str]) -> tuple[str, ...]:
    """Return `caps` without those whose first word is among `names`."""
    return tuple(cap for cap in caps if cap.partition(" ")[0] not in names)


@lru_cache(maxsize=64)
def before_login(caps: tuple[str, ...] = AUTHORIZATION, *, offers_tls: bool, needs_tls: bool,
                 mechanisms: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return what is supported before the login: STLS if it is offered, no USER if a password needs TLS first."""
    caps = with_sasl(leaving_out(caps, ("USER",)) if needs_tls else caps, mechanisms)
    return (*caps, "STLS") if offers_tls else caps


@dataclass(frozen=True, slots=True)
class Expiry:
    """Kind of a setting: what EXPIRE tells (RFC 2449 section 6.7)."""

    name: ClassVar[str] = "Expiry"
    wanted: ClassVar[str] = f"a number of days from 0 to {_MAX_DAYS}, or never"

    def parse(self, text: str) -> str:
        """Read the argument; raises ValueError."""
        if text.upper() == _NEVER:
            return _NEVER
        if not (text.isascii() and text.isdigit() and int(text) <= _MAX_DAYS):
            raise ValueError(self.wanted)
        return str(int(text))

    def show(self, value: str) -> str:
        """Return the argument as an administrator writes it."""
        return value.lower()


def expire(argument: str | None, *, may_differ: bool = False) -> tuple[str, ...]:
    """Return the capability with this argument, if there is one; `may_differ`: backends may tell something else."""
    if argument is None:
        return ()
    return (f"EXPIRE {argument} USER" if may_differ and argument != _NEVER else f"EXPIRE {argument}",)


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


def render(caps: Sequence[str], text: str = HEAD) -> bytes:
    """Return the whole answer to CAPA; a line that starts with a dot is stuffed and cannot end it."""
    lines = [b"+OK " + text.encode("ascii")]
    for line in map(_octets, caps):
        lines.append(b"." + line if line.startswith(b".") else line)
    return b"\r\n".join(lines) + b"\r\n.\r\n"


def _octets(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")
