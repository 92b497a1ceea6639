"""Moving octets from one socket to another without copying them into this process (splice).

Used by the relay in the children of pproxy.  A pipe takes two descriptors and counts against the kernel's limit for
one user (fs.pipe-user-pages-soft, by default 64 MiB, which are 256 pipes), so it is made when there is much to move and
closed soon after.  Passes on the OSError of the sockets, BlockingIOError among them.
"""

import fcntl
import os

SIZE = 256 * 1024    # octets in the pipe at most: four times the usual size, and less than half the calls
MOST = 1 << 20       # octets requested at a time; the size is the real limit

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    """A pipe that is filled from one non-blocking socket and emptied into another."""

    __slots__ = ("held", "_out", "_in")

    def __init__(self) -> None:
        """Make the pipe; raises OSError where the system has none left, or none of this size.

        Beyond the user's limit a new pipe has two pages, and copying is cheaper.
        """
        self.held = 0    # octets in the pipe
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, SIZE)
        except OSError:
            self.close()
            raise

    def fill(self, source: int) -> int:
        """Take what descriptor `source` has, as far as there is room; return the count, 0 at the source's end."""
        count = os.splice(source, self._in, MOST, flags=_FLAGS)
        self.held += count
        return count

    def empty(self, sink: int) -> int:
        """Give descriptor `sink` what it takes; return the count."""
        count = os.splice(self._out, sink, self.held, flags=_FLAGS)
        self.held -= count
        return count

    def take_all(self) -> bytes:
        """Return what is in the pipe, and leave it empty."""
        parts = []
        while self.held:
            parts.append(os.read(self._out, self.held))
            self.held -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close both ends; what is in the pipe is lost."""
        os.close(self._in)
        os.close(self._out)
