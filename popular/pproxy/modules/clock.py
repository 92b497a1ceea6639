"""Since when each PDM worker has had its question: a file in memory that only the master and its workers have.

Workers write, and the master looks whenever it is awake.  Reports over the doorbell would wake it twice for each
question.  A child that serves clients has no descriptor of the file, so that it cannot have a worker ended as overdue.
"""

import os
import struct
import time

_MOMENT = struct.Struct("=d")    # monotonic time; 0: no question


class QuestionClock:
    """One moment for each slot of a worker; made in the master."""

    def __init__(self) -> None:
        """Make the file; raises OSError."""
        self._fd = os.memfd_create("popular-questions")

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def start(self, slot: int) -> None:
        """Note in a worker that it has a question from now on; raises OSError if there is no memory."""
        os.pwrite(self._fd, _MOMENT.pack(time.monotonic()), slot * _MOMENT.size)

    def stop(self, slot: int) -> None:
        """Note in a worker that it has no question; raises OSError if there is no memory."""
        os.pwrite(self._fd, _MOMENT.pack(0.0), slot * _MOMENT.size)

    def read(self, slots: int) -> list[float]:
        """Return the moments of the first `slots` workers, or of those that have written; raises OSError."""
        octets = os.pread(self._fd, slots * _MOMENT.size, 0)
        return [moment for moment, in _MOMENT.iter_unpack(octets)]
