"""The two pipes between a master and its children.

Doorbell: a child reports states and wishes, which wakes the master.  Death pipe: nothing is ever written to it;
its end of file tells a child that the master is dead.  The master makes both before the first fork.
"""

import os
import select
import struct
from collections.abc import Iterator

_RECORD = struct.Struct("=iI")                # pid, number: of a state, a wish or a failure
_BLOCK = _RECORD.size * 1024                  # a multiple, so that no record is split
_MAX_BLOCKS = 64                              # read at once; then other work of the master is due


class Doorbell:
    """Small records from the children, each written in one atomic write (PIPE_BUF)."""

    def __init__(self) -> None:
        """Make the pipe; raises OSError."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)

    def fileno(self) -> int:
        """Return the master's end, readable when a child has reported."""
        return self._read

    @property
    def childrens_end(self) -> int:
        """The end to which children write."""
        return self._write

    def ring(self, pid: int, number: int) -> None:
        """Report from the child `pid`; raises nothing, because the master may be dead."""
        try:
            os.write(self._write, _RECORD.pack(pid, number))
        except OSError:
            pass

    def part(self) -> None:
        """Close the reporting end, in a process that has nothing to report."""
        os.close(self._write)

    def drain(self) -> Iterator[tuple[int, int]]:
        """Yield the waiting reports (pid, number) in order."""
        for _ in range(_MAX_BLOCKS):
            try:
                block = os.read(self._read, _BLOCK)
            except BlockingIOError:
                return
            yield from _RECORD.iter_unpack(block[:len(block) - len(block) % _RECORD.size])
            if len(block) < _BLOCK:
                return


class DeathPipe:
    """Shows children that the master has ended, for whatever reason."""

    def __init__(self) -> None:
        """Make the pipe; raises OSError."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._read, select.POLLIN)

    @property
    def masters_end(self) -> int:
        """The end that only the master holds; it closes when the master dies."""
        return self._write

    def fileno(self) -> int:
        """Return the children's end, readable when the master is dead."""
        return self._read

    def is_ended(self, seconds: float = 0.0) -> bool:
        """Tell whether the master is dead, or dies within `seconds`."""
        return bool(self._poll.poll(seconds * 1000))
