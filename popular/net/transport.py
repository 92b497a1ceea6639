"""What wires and relays speak over: a socket, or TLS over one (net.tls.stream, loaded only where there is TLS)."""

import socket
import struct
from dataclasses import dataclass
from typing import Protocol

Octets = bytes | bytearray | memoryview

_DO_NOT_LINGER = struct.pack("ii", 0, 0)    # struct linger

# How a header of the PROXY protocol begins (HAProxy's proxy-protocol.txt, sections 2.1 and 2.2).
PROXY_V1 = b"PROXY "
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"


def is_proxy_header(octets: bytes) -> bool:
    """Tell whether the first octets of a connection begin a header of the PROXY protocol, version 1 in either case."""
    return octets.startswith(PROXY_V2) or octets[:len(PROXY_V1)].upper() == PROXY_V1


class Buffered(Protocol):
    """A connected stream over a socket, with its own buffers.

    It never blocks: BlockingIOError when there is nothing to receive, or no room to send.  After one from
    `send` the same octets must be sent again.
    """

    @property
    def sock(self) -> "Stream":
        """Return the stream below this one."""
        ...

    @property
    def pending(self) -> bool:
        """Tell whether `recv` may have something though the descriptor is not readable."""
        ...

    def fileno(self) -> int:
        """Return the descriptor to wait on, -1 once it is closed."""
        ...

    def recv(self, bufsize: int, /) -> bytes:
        """Return up to so many octets, none at the peer's end; raises OSError."""
        ...

    def send(self, data: Octets, flags: int = ..., /) -> int:
        """Send some of the octets and return their count; raises OSError."""
        ...

    def shutdown(self, how: int, /) -> None:
        """End the writing half (SHUT_WR); raises OSError."""
        ...

    def close(self) -> None:
        """Close it; may be called twice."""
        ...


class SharedSocket(socket.socket):
    """A socket that never waits, though another process that has it, too, may make it wait.

    Whether calls wait is a property of the open socket, not of the process.  splice(2) cannot be told not to wait for a
    socket, so this one must not be spliced.
    """

    __slots__ = ()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Return up to so many octets; raises OSError, BlockingIOError if there are none."""
        return super().recv(bufsize, flags | socket.MSG_DONTWAIT)

    def send(self, data: Octets, flags: int = 0, /) -> int:    # type: ignore[override]
        """Send some of the octets and return their count; raises OSError, BlockingIOError if there is no room."""
        return super().send(data, flags | socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close it without waiting until what was sent has arrived (SO_LINGER); the kernel goes on sending."""
        try:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DO_NOT_LINGER)
        except OSError:    # closed before
            pass
        super().close()


Stream = socket.socket | Buffered


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file that goes to a peer as it is, without passing through this process.

    It is `count` octets from `start` of the open file `fd`, which must stay open until they are sent.  net.stuffing
    names such parts, net.wire sends them.
    """

    fd: int
    start: int
    count: int

    def __len__(self) -> int:
        """Return the octets, as of any other part of an answer."""
        return self.count
