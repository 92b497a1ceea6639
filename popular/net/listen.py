"""Sockets that wait for peers, and the addresses of sockets.

`resolve` runs in the starter only, because it asks the DNS; the rest in the starter, in the master
when a listener is added at run time, and in tests.  All raise StartError with the address, the
reason and, where known, what to do.
"""

import errno
import socket

from popular.addresses import UNIX_PEER, Endpoint
from popular.errors import StartError

# Octets that the kernel takes from us beyond what it has sent.  A slow client's connection must become writable well
# within the idle time; otherwise the backend that sends to us would reach its own idle time while we wait.
UNSENT = 256 * 1024

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | str    # as accept, recvfrom and getsockname return it

_HINTS = {
    errno.EACCES: "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE",
    errno.EADDRINUSE: "; another program listens there",
    errno.EADDRNOTAVAIL: "; no interface of this host has that address",
}


def bind_tcp(endpoint: Endpoint, backlog: int) -> socket.socket:
    """Return a non-blocking socket that listens on a numeric `endpoint`."""
    sock = _socket(endpoint, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, endpoint)
        prepare_tcp(sock, backlog)
    except OSError as why:
        sock.close()
        raise _refused(endpoint, why) from why
    return sock


def try_bind(kind: str, endpoint: Endpoint) -> socket.socket:
    """Return a socket that is bound to a numeric `endpoint` but does not listen, so it answers nobody.

    `kind` is tcp or udp.  Raises StartError as a real bind would.
    """
    if kind == "udp":
        return bind_udp(endpoint)
    sock = _socket(endpoint, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(sock, endpoint)
    except OSError as why:
        sock.close()
        raise _refused(endpoint, why) from why
    return sock


def prepare_tcp(sock: socket.socket, backlog: int) -> None:
    """Make a bound socket listen with our usual options; raises OSError.

    Accepted sockets inherit SO_KEEPALIVE (spec 1.5), TCP_NODELAY and TCP_NOTSENT_LOWAT, which saves
    three system calls a session; they do not inherit being non-blocking.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    sock.listen(backlog)


def bind_udp(endpoint: Endpoint) -> socket.socket:
    """Return a non-blocking datagram socket bound to a numeric `endpoint`."""
    sock = _socket(endpoint, socket.SOCK_DGRAM)
    try:
        _bind(sock, endpoint)
    except OSError as why:
        sock.close()
        raise _refused(endpoint, why) from why
    return sock


def bound_endpoint(sock: socket.socket) -> Endpoint:
    """Return the address of `sock`, with the port that the kernel chose for port 0."""
    try:
        return endpoint_of(sock.getsockname())
    except OSError as why:
        raise StartError(f"cannot read the address of a socket: {why.strerror}") from why


def accept_bare(sock: socket.socket) -> tuple[int, int, Endpoint]:
    """Accept a connection; return its descriptor, address family and origin; raises OSError.

    Uses the function behind socket.accept, which would make an object and two enum members for each connection.
    """
    fd, address = sock._accept()    # type: ignore[attr-defined]
    if isinstance(address, str):
        return fd, socket.AF_UNIX, UNIX_PEER
    return fd, socket.AF_INET6 if len(address) == 4 else socket.AF_INET, endpoint_of(address)


def endpoint_of(address: SocketAddress) -> Endpoint:
    """Return the Endpoint of a socket address; raises nothing."""
    if isinstance(address, str):
        return Endpoint(address, 0)
    host, port = address[:2]
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{address[3]}"    # a link-local address is meaningless without its interface
    return Endpoint(host, port)


def resolve(endpoint: Endpoint) -> Endpoint:
    """Return `endpoint` with a numeric host, the first that the system's resolver names."""
    if endpoint.is_numeric:
        return endpoint
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as why:
        reason = why.strerror if isinstance(why, OSError) else "not a host name"
        raise StartError(f"cannot resolve the host name {endpoint.host}: {reason}") from why
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            return Endpoint(str(address[0]), endpoint.port)
    raise StartError(f"cannot resolve the host name {endpoint.host}: it has neither an IPv4 nor an IPv6 address")


def _socket(endpoint: Endpoint, kind: int) -> socket.socket:
    """Return a new non-blocking socket of the family of `endpoint`."""
    if not endpoint.is_numeric:
        raise StartError(f"cannot listen on {endpoint}: a numeric address is needed here")
    try:
        return socket.socket(socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    except OSError as why:
        raise _refused(endpoint, why) from why


def _bind(sock: socket.socket, endpoint: Endpoint) -> None:
    """Bind; an IPv6 socket is for IPv6 only, so that `0.0.0.0:110, [::]:110` are two listeners everywhere."""
    if endpoint.is_ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((endpoint.host, endpoint.port))


def _refused(endpoint: Endpoint, why: OSError) -> StartError:
    """Return an error with the refused address, the reason, and what helps."""
    return StartError(f"cannot listen on {endpoint}: {why.strerror}{_HINTS.get(why.errno or 0, '')}")
