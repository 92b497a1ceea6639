"""The XPOP preamble (spec 8.1): how pproxy tells pserv whose mailbox it wants, without a password.

Three lines, each ended by CRLF: the mailbox, the session id for both logs, and flags, one
character each.  pserv answers one line, which the proxy passes on as the answer to PASS; from
there it is POP3 in TRANSACTION state.  Used in the children of pproxy and pserv.
"""

from dataclasses import dataclass

from popular.errors import CommandRefused, LoginRefused, ProxyHeader
from popular.names import MAX_MAILBOX, clean_line, is_mailbox, is_sid
from popular.net.transport import is_proxy_header
from popular.net.wire import Wire

MAX_FLAGS = 16    # flags on the third line
_MASTER = "M"      # the one flag of 1.5.5: reading leaves new mail new (spec 7.3)

# What a POP3 client may send first when it was led here by mistake.  All could be mailboxes by
# their letters; in capitals they are not.
_POP3_WORDS = frozenset((b"CAPA", b"QUIT", b"STLS", b"AUTH", b"STAT", b"LIST", b"UIDL", b"NOOP", b"RSET", b"LAST"))


@dataclass(frozen=True, slots=True)
class Preamble:
    """What the proxy wants."""

    mailbox: str                # well-formed by `names.is_mailbox`
    sid: str                    # well-formed by `names.is_sid`
    flags: frozenset[str]       # those we do not know are there too, and mean nothing

    @property
    def master(self) -> bool:
        """Whether this is a master session (spec 7.3)."""
        return _MASTER in self.flags


def read_preamble(wire: Wire) -> Preamble:
    """Read the three lines.

    Raises LoginRefused, with the answer for the other side, at the first line that is wrong, and Gone.
    How long it may take is the wire's deadline, which the caller sets.
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


def preamble_lines(mailbox: str, sid: str, master: bool) -> bytes:
    """Return the preamble as pproxy sends it, without waiting for a greeting.

    Raises ValueError for a name or an id that the other side would have to refuse; both were
    checked when they came from a database or were made.
    """
    if not is_mailbox(mailbox):
        raise ValueError(f"not a mailbox name: {mailbox!r}")
    if not is_sid(sid):
        raise ValueError(f"not a session id: {sid!r}")
    return f"{mailbox}\r\n{sid}\r\n{_MASTER if master else ''}\r\n".encode("ascii")


def _line(wire: Wire, limit: int, what: str) -> bytes:
    """Return the next line of at most `limit` octets, whatever the limit of the commands that follow."""
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
