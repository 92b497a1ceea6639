"""Keeping one of root's rights and giving up all others: Linux capabilities, see capabilities(7).

Runs in a process that has just been started, before anything else.  Raises StartError.  Not for
processes that fork: they keep no capability.
"""

import ctypes
import os
import struct
from collections.abc import Iterable

from popular.errors import StartError
from popular.unix.syscalls import PR_SET_NO_NEW_PRIVS, libc

CAP_NET_BIND_SERVICE = 10    # to bind ports below 1024

_PR_SET_KEEPCAPS = 8
_VERSION_3 = 0x20080522      # of the kernel's interface: two words of 32 bits per set
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")    # effective, permitted, inheritable; then the upper halves


def survive_change_of_user() -> None:
    """Keep capabilities over the change from root to another user; `keep_only` must follow."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_only(capabilities: Iterable[int]) -> None:
    """Give up all capabilities but these for good: no program run later gets more."""
    wanted = 0
    for number in capabilities:
        wanted |= 1 << number
    kept = wanted & permitted()
    low, high = kept & 0xffffffff, kept >> 32
    header = _HEADER.pack(_VERSION_3, 0)
    if libc().capset(header, _SETS.pack(low, low, 0, high, high, 0)) != 0:
        raise StartError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")
    _prctl(_PR_SET_KEEPCAPS, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def permitted() -> int:
    """Return the capabilities that this process may use, as bits."""
    header, sets = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0)), ctypes.create_string_buffer(_SETS.size)
    if libc().capget(header, sets) != 0:
        raise StartError(f"cannot read the capabilities: {os.strerror(ctypes.get_errno())}")
    _, low, _, _, high, _ = _SETS.unpack(sets.raw)
    return int(low | high << 32)


def _prctl(option: int, value: int) -> None:
    if libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise StartError(f"prctl {option} was refused: {os.strerror(ctypes.get_errno())}")
