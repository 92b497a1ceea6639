"""The one place where a master waits: poll over everything that can wake it (master only).

poll, not epoll: an epoll set wakes for ever on a descriptor that is closed here and still held by
a child.  What is registered here belongs to the master and is closed in its children.
"""

import select
from collections.abc import Callable

from popular.unix.descriptors import MastersOwn


class Watch:
    """Descriptors and what to do when they become ready."""

    def __init__(self, masters_own: MastersOwn) -> None:
        """Begin with none; each is entered into `masters_own` too."""
        self._own = masters_own
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def register(self, fd: int, callback: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call `callback` when `fd` is ready; registering it again changes both.  It must not block."""
        self._own.add(fd)
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Forget `fd`; call it before closing."""
        self._poll.unregister(fd)
        del self._callbacks[fd]
        self._own.remove(fd)

    def keep(self, *fds: int) -> None:
        """Let no child have `fds`, which are not waited for."""
        self._own.add(*fds)

    def forget(self, *fds: int) -> None:
        """Take back `keep`; call it before closing."""
        self._own.remove(*fds)

    def wait(self, seconds: float | None) -> None:
        """Wait for something to do, at most `seconds` (None: for ever), and do it."""
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            callback = self._callbacks.get(fd)    # an earlier callback may have taken it out
            if callback is not None:
                callback()
