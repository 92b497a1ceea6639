"""Levels that rise with events and fall with time, one for each key, in memory that all children share.

Made by the master before it forks.  A level falls by one in a time that whoever asks gives, so a key is stored
with one number only: the moment at which its level will be zero (the generic cell rate algorithm).  Nothing is locked:
an event may be lost when two processes count at the same moment.  When there is no room, the lowest level is
forgotten.  Raises nothing but OSError when made.
"""

import mmap
import struct
import time

_WAYS = 4                              # keys with the same place, in which their moments follow in the same order
_KEY = struct.Struct("=Q")
_ZERO = struct.Struct("=d")
_ZEROS = struct.Struct(f"={_WAYS}d")
_KEYS_SIZE = _WAYS * _KEY.size         # also from a key to its moment
_PLACE_SIZE = _KEYS_SIZE + _ZEROS.size
_ROUNDING = 1e-6                       # of a level, when times are added


class Levels:
    """A table of levels; keys are numbers from 1 below 2**64, distributed as hashes are."""

    def __init__(self, keys: int) -> None:
        """Make memory for about so many keys."""
        self._places = max(1, keys // _WAYS)
        self._memory = mmap.mmap(-1, self._places * _PLACE_SIZE)

    def level(self, key: int, seconds: float) -> float:
        """Return the level of `key`, which falls by one in `seconds`."""
        start = key % self._places * _PLACE_SIZE
        at = self._memory.find(_KEY.pack(key), start, start + _KEYS_SIZE)    # parts of two keys are equal by no chance
        if at < 0:
            return 0.0
        zero_at: float = _ZERO.unpack_from(self._memory, at + _KEYS_SIZE)[0]
        return max(0.0, zero_at - time.monotonic()) / seconds

    def rise(self, key: int, seconds: float, amount: float = 1.0, most: float = float("inf")) -> float:
        """Add `amount` to the level of `key`, but not beyond `most`; return the new level."""
        at, zero_at = self._find(key)
        now = time.monotonic()
        level = min(max(0.0, zero_at - now) / seconds + amount, most)
        self._put(at, key, now + level * seconds)
        return level

    def take(self, key: int, seconds: float, most: float) -> bool:
        """Add 1 to the level of `key` unless it would then be above `most`; tell whether it was added."""
        at, zero_at = self._find(key)
        now = time.monotonic()
        zero_at = max(zero_at, now) + seconds
        if (zero_at - now) / seconds > most + _ROUNDING:
            return False
        self._put(at, key, zero_at)
        return True

    def _rise_ago(self, key: int, seconds: float, most: float, age: float) -> None:
        """Add one to the level that `key` had `age` seconds ago, but not beyond `most`; it never gets lower.

        What was zero again before now is kept, too, since more of this age may follow.
        """
        at, zero_at = self._find(key)
        then = time.monotonic() - age
        risen = then + min(max(0.0, zero_at - then) / seconds + 1, most) * seconds
        [lowest] = _ZERO.unpack_from(self._memory, at + _KEYS_SIZE)    # perhaps of another key
        if risen > lowest:
            self._put(at, key, risen)

    def forget(self, key: int) -> None:
        """Set the level of `key` to zero."""
        at, zero_at = self._find(key)
        if zero_at:
            self._put(at, 0, 0.0)

    def _find(self, key: int) -> tuple[int, float]:
        """Return where `key` is, or would be, and when its level is zero; 0.0: it is not there."""
        start = key % self._places * _PLACE_SIZE
        at = self._memory.find(_KEY.pack(key), start, start + _KEYS_SIZE)
        if at >= 0:
            return at, _ZERO.unpack_from(self._memory, at + _KEYS_SIZE)[0]
        zeros = _ZEROS.unpack_from(self._memory, start + _KEYS_SIZE)
        return start + zeros.index(min(zeros)) * _KEY.size, 0.0

    def _put(self, at: int, key: int, zero_at: float) -> None:
        self._memory[at:at + _KEY.size] = _KEY.pack(key)
        self._memory[at + _KEYS_SIZE:at + _KEYS_SIZE + _ZERO.size] = _ZERO.pack(zero_at)
