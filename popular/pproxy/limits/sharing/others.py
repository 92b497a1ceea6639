"""The open sessions of other proxies, in memory that the children of this one share.

Made by the master; the process that shares counts writes it (process.py), and children look up a key for each limit.
Raises nothing but OSError when made.
"""

import mmap
import struct
import time
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from popular.statefile.layout import CountedBy

MAX_SHARED_KEYS = 1 << 17    # sessions that are counted, of each kind

_HEAD = struct.Struct("=QdQQ")    # number of the table, until when it is true, where the stream was read to
_COUNTS = struct.Struct(f"={len(CountedBy)}Q")
_AREA = MAX_SHARED_KEYS * 8
_HALF = len(CountedBy) * _AREA
_TRIES = 5


class OthersTable:
    """The sessions of other proxies, by key: sorted numbers, one for each session.

    There are two tables.  The process that shares writes the one that is not in use, and then its number.  A table is
    true for some seconds only, so that each proxy goes on alone when that process or the server stops.
    """

    def __init__(self) -> None:
        """Make the memory, empty."""
        self._memory = mmap.mmap(-1, mmap.PAGESIZE + 2 * _HALF)
        whole = memoryview(self._memory)
        self._keys = [[whole[_start(half, by):][:_AREA].cast("Q") for by in CountedBy] for half in range(2)]

    def sessions_with(self, by: CountedBy, key: int) -> int:
        """Return how many sessions of the other proxies have `key`, as far as that is known."""
        for _ in range(_TRIES):
            number, until, *_ = _HEAD.unpack_from(self._memory)
            if time.monotonic() >= until:
                return 0
            keys, count = self._keys[number % 2][by], self._counts(number % 2)[by]
            first = bisect_left(keys, key, 0, count)
            found = bisect_right(keys, key, first, count) - first
            if _HEAD.unpack_from(self._memory)[0] == number:    # else this one may be the next to be written
                return found
        return 0

    def write(self, keys: Mapping[CountedBy, Sequence[int]], until: float) -> None:
        """Replace the table; it is true until the moment `until` (time.monotonic)."""
        number, _, *position = _HEAD.unpack_from(self._memory)
        half, counts = (number + 1) % 2, []
        for by in CountedBy:
            some = sorted(keys[by])[:MAX_SHARED_KEYS]
            counts.append(len(some))
            start = _start(half, by)
            self._memory[start:start + len(some) * 8] = struct.pack(f"={len(some)}Q", *some)
        at = self._counts_at(half)
        self._memory[at:at + _COUNTS.size] = _COUNTS.pack(*counts)
        self._memory[:_HEAD.size] = _HEAD.pack(number + 1, until, *position)

    @property
    def position(self) -> tuple[int, int]:
        """How far the events of others have been applied: the id of an entry of the stream."""
        _, _, first, second = _HEAD.unpack_from(self._memory)
        return first, second

    @position.setter
    def position(self, position: tuple[int, int]) -> None:
        number, until, *_ = _HEAD.unpack_from(self._memory)
        self._memory[:_HEAD.size] = _HEAD.pack(number, until, *position)

    def _counts(self, half: int) -> Sequence[int]:
        return [min(count, MAX_SHARED_KEYS) for count in _COUNTS.unpack_from(self._memory, self._counts_at(half))]

    @staticmethod
    def _counts_at(half: int) -> int:
        return _HEAD.size + half * _COUNTS.size


def _start(half: int, by: CountedBy) -> int:
    return mmap.PAGESIZE + half * _HALF + by * _AREA
