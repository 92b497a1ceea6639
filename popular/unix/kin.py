"""Whether the process at the other end of a Unix socket is one of a master's own children, or descends from one.

The control socket obeys none of them (master only).  The kernel says who connected and who is our child; what lies
between a grandchild and us is read in /proc.  A grandchild whose parent has died has no connection to us any more and
is not recognized.
"""

import errno
import os
import signal
import socket
from collections.abc import Collection

from popular.unix.rights import Peer

_SO_PEERPIDFD = 77    # unix(7), since Linux 6.5; Python has no name for it


def child_behind(sock: socket.socket, peer: Peer, masters: Collection[int]) -> int:
    """Return the pid of the child that connected, or whose descendant did; 0: the peer is not one of ours.

    `masters` are other processes whose children count as ours.  A peer that /proc does not show counts as a child,
    because every other process of our user is shown.  Raises OSError if the peer has ended: nobody can tell any more
    what it was.
    """
    if peer.pid == 0:    # it is outside our PID namespace, and our children cannot leave that
        return 0
    pidfd = _pidfd_of(sock, peer)
    try:
        if _is_ours(os.P_PIDFD, pidfd):
            return peer.pid
        found = _ancestor(peer.pid, {os.getpid(), *masters})
        signal.pidfd_send_signal(pidfd, 0)    # raises OSError unless what was read was about the peer
        return found
    finally:
        os.close(pidfd)


def _pidfd_of(sock: socket.socket, peer: Peer) -> int:
    """Return a descriptor for the process that connected; raises OSError if it has ended."""
    try:
        return sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as why:
        if why.errno != errno.ENOPROTOOPT:
            raise
    return os.pidfd_open(peer.pid)


def _is_ours(kind: int, ident: int) -> bool:
    """Tell whether a process is a child of this one, dead ones included that were not waited for."""
    try:
        os.waitid(kind, ident, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _ancestor(pid: int, masters: Collection[int]) -> int:
    """Return which process on the way from `pid` up to init is a child of one of `masters`; 0: none."""
    here = pid
    while True:
        try:
            parent = _parent(here)
        except OSError:    # hidden (hidepid of proc(5)), like other users' processes and children that cannot be traced
            return pid if here == pid else 0
        if parent in masters:
            return here
        if parent <= 1:
            return 0
        if _is_ours(os.P_PID, parent):
            return parent
        here = parent


def _parent(pid: int) -> int:
    """Return the parent of a process; raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
