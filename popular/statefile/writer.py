"""The master's side of the state file: making it, reporting on itself, and clearing up after dead children.

The state file is for display: pstatus reads it.  By what children have written the master decides nothing, and other
children only how many sessions a user has, where the user's record limits them, and whether a backend is asked.
Made in the master before the first fork; all children inherit the map.  The daemon serves even if the file
cannot be made: then there is memory without a file, and `trouble` says why.  Raises nothing later.
"""

import mmap
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popular.statefile.layout import (
    CHANGING, CHANGING_AT, CHANGING_SIZE, ENDED_AT, FAILURE_COLUMNS, FAILURE_SIZE, FAILURES_AT, FIXED, HEALTH_AT,
    HEALTH_NUMBERS, HEALTH_SIZE, KEY, LOGIN_ROOM, MAGIC, MOVING_AT, NAME, NAMES, NAMES_AT, RELAYS, RELAYS_AT, ROW_SIZE,
    SEQUENCE_SIZE, SESSION_ROOM, SHARING_AT, SHARING_FIELDS, SID, SID_AT, SLOT_SIZE, SWITCH, TAKES_NONE,
    BackendState, CountedBy, Layout, SessionState, SharingState, StateFileKind, used_slots)
from popular.statefile.reader import Row, parse_row
from popular.statefile.seqlock import Sequenced, whole_records
from popular.statefile.slot import ChildSlot, Elsewhere, clear_slot
from popular.version import VERSION

if TYPE_CHECKING:
    from popular.statefile.relayed import RelaySlots

_PATIENCE = 0.005    # seconds that the master waits for a child that lost the processor while writing

_NO_ROOM = "no room"

