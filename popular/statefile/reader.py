"""Reading a state file, which may be in any state and written by anybody (see layout.py).

Used by pstatus, and by the master for `session list`.  The content is hostile: sizes are those of the
layout, numbers are clipped, and what does not fit is ignored.  Texts are passed on unchanged, without
NULs; the caller must escape them.  Raises NotAStateFile and what `read` raises.
"""

import math
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from popular.addresses import Endpoint
from popular.errors import PopularError
from popular.statefile.layout import (
    BACKEND_STATES, CHANGING, CHANGING_AT, CHANGING_SIZE, COLUMNS, FAILURE_COLUMNS, FAILURE_SIZE, FAILURES, FAILURES_AT,
    FIXED, HEALTH_AT, HEALTH_NUMBERS, HEALTH_SIZE, KINDS, LAYOUT_VERSION, MAGIC, MAX_RELAYS, NAME, NAMES, NAMES_AT,
    OF_CHECKS, OF_LOGINS, RELAYS, RELAYS_AT, ROW_SIZE, SEQUENCE_SIZE, SHARING_FIELDS, SHARING_AT, SHARING_STATES, SLOT,
    SLOT_SIZE, STATE, SWITCH, BackendState, Layout, SessionState, SharingState, StateFileKind)
from popular.statefile.seqlock import Read, whole_records

MAX_SLOTS = 1_000_000    # more are not believed

_AT_ONCE = 64            # records read together

# A row is added as one large number, because adding 320 counters one by one takes 12 us a slot.  Every other
# counter is masked out, so that each can overflow into the 64 bits of its neighbour.
_PAIR = 128
_COUNTER = (1 << 64) - 1
_PAIR_OF_COUNTERS = (1 << _PAIR) - 1

_FAILURES = struct.Struct(f"={FAILURE_COLUMNS}Q")
_HEALTH = struct.Struct(f"={HEALTH_NUMBERS}d")
_BACKEND_STATES = {float(state): name for name, state in BACKEND_STATES.items()}

_LATEST = 32_503_680_000.0    # the year 3000: anything later is invalid


class NotAStateFile(PopularError):
    """The file is not a state file, or has another version."""


