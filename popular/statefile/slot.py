"""A child's own place in the state file: one slot record and one row of counters (children; see layout.py).

Cheap, because every session writes here many times: some octets into shared memory and a reading of the
clock, no system calls.  Raises nothing but KeyError for a counter that this kind of state file lacks.
Passwords are never written.
"""

import os
import time
from collections.abc import Callable, Container, Mapping
from mmap import mmap

from popular.addresses import Endpoint
from popular.statefile.layout import (
    BACKEND_AT, CLIENT_HOST, CLIENT_HOST_AT, CLIENT_PORT, CLIENT_PORT_AT, COLUMNS, ENDED_AT, FAILURES,
    FAILURE_COLUMNS, HEALTH_AT, HEALTH_NUMBERS, HEALTH_SIZE, IS_SCREENING_AT, KEY, LOAD_STATE_AT, MOVING, MOVING_AT,
    NAMED, NAMED_AT, NAMES, RELAYS, RELAYS_AT, ROW_SIZE, SEQUENCE_SIZE, SESSION_STATE_AT, SID, SID_AT, SLOT, SLOT_SIZE,
    USER, USER_AT, CountedBy, Layout, LimitState, SessionState, StateFileKind, used_slots)
from popular.statefile.seqlock import Sequenced

_MAX_LOAD_STATE = int(LimitState.MAX)
_COUNTED_BY = tuple(CountedBy)    # to go through an enumeration costs six calls
_MAX_KEY = 0xffff_ffff_ffff_ffff

MakeKey = Callable[..., int]    # as `session_key`
Elsewhere = Callable[[CountedBy, int], int]    # returns how many sessions with a key other proxies have


