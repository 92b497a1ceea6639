"""Levels whose events other proxies hear of, and the pipe on which the children report these events.

Made by the master.  Children report; the process that shares counts (process.py) sends what they report to the other
proxies, and applies what those tell.  Raises nothing but OSError when made.
"""

import fcntl
import math
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from popular.pproxy.limits.levels import Levels

MOST_TABLES = 8                 # of levels
MOST_SECONDS = 90 * 86_400.0    # in which a level falls by one
MOST_LEVEL = 1e6
FORGOTTEN, TAKEN_BACK = 0.0, -1.0    # in place of a highest level

_EVENT = struct.Struct("<BQff")
EVENT_SIZE = _EVENT.size
_TOLD_GAIN = 0.01        # of a level: what raises it by less is told by chance, and seldom if it is little
_PIPE_SIZE = 1 << 18     # octets: a second of several thousand logins
_KEY = struct.Struct("=Q")
_MAX_KEY = 0xffff_ffff_ffff_ffff


@dataclass(frozen=True, slots=True)
class LimitEvent:
    """A level rose by one, fell by one, or was forgotten."""

    table: int        # its place in `Sharing.tables`
    key: int
    seconds: float    # in which it falls by one
    most: float       # the highest; FORGOTTEN, or TAKEN_BACK: it fell by one

    @property
    def is_sound(self) -> bool:
        """Tell whether it can be applied: anybody may have written it."""
        return (0 <= self.table < MOST_TABLES and self.key != 0 and math.isfinite(self.seconds)
                and 0 < self.seconds <= MOST_SECONDS
                and (0 <= self.most <= MOST_LEVEL or self.most == TAKEN_BACK))


def packed(event: LimitEvent) -> bytes:
    """Return an event as octets."""
    return _EVENT.pack(event.table, event.key, event.seconds, event.most)


def events_in(octets: bytes) -> Iterator[LimitEvent]:
    """Yield the sound events in octets; a rest that is not whole is ignored."""
    for fields in _EVENT.iter_unpack(octets[:len(octets) - len(octets) % EVENT_SIZE]):
        event = LimitEvent(*fields)
        if event.is_sound:
            yield event


class EventPipe:
    """From the children to the process that shares.  Nobody waits: what finds no room is lost."""

    def __init__(self) -> None:
        """Make it; raises OSError."""
        self.reading_end, self._writing_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(self._writing_end, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        except OSError:    # the user has many large pipes
            pass

    def tell(self, event: LimitEvent) -> None:
        """Report an event, by one atomic write."""
        try:
            os.write(self._writing_end, packed(event))
        except OSError:    # full, or nobody reads
            pass

    def drain(self) -> bytes:
        """Return what has been reported; a hostile child may have written anything."""
        try:
            return os.read(self.reading_end, _PIPE_SIZE)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends; for tests, because a master keeps them to its end."""
        os.close(self.reading_end)
        os.close(self._writing_end)


class SharedLevels(Levels):
    """Levels whose events are told to other proxies.

    Their keys are the same everywhere, so others can find out which ones have the same place in a table.  Here they
    have places that nobody else knows, or else one could be made forgotten by others.
    """

    def __init__(self, keys: int, table: int, pipe: EventPipe) -> None:
        """Make memory for about so many keys; events are told as those of `table`."""
        super().__init__(keys)
        self._table = table
        self._pipe = pipe

    def level(self, key: int, seconds: float) -> float:
        """Return the level of `key`, which falls by one in `seconds`."""
        return super().level(_local(key), seconds)

    def rise(self, key: int, seconds: float, amount: float = 1.0, most: float = float("inf")) -> float:
        """Add `amount`, 1 or -1, and tell it; not each time if the level is nearly at its highest already."""
        if amount < 0:
            self._pipe.tell(LimitEvent(self._table, key, seconds, TAKEN_BACK))
            return super().rise(_local(key), seconds, amount, most)
        before = self.level(key, seconds) if most < MOST_LEVEL else 0.0
        after = super().rise(_local(key), seconds, amount, most)
        chance = time.monotonic_ns() % 1_000_000 / 1_000_000    # another one in each child
        if after - before > chance * _TOLD_GAIN:
            self._pipe.tell(LimitEvent(self._table, key, seconds, min(most, MOST_LEVEL)))
        return after

    def take(self, key: int, seconds: float, most: float) -> bool:
        """Add 1 to the level of `key`, and tell it, unless it would then be above `most`; return whether it was."""
        is_added = super().take(_local(key), seconds, most)
        if is_added:
            self._pipe.tell(LimitEvent(self._table, key, seconds, min(most, MOST_LEVEL)))
        return is_added

    def forget(self, key: int) -> None:
        """Set the level of `key` to zero, and tell it if there was one."""
        if self._forget(_local(key)):
            self._pipe.tell(LimitEvent(self._table, key, 1.0, FORGOTTEN))

    def apply(self, event: LimitEvent, age: float) -> None:
        """Do what another proxy has told, and what happened `age` seconds ago."""
        if event.most == FORGOTTEN:
            self._forget(_local(event.key))
        elif event.most == TAKEN_BACK:
            super().rise(_local(event.key), event.seconds, -1.0)
        elif age < event.most * event.seconds:
            self._rise_ago(_local(event.key), event.seconds, event.most, age)

    def _forget(self, key: int) -> bool:
        is_known = self._find(key)[1] > time.monotonic()
        super().forget(key)
        return is_known


def _local(key: int) -> int:
    """Return the key under which this master and its children know `key`: the hash of octets has their salt."""
    return hash(_KEY.pack(key)) & _MAX_KEY or 1