@dataclass(frozen=True, slots=True)
class Row:
    """One slot at one moment; times in seconds since 1970, 0.0 for none."""

    slot: int
    pid: int = 0
    state: str = "free"          # a name of SessionState in lower case, or `?` and a number
    sessions: int = 0            # of this child, with the one that runs
    sid: str = ""
    client: Endpoint | None = None
    owner: str = ""              # id of the vserv or server
    backend: str = ""
    user: str = ""               # in pserv the mailbox
    bytes_in: int = 0            # from the client
    bytes_out: int = 0
    started: float = 0.0
    entered: float = 0.0         # the state
    activity: float = 0.0        # octets moved last

    @property
    def has_session(self) -> bool:
        """Tell whether the slot serves a client."""
        return self.state not in ("free", "idle")


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a backend is used; names of BackendState in lower case."""

    state: str
    checks: str    # of its mail checks: up, slow or down


@dataclass(frozen=True, slots=True)
class Head:
    """What a state file says about its daemon."""

    kind: StateFileKind
    slots: int            # of children
    relayed: int          # slots of relayed sessions, after those of children
    relays: int           # relay processes
    device: int
    inode: int
    version: str
    host: str
    pid: int
    started: float
    generation: int
    slots_used: int
    maxsession: int
    maxlocalload: float
    load: float
    session_state: int
    load_state: int
    workers: int
    workers_busy: int
    is_screening: bool
    sharing: str          # a name of SharingState in lower case
    proxies: int          # others with which counts are shared
    names: Mapping[int, tuple[str, str]]    # number to class and id


class StateFileView:
    """One look at a state file."""

    def __init__(self, read: Read, patience: float = 0.0) -> None:
        """Read the header by `read`, a function from offset and size to octets; raises NotAStateFile.

        `patience` is how many seconds this view waits in total for writers that stopped in the middle.
        """
        self._read = read
        self._deadline = time.monotonic() + patience
        self.head = self._read_head()
        self._layout = Layout(self.head.slots, self.head.relayed, self.head.relays)

    def rows(self, first: int = 0, last: int | None = None) -> list[Row | None]:
        """Return the slots of children from `first` to `last` that were ever used.

        None stands for a slot that was being written at each attempt, for example by a writer that died.
        """
        return self._rows(first, self.head.slots_used if last is None else min(self.head.slots_used, last + 1))

    def relayed(self) -> list[Row]:
        """Return the sessions of relay processes."""
        *_, used = self._layout.used(0, self._read(RELAYS_AT, RELAYS.size))
        return [row for row in self._rows(used.start, used.stop) if row is not None and row.has_session]

    def _rows(self, first: int, end: int) -> list[Row | None]:
        found: list[Row | None] = []
        for start in range(first, end, _AT_ONCE):
            count = min(_AT_ONCE, end - start)
            records = whole_records(self._read, self._layout.slot_at(start), SLOT_SIZE, count, self._deadline)
            found += [None if octets is None else parse_row(octets, start + index, self.head.names)
                      for index, octets in enumerate(records)]
        return found

    def totals(self) -> tuple[dict[str, int], dict[tuple[str, str], int]]:
        """Return the counters by name, and the sessions by class and id, summed up over all slots."""
        pairs = (COLUMNS + len(self.head.names) + 1) // 2    # the rest of a row is not used
        every_other = sum(_COUNTER << _PAIR * pair for pair in range(pairs))
        low = high = 0
        head = self.head
        parts = (range(-1, head.slots_used), range(head.slots, head.slots + head.relays))    # the master's is the first
        for start, end in ((start, min(start + _AT_ONCE, part.stop)) for part in parts for start in part[::_AT_ONCE]):
            block = self._read(self._layout.row_at(start), (end - start) * ROW_SIZE)
            for at in range(0, len(block) - len(block) % ROW_SIZE, ROW_SIZE):
                row = int.from_bytes(block[at:at + pairs * _PAIR // 8], sys.byteorder)
                low += row & every_other
                high += row >> 64 & every_other
        sums = [number >> _PAIR * pair & _PAIR_OF_COUNTERS for pair in range(pairs) for number in (low, high)]
        if sys.byteorder == "big":
            sums.reverse()
        counters = dict(zip(self.head.kind.counters, sums))
        return counters, {name: sums[COLUMNS + number] for number, name in self.head.names.items()}

    def failures(self) -> dict[tuple[str, str], int]:
        """Return how often each backend failed in each way, by id and kind; unnamed backends have an empty id."""
        failing = self.head.kind.failing
        if not failing:
            return {}
        octets = self._read(FAILURES_AT, len(self.head.names) * FAILURE_SIZE)
        rows = _FAILURES.iter_unpack(octets[:len(octets) - len(octets) % FAILURE_SIZE])
        return {(ident, kind): count for (number, (cls, ident)), counts in zip(self.head.names.items(), rows)
                if number == 0 or cls == failing for kind, count in zip(FAILURES, counts)}

    def backends(self) -> dict[str, Health]:
        """Return whether each backend is used, by id; those that are not configured any more are left out."""
        failing = self.head.kind.failing
        if not failing:
            return {}
        octets = self._read(HEALTH_AT, len(self.head.names) * HEALTH_SIZE)
        records = _HEALTH.iter_unpack(octets[:len(octets) - len(octets) % HEALTH_SIZE])
        return {ident: Health(_backend_state(record[SWITCH] or record[OF_LOGINS + STATE]),
                              _backend_state(record[OF_CHECKS + STATE]))
                for (cls, ident), record in zip(self.head.names.values(), records)
                if cls == failing and record[SWITCH] != BackendState.REMOVED}

    def _read_head(self) -> Head:
        fixed = self._read(0, FIXED.size)
        if len(fixed) < FIXED.size or not fixed.startswith(MAGIC):
            raise NotAStateFile("not a state file")
        _, magic, version, *places, device, inode, program, host, relayed, relays = FIXED.unpack(fixed)
        if version != LAYOUT_VERSION:
            raise NotAStateFile(f"a state file of version {version}, not of version {LAYOUT_VERSION}")
        slots = places[1]
        is_small = 0 < slots <= MAX_SLOTS and relayed <= MAX_SLOTS and relays <= MAX_RELAYS
        if magic not in KINDS or not is_small or tuple(places) != Layout(slots, relayed, relays).places()[1:]:
            raise NotAStateFile("not a state file of pproxy, pserv or plmtpd")
        if len(self._read(Layout(slots, relayed, relays).size - 1, 1)) != 1:
            raise NotAStateFile("a state file that was cut off")
        [octets] = whole_records(self._read, CHANGING_AT, CHANGING_SIZE, 1, self._deadline)
        if octets is None:
            raise NotAStateFile("a state file whose header was being written")
        (pid, started, generation, used, names, maxsession, maxload, load, session_state, load_state, workers,
         workers_busy, is_screening) = CHANGING.unpack_from(octets, SEQUENCE_SIZE)
        return Head(KINDS[magic], slots, relayed, relays, device, inode, _text(program), _text(host), pid,
                    _moment(started), generation, min(used, slots), maxsession, _amount(maxload), _amount(load),
                    session_state, load_state, workers, workers_busy, bool(is_screening), *self._read_sharing(),
                    self._read_names(min(names, NAMES)))

    def _read_sharing(self) -> tuple[str, int]:
        state, proxies = SHARING_FIELDS.unpack(self._read(SHARING_AT, SHARING_FIELDS.size))
        return SHARING_STATES.get(state, SharingState.OFF.name.lower()), proxies

    def _read_names(self, count: int) -> dict[int, tuple[str, str]]:
        octets = self._read(NAMES_AT, count * NAME.size)
        octets = octets[:len(octets) - len(octets) % NAME.size]
        return {number: (_text(cls), _text(ident)) for number, (cls, ident) in enumerate(NAME.iter_unpack(octets))}


def parse_row(octets: bytes, slot: int, names: Mapping[int, tuple[str, str]]) -> Row:
    """Return what a whole slot record says."""
    (pid, sessions, owner, backend, port, state, bytes_in, bytes_out, activity, entered, started, sid, client,
     user) = SLOT.unpack_from(octets, SEQUENCE_SIZE)
    host = _text(client)
    return Row(slot, pid, _state(state), sessions, _text(sid), Endpoint(host, port) if host else None,
               names.get(owner, ("", ""))[1], names.get(backend, ("", ""))[1], _text(user), bytes_in, bytes_out,
               _moment(started), _moment(entered), _moment(activity))


def _state(number: int) -> str:
    try:
        return SessionState(number).name.lower()
    except ValueError:
        return f"?{number}"


def _backend_state(number: float) -> str:
    return _BACKEND_STATES.get(number, "?")


def _text(octets: bytes) -> str:
    """Return a text field; octets that are not UTF-8 become `\\xNN`."""
    return octets.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _amount(number: float) -> float:
    return number if math.isfinite(number) and number >= 0 else 0.0


def _moment(number: float) -> float:
    return number if 0 <= number < _LATEST else 0.0    # nan is out of range
