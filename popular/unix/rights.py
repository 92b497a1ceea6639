"""Rights of a process: its user and groups, and giving up root's for good.

The starter looks them up (pwd, grp).  A master that was started as root drops to them first of all,
and every child proves them.  `Peer.of` returns those of the other end of a socket.
Raises StartError with what could not be done.
"""

import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from popular.unix.identity import become, owner_of, prove_ids

_CREDENTIALS = struct.Struct("=iII")    # pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a Unix socket."""

    pid: int
    uid: int

    @classmethod
    def of(cls, sock: socket.socket) -> "Peer":
        """Return the process that connected; raises OSError."""
        pid, uid, _ = _CREDENTIALS.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return cls(pid, uid)


@dataclass(frozen=True, slots=True)
class Rights:
    """A user with their groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]    # supplementary ones, sorted

    @property
    def is_root(self) -> bool:
        """Tell whether these are root's rights."""
        return self.uid == 0

    @property
    def home(self) -> str:
        """The user's home folder; / for a user who is not one of this system's."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"


def find_rights(user: str, group: str | None) -> Rights:
    """Return the rights of `user` with `group` as primary group; None: the user's own (starter only).

    Raises KeyError with a text that says which does not exist.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise KeyError(f"no such user {user!r}; create it or give --user") from None
    try:
        gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise KeyError(f"no such group {group!r}; create it or give --group") from None
    return Rights(user, entry.pw_uid, gid, tuple(sorted(os.getgrouplist(user, gid))))


def rights_of_owner(status: os.stat_result) -> Rights:
    """Return the rights of the user who owns the file with this status, with its group as primary group.

    An owner who is not a user of this system has no other groups.
    """
    return Rights(*owner_of(status))


def own_rights() -> Rights:
    """Return the rights this process has now."""
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return Rights(user, uid, os.getegid(), tuple(sorted(os.getgroups())))


def group_name(gid: int) -> str:
    """Return the name of a group, or its number if it has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def drop(rights: Rights) -> None:
    """Change to `rights` for good, and check that this cannot be undone; raises StartError."""
    become(rights.user, rights.uid, rights.gid, rights.groups)


def prove(rights: Rights) -> None:
    """Raise StartError unless real, effective and saved ids and all groups are those of `rights`."""
    prove_ids(rights.uid, rights.gid, rights.groups)


@contextmanager
def acting_as(rights: Rights) -> Iterator[None]:
    """Work with the rights of another user for a while, so that root's files are not touched for them (starter only).

    Does nothing unless this process runs as root.
    """
    if os.geteuid() != 0:
        yield
        return
    own = own_rights()
    os.setgroups(rights.groups)
    os.setegid(rights.gid)
    os.seteuid(rights.uid)
    try:
        yield
    finally:
        os.seteuid(own.uid)
        os.setegid(own.gid)
        os.setgroups(own.groups)
