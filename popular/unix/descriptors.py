"""Descriptors that only the master may have, low ones kept free for connections, and how many a process may have.

select(2) fails above descriptor 1023, which a master with many listeners easily exceeds.  So the
starter reserves two low numbers, and a child puts its client and its backend there.
"""

import os
import socket
from dataclasses import dataclass


class MastersOwn:
    """What a child must close after the fork: code that opens such a descriptor in the master registers it here.

    So none is forgotten, and no child loops over all possible descriptors.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._fds: dict[int, None] = {}
        self._kept: tuple[int, ...] = ()    # registered, but left open

    def but(self, *fds: int) -> "MastersOwn":
        """Return the same register, with what will be added, for children that keep `fds`."""
        register = MastersOwn()
        register._fds, register._kept = self._fds, fds
        return register

    def add(self, *fds: int) -> None:
        """Register descriptors when they were opened."""
        self._fds.update(dict.fromkeys(fds))

    def remove(self, *fds: int) -> None:
        """Forget descriptors before they are closed."""
        for fd in fds:
            self._fds.pop(fd, None)

    def close_all(self) -> None:
        """Close them; called in the child."""
        for fd in self._fds:
            if fd not in self._kept:
                os.close(fd)
        self._fds.clear()


class PlacedSocket(socket.socket):
    """A socket on a reserved number; closing it reserves the number again, without leaving it free for a moment."""

    spare: int = -1    # an open descriptor of /dev/null

    def close(self) -> None:
        """Close the connection; the number is reserved again."""
        if self.fileno() < 0:
            return
        number = self.detach()
        try:
            os.dup2(self.spare, number, inheritable=False)
        except OSError:
            os.close(number)


@dataclass(frozen=True, slots=True)
class ReservedDescriptors:
    """Reserved descriptor numbers: one for the client, one for the backend."""

    client: int
    backend: int
    spare: int

    @classmethod
    def reserve(cls) -> "ReservedDescriptors":
        """Take the lowest numbers that are free; raises OSError."""
        spare = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        return cls(os.dup(spare), os.dup(spare), spare)

    @property
    def descriptors(self) -> tuple[int, int, int]:
        """All numbers, for the hand-over to another program."""
        return self.client, self.backend, self.spare

    def place_client(self, fd: int, family: int) -> socket.socket:
        """Move the client's connection, a bare descriptor, to its number; the socket does not block."""
        return self._seat(fd, family, self.client)

    def place_backend(self, sock: socket.socket) -> socket.socket:
        """Move the backend's connection to its number; `sock` is closed; the new one does not block."""
        family = sock.family
        return self._seat(sock.detach(), family, self.backend)

    def _seat(self, fd: int, family: int, number: int) -> socket.socket:
        try:
            os.dup2(fd, number, inheritable=False)
        finally:
            os.close(fd)
        # All three are given, so that the kernel is not asked for them.
        placed = PlacedSocket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, number)
        placed.spare = self.spare
        placed.setblocking(False)    # not inherited from a listener
        return placed


def allow_descriptors(wanted: int) -> int:
    """Let this process have `wanted` descriptors, or as many as its hard limit says; return how many it may have.

    Called before the process enters its walls, which keep limits as they are; called again, it changes nothing.  Raises
    OSError.
    """
    import resource    # here, as few processes need it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
