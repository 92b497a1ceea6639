"""TCP connections to backends, within a time limit.

Used in the children of pproxy and in tools.  Never asks the DNS: names were resolved by the
starter.  Raises BackendError with the address and the reason.
"""

import errno
import os
import select
import socket

from popular.addresses import Endpoint, is_ip
from popular.errors import BackendError

# Not in the socket module of every Python; Linux's value.  The source port is then chosen at
# connect, where one port can serve many destinations, instead of at bind.
_IP_BIND_ADDRESS_NO_PORT = 24

# Octets that may arrive from a backend before the client has taken earlier ones.  TCP opens a closed window only when
# a sixteenth of its buffer is free, and the kernel's own choice of a size goes up to megabytes: the backend of a slow
# client would see no progress for longer than its idle time.
_RECEIVE_BUFFER = 256 * 1024

_HINTS = {
    errno.EADDRNOTAVAIL: "; is the source address one of this host's, and are source ports left?",
    errno.EMFILE: "; too many open files",
}
# Errors of this host, not of the backend; they are counted separately.
_LOCAL = (errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EACCES, errno.EPERM,
          errno.EAFNOSUPPORT, errno.EINVAL)


def dial(endpoint: Endpoint, timeout: float, source: str | None) -> socket.socket:
    """Return a connected, non-blocking socket with TCP_NODELAY and SO_KEEPALIVE (spec 1.5).

    `timeout` is in seconds, for the whole connect; `source` is the numeric source address;
    None leaves it to the kernel.
    """
    if not endpoint.is_numeric or not (source is None or is_ip(source)):
        raise BackendError(f"cannot connect to {endpoint}: numeric addresses are needed here", "local")
    sock = None
    try:
        sock = socket.socket(socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET,
                             socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        _prepare(sock, source)
        _connect(sock, endpoint, timeout)
        return sock
    except OSError as why:
        if sock is not None:
            sock.close()
        hint = _HINTS.get(why.errno or 0, "")
        raise BackendError(f"cannot connect to {endpoint}: {why.strerror or why}{hint}", _kind_of(why)) from why


def _kind_of(why: OSError) -> str:
    """Return the kind of failure as it is counted."""
    if isinstance(why, TimeoutError):
        return "timeout"
    return "local" if why.errno in _LOCAL else "refused"


def _prepare(sock: socket.socket, source: str | None) -> None:
    """Set what must be set before connecting; raises OSError."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    if source is not None:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))


def _connect(sock: socket.socket, endpoint: Endpoint, timeout: float) -> None:
    """Connect; raises OSError, and TimeoutError after `timeout` seconds."""
    code = sock.connect_ex((endpoint.host, endpoint.port))
    if code == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        if not poll.poll(timeout * 1000):
            raise TimeoutError(f"no answer within {timeout:g} s")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
