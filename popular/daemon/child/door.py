"""The way of accepted connections from a process that screens clients to the children: a pair of connected sockets.

All children have one end and the screening process the other.  A connection goes through it as one packet, with its
descriptor, to whichever child is idle.  The kernel has room for one packet only, so what comes next is decided when
the last one has been taken.
"""

import os
import select
import socket
import struct
from dataclasses import dataclass

from popular.addresses import Endpoint

_FD = struct.Struct("i")
_RIGHTS = socket.CMSG_LEN(_FD.size)
_FORM = struct.Struct("=64s64sH")    # owner of the listener; address and port of the client
_PACKET = 2048      # octets: as the kernel counts it, more than a quarter of the least room that a socket can have
_PADDING = b"\0"


@dataclass(frozen=True, slots=True)
class Passed:
    """A connection that came through the door."""

    owner: str
    fd: int
    peer: Endpoint


class Door:
    """Both ends; children close that of the screening process, which the master registers as its own."""

    def __init__(self) -> None:
        """Make the sockets; raises OSError."""
        self.inner, self.outer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)    # the least: writable when nothing waits
        self._poll = select.poll()
        self._poll.register(self.outer, select.POLLOUT)

    def is_free(self) -> bool:
        """Tell whether the last connection has been taken."""
        return bool(self._poll.poll(0))

    def give(self, owner: str, fd: int, peer: Endpoint) -> None:
        """Send a connection, of which a copy stays open here, if the door is free; raises OSError."""
        packet = _FORM.pack(owner.encode("utf-8"), peer.host.encode("ascii"), peer.port)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(fd))]
        self.outer.sendmsg([packet.ljust(_PACKET, _PADDING)], rights, socket.MSG_NOSIGNAL)

    def take(self) -> Passed | None:
        """Return a connection; None if there is none, or another child was quicker.  Raises OSError."""
        packet, ancillary, _, _ = self.inner.recvmsg(_PACKET, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _FD.size:
                [fd] = _FD.unpack(data)
                try:
                    owner, host, port = _FORM.unpack_from(packet)
                    return Passed(_text(owner), fd, Endpoint(_text(host), port))
                except (struct.error, UnicodeError):
                    os.close(fd)
        return None

    def close(self) -> None:
        """Close both ends; for tests, because a master keeps them to its end."""
        self.inner.close()
        self.outer.close()


def _text(octets: bytes) -> str:
    return octets.rstrip(_PADDING).decode("utf-8")
