"""How long a peer has been idle: it has sent nothing, and its TCP has taken nothing of what was sent to it.

Used by wires and relays, in the children of pproxy and pserv, once a wait has been long.  Filling the
kernel's send buffer is no progress of the peer: a slow one needs minutes to empty it, and nothing can be written or
read meanwhile.  Raises nothing.
"""

import socket
import struct
import time

from popular.net.transport import Stream

LOOKS = 8    # in one idle time; a peer's TCP may take 64 KiB at once, and then nothing for a while

_TAKEN = struct.Struct("=I60xQ")    # tcpi_last_ack_recv, milliseconds ago; tcpi_bytes_acked (struct tcp_info, tcp(7))
_TAKEN_AT = 56


class Idleness:
    """The time without progress on some connections, measured from time to time."""

    __slots__ = ("_limit", "_sockets", "_taken", "_since")

    def __init__(self, limit: float, waited: float, *streams: Stream) -> None:
        """Begin after the first `waited` seconds of a wait; `limit` is the longest idle time in seconds.

        Progress in those seconds is known from the time of the last acknowledgement.
        """
        self._limit = limit
        self._sockets = [_socket(stream) for stream in streams]
        looks = [_look(sock) for sock in self._sockets]
        self._taken = [taken for _, taken in looks]
        self._since = time.monotonic() - min(waited, *(ago for ago, _ in looks))

    def is_over(self) -> bool:
        """Measure again; tell whether the limit has been reached."""
        now = time.monotonic()
        taken = [_look(sock)[1] for sock in self._sockets]
        if taken != self._taken:
            self._taken = taken
            self._since = now
        return now - self._since >= self._limit


def _socket(stream: Stream) -> socket.socket:
    """Return the socket that a stream is over."""
    while not isinstance(stream, socket.socket):
        stream = stream.sock
    return stream


def _look(sock: socket.socket) -> tuple[float, int]:
    """Return the seconds since the last acknowledgement, and all octets acknowledged; infinity and 0 if not TCP."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TAKEN_AT + _TAKEN.size)
        milliseconds, taken = _TAKEN.unpack_from(info, _TAKEN_AT)
    except (OSError, struct.error):    # another kind of socket, or closed
        return float("inf"), 0
    return milliseconds / 1000, taken
