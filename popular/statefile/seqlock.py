"""Records in shared memory that one process writes and others read without locks (see layout.py).

Readers of a single field do without the sequence numbers, so a field that stays the same never looks different: what is
written is packed before.  Struct's pack_into would fill the record with zeros first.

Used by the master and its children for what they write, and by readers.  Raises nothing.
"""

import time
from collections.abc import Callable
from mmap import mmap
from struct import Struct

from popular.statefile.layout import SEQUENCE, SEQUENCE_SIZE

Read = Callable[[int, int], bytes]    # offset and size to octets

TRIES = 100        # attempts to read a record that is being written, for which a writer needs a microsecond
_PAUSE = 0.0005    # seconds to wait for a writer that has lost the processor in the middle

_WRAP = 0xffffffff


class Sequenced:
    """The writing end of one record."""

    __slots__ = ("_memory", "_start", "_numbers", "_sequence")

    def __init__(self, memory: mmap, start: int, size: int) -> None:
        """Take over the record at `start`; an earlier writer may have died in the middle of writing."""
        self._memory = memory
        self._start = start
        self._numbers = memoryview(memory)[start:start + size].cast("I")    # the first and the last are the sequence
        self._sequence = self._numbers[0] & ~1

    def write(self, form: Struct, offset: int, *values: object) -> None:
        """Write a part of the record, in octets from its start."""
        numbers, sequence = self._numbers, self._sequence
        self._sequence = following = (sequence + 2) & _WRAP
        numbers[-1] = following        # this first, for a copy of the file
        numbers[0] = sequence + 1
        start = self._start + offset
        self._memory[start:start + form.size] = form.pack(*values)
        numbers[0] = following

    def release(self) -> None:
        """Release the memory."""
        self._numbers.release()


def whole_records(read: Read, start: int, size: int, count: int, deadline: float = 0.0) -> list[bytes | None]:
    """Return `count` records, each as it was at one moment; None for one that was being written at each attempt.

    Waits until `deadline` (time.monotonic()) for writers that stopped in the middle; without one never waits.
    """
    before = read(start, size * count)
    octets = read(start, size * count)
    after = read(start, size * count)
    found: list[bytes | None] = []
    for offset in range(0, size * count, size):
        parts = [block[offset:offset + size] for block in (before, octets, after)]
        found.append(parts[1] if _is_whole(*parts) else _try_again(read, start + offset, size, deadline))
    return found


def _try_again(read: Read, start: int, size: int, deadline: float) -> bytes | None:
    tries = 0
    while tries < TRIES or time.monotonic() < deadline:
        parts = read(start, size), read(start, size), read(start, size)
        if _is_whole(*parts):
            return parts[1]
        tries += 1
        if tries > TRIES:
            time.sleep(_PAUSE)
    return None


def _is_whole(before: bytes, octets: bytes, after: bytes) -> bool:
    """Tell whether nothing was written from the first reading to the last one."""
    first = before[:SEQUENCE_SIZE]
    number = SEQUENCE.unpack(first)[0] if len(first) == SEQUENCE_SIZE else 1
    return not number & 1 and first == octets[:SEQUENCE_SIZE] == after[:SEQUENCE_SIZE] == octets[-SEQUENCE_SIZE:]
