"""The output of a short-lived process of the master, and its end (master only).

Such a process does work that is too heavy or slow for the master's loop: reading files, querying databases.
"""

import os
import signal
from collections.abc import Callable

from popular.proc.watch import Watch

_BLOCK = 65536


class ProcessOutput:
    """One such process, and the pipe that it writes into."""

    def __init__(self, watch: Watch, limit: int, start: Callable[[int], int]) -> None:
        """Call `start` with the pipe's write end, to start the process and return its pid; raises OSError.

        At most about `limit` octets are read.
        """
        self._watch = watch
        self._limit = limit
        self._octets = bytearray()
        self.is_ended = False    # its output is complete
        self._fd, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)    # only this end: writing may block the process
        watch.keep(self._fd)
        try:
            self._process = os.pidfd_open(start(write_end))    # its pid may be reused before it is killed
        except OSError:
            watch.forget(self._fd)
            os.close(self._fd)
            raise
        finally:
            os.close(write_end)
        watch.keep(self._process)
        watch.register(self._fd, self._read)

    @property
    def is_open(self) -> bool:
        """Tell whether it has not been closed yet."""
        return self._fd >= 0

    @property
    def text(self) -> str:
        """The output so far."""
        return self._octets.decode("utf-8", "replace")

    def kill(self) -> None:
        """End the process, and close."""
        try:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        except ProcessLookupError:    # reaped already, while another process holds the pipe open
            pass
        self.close()

    def close(self) -> None:
        """Release the process; may be called twice."""
        if self._fd < 0:
            return
        self._watch.unregister(self._fd)
        self._watch.forget(self._process)
        os.close(self._process)
        os.close(self._fd)
        self._fd = -1

    def _read(self) -> None:
        try:
            block = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return
        self._octets += block
        if not block or len(self._octets) > self._limit:
            self.is_ended = True
