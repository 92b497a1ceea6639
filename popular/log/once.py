"""Logging an event at most once a minute, whichever process logs it.

When descriptors or memory run out, every child sees it at the same moment, again and again; the log
should have one line.  The time of the last line is in memory that a process shares with its children.
Raises OSError without memory when it is made, and nothing later.
"""

import mmap
import struct
import time

_STAMP = struct.Struct("=d")


class OnceAMinute:
    """Permission to log, given once in a span of time to all processes together.

    There is no lock: if processes ask within the same microsecond, more than one may get it.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        """Start with permission given."""
        self._seconds = seconds
        self._stamp = mmap.mmap(-1, _STAMP.size)

    def is_due(self) -> bool:
        """Tell whether to log now; if so, no other process may log for a while."""
        now = time.monotonic()    # one clock for all processes of the system
        [last] = _STAMP.unpack_from(self._stamp)
        if last and now - last < self._seconds:
            return False
        self._stamp[:] = _STAMP.pack(now)
        return True
