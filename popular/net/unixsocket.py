"""Unix sockets that wait for peers: making them, letting others connect, and removing them.

`bind_unix` runs in the starter, possibly as root, and in the master; `try_unix` in the starter.  A file in a folder of
the service user is made and changed with that user's rights, never with root's.  All raise StartError with the path
and the reason.
"""

import errno
import grp
import os
import socket
import stat
from dataclasses import dataclass, replace

from popular.addresses import Endpoint
from popular.errors import StartError
from popular.unix.rights import Rights, acting_as

_NO_SOCKET = "something other than a socket has this name"


@dataclass(frozen=True, slots=True)
class SocketAccess:
    """Who may connect to a Unix socket."""

    mode: int = 0o660
    group: str = ""    # which gets the socket; empty: the service user's


def bind_unix(endpoint: Endpoint, backlog: int, access: SocketAccess, owner: Rights | None = None) -> socket.socket:
    """Return a non-blocking socket that listens at a path; one that nobody listens at is replaced.

    It is made with the rights of `owner` (None: our own), and by root for them where they may not make it.
    """
    path = endpoint.host
    gid = _gid(endpoint, access)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if owner is None:
            _make(sock, path, access.mode, gid)
        else:
            try:
                with acting_as(owner if gid < 0 else replace(owner, groups=(*owner.groups, gid))):
                    _make(sock, path, access.mode, gid)
            except PermissionError:
                if os.geteuid() != 0:
                    raise
                sock.close()    # it may be bound
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                _make(sock, path, access.mode, owner.gid if gid < 0 else gid, owner.uid)
        sock.listen(backlog)    # until now nobody could connect
    except OSError as why:
        sock.close()
        raise _refused(endpoint, why) from why
    return sock


def open_unix(endpoint: Endpoint, access: SocketAccess) -> None:
    """Let others connect from now on, to a socket that is there."""
    try:
        _grant(endpoint.host, access.mode, _gid(endpoint, access))
    except OSError as why:
        raise _refused(endpoint, why) from why


def try_unix(endpoint: Endpoint, access: SocketAccess) -> None:
    """Check that a socket could be made at a path, and make none."""
    folder = os.path.dirname(endpoint.host)
    _gid(endpoint, access)
    try:
        os.stat(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if os.path.lexists(endpoint.host):
            _want_stale(endpoint.host)
    except OSError as why:
        raise _refused(endpoint, why) from why


def remove_unix(endpoint: Endpoint) -> None:
    """Remove a socket at which nobody listens any more; one that cannot be removed stays.  Raises nothing."""
    try:
        _want_stale(endpoint.host)
        os.unlink(endpoint.host)
    except OSError:
        pass


def _make(sock: socket.socket, path: str, mode: int, gid: int, uid: int = -1) -> None:
    try:
        sock.bind(path)
    except OSError as why:
        if why.errno != errno.EADDRINUSE:
            raise
        _want_stale(path)
        os.unlink(path)
        sock.bind(path)
    _grant(path, mode, gid, uid)


def _grant(path: str, mode: int, gid: int, uid: int = -1) -> None:
    if (uid, gid) != (-1, -1):
        os.chown(path, uid, gid, follow_symlinks=False)
    os.chmod(path, mode)


def _want_stale(path: str) -> None:
    """Raise OSError unless there is a socket at which nobody listens."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, _NO_SOCKET)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return
        except BlockingIOError:    # too many wait there
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _gid(endpoint: Endpoint, access: SocketAccess) -> int:
    """Return the number of the group that gets the socket, -1 for none in particular."""
    try:
        return grp.getgrnam(access.group).gr_gid if access.group else -1
    except KeyError:
        raise StartError(f"cannot listen on {endpoint}: no such group {access.group!r}") from None


def _refused(endpoint: Endpoint, why: OSError) -> StartError:
    hint = "; another program listens there" if why.errno == errno.EADDRINUSE else ""
    return StartError(f"cannot listen on {endpoint}: {why.strerror or why}{hint}")
