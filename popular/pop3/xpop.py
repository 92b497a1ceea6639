"""The XPOP preamble (spec 8.1): how pproxy names the mailbox that it wants from pserv, without a password.

It has three lines, each ended by CRLF: the mailbox, the session id for both logs, and flags, one
character each.  pserv answers with one line, which the proxy passes on as the answer to PASS; from
then on it is POP3 in TRANSACTION state.  Used in the children of pproxy and pserv.
"""

from dataclasses import dataclass

from popular.errors import CommandRefused, LoginRefused, ProxyHeader
from popular.names import MAX_MAILBOX, clean_line, is_mailbox, is_sid
from popular.net.transport import is_proxy_header
from popular.net.wire import Wire

MAX_FLAGS = 16    # flags on the third line
_MASTER = "M"      # the only flag of 1.5.5: new mail stays new when it is read (spec 7.3)
_LANGUAGES = {"de": "D"}    # of the answers; earlier versions ignore it
_MISSING = {"empty": "E", "create": "C", "refuse": "R"}    # for a user without mailbox; 1.5.5 ignores these flags

# What a POP3 client may send first if it is connected here by mistake.  All are well-formed names of
# mailboxes, but no mailbox is called so in capitals.
_POP3_WORDS = frozenset((b"CAPA", b"QUIT", b"STLS", b"AUTH", b"STAT", b"LIST", b"UIDL", b"NOOP", b"RSET", b"LAST"))


@dataclass(frozen=True, slots=True)
class Preamble:
    """What the proxy wants."""

    mailbox: str                # well-formed by `names.is_mailbox`
    sid: str                    # well-formed by `names.is_sid`
    flags: frozenset[str]       # includes unknown ones, which are ignored

    @property
    def master(self) -> bool:
        """Whether this is a master session (spec 7.3)."""
        return _MASTER in self.flags

    @property
    def missing(self) -> str:
        """What becomes of a user without mailbox: a word of the variable `missing`; empty: as that says."""
        return next((word for word, flag in _MISSING.items() if flag in self.flags), "")

    @property
    def language(self) -> str:
        """The tag of the language that the client wants; empty: it has not said so."""
        return next((tag for tag, flag in _LANGUAGES.items() if flag in self.flags), "")


def read_preamble(wire: Wire) -> Preamble:
    """Read the three lines.

    Raises LoginRefused, with the answer for the other side, at the first wrong line, ProxyHeader, and Gone.
    The caller limits the time by the wire's deadline.
    """
    mailbox = _line(wire, MAX_MAILBOX, "mailbox name")
    if is_proxy_header(mailbox):
        raise ProxyHeader
    if mailbox in _POP3_WORDS or b" " in mailbox:
        raise _refused("this port speaks XPOP, not POP3", mailbox)
    if not is_mailbox(mailbox.decode("latin-1")):
        raise _refused("bad mailbox name", mailbox)
    sid = _line(wire, MAX_MAILBOX, "session id")
    if not is_sid(sid.decode("latin-1")):
        raise _refused("bad session id", sid)
    flags = _line(wire, MAX_MAILBOX, "flags")
    if len(flags) > MAX_FLAGS or any(not 0x21 <= octet <= 0x7e for octet in flags):
        raise _refused("bad flags", flags)
    return Preamble(mailbox.decode("ascii"), sid.decode("ascii"), frozenset(flags.decode("ascii")))


def preamble_lines(mailbox: str, sid: str, master: bool, missing: str = "", language: str = "") -> bytes:
    """Return the preamble as pproxy sends it, without waiting for a greeting.

    Raises ValueError for a name or an id that the other side would refuse.  That is a bug, since both
    were checked before: the name when it came from a database, the id when it was made.
    """
    if not is_mailbox(mailbox):
        raise ValueError(f"not a mailbox name: {mailbox!r}")
    if not is_sid(sid):
        raise ValueError(f"not a session id: {sid!r}")
    flags = (_MASTER if master else "") + (_MISSING[missing] if missing else "") + _LANGUAGES.get(language, "")
    return f"{mailbox}\r\n{sid}\r\n{flags}\r\n".encode("ascii")


def _line(wire: Wire, limit: int, what: str) -> bytes:
    """Return the next line of at most `limit` octets, independent of the limit for the later commands."""
    command_limit = wire.maxline
    wire.maxline = limit
    try:
        return wire.readline()
    except CommandRefused as why:
        raise LoginRefused(f"{what} too long", code="SYS/PERM", why=f"{what}: {why.text}") from None
    finally:
        wire.maxline = command_limit


def _refused(text: str, line: bytes) -> LoginRefused:
    return LoginRefused(text, code="SYS/PERM", why=f"{text}: {clean_line(line, 80)}")
