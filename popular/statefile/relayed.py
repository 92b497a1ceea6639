"""The slots of one relay process in the state file: one for each session that it relays (see layout.py).

Written by the process; by the master when it is dead.  Slots are dealt out in turn: process 1 of 2 has every second
one.  So those in use are close together, whichever process has them, and few are read to count sessions.  Nothing is
kept here for a slot.  Raises nothing.
"""

import heapq
import os
import time
from collections.abc import Mapping, Sequence
from mmap import mmap

from popular.statefile.layout import (
    ENDED_AT, KEY, MOVING, MOVING_AT, RELAY, ROW_SIZE, SEQUENCE_SIZE, SID, SID_AT, SLOT, SLOT_SIZE, TAKES_NONE,
    CountedBy, Layout, SessionState)
from popular.statefile.seqlock import Sequenced
from popular.statefile.slot import clear_slot


class RelaySlots:
    """Those of the process number `relay`, from 0."""

    def __init__(self, memory: mmap, layout: Layout, relay: int, columns: Mapping[str, int]) -> None:
        """Begin with all of them free; `columns` are the numbers of counters."""
        self._memory = memory
        self._layout = layout
        self._relay = relay
        start = layout.relay_row_at(relay)
        self._row = memoryview(memory)[start:start + ROW_SIZE].cast("Q")
        self._columns = columns
        self._own = range(layout.slots + relay, layout.every, layout.relays)
        self._free: list[int] = []    # of those that were used before
        self._used = 0                # of its own slots
        self._is_open = True
        self.count = 0

    def open(self) -> None:
        """Tell that sessions are taken."""
        self._is_open = True
        self._tell()

    def close(self) -> None:
        """Tell that none is taken any more, also when some have ended."""
        self._is_open = False
        self._tell()

    def take(self, record: bytes, most: int) -> int | None:
        """Show a session, which a child has described by `record`; return its slot, None if `most` are taken."""
        if self.count >= min(most, len(self._own)):
            return None
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot = self._own[self._used]
            self._used += 1
        self.count += 1
        self._tell()
        (_, sessions, owner, backend, port, _, bytes_in, bytes_out, activity, entered, started, *texts) = SLOT.unpack(
            record)
        Sequenced(self._memory, self._layout.slot_at(slot), SLOT_SIZE).write(
            SLOT, SEQUENCE_SIZE, os.getpid(), sessions, owner, backend, port, SessionState.RELAY, bytes_in, bytes_out,
            activity, entered, started, *texts)
        return slot

    def count_by(self, slot: int, keys: Sequence[int]) -> None:
        """Have a session counted under these keys."""
        for by, key in zip(CountedBy, keys):
            at = self._layout.key_at(by, slot)
            self._memory[at:at + KEY.size] = KEY.pack(key)

    def grow(self, slot: int, bytes_in: int, bytes_out: int) -> None:
        """Report so many more octets of a session, and add them to the totals."""
        if bytes_in or bytes_out:
            at = self._layout.slot_at(slot)
            state, former_in, former_out, _, entered = MOVING.unpack_from(self._memory, at + MOVING_AT)
            self._row[self._columns["bytes_in"]] += bytes_in
            self._row[self._columns["bytes_out"]] += bytes_out
            Sequenced(self._memory, at, SLOT_SIZE).write(
                MOVING, MOVING_AT, state, former_in + bytes_in, former_out + bytes_out, time.time(), entered)

    def free(self, slot: int, *, is_summed_up: bool = True) -> None:
        """Show the end of a session that is summed up, or has stayed with its child."""
        if is_summed_up:
            self.clear(slot)
        else:
            clear_slot(self._memory, self._layout, slot)
        heapq.heappush(self._free, slot)
        self.count -= 1
        self._tell()

    def is_summed_up(self, slot: int) -> bool:
        """Tell whether the last session of a slot is summed up."""
        return bool(self._memory[self._layout.slot_at(slot) + ENDED_AT])

    def clear(self, slot: int) -> None:
        """Clear a slot whose session is summed up; its id stays for its child, or the master when that is dead."""
        at = self._layout.slot_at(slot)
        self._memory[at + ENDED_AT] = 1
        clear_slot(self._memory, self._layout, slot, *SID.unpack_from(self._memory, at + SID_AT))
        self._memory[at + ENDED_AT] = 1

    def add(self, counter: str) -> None:
        """Add one to a counter."""
        self._row[self._columns[counter]] += 1

    def used(self) -> range:
        """Return those of the slots that were ever used, also by a process before this one."""
        _, end = RELAY.unpack_from(self._memory, self._layout.relay_at(self._relay))
        return range(self._own.start, min(self._layout.slots + end, self._own.stop), self._own.step)

    def release(self) -> None:
        """Release the memory, so that the state file can be closed."""
        self._row.release()

    def _tell(self) -> None:
        at = self._layout.relay_at(self._relay)
        _, before = RELAY.unpack_from(self._memory, at)
        end = self._own[self._used - 1] + 1 - self._layout.slots if self._used else 0
        self._memory[at:at + RELAY.size] = RELAY.pack(self.count if self._is_open else TAKES_NONE, max(before, end))
