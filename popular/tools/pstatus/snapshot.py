"""One look at a state file, for pstatus: everything that is shown, read at nearly one moment.

Part of the tool pstatus.  Raises NotAStateFile for anything but a state file, and OSError if reading fails.
"""

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from popular.statefile.layout import LimitState
from popular.statefile.reader import Head, Health, NotAStateFile, Row, StateFileView

_PATIENCE = 0.3      # seconds in total for slots whose writers have lost the processor
MAX_REPLACED = 10    # masters that are examined
_LIMIT_STATES = {int(state): state.name for state in LimitState}


@dataclass(frozen=True, slots=True)
class Replaced:
    """A master that an upgrade has replaced, and that still has sessions."""

    pid: int
    path: str        # of its state file
    sessions: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state file at one moment."""

    path: str
    head: Head
    rows: tuple[Row | None, ...]                  # of children's slots ever used (None: being written), and relayed
    totals: Mapping[str, int]
    per_name: Mapping[tuple[str, str], int]       # sessions by class and id
    moment: float                                 # seconds since 1970: now, for a copy when it was made
    is_live: bool                                 # not a copy
    is_running: bool                              # its master exists
    failures: Mapping[tuple[str, str], int]       # by backend and kind
    backends: Mapping[str, Health]                # by id
    replaced: tuple[Replaced, ...] = ()           # masters before it

    @property
    def program(self) -> str:
        """The name of the daemon."""
        return self.head.kind.program

    @property
    def busy(self) -> int:
        """Children with a session."""
        return sum(1 for row in self.rows if row is None or row.has_session) - self.relayed

    @property
    def relayed(self) -> int:
        """Sessions of relay processes."""
        return sum(1 for row in self.rows if row is not None and row.slot >= self.head.slots)

    @property
    def idle(self) -> int:
        """Children that wait for a connection."""
        return sum(1 for row in self.rows if row is not None and row.state == "idle")

    def rates(self, before: "Snapshot | None") -> dict[str, float]:
        """Return the growth of each counter per second since `before`; empty if that is of another run."""
        if before is None or (before.head.pid, before.head.started) != (self.head.pid, self.head.started):
            return {}
        seconds = self.moment - before.moment
        if seconds <= 0:
            return {}
        return {name: max(0, count - before.totals.get(name, 0)) / seconds for name, count in self.totals.items()}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which slots are shown."""

    active: bool = False        # only those with a session
    first: int = 0
    last: int | None = None     # None: to the end

    def choose(self, snapshot: Snapshot) -> Iterator[tuple[int, Row | None]]:
        """Yield number and row of the slots to show."""
        for index, row in enumerate(snapshot.rows):
            slot = index if row is None else row.slot
            if slot < self.first or (self.last is not None and slot > self.last):
                continue
            if not self.active or row is None or row.has_session:
                yield slot, row


def limit_state(number: int) -> str:
    """Return the name of a LimitState, `?N` for an unknown number."""
    return _LIMIT_STATES.get(number, f"?{number}")


def take(path: str) -> Snapshot:
    """Read the state file `path`, or a copy of one."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)    # a pipe may have no writer
    try:
        here = os.fstat(fd)
        if not stat.S_ISREG(here.st_mode):
            raise NotAStateFile("not a state file")
        view = StateFileView(lambda at, size: os.pread(fd, size, at), _PATIENCE)
        head = view.head
        is_live = (head.device, head.inode) == (here.st_dev, here.st_ino)
        rows = *view.rows(), *view.relayed()
        totals, per_name = view.totals()
        failures, backends = view.failures(), view.backends()
        moment = time.time() if is_live else here.st_mtime
    finally:
        os.close(fd)
    snapshot = Snapshot(path, head, rows, totals, per_name, moment, is_live, is_live and _exists(head.pid), failures,
                        backends)
    return replace(snapshot, replaced=tuple(_replaced(snapshot))) if is_live else snapshot


def _replaced(snapshot: Snapshot) -> Iterator[Replaced]:
    """Yield the masters beside that of PROGRAM.state, with the sessions that they still have."""
    folder, name = os.path.split(snapshot.path)
    if name != f"{snapshot.program}.state":
        return
    aside = re.compile(rf"{snapshot.program}\.([1-9][0-9]{{0,9}})\.state", re.ASCII)
    try:
        found = sorted(filter(None, map(aside.fullmatch, os.listdir(folder or "."))), key=lambda each: int(each[1]))
    except OSError:    # no right to list the folder
        return
    for each in found[:MAX_REPLACED]:
        path = os.path.join(folder, each[0])
        try:
            other = take(path)
        except (NotAStateFile, OSError):    # it has ended in the meantime
            continue
        if other.is_running and (sessions := other.busy + other.relayed):
            yield Replaced(other.head.pid, path, sessions)


def _exists(pid: int) -> bool:
    """Tell whether there is such a process."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