_FRESH = frozenset((SessionState.IDLE, SessionState.GREETING, SessionState.AUTH))


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of the header that changes."""

    pid: int
    started: float        # seconds since 1970
    generation: int = 0
    slots_used: int = 0
    names: int = 1
    maxsession: int = 0
    maxlocalload: float = 0.0
    load: float = 0.0
    session_state: int = 0
    load_state: int = 0
    workers: int = 0          # PDM workers
    workers_busy: int = 0     # those that have a question
    is_screening: int = 0     # 1: children take connections only from the process that screens clients

    def values(self) -> tuple[object, ...]:
        """Return them in the order of the file."""
        return (self.pid, self.started, self.generation, self.slots_used, self.names, self.maxsession,
                self.maxlocalload, self.load, self.session_state, self.load_state, self.workers, self.workers_busy,
                self.is_screening)


class StateFile:
    """Shared memory with a place for every child, and usually a file."""

    def __init__(self, kind: StateFileKind, slots: int, path: str = "", *, publish: bool = True, room: int = 0,
                 relayed: int = 0, relays: int = 0) -> None:
        """Make the memory, and the file `path` that shows it: a new file that replaces an old one.

        A file system without room for `room` slots of children, and for all slots of `relayed` sessions, counts as one
        that refuses the file.  Without `publish` the old file stays until `publish` is called.
        """
        self.kind = kind
        self.layout = Layout(slots, relayed, relays)
        self.path = path
        self.trouble = ""        # why there is no file, or no room in it
        self.elsewhere: Elsewhere | None = None    # for slots that are made from now on
        self._room = slots       # slots for which the file system has room
        self._fd = -1
        self._aside = ""         # another name of the file
        self._memory = self._make(path, min(room, slots)) if path else self._make_nameless()
        self._names: dict[tuple[str, str], int] = {}
        self._by_number: dict[int, tuple[str, str]] = {}
        self._master = memoryview(self._memory)[self.layout.row_at(-1):][:ROW_SIZE].cast("Q")
        self._failures = memoryview(self._memory)[FAILURES_AT:][:NAMES * FAILURE_SIZE].cast("Q")
        self._columns = {name: column for column, name in enumerate(kind.counters)}
        self._health = memoryview(self._memory)[HEALTH_AT:][:NAMES * HEALTH_SIZE].cast("d")
        self._header = Sequenced(self._memory, CHANGING_AT, CHANGING_SIZE)
        self._facts = Facts(os.getpid(), time.time())
        self.tell()
        if publish:
            self.publish()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Descriptors that only the master may have."""
        return () if self._fd < 0 else (self._fd,)

    def slot(self, number: int) -> ChildSlot:
        """Return the slot of a child by its number; called in the child."""
        return ChildSlot(self._memory, self.layout, number, self.kind, self._columns, self._names, self.elsewhere)

    def tell(self, **facts: object) -> None:
        """Change some of the Facts."""
        self._facts = replace(self._facts, **facts)    # type: ignore[arg-type]
        self._header.write(CHANGING, SEQUENCE_SIZE, *self._facts.values())

    def learn(self, names: Iterable[tuple[str, str]]) -> None:
        """Give numbers to objects (class, id) of a new configuration.

        Known ones keep theirs, because older children go on using them; those without room are counted
        under number 0.
        """
        for name in names:
            number = len(self._names) + 1
            if name in self._names or number >= NAMES:
                continue
            cls, ident = name
            at = NAMES_AT + number * NAME.size
            self._memory[at:at + NAME.size] = NAME.pack(cls.encode("ascii"), ident.encode("utf-8"))
            self._names[name] = number
            self._by_number[number] = name
        self.tell(names=len(self._names) + 1)

    def set_switches(self, switches: Mapping[str, BackendState]) -> None:
        """Show which backends are drained or disabled; those of which nothing is said have been removed.

        Their limits may have changed, so the next child counts what is there.
        """
        for (cls, ident), number in self._names.items():
            if cls == self.kind.failing:
                at = number * HEALTH_NUMBERS
                self._health[at + SWITCH] = switches.get(ident, BackendState.REMOVED)
                self._health[at + LOGIN_ROOM] = self._health[at + SESSION_ROOM] = 0.0

    def make_room(self, slots: int) -> int:
        """Return for how many slots there is room: `slots`, or fewer when the file system is full.

        Writing to a mapped page without room would end the writer (SIGBUS), so it is reserved first.
        """
        slots = min(slots, self.layout.slots)
        if self._fd >= 0 and slots > self._room:
            try:
                self._reserve(self._fd, slots)
                self._room = slots
                if self.trouble.startswith(_NO_ROOM):    # other trouble stays: the file may have the wrong name
                    self.trouble = ""
            except OSError as why:
                self.trouble = f"{_NO_ROOM} for {slots} slots in {self.path}: {why.strerror}"
        return min(slots, self._room)

    def use(self, slot: int) -> None:
        """Note that `slot` is about to get a child."""
        if slot >= self._facts.slots_used:
            self.tell(slots_used=slot + 1)

    def clear(self, slot: int) -> None:
        """Free the record of a dead child, or of a session of a dead relay process; it may be half written."""
        clear_slot(self._memory, self.layout, slot)

    def count(self, counter: str, amount: int = 1) -> None:
        """Add to a counter of the master's own."""
        self._master[self._columns[counter]] += amount

    def key(self, by: CountedBy, slot: int) -> int:
        """Return the key of a slot's session."""
        [key] = KEY.unpack_from(self._memory, self.layout.key_at(by, slot))
        return int(key)

    def keys(self, by: CountedBy) -> list[int]:
        """Return the keys of all sessions that are counted, in no order; also in a helper."""
        return [key for used in used_slots(self._memory, self.layout)
                for key in memoryview(self.read(self.layout.key_at(by, used.start), len(used) * KEY.size)).cast("Q")
                if key]

    def tell_sharing(self, state: SharingState, proxies: int = 0) -> None:
        """Show whether counts are shared, and with how many other proxies; also in a helper."""
        self._memory[SHARING_AT:SHARING_AT + SHARING_FIELDS.size] = SHARING_FIELDS.pack(state, proxies)

    @property
    def sharing(self) -> int:
        """What was shown last: a SharingState."""
        state, _ = SHARING_FIELDS.unpack_from(self._memory, SHARING_AT)
        return int(state)

    def count_failure(self, number: int) -> None:
        """Add one to a failure that a child reports, as `ChildSlot.failure` numbers it; other numbers are ignored."""
        if 0 <= number < NAMES * FAILURE_COLUMNS:
            self._failures[number] += 1

    def row(self, slot: int) -> Row | None:
        """Return what is reported in `slot`; None when the writer does not finish within `PATIENCE`."""
        [octets] = whole_records(self.read, self.layout.slot_at(slot), SLOT_SIZE, 1,
                                 time.monotonic() + _PATIENCE)
        return None if octets is None else parse_row(octets, slot, self._by_number)

    def most_alike(self, slots: list[int], wanted: int) -> list[int]:
        """Return up to `wanted` of `slots` whose sessions have not logged in, as far as their children say.

        Those come first that share their network with most others, and of these the first in `slots`.
        """
        fresh = [slot for slot in slots if self._memory[self.layout.slot_at(slot) + MOVING_AT] in _FRESH]
        networks = {slot: self.key(CountedBy.NETWORK, slot) for slot in fresh}
        alike = Counter(networks.values())
        alike[0] = 1    # those without a key have nothing in common
        return sorted(fresh, key=lambda slot: alike[networks[slot]], reverse=True)[:wanted]

    def last_words(self, slot: int) -> Row | None:
        """Return a dead child's last report of a session without a summary in the log; None if there is no such one."""
        at = self.layout.slot_at(slot)
        if self._memory[at + ENDED_AT]:
            return None
        row = parse_row(self.read(at, SLOT_SIZE), slot, self._by_number)    # if half written: better than nothing
        if row.client is None:
            return None
        children, *relayed = self.used    # a session is on its way from one to the other for a moment
        others = [children] if slot >= self.layout.slots else relayed
        return None if self.is_elsewhere(row.sid, others) else row

    @property
    def used(self) -> tuple[range, ...]:
        """The slots of children, and of relayed sessions if there can be any, that were ever used."""
        return used_slots(self._memory, self.layout)

    def read(self, at: int, size: int) -> bytes:
        """Return octets as they are in the file, for readers of all of it."""
        return self._memory[at:at + size]

    def relay_slots(self, relay: int) -> "RelaySlots":
        """Return the slots of the relay process with this number; called there, and in the master when it is dead."""
        from popular.statefile.relayed import RelaySlots    # here, because most daemons have no relay processes

        return RelaySlots(self._memory, self.layout, relay, self._columns)

    @property
    def relayed_count(self) -> int:
        """How many sessions relay processes have."""
        loads = RELAYS.unpack_from(self._memory, RELAYS_AT)[::2]
        return sum(load for load in loads if load != TAKES_NONE)

    def relayed(self) -> list[Row]:
        """Return the sessions of relay processes as these describe them."""
        return [row for part in self.used[1:] for slot in part if self._memory[self.layout.slot_at(slot) + MOVING_AT]
                if (row := self.row(slot)) is not None and row.has_session]

    def is_elsewhere(self, sid: str, slots: Iterable[range]) -> bool:
        """Tell whether a session is in one of these slots, too: of a child without a summary, of a relay also with it.

        The id of a session that a relay process has summed up stays in its slot.
        """
        wanted = SID.pack(sid.encode("utf-8", "surrogateescape"))
        for part in slots:
            at, end = self.layout.slot_at(part.start), self.layout.slot_at(part.stop)
            while (at := self._memory.find(wanted, at, end)) >= 0:
                start = at - (at - self.layout.slots_at) % SLOT_SIZE
                if at - start == SID_AT and (part.start >= self.layout.slots or not self._memory[start + ENDED_AT]):
                    return True
                at += 1
        return False

    def publish(self) -> None:
        """Put the file in its place, replacing another's, and remove its other names.

        May be called twice.  If it is refused, `trouble` says why.
        """
        if self._fd < 0:
            return
        aside, self._aside = self._aside, ""
        try:
            if not self._is_ours(self.path):
                os.rename(aside or self._new, self.path)
            for other in filter(None, (aside, self._new)):
                self._remove_leftover(other)
        except OSError as why:
            self.trouble = f"cannot make the state file {self.path}: {why.strerror}"

    def set_aside(self, path: str) -> None:
        """Give the file the second name `path`, for the time after another file has replaced it."""
        if self._fd >= 0 and self._is_ours(self.path):
            try:
                os.link(self.path, path)
                self._aside = path
            except OSError as why:
                self.trouble = f"cannot name the state file {path}: {why.strerror}"

    def remove(self) -> None:
        """Remove the file at an orderly end, when no child is left to write to it."""
        for path in (self.path, self._aside, self._new):
            try:
                if self._fd >= 0 and path and self._is_ours(path):
                    os.unlink(path)
            except OSError:    # gone already; a left-over file does no harm
                pass

    def close(self) -> None:
        """Release memory and file; for tests, because a master keeps them to its end."""
        self._master.release()
        self._failures.release()
        self._health.release()
        self._header.release()
        self._memory.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _make(self, path: str, room: int) -> mmap.mmap:
        """Make and map the file, or memory without a file when the system refuses one."""
        try:
            self._remove_leftover(self._new)
            fd = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
            try:
                return self._map(fd, room)
            except BaseException:
                os.close(fd)
                self._remove_leftover(self._new)
                raise
        except OSError as why:
            self.trouble = f"cannot make the state file {path}: {why.strerror}"
            return self._make_nameless()

    def _make_nameless(self) -> mmap.mmap:
        """Make memory without a file; metrics are read from it as well."""
        memory = mmap.mmap(-1, self.layout.size)
        self._sign(memory, 0, 0)
        return memory

    def _map(self, fd: int, room: int) -> mmap.mmap:
        """Give the file its size, room for some slots, and its head, and map it."""
        os.ftruncate(fd, self.layout.size)
        self._reserve(fd, room)
        memory = mmap.mmap(fd, self.layout.size)
        here = os.fstat(fd)
        self._sign(memory, here.st_dev, here.st_ino)
        self._fd = fd
        self._room = room
        return memory

    def _sign(self, memory: mmap.mmap, device: int, inode: int) -> None:
        """Write the part of the header that never changes."""
        memory[:FIXED.size] = FIXED.pack(
            MAGIC, self.kind.magic, *self.layout.places(), device, inode, VERSION.encode("ascii"),
            os.uname().nodename.encode("utf-8", "replace"), self.layout.relayed, self.layout.relays)

    def _reserve(self, fd: int, slots: int) -> None:
        """Get room for so many slots; the rest of the file stays a hole."""
        os.posix_fallocate(fd, 0, self.layout.slot_at(slots))
        os.posix_fallocate(fd, self.layout.rows_at, (slots + 1) * ROW_SIZE)
        for by in CountedBy:
            os.posix_fallocate(fd, self.layout.key_at(by, 0), max(1, slots) * KEY.size)
        if self.layout.relayed:
            os.posix_fallocate(fd, self.layout.slot_at(self.layout.slots), self.layout.relayed * SLOT_SIZE)
            os.posix_fallocate(fd, self.layout.relay_row_at(0), self.layout.relays * ROW_SIZE)
            for by in CountedBy:
                os.posix_fallocate(fd, self.layout.key_at(by, self.layout.slots), self.layout.relayed * KEY.size)

    @property
    def _new(self) -> str:
        """The name of the file until it is published."""
        return self.path and f"{self.path}.new"

    def _is_ours(self, path: str) -> bool:
        """Tell whether the file `path` is this one."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    @staticmethod
    def _remove_leftover(path: str) -> None:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
