"""Ids of a process, and giving up root's for good: what `rights` does, in few lines and imports.

pdeliver uses it directly when root runs it: to load `rights` takes longer than the delivery.  Raises StartError with
what could not be done.
"""

import os
import pwd
from collections.abc import Sequence

from popular.errors import StartError


def owner_of(status: os.stat_result) -> tuple[str, int, int, tuple[int, ...]]:
    """Return name, uid, gid and all groups of the user who owns the file with this status, whose gid is the file's.

    An owner who is not a user of this system has their uid as name, and no other groups.
    """
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        return str(status.st_uid), status.st_uid, status.st_gid, (status.st_gid,)
    return user, status.st_uid, status.st_gid, tuple(sorted(os.getgrouplist(user, status.st_gid)))


def become(user: str, uid: int, gid: int, groups: Sequence[int]) -> None:
    """Take these ids for good, and check that this cannot be undone; raises StartError."""
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as why:
        raise StartError(f"cannot become user {user}: {why.strerror}") from why
    prove_ids(uid, gid, groups)
    if uid == 0:
        return
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise StartError(f"user {user} can become root again")


def prove_ids(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Raise StartError unless real, effective and saved ids and all groups, sorted, are these."""
    found = (os.getresuid(), os.getresgid(), sorted(os.getgroups()))
    if found != ((uid,) * 3, (gid,) * 3, list(groups)):
        raise StartError(f"wrong rights: uids {found[0]}, gids {found[1]}, groups {found[2]}")
