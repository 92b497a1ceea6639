"""The only place where a master waits: it polls everything that can wake it (master only).

It uses poll, not epoll, which would report a descriptor for ever that is closed here but still open in
a child.  Registered descriptors belong to the master and are closed in its children.
"""

import select
from collections.abc import Callable

from popular.unix.descriptors import MastersOwn


class Watch:
    """Descriptors and what to do when they become ready."""

    def __init__(self, masters_own: MastersOwn) -> None:
        """Begin with none; each one is also added to `masters_own`."""
        self._own = masters_own
        self._poll = select.poll()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def register(self, fd: int, callback: Callable[[], None], events: int = select.POLLIN) -> None:
        """Call `callback`, which must not block, when `fd` is ready; registering again replaces both."""
        self._own.add(fd)
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Forget `fd`; call it before closing."""
        self._poll.unregister(fd)
        del self._callbacks[fd]
        self._own.remove(fd)

    def keep(self, *fds: int) -> None:
        """Close `fds` in all children, without waiting for them here."""
        self._own.add(*fds)

    def forget(self, *fds: int) -> None:
        """Undo `keep`; call it before closing."""
        self._own.remove(*fds)

    def wait(self, seconds: float | None) -> None:
        """Wait at most `seconds` (None: for ever) and call the callbacks that are due."""
        for fd, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            callback = self._callbacks.get(fd)    # an earlier callback may have removed it
            if callback is not None:
                callback()
