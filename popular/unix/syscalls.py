"""System calls for which Python has no function, by ctypes: prctl(2), seccomp(2) and those of Landlock.

Used in masters and, where they are prepared there, in their children.  A library for each of them would be loaded into
every fork for a call or two.
"""

import ctypes
import os
import signal
from functools import cache

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, whose functions keep errno for `failure`."""
    return ctypes.CDLL(None, use_errno=True)


def failure() -> OSError:
    """Return the error of the last call that failed."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def prctl(option: int, value: int) -> None:
    """Change something about this process; raises OSError."""
    if libc().prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise failure()


def have_signal_at_parents_death(number: signal.Signals) -> None:
    """Have the kernel send a signal to this process when its parent dies; raises OSError."""
    prctl(PR_SET_PDEATHSIG, number)
