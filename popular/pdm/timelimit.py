"""A limit on the time that a call into a database module may take.

Used by the chain in the process that asks.  SIGALRM interrupts Python code and system calls that
wait.  It cannot interrupt a C function that computes, so modules with such a driver must observe
`Request.deadline` themselves.  A call that was interrupted but continued nevertheless has failed,
whatever it returns: it may have taken the interruption for an error of its database.  If a call never
returns, the master ends its process (proc.overdue).

A process has one alarm.  If nothing else uses it, it is ours from the first limited call on, also in
the children of that process; a call then costs two system calls.  If something else uses it, it is
given back after each call, with the time that was left and the former signal mask.  There is no limit
if a thread or module blocks SIGALRM once the alarm is ours, or for a call outside the main thread.
"""

import signal
import time
from _thread import get_ident
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

from popular.errors import PdmError
from popular.unix.signals import DEFAULT, get_handler, set_handler, set_mask

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

_SOON = 0.001    # seconds until an alarm fires that was due while it was ours


class TimeUp(BaseException):
    """The call took too long; not an Exception, so that a module's own `except Exception` does not catch it."""


class _Alarm:
    """The alarm of this process."""

    def __init__(self) -> None:
        self.is_armed = False                                    # a call is running and was not interrupted yet
        self.thread = 0                                          # the one that is interrupted; 0: not ours yet
        self.handler: Callable[[int, FrameType | None], None] = self._strike    # a single object, to be recognized

    def _strike(self, number: int, frame: FrameType | None) -> None:
        if self.is_armed:    # only once, so that no `finally` is ever interrupted
            self.is_armed = False
            raise TimeUp


class _Former(NamedTuple):
    """The former state of the alarm, to be restored."""

    handler: Any
    is_armed: bool      # for the limited call in which this one runs
    was_blocked: bool
    left: float         # seconds, 0: was not set
    interval: float
    taken: float        # monotonic time


_ALARM = _Alarm()


def limited(seconds: float, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Return what `call(*args)` returns; raise TimeUp if it takes more than `seconds` (0 or less: no limit)."""
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


def within(seconds: float, deadline: float, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
    """Return what `call(*args)`, a part of an answer, returns within `seconds` and until `deadline` (time.monotonic).

    Raises PdmError if there was no time left, or it took longer, and what `call` raises.
    """
    seconds = min(seconds, deadline - time.monotonic())
    if seconds <= 0:
        raise PdmError("no time was left")
    try:
        return limited(seconds, call, *args)
    except TimeUp:
        raise PdmError(f"no answer within {seconds:.1f} s") from None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off the interruption of what must not be left half done, such as an import, until it is done."""
    mask = set_mask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        yield
    finally:
        set_mask(signal.SIG_SETMASK, mask)


def _take() -> _Former | None:
    """Make the alarm ours; return its former state, None: unused.  Raises ValueError outside the main thread."""
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
    """Restore the alarm's former state, less the time that has passed."""
    set_handler(signal.SIGALRM, former.handler)
    if former.was_blocked:
        set_mask(signal.SIG_BLOCK, {signal.SIGALRM})
    if former.left:
        _ALARM.is_armed = former.is_armed
        left = former.left - (time.monotonic() - former.taken)
        signal.setitimer(signal.ITIMER_REAL, max(_SOON, left), former.interval)
