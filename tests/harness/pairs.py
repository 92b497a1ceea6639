"""Pairs of connected sockets, for tests of what sits on one end."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 40.0    # seconds a test's own end waits before it fails


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one TCP connection over loopback; both are closed at the end, which may come twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        theirs.settimeout(PATIENCE)
        yield ours, theirs


def packets_from(sock: socket.socket) -> int:
    """Return how many TCP segments came from the peer, acknowledgements too (tcp_info in linux/tcp.h)."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)[140:144], "little")


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset instead of a proper end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    """Return what comes until the peer's end."""
    parts = []
    while part := sock.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Return the next `size` octets, fewer only at the peer's end."""
    parts = []
    while size and (part := sock.recv(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
