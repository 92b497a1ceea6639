"""Landlock: what a process may still do with files, ports and signals, for itself and for what it starts (landlock(7)).

A ruleset is made of grants: what it handles and does not grant is refused.  Grants belong to the folder that has the
name now, whatever is renamed later.  Raises OSError.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from popular.unix.syscalls import failure, libc

LEAST_ABI = 2    # Linux 5.19: before, no file could be moved from one folder to another

_CREATE, _ADD, RESTRICT = 444, 445, 446    # of every processor
_ASK_VERSION = 1
_BENEATH, _PORT = 1, 2
_RULESET = struct.Struct("=QQQ")
_RULE = struct.Struct("=Qi")
_PORT_RULE = struct.Struct("=QQ")


class Access:
    """What can be refused or granted below a folder, in one number; LANDLOCK_ACCESS_FS_*."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13        # to move a file or make a link into another folder
    TRUNCATE = 1 << 14     # ABI 3
    IOCTL_DEV = 1 << 15    # ABI 5


READING = Access.READ_FILE | Access.READ_DIR
WRITING = (Access.WRITE_FILE | Access.TRUNCATE | Access.MAKE_REG | Access.MAKE_DIR | Access.REMOVE_FILE
           | Access.REMOVE_DIR | Access.REFER)
NOTHING_ELSE = (1 << 16) - 1 & ~READING    # to refuse, unless granted: all but reading

_OF_A_FILE = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
_BIND = 1 << 0             # of TCP ports, ABI 4
_ABSTRACT, _SIGNAL = 1 << 0, 1 << 1    # what leaves the domain, ABI 6


@dataclass(frozen=True, slots=True)
class Grant:
    """What is allowed below a folder, or with a file."""

    path: str
    access: int    # of `Access`


def abi() -> int:
    """Return the kernel's version of Landlock; 0: it has none, or it is turned off."""
    return max(0, int(libc().syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)))


def make_ruleset(version: int, handled: int, grants: Iterable[Grant], *, ports: bool = False, signals: bool = False,
                 abstract: bool = False) -> int:
    """Return a descriptor of a ruleset of what the kernel's `version` knows.

    `ports`: no TCP port may be bound, except one that the kernel chooses.  `signals`: none to processes outside.
    `abstract`: no connections to Unix sockets without a file outside.  Grants for paths that do not exist are left out.
    """
    for bit, since in ((Access.TRUNCATE, 3), (Access.IOCTL_DEV, 5)):
        if version < since:
            handled &= ~bit
    scoped = signals * _SIGNAL | abstract * _ABSTRACT
    attributes = _RULESET.pack(handled, _BIND if ports and version >= 4 else 0, scoped if version >= 6 else 0)
    call = libc().syscall
    ruleset = int(call(_CREATE, attributes, ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24), 0))
    if ruleset < 0:
        raise failure()
    try:
        for grant in grants:
            _add(call, ruleset, grant, handled)
        if ports and version >= 4 and call(_ADD, ruleset, _PORT, _PORT_RULE.pack(_BIND, 0), 0) != 0:
            raise failure()
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _add(call: "ctypes._NamedFuncPointer", ruleset: int, grant: Grant, handled: int) -> None:
    access = grant.access & handled
    try:
        fd = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:    # not there, or not ours
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_A_FILE
        if access and call(_ADD, ruleset, _BENEATH, _RULE.pack(access, fd), 0) != 0:
            if ctypes.get_errno() != errno.EBADFD:    # of a file system without files, where nothing is refused
                raise failure()
    finally:
        os.close(fd)


def enter(ruleset: int) -> None:
    """Restrict this process; it must have no_new_privs."""
    if libc().syscall(RESTRICT, ruleset, 0) != 0:
        raise failure()


def around(kept: Iterable[str]) -> list[str]:
    """Return folders of the first two levels, all except those that hold one of the paths `kept` out."""
    parts = [os.path.realpath(path).split("/")[1:3] for path in kept]
    whole = {f"/{'/'.join(part)}" for part in parts}
    return [path for parent in {"/", *(f"/{part[0]}" for part in parts)} if parent not in whole
            for path in _folders_in(parent) if path not in whole and path not in {f"/{part[0]}" for part in parts}]


def _folders_in(parent: str) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
