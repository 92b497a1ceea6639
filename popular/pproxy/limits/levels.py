"""Levels that rise with events and fall with time, one for each key, in memory that all children share.

Made by the master before it forks.  A level falls by one in a time that whoever asks gives, so a key is stored
with one number only: the moment at which its level will be zero (the generic cell rate algorithm).  Nothing is locked:
an event may be lost when two processes count at the same moment.  When there is no room, the lowest level is
forgotten.  Raises nothing but OSError when made.
"""

import mmap
import struct
import time

_WAYS = 4                              # keys with the same place
_PLACE = struct.Struct("=" + "Qd" * _WAYS)
_ENTRY = struct.Struct("=Qd")


class Levels:
    """A table of levels; keys are numbers from 1 below 2**64, distributed as hashes are."""

    def __init__(self, keys: int) -> None:
        """Make memory for about so many keys."""
        self._places = max(1, keys // _WAYS)
        self._memory = mmap.mmap(-1, self._places * _PLACE.size)

    def level(self, key: int, seconds: float) -> float:
        """Return the level of `key`, which falls by one in `seconds`."""
        _, zero_at = self._find(key)
        return max(0.0, zero_at - time.monotonic()) / seconds

    def rise(self, key: int, seconds: float, amount: float = 1.0, most: float = float("inf")) -> float:
        """Add `amount` to the level of `key`, but not beyond `most`; return the new level."""
        at, zero_at = self._find(key)
        now = time.monotonic()
        level = min(max(0.0, zero_at - now) / seconds + amount, most)
        _ENTRY.pack_into(self._memory, at, key, now + level * seconds)
        return level

    def forget(self, key: int) -> None:
        """Set the level of `key` to zero."""
        at, zero_at = self._find(key)
        if zero_at:
            _ENTRY.pack_into(self._memory, at, 0, 0.0)

    def clear(self) -> None:
        """Set all levels to zero."""
        self._memory[:] = bytes(len(self._memory))

    def _find(self, key: int) -> tuple[int, float]:
        """Return where `key` is, or would be, and when its level is zero; 0.0: it is not there."""
        start = key % self._places * _PLACE.size
        known = _PLACE.unpack_from(self._memory, start)
        for way in range(_WAYS):
            if known[2 * way] == key:
                return start + way * _ENTRY.size, known[2 * way + 1]
        lowest = min(range(_WAYS), key=lambda way: known[2 * way + 1])
        return start + lowest * _ENTRY.size, 0.0
