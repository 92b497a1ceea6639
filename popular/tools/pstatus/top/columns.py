"""The columns of the table: their content, how they sort, and which of them fit on a screen.

Part of the tool pstatus --top; data and pure functions.
"""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from popular.addresses import Endpoint
from popular.statefile.layout import STATES
from popular.statefile.reader import Row
from popular.tools.pstatus.table import size, span
from popular.tools.pstatus.top.text import shown

GAP = 2            # screen columns between two columns of the table
_NARROW_GAP = 1    # where space is short

BEING_WRITTEN = "being-written"

SortKey = int | float | str | tuple[int, bytes, int]
_ORDER = {name: number for number, name in enumerate([*STATES, BEING_WRITTEN])}


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of the table: a slot, the moment it was looked at, and its speed since the look before."""

    row: Row
    moment: float         # seconds since 1970
    speed: float = 0.0    # octets in a second, both ways


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    letter: str                             # Shift and this letter sorts by it
    doc: str
    cell: Callable[[TableRow], str]          # an empty text: no value
    key: Callable[[TableRow], SortKey | None]    # None: no value, sorted last
    width: int                              # at least
    widest: int = 0                         # 0: it never grows
    rank: int = 0                           # the higher ones are dropped first where there is no room
    is_right: bool = False
    is_descending: bool = False             # the largest first, unless it is reversed


def columns_of(program: str) -> tuple[Column, ...]:
    """Return the columns for a program."""
    return _PROXY if program == "pproxy" else _SERVER


def column_widths(columns: Sequence[Column], needs: Mapping[str, int], room: int, wanted: str) -> dict[str, int]:
    """Return the columns that fit, in their order, with their widths.

    `needs` are the widths of their longest cells; the column `wanted` is dropped last, whatever its rank.
    """
    gap = gap_in(room)
    kept: list[Column] = []
    left = room
    for column in sorted(columns, key=lambda column: (column.name != wanted, column.rank)):
        if column.width + gap > left + gap * (not kept):
            break
        left -= column.width + gap * bool(kept)
        kept.append(column)
    found = {column.name: column.width for column in columns if column in kept}
    for column in sorted(kept, key=lambda column: column.rank):
        more = min(left, max(0, min(needs.get(column.name, 0), column.widest) - column.width))
        found[column.name] += more
        left -= more
    return found


def gap_in(room: int) -> int:
    """Return how many screen columns separate those of the table."""
    return GAP if room >= 100 else _NARROW_GAP


def longest(columns: Iterable[Column], sessions: Sequence[TableRow]) -> dict[str, int]:
    """Return the widths that the cells of these sessions need, for the columns that grow."""
    return {column.name: max([len(column.cell(session)) for session in sessions], default=0)
            for column in columns if column.widest}


def address_key(client: Endpoint | None) -> SortKey | None:
    """Return the sort key of a client: IPv4, then IPv6, by number; anything else comes first."""
    if client is None:
        return None
    packed = packed_address(client.host)
    return (len(packed), packed, client.port) if packed else (0, client.host.encode("utf-8", "replace"), client.port)


def packed_address(host: str) -> bytes:
    """Return the octets of an IP address, for an IPv4 address in IPv6 those of IPv4; empty for anything else."""
    try:
        if ":" not in host:
            return socket.inet_pton(socket.AF_INET, host)
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except (OSError, ValueError):
        return b""
    return packed[12:] if packed.startswith(b"\0" * 10 + b"\xff\xff") else packed


def _since(moment: Callable[[Row], float]) -> Callable[[TableRow], float | None]:
    """Return a function that tells how long ago something was; None if it has not happened."""
    return lambda session: session.moment - moment(session.row) if moment(session.row) else None


_AGE = _since(lambda row: row.started if row.has_session else 0.0)
_ENTERED = _since(lambda row: row.entered)
_IDLE = _since(lambda row: row.activity if row.has_session else 0.0)


def _span(time: Callable[[TableRow], float | None]) -> Callable[[TableRow], str]:
    return lambda session: "" if (seconds := time(session)) is None else span(seconds)


def _in_session(number: Callable[[TableRow], float]) -> Callable[[TableRow], float | None]:
    return lambda session: number(session) if session.row.has_session else None


def _size(number: Callable[[TableRow], float]) -> Callable[[TableRow], str]:
    return lambda session: size(number(session)) if session.row.has_session else ""


def _rate(session: TableRow) -> str:
    return f"{size(session.speed)}/s" if session.speed >= 0.5 else ""


_SLOT = Column("slot", "L", "the number of the slot", lambda session: str(session.row.slot),
               lambda session: session.row.slot, 5, 7, rank=4, is_right=True)
_PID = Column("pid", "P", "the process id of the child", lambda session: str(session.row.pid or ""),
              lambda session: session.row.pid or None, 7, rank=7, is_right=True)
_NTH = Column("nth", "H", "how many sessions the child has had", lambda session: str(session.row.sessions or ""),
              lambda session: session.row.sessions or None, 4, 7, rank=13, is_right=True, is_descending=True)
_STATE = Column("state", "S", "what it is doing", lambda session: shown(session.row.state),
                lambda session: _ORDER.get(session.row.state, len(_ORDER)), 10, 13, rank=1)
_TIMES = (
    Column("age", "A", "how long the session has been there", _span(_AGE), _AGE, 6, rank=10, is_right=True,
           is_descending=True),
    Column("since", "E", "how long it has been in this state", _span(_ENTERED), _ENTERED, 6, rank=3, is_right=True,
           is_descending=True),
    Column("idle", "D", "since when no octet has moved", _span(_IDLE), _IDLE, 6, rank=11, is_right=True,
           is_descending=True),
)
_CLIENT = Column("client", "C", "address and port of the client",
                 lambda session: shown(str(session.row.client)) if session.row.client else "",
                 lambda session: address_key(session.row.client), 21, 47, rank=2)
_AMOUNTS = (
    Column("in", "N", "octets from the client", _size(lambda session: session.row.bytes_in),
           _in_session(lambda session: session.row.bytes_in), 6, rank=9, is_right=True, is_descending=True),
    Column("out", "O", "octets to the client", _size(lambda session: session.row.bytes_out),
           _in_session(lambda session: session.row.bytes_out), 6, rank=5, is_right=True, is_descending=True),
    Column("rate", "R", "octets in a second, both ways", _rate,
           lambda session: session.speed or None, 8, rank=8, is_right=True, is_descending=True),
)
_SESSION = Column("session", "I", "the session id", lambda session: shown(session.row.sid),
                  lambda session: session.row.sid or None, 12, 64, rank=12)


def _owner(name: str, doc: str) -> Column:
    return Column(name, "V", doc, lambda session: shown(session.row.owner), lambda session: session.row.owner or None,
                  len(name) + 1, 24, rank=6)


def _user(name: str, letter: str) -> Column:
    return Column(name, letter, f"the {name}", lambda session: shown(session.row.user),
                  lambda session: session.row.user or None, 10, 60, rank=0)


_BACKEND = Column("backend", "B", "the backend", lambda session: shown(session.row.backend),
                  lambda session: session.row.backend or None, 8, 24, rank=6)

_CHILD = (_SLOT, _PID, _NTH, _STATE, *_TIMES, _CLIENT)
_PROXY = (*_CHILD, _owner("vserv", "the virtual server"), _BACKEND, *_AMOUNTS, _user("user", "U"), _SESSION)
_SERVER = (*_CHILD, _owner("server", "the server"), *_AMOUNTS, _user("mailbox", "M"), _SESSION)