class ChildSlot:
    """What one child reports about itself."""

    def __init__(self, memory: mmap, layout: Layout, slot: int, kind: StateFileKind, columns: Mapping[str, int],
                 names: Mapping[tuple[str, str], int], elsewhere: Elsewhere | None = None) -> None:
        """Take the place of `slot`; `columns` are the numbers of counters, `names` those of (class, id)."""
        self.number = slot
        self._pid = os.getpid()
        self._memory = memory
        self._layout = layout
        self._record = Sequenced(memory, layout.slot_at(slot), SLOT_SIZE)
        self._ended_at = layout.slot_at(slot) + ENDED_AT
        start = layout.row_at(slot)
        self._row = memoryview(memory)[start:start + ROW_SIZE].cast("Q")
        self._health = memoryview(memory)[HEALTH_AT:HEALTH_AT + NAMES * HEALTH_SIZE].cast("d")
        self._keys = memoryview(memory)[layout.keys_at:layout.size].cast("Q")[slot::layout.every]
        self._columns = columns
        self._in_column, self._out_column = columns["bytes_in"], columns["bytes_out"]
        self._kind = kind
        self._names = names
        self._elsewhere = elsewhere
        self._sessions = 0
        self._owner = 0
        self._state = SessionState.IDLE
        self._entered = 0.0
        self._activity = 0.0
        self._bytes_in = 0
        self._bytes_out = 0

    @property
    def must_refuse(self) -> bool:
        """Tell whether the load state is MAX, so that new connections are refused (spec 5.3)."""
        return self._memory[LOAD_STATE_AT] >= _MAX_LOAD_STATE

    @property
    def is_screened(self) -> bool:
        """Tell whether connections are accepted only by the process that screens clients."""
        return bool(self._memory[IS_SCREENING_AT])

    @property
    def pool_is_full(self) -> bool:
        """Tell whether the session state is MAX: as many sessions as there may be."""
        return self._memory[SESSION_STATE_AT] >= _MAX_LOAD_STATE

    def idle(self) -> None:
        """Report that this child waits for a connection."""
        self._state = SessionState.IDLE
        self._entered = now = time.time()
        self._record.write(SLOT, SEQUENCE_SIZE, self._pid, self._sessions, 0, 0, 0, SessionState.IDLE, 0, 0,
                           now, now, 0.0, b"", b"", b"")

    def begin(self, client: Endpoint, owner: str, sid: str = "") -> None:
        """Report that a session begins on a listener of the object `owner`; the rest is reported once it is known."""
        self._sessions += 1
        self._owner = self._names.get((self._kind.owner, owner), 0)
        self._bytes_in = self._bytes_out = 0
        self._entered = self._activity = now = time.time()
        self._record.write(SLOT, SEQUENCE_SIZE, self._pid, self._sessions, self._owner, 0, client.port, self._state,
                           0, 0, now, now, now, sid.encode("ascii", "replace"),
                           client.host.encode("ascii", "replace"), b"")
        self._row[self._columns["sessions"]] += 1
        self._row[COLUMNS + self._owner] += 1

    def enter(self, state: SessionState, bytes_in: int, bytes_out: int) -> None:
        """Report a state, new or not, with the octets that the client has sent and received so far."""
        now = time.time()
        if state is not self._state:
            self._state, self._entered = state, now
        if bytes_in > self._bytes_in:
            self._row[self._in_column] += bytes_in - self._bytes_in
            self._bytes_in, self._activity = bytes_in, now
        if bytes_out > self._bytes_out:
            self._row[self._out_column] += bytes_out - self._bytes_out
            self._bytes_out, self._activity = bytes_out, now
        self._record.write(MOVING, MOVING_AT, state, self._bytes_in, self._bytes_out, self._activity, self._entered)
        if state is SessionState.CLOSING:
            self.count_by_none()

    def progress(self, bytes_in: int, bytes_out: int) -> None:
        """Report the octets so far; unchanged numbers are not written."""
        if bytes_in != self._bytes_in or bytes_out != self._bytes_out:
            self.enter(self._state, bytes_in, bytes_out)

    def call_session(self, sid: str) -> None:
        """Report the session id, once it is known."""
        self._record.write(SID, SID_AT, _octets(sid))

    def call_client(self, client: Endpoint) -> None:
        """Report another client than the session began with: whom the proxy serves that has connected."""
        self._record.write(CLIENT_HOST, CLIENT_HOST_AT, _octets(client.host))
        self._record.write(CLIENT_PORT, CLIENT_PORT_AT, client.port)

    def call_user(self, user: str) -> None:
        """Report the user, or the name that the client gave."""
        self._record.write(USER, USER_AT, _octets(user, USER.size))

    def call_backend(self, backend: str) -> None:
        """Report which backend the user has, and count the session there."""
        number = self._number_of(backend)
        self._record.write(NAMED, NAMED_AT, self._owner, number)
        self._row[COLUMNS + number] += 1

    def move_to_backend(self, backend: str) -> None:
        """Report that the session is to be served by another backend than the one that the user has."""
        self._record.write(NAMED, NAMED_AT, self._owner, self._number_of(backend))

    def leave_backend(self) -> None:
        """Report that the login was refused: the session has no backend any more."""
        self._record.write(NAMED, NAMED_AT, self._owner, 0)
        self.count_by(CountedBy.MAILBOX, 0)

    def count_by(self, by: CountedBy, key: int) -> None:
        """Have this session counted under `key` until it is closing; 0: under none."""
        self._keys[by] = key

    def count_by_none(self) -> None:
        """Have this session counted no more."""
        for by in range(len(self._keys)):
            self._keys[by] = 0

    def are_too_many(self, by: CountedBy, key: int, most: int) -> bool:
        """Have this session counted under `key`, unless there are more than `most` (0: any number) with it: tell this.

        It is counted first, so two that begin at the same moment see each other.
        """
        self._keys[by] = key
        if not most or self.sessions_with(by, key) <= most:
            return False
        self.count_by_none()
        return True

    @property
    def client_keys(self) -> tuple[int, int]:
        """The keys of the client's address and network under which the session is counted; 0: under none."""
        return self._keys[CountedBy.ADDRESS], self._keys[CountedBy.NETWORK]

    def sessions_with(self, by: CountedBy, key: int) -> int:
        """Return how many sessions, also relayed ones and those of proxies that share their counts, have `key`.

        Others wrote what is read here.
        """
        found, wanted, start = 0, KEY.pack(key), self._layout.key_at(by, 0)
        for used in used_slots(self._memory, self._layout):
            keys = self._memory[start + used.start * KEY.size:start + used.stop * KEY.size]
            found += keys.count(wanted)    # one call; parts of two keys are equal by no chance
        return found if self._elsewhere is None else found + self._elsewhere(by, key)

    def sessions_of_backend(self, backend: str, states: Container[int]) -> int:
        """Return how many other sessions, also relayed ones, have a backend and are in one of these states.

        Others wrote what is read here.  A backend for whose name there is no room has none.
        """
        number, count = self._number_of(backend), 0
        for used in used_slots(self._memory, self._layout):
            records = self._memory[self._layout.slot_at(used.start):self._layout.slot_at(used.stop)]
            backends = memoryview(records).cast("H")[BACKEND_AT // 2::SLOT_SIZE // 2]
            count += sum(found == number != 0 and state in states and slot != self.number for slot, found, state
                         in zip(used, backends.tolist(), records[MOVING_AT::SLOT_SIZE], strict=True))
        return count

    def health(self, backend: str) -> "tuple[memoryview[float], int]":
        """Return the numbers about a backend that all children write (layout.py): an array, and where they begin.

        A backend for whose name there is no room has numbers that no other session sees.
        """
        number = self._number_of(backend)
        if number:
            return self._health, number * HEALTH_NUMBERS
        return memoryview(bytearray(HEALTH_SIZE)).cast("d"), 0

    def failure(self, backend: str, kind: str) -> int:
        """Return the number of a kind of failure of a backend, for a report to the master, which counts them."""
        return self._names.get((self._kind.failing, backend), 0) * FAILURE_COLUMNS + tuple(FAILURES).index(kind)

    def count_question(self, module: str, seconds: float, *, has_failed: bool) -> None:
        """Count a question to a database module."""
        amounts = (1, int(has_failed), int(seconds * 1_000_000))
        for measure, amount in zip(self._kind.measures, amounts):
            number = self._names.get((measure, module))
            if number is not None:
                self._row[COLUMNS + number] += amount

    def count(self, counter: str, amount: int = 1) -> None:
        """Add to one of the kind's counters."""
        self._row[self._columns[counter]] += amount

    def end(self) -> None:
        """Report that the session's summary has been logged: the master need not log it if this child dies."""
        self._memory[self._ended_at] = 1

    def relays(self) -> tuple[int, ...]:
        """Return for each relay process how many sessions it has, `TAKES_NONE` if it takes none."""
        return RELAYS.unpack_from(self._memory, RELAYS_AT)[:2 * self._layout.relays:2]

    def record(self) -> tuple[bytes, tuple[int, ...]]:
        """Return what is reported, as in the file (`SLOT`), and by what the session is counted; for a relay process."""
        at = self._layout.slot_at(self.number) + SEQUENCE_SIZE
        return self._memory[at:at + SLOT.size], tuple(self._keys)

    def is_relayed(self, sid: bytes) -> bool:
        """Tell whether a relay process shows a session, or has summed it up lately; `sid` is as in the file."""
        start, end = self._layout.slot_at(self._layout.slots), self._layout.slot_at(self._layout.every)
        return self._memory.find(sid, start, end) >= 0

    def let_go(self) -> None:
        """Report that a relay process has the session now: it is shown and counted there, and summed up."""
        self.end()
        self.enter(SessionState.CLOSING, self._bytes_in, self._bytes_out)

    def release(self) -> None:
        """Release the memory, so that the state file can be closed; for tests, because a child keeps it to its end."""
        self._row.release()
        self._health.release()
        self._keys.release()
        self._record.release()

    def _number_of(self, backend: str) -> int:
        return self._names.get((self._kind.others[0], backend), 0)


def clear_slot(memory: mmap, layout: Layout, slot: int, sid: bytes = b"") -> None:
    """Free the record of a slot, which a dead process may have left half written, and have nothing counted there.

    `sid`, if that is to stay, is never missing while the rest goes.
    """
    Sequenced(memory, layout.slot_at(slot), SLOT_SIZE).write(SLOT, SEQUENCE_SIZE, *(0,) * 11, sid, b"", b"")
    for by in _COUNTED_BY:
        at = layout.key_at(by, slot)
        memory[at:at + KEY.size] = bytes(KEY.size)


def session_key(*words: object) -> int:
    """Return the key for what `words` say; the same in all children, as the master's salt of hashes is theirs."""
    return hash(words) & _MAX_KEY or 1


def _octets(text: str, limit: int = 64) -> bytes:
    """Return `text` for a field of `limit` octets; a character that would be cut is left out."""
    octets = text.encode("utf-8", "surrogateescape")
    return octets if len(octets) <= limit else octets[:limit].decode("utf-8", "ignore").encode("utf-8")
