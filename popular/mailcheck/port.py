"""A UDP port that answers from the address to which the request was sent.

Used in the children of pcheckd.  A socket bound to all addresses of a host would answer from the one
that the routing table prefers, but the client's socket is connected and accepts answers only from the
address that it asked.  The kernel gives that address with each datagram (ip(7), ipv6(7)).
"""

import socket
from dataclasses import dataclass

from popular.net.listen import SocketAddress

_Control = tuple[int, int, bytes]    # as recvmsg gives it

_IP_PKTINFO = 8                  # Linux's value; not in the socket module of Python 3.11
_EVERYWHERE = ("0.0.0.0", "::")
_CONTROL_SIZE = 64               # octets: one in_pktinfo (12) or in6_pktinfo (20) with its header
_LINK_LOCAL = b"\xfe\x80"


@dataclass(frozen=True, slots=True)
class Datagram:
    """A received datagram, its sender, and how to send the answer back."""

    data: bytes
    peer: SocketAddress
    path: tuple[_Control, ...]


class AnsweringPort:
    """One bound UDP socket, non-blocking, perhaps shared with other processes."""

    def __init__(self, sock: socket.socket) -> None:
        """Use `sock`; raises OSError if it is not a UDP socket."""
        self._sock = sock
        if sock.getsockname()[0] not in _EVERYWHERE:
            return
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self, limit: int) -> Datagram:
        """Return the next datagram, cut to `limit` octets; raises OSError; BlockingIOError if there is none."""
        data, control, _, peer = self._sock.recvmsg(limit, _CONTROL_SIZE)
        return Datagram(data, peer, _way_back(control) if control else ())

    def answer(self, datagram: Datagram, data: bytes) -> None:
        """Send `data` to the peer of `datagram`; raises OSError."""
        self._sock.sendmsg((data,), datagram.path, 0, datagram.peer)


def _way_back(control: list[_Control]) -> tuple[_Control, ...]:
    """Turn the control data of a datagram into that for an answer from the same address.

    The kernel chooses the interface, because the way back may differ; only a link-local address
    means nothing without its interface.
    """
    for level, kind, data in control:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):    # interface, address to answer from, target
            ours, target = data[4:8], data[8:12]
            if ours == bytes(4):    # it came before __init__ set the socket option
                ours = target
            return ((level, kind, bytes(4) + ours + bytes(4)),)
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):    # address, interface
            interface = data[16:20] if data.startswith(_LINK_LOCAL) else bytes(4)
            return ((level, kind, data[:16] + interface),)
    return ()
