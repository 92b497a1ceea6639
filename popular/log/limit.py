"""A limit for log lines that peers can cause at will: a port scan must not fill a disk or hide what matters.

Made by the master of a daemon before it forks, and used in its children: the counts are in memory that all of them
share.  Nothing is locked, so a few more lines may pass when processes count at the same moment.  Raises nothing but
OSError when made.
"""

import mmap
import struct
import time
from dataclasses import dataclass

PERIOD = 60         # seconds
FROM_ONE = 10       # lines of one kind that one address may cause in a period, unless a setting says otherwise
TIMES = 20          # all addresses together may cause so many times more
EVERYBODY = "*"

_BUCKETS = 2048     # kinds and addresses that share one by chance share its limit
_BUCKET = struct.Struct("=QI")    # number of the period, lines in it


@dataclass(frozen=True, slots=True)
class Counted:
    """What happens to a line."""

    may_be_written: bool
    full: str = ""          # the address, or EVERYBODY, that may cause no more in this period


class LineLimit:
    """Counts lines by kind and address."""

    def __init__(self, most: int = FROM_ONE) -> None:
        """Make the memory that this process and its children share; one address may cause `most` lines of a kind."""
        self._most = most
        self._counts = mmap.mmap(-1, _BUCKETS * _BUCKET.size)

    def count(self, kind: int, host: str) -> Counted:
        """Count a line of a `kind` (its number in the catalogue) that the peer at `host` caused."""
        period = int(time.monotonic()) // PERIOD
        full = ""
        for who, most in ((host, self._most), (EVERYBODY, self._most * TIMES)):
            lines = self._count(period, kind, who)
            if lines > most:
                return Counted(False)
            if lines == most:
                full = who
        return Counted(True, full)

    @property
    def left(self) -> int:
        """The seconds that are left of this period."""
        return PERIOD - int(time.monotonic()) % PERIOD

    def _count(self, period: int, kind: int, who: str) -> int:
        """Count a line; return how many there were in this period."""
        place = hash((kind, who)) % _BUCKETS * _BUCKET.size    # the same in all processes forked from one
        known, lines = _BUCKET.unpack_from(self._counts, place)
        lines = min(lines + 1, self._most * TIMES + 1) if known == period else 1
        self._counts[place:place + _BUCKET.size] = _BUCKET.pack(period, lines)
        return lines
