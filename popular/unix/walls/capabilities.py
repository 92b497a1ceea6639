"""Giving up root's rights one by one: Linux capabilities, see capabilities(7).

Runs in a process that has just been started, before anything else.  Of several processes, only the master can keep a
capability, which the service manager gave it; its children give it up (walls.py).  Raises StartError.
"""

import ctypes
import os
import struct
from collections.abc import Callable, Iterable

from popular.errors import StartError
from popular.unix.syscalls import PR_SET_NO_NEW_PRIVS, libc

CAP_NET_BIND_SERVICE = 10    # to bind ports below 1024

_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_VERSION_3 = 0x20080522      # of the kernel's interface: two words of 32 bits per set
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")    # effective, permitted, inheritable; then the upper halves


def survive_change_of_user() -> None:
    """Keep capabilities over the change from root to another user; `keep_only` must follow."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def bequeath_nothing() -> None:
    """Have no program that is run later get a capability, from this process or from its file: only root may do this.

    Empties the bounding set and the inheritable set.  Does nothing where even root may not.
    """
    for number in _bounding():
        libc().prctl(_PR_CAPBSET_DROP, *map(ctypes.c_ulong, (number, 0, 0, 0)))
    low, low_permitted, _, high, high_permitted, _ = _sets()
    _set(low, low_permitted, 0, high, high_permitted, 0)


def bounding() -> int:
    """Return how many capabilities programs may still get from their files, were it not for NO_NEW_PRIVS."""
    return len(_bounding())


def giving_up_all() -> Callable[[], int]:
    """Return a function that gives up all capabilities and returns 0, or another number and sets errno."""
    function, header, sets = libc().capset, _HEADER.pack(_VERSION_3, 0), _SETS.pack(0, 0, 0, 0, 0, 0)

    def call() -> int:
        return int(function(header, sets))
    return call


def keep_only(capabilities: Iterable[int]) -> None:
    """Give up all capabilities but these for good: no program run later gets more."""
    wanted = 0
    for number in capabilities:
        wanted |= 1 << number
    kept = wanted & permitted()
    low, high = kept & 0xffffffff, kept >> 32
    _set(low, low, 0, high, high, 0)
    _prctl(_PR_SET_KEEPCAPS, 0)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def permitted() -> int:
    """Return the capabilities that this process may use, as bits."""
    _, low, _, _, high, _ = _sets()
    return low | high << 32


def _bounding() -> list[int]:
    """Return the numbers in the bounding set; the kernel knows none after the first that it refuses to tell."""
    found = []
    for number in range(64):
        answer = libc().prctl(_PR_CAPBSET_READ, *map(ctypes.c_ulong, (number, 0, 0, 0)))
        if answer < 0:
            break
        if answer:
            found.append(number)
    return found


def _sets() -> tuple[int, ...]:
    header, sets = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0)), ctypes.create_string_buffer(_SETS.size)
    if libc().capget(header, sets) != 0:
        raise StartError(f"cannot read the capabilities: {os.strerror(ctypes.get_errno())}")
    return _SETS.unpack(sets.raw)


def _set(*sets: int) -> None:
    if libc().capset(_HEADER.pack(_VERSION_3, 0), _SETS.pack(*sets)) != 0:
        raise StartError(f"cannot give up capabilities: {os.strerror(ctypes.get_errno())}")


def _prctl(option: int, value: int) -> None:
    if libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise StartError(f"prctl {option} was refused: {os.strerror(ctypes.get_errno())}")
