"""Saying a thing once a minute, whichever process says it.

When descriptors or memory run out, every child sees it at the same moment, again and again; the log
shall hold one line.  The time of the last line stands in a small file in memory that master and
children share.  Made in the master; raises OSError then, and nothing later.
"""

import fcntl
import os
import struct
import time

_STAMP = struct.Struct("=d")


class OnceAMinute:
    """Permission to log, given once in a span of time to all processes together."""

    def __init__(self, seconds: float = 60.0) -> None:
        """Begin with permission."""
        self._seconds = seconds
        self._fd = os.memfd_create("popular-once", os.MFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the shared descriptor, which children keep."""
        return self._fd

    def is_due(self) -> bool:
        """Tell whether to log now; if so, nobody else is told so for a while."""
        now = time.monotonic()    # one clock for all processes of the system
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)    # a process's own lock, held for microseconds
            try:
                stamp = os.pread(self._fd, _STAMP.size, 0)
                if len(stamp) == _STAMP.size and now - _STAMP.unpack(stamp)[0] < self._seconds:
                    return False
                os.pwrite(self._fd, _STAMP.pack(now), 0)
            finally:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)
        except OSError:    # no memory for a lock: better silent than flooding
            return False
        return True
