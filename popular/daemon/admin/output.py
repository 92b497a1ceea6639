"""What a short-lived process of the master says, and its end (master only).

For work that is too heavy or may wait too long for the master's loop: reading files, asking databases.
"""

import os
import signal
from collections.abc import Callable

from popular.proc.watch import Watch

_BLOCK = 65536


class ProcessOutput:
    """One such process, and the pipe that it writes into."""

    def __init__(self, watch: Watch, limit: int, start: Callable[[int], int]) -> None:
        """Let `start` begin it, given the pipe's end for it, and return its pid; raises OSError.

        No more than `limit` octets are taken.
        """
        self._watch = watch
        self._limit = limit
        self._octets = bytearray()
        self.is_ended = False    # everything that it will say is there
        self._fd, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)    # this end only: the process waits until its output is taken
        watch.keep(self._fd)
        try:
            self._process = os.pidfd_open(start(write_end))    # when it is killed, its number may be somebody else's
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
        """Tell whether it was not closed yet."""
        return self._fd >= 0

    @property
    def text(self) -> str:
        """What it has said."""
        return self._octets.decode("utf-8", "replace")

    def kill(self) -> None:
        """End the process, and close."""
        try:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        except ProcessLookupError:    # buried already, while another one holds the pipe open
            pass
        self.close()

    def close(self) -> None:
        """Let go of it; twice is fine."""
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
