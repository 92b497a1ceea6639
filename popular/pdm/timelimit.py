"""A bound on the time that a call into a database module may take.

Used by the chain in the process that asks.  SIGALRM interrupts Python code and system calls that
wait; it cannot interrupt a C function that computes, hence modules with such a driver look at
`Request.deadline` themselves.  Whoever used the alarm before has it back afterwards, with the time
that had been left; the alarm's other users, the signal mask and the wake-up descriptor stay as they
are.  Outside the main thread there is no alarm, and so no bound.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from popular.proc.signals import DEFAULT, set_handler, set_mask

T = TypeVar("T")


class TimeUp(BaseException):
    """The call took too long; not an Exception, so that a module's own `except Exception` lets it pass."""


def limited(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise TimeUp when it takes more than `seconds` (0 or less: no limit)."""
    if seconds <= 0:
        return call()
    is_armed = True

    def expire(number: int, frame: FrameType | None) -> None:
        nonlocal is_armed
        if is_armed:    # it strikes once, so that nothing below the `finally`s is ever interrupted
            is_armed = False
            raise TimeUp

    began, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        handler = set_handler(signal.SIGALRM, expire)
    except ValueError:    # not the main thread
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        return call()
    was_blocked = signal.SIGALRM in set_mask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            return call()
        finally:
            is_armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        set_handler(signal.SIGALRM, DEFAULT if handler is None else handler)
        if was_blocked:
            set_mask(signal.SIG_BLOCK, {signal.SIGALRM})
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), interval)
