"""A bound on the time that a call into a database module may take.

Used by the chain in the process that asks.  SIGALRM interrupts Python code and system calls that
wait; it cannot interrupt a C function that computes, hence modules with such a driver look at
`Request.deadline` themselves.  A call that was interrupted and went on all the same has failed, whatever
it returns: it may have taken the interruption for a fault of its database.  One that never returns is
ended by the master, with its process (proc.overdue).

A process has one alarm.  Where nobody uses it, it is ours from the first bounded call on, in the
children of that process too; a call then costs two system calls.  Whoever uses it has it back after
each call, with the time that had been left, and a signal mask that held it back is as it was.  A
thread or module that blocks SIGALRM once it is ours does without the bound, and so does every call
outside the main thread.
"""

import signal
import time
from _thread import get_ident
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from popular.unix.signals import DEFAULT, get_handler, set_handler, set_mask

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_SOON = 0.001    # seconds until an alarm strikes that came due while it was ours


class TimeUp(BaseException):
    """The call took too long; not an Exception, so that a module's own `except Exception` lets it pass."""


class _Alarm:
    """The alarm of this process."""

    def __init__(self) -> None:
        self.is_armed = False                                    # a call is under way, and was not interrupted yet
        self.thread = 0                                          # the one that is interrupted; 0: not ours yet
        self.handler: Callable[[int, FrameType | None], None] = self._strike    # one object, to be known again

    def _strike(self, number: int, frame: FrameType | None) -> None:
        if self.is_armed:    # it strikes once, so that nothing below the `finally`s is ever interrupted
            self.is_armed = False
            raise TimeUp


class _Former(NamedTuple):
    """How the alarm was found, to be given back."""

    handler: Any
    is_armed: bool      # for the bounded call that ours is part of
    was_blocked: bool
    left: float         # seconds, 0: was not set
    interval: float
    taken: float        # monotonic time


_ALARM = _Alarm()


def limited(seconds: float, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Return what `call(*args)` returns, or raise TimeUp when it takes more than `seconds` (0 or less: no limit)."""
    if seconds <= 0:
        return call(*args)
    former = None
    if get_handler(signal.SIGALRM) is not _ALARM.handler or get_ident() != _ALARM.thread:
        try:
            former = _take()
        except ValueError:    # not the main thread
            return call(*args)
    was_armed = _ALARM.is_armed
    try:
        try:
            _ALARM.is_armed = True
            left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
            if left:
                former = _Former(_ALARM.handler, was_armed, False, left, interval, time.monotonic())
            result = call(*args)
            if not _ALARM.is_armed:
                raise TimeUp
            return result
        finally:
            _ALARM.is_armed = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if former is not None:
            _give_back(former)


def _take() -> _Former | None:
    """Make the alarm ours, and return how it was found; None: free.  Raises ValueError outside the main thread."""
    taken, (left, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        handler = set_handler(signal.SIGALRM, _ALARM.handler)
    except ValueError:
        signal.setitimer(signal.ITIMER_REAL, left, interval)
        raise
    _ALARM.thread = get_ident()
    was_blocked = signal.SIGALRM in set_mask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    if handler == DEFAULT and not left and not was_blocked:
        return None
    return _Former(DEFAULT if handler is None else handler, _ALARM.is_armed, was_blocked, left, interval, taken)


def _give_back(former: _Former) -> None:
    """Let the alarm be as it was found, less the time that has passed."""
    set_handler(signal.SIGALRM, former.handler)
    if former.was_blocked:
        set_mask(signal.SIG_BLOCK, {signal.SIGALRM})
    if former.left:
        _ALARM.is_armed = former.is_armed
        left = former.left - (time.monotonic() - former.taken)
        signal.setitimer(signal.ITIMER_REAL, max(_SOON, left), former.interval)
