"""The master's table of its children: their ids, their states, and a count for each state (master only).

Counts are updated with each change, because a master may read them thousands of times a second.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from popular.proc.child import ChildState
from popular.proc.pool import Census

_Group = Literal["booting", "idle", "busy", "leaving"]
_GROUPS: dict[ChildState, _Group] = {
    ChildState.BOOTING: "booting", ChildState.IDLE: "idle", ChildState.BUSY: "busy"}


class Slots:
    """Numbers of children, the lowest free one first."""

    def __init__(self) -> None:
        """Begin with all of them free."""
        self._free: list[int] = []
        self._top = 0

    def claim(self, limit: int) -> int | None:
        """Return a free slot below `limit`, or None."""
        if self._free and self._free[0] < limit:
            return heapq.heappop(self._free)
        if self._top >= limit:
            return None
        self._top += 1
        return self._top - 1

    def release(self, slot: int) -> None:
        """Make a slot free again."""
        heapq.heappush(self._free, slot)


@dataclass(slots=True)
class ChildRecord:
    """One living child."""

    pid: int
    slot: int
    generation: int
    state: ChildState = ChildState.BOOTING
    is_leaving: bool = False    # told to leave after its session
    ending: str = ""            # why the master ended it; empty: it did not

    @property
    def group(self) -> _Group:
        """The group in which it is counted."""
        return "leaving" if self.is_leaving and self.state is not ChildState.BUSY else _GROUPS[self.state]


class ChildTable:
    """All living children."""

    def __init__(self) -> None:
        """Begin with none."""
        self._records: dict[int, ChildRecord] = {}
        self._counts: dict[_Group, int] = {"booting": 0, "idle": 0, "busy": 0, "leaving": 0}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[ChildRecord]:
        return iter(list(self._records.values()))

    def get(self, pid: int) -> ChildRecord | None:
        """Return the child `pid`, or None if this process is not a child of the pool."""
        return self._records.get(pid)

    def add(self, record: ChildRecord) -> None:
        """Add a new child."""
        self._records[record.pid] = record
        self._counts[record.group] += 1

    def remove(self, record: ChildRecord) -> None:
        """Remove a dead child."""
        del self._records[record.pid]
        self._counts[record.group] -= 1

    def note_state(self, record: ChildRecord, state: ChildState) -> None:
        """Note the state that a child reported."""
        self._counts[record.group] -= 1
        record.state = state
        self._counts[record.group] += 1

    def note_leaving(self, record: ChildRecord) -> None:
        """Note that a child was told to leave."""
        self._counts[record.group] -= 1
        record.is_leaving = True
        self._counts[record.group] += 1

    def census(self) -> Census:
        """Return the counts."""
        return Census(**self._counts)
