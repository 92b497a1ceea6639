"""How a forked process becomes a child, and the interface that its work uses.

`become_child` does the steps after the fork in a fixed order and never returns.  It runs in the child only,
with all signals masked at first.  Nothing is raised to its caller: the process always ends by os._exit, so that
the master's exit handlers, buffers and stack are not used twice.
"""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NoReturn, TypeVar, TypeVarTuple

from popular.log.once import OnceAMinute
from popular.log.trace import places
from popular.log.writer import Log
from popular.proc.messages import CHILD_COPIED, CHILD_FAILED, CHILD_SHORT, GOT_TERM_SIGNAL
from popular.proc.pipes import DeathPipe, Doorbell
from popular.statefile.writer import StateFile
from popular.unix.descriptors import MastersOwn, ReservedDescriptors
from popular.unix.rights import Rights, prove
from popular.unix.signals import DEFAULT, IGNORED, SignalPipe, pending, set_handler, set_mask
from popular.unix.syscalls import have_signal_at_parents_death
from popular.unix.title import Title
from popular.unix.walls.walls import Walls

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

RETIRE = signal.SIGUSR1    # finish the session, then leave
ASK = signal.SIGUSR2       # report whether the session has logged in
SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN))

# Numbers on the doorbell: states, answers to ASK, wishes (from WISHES), failures of backends (from FAILURES_FROM).
LOGGED_IN = 8
NOT_LOGGED_IN = 9    # waits for its client
WISHES = 16
FAILURES_FROM = 256

PAUSE = 1.0    # seconds before a child asks again for what the system refused

_DEFAULT = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPWR)
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))


class ChildState(IntEnum):
    """What a child is doing, as its master knows it."""

    BOOTING = 0    # forked, has not reported yet
    IDLE = 1       # ready for work
    BUSY = 2       # has a session


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a child gets from its master; it keeps everything except `masters_own`."""

    log: Log
    title: Title
    doorbell: Doorbell
    death: DeathPipe
    masters_own: MastersOwn
    rights: Rights
    reserved: ReservedDescriptors
    once: OnceAMinute        # for the log lines of shortages, shared by all children
    statefile: StateFile
    walls: Walls = field(default_factory=Walls)


class Child:
    """The process as its job sees it."""

    def __init__(self, slot: int, generation: int, inheritance: Inheritance) -> None:
        """Begin as child number `slot` with the configuration number `generation`."""
        self.pid = os.getpid()
        self.generation = generation
        self.log = inheritance.log
        self.reserved = inheritance.reserved
        self.slot = inheritance.statefile.slot(slot)
        self.when_retired: Callable[[], None] | None = None
        self.has_login = False    # the session has logged in
        self._is_lent = False     # foreign code is running, which may never return
        self._was_asked = False   # the master asked meanwhile
        self._state = ChildState.BOOTING
        self.enclose = inheritance.walls.enclose    # leaves it one mailbox
        self.title = inheritance.title.set     # shows `PROGRAM: text` as the title of the process
        self._doorbell = inheritance.doorbell
        self._death = inheritance.death
        self._once = inheritance.once
        self._is_retired = False
        self._signals = SignalPipe((RETIRE, ASK), self._obey)

    @property
    def state(self) -> ChildState:
        """The state that was reported last."""
        return self._state

    @property
    def is_retired(self) -> bool:
        """Tell whether the master has said to leave after the session."""
        return self._is_retired

    @property
    def retiring(self) -> bool:
        """Tell whether to leave after the session, because the master said so or is dead."""
        return self._is_retired or self._death.is_ended()

    @property
    def wake_fds(self) -> tuple[int, int]:
        """Descriptors that become readable, and stay so, once `retiring` is true.

        Other handled signals, such as an alarm, also make them readable, until `forget_alarms`.
        """
        return self._signals.fileno(), self._death.fileno()

    def forget_alarms(self) -> None:
        """Forget signals that need no action; check `retiring` between this and the next wait."""
        if not self._is_retired:
            self._signals.take()

    def report(self, state: ChildState) -> None:
        """Tell the master what this child is doing now."""
        self._state = state
        self.has_login = False
        self._doorbell.ring(self.pid, state)

    def lend(self, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Call foreign code and return its result; until then, questions of the master get no answer.

        Signals that the code blocked are unblocked afterwards.
        """
        self._is_lent = True
        try:
            return call(*args)
        finally:
            self._is_lent = False
            set_mask(signal.SIG_SETMASK, ())
            if self._was_asked:
                self._answer()

    def wish_for(self, number: int) -> None:
        """Report to the master what future children should have: a number from 0 to 239 that it understands."""
        self._doorbell.ring(self.pid, WISHES + number)

    def count_failure(self, backend: str, kind: str) -> None:
        """Have the master count a failed login at a backend; `kind` is one of `FAILURES`."""
        self._doorbell.ring(self.pid, FAILURES_FROM + self.slot.failure(backend, kind))

    def retire_with_master(self) -> None:
        """Have the kernel send `RETIRE` to this process when the master dies.

        This is for children that keep their listeners during a session (maxuse above 1): they must not hold a
        port on which nobody accepts.  If the kernel cannot do this, the port stays in use until the session ends.
        """
        try:
            have_signal_at_parents_death(RETIRE)
        except OSError as why:
            self.log.debug("no_death_signal", error=why.strerror)

    def note_shortage(self, error: OSError) -> None:
        """Log that the system refused a descriptor or memory, at most once a minute for all children together."""
        if self._once.is_due():
            self.log.note(CHILD_SHORT, error=error.strerror)

    def close(self) -> None:
        """Release what belongs to this child; only a rehearsal needs this, as a real child just exits."""
        self._signals.close()
        self.slot.release()
        self.when_retired = None

    def _obey(self, number: int) -> None:
        """Handle a signal of the master; for `RETIRE`, set the flag, then do what cannot wait for the session's end."""
        if number == ASK:
            self._answer()
            return
        self._is_retired = True
        if self._state is ChildState.BUSY and self.when_retired is not None:
            self.when_retired()

    def _answer(self) -> None:
        """Report whether the session has logged in; while foreign code is running, answer later."""
        self._was_asked = self._is_lent
        if self._state is ChildState.BUSY and not self._is_lent:
            self._doorbell.ring(self.pid, LOGGED_IN if self.has_login else NOT_LOGGED_IN)


def become_child(slot: int, generation: int, inheritance: Inheritance, work: Callable[[Child], int]) -> NoReturn:
    """Turn this just forked process into a child, do `work`, and end with the exit code that it returns.

    All signals have been masked since before the fork, so that a TERM to a new child is not lost.
    """
    code = os.EX_OSERR    # for BaseExceptions such as SystemExit: the master logs it
    try:
        os.register_at_fork(after_in_child=lambda: _end_copy(inheritance))
        code = _live(slot, generation, inheritance, work)
    except Exception as error:    # the top of a child: a fault ends only this session
        code = os.EX_SOFTWARE
        note_failure(error, inheritance)
    finally:
        os._exit(code)


def rehearse_child(inheritance: Inheritance, work: Callable[[Child], int]) -> bool:
    """Do a child's work in the master before it has children (daemon.child.warmup); return False if it failed.

    Resets the handlers of all signals.
    """
    def watched(child: Child) -> int:
        try:
            return work(child)
        finally:
            child.close()

    try:
        return _live(0, 0, inheritance, watched) == os.EX_OK
    except Exception:    # as at the top of a child: real children will meet the fault again and log it
        return False


def _live(slot: int, generation: int, inheritance: Inheritance, work: Callable[[Child], int]) -> int:
    """Do the steps of design 4 in their order; return the exit code."""
    inheritance.walls.limit_descriptors()
    inheritance.walls.enter()                      # before its descriptors are closed
    leave_master(inheritance)
    child = Child(slot, generation, inheritance)   # its handler and pipe must exist before signals are unmasked
    early = pending() & _ENDING
    if early:
        inheritance.log.note(GOT_TERM_SIGNAL, signal=signal.Signals(min(early)).name)
        return os.EX_OK
    set_mask(signal.SIG_SETMASK, ())
    child.slot.idle()
    prove(inheritance.rights)
    child.report(ChildState.IDLE)                  # from here on it counts as started
    child.title("idle")                            # after the report: observers of the title may rely on it
    return work(child)


def leave_master(inheritance: Inheritance) -> None:
    """Right after the fork, drop the signal handlers and descriptors that belong only to the master."""
    signal.set_wakeup_fd(-1)                       # the master's pipe, which is closed below
    for number in _DEFAULT:
        set_handler(number, DEFAULT)
    set_handler(signal.SIGPIPE, IGNORED)
    inheritance.masters_own.close_all()


def _end_copy(inheritance: Inheritance) -> NoReturn:
    """End a process that foreign code has forked from a child: it would continue the session a second time.

    Programs must be started by other calls (posix_spawn, subprocess); a fork ends here, before its exec.
    """
    try:
        inheritance.log.note(CHILD_COPIED, child=os.getppid())
    finally:
        os._exit(os.EX_SOFTWARE)


def note_failure(error: Exception, inheritance: Inheritance) -> None:
    """Log the error's type and the places it came through; never its text, which may hold a client's input."""
    if isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno in SHORTAGES:
        if inheritance.once.is_due():
            inheritance.log.note(CHILD_SHORT, error=getattr(error, "strerror", None) or type(error).__name__)
        inheritance.death.is_ended(PAUSE)    # wait, or the next child would meet the same shortage at once
        return
    inheritance.log.note(CHILD_FAILED, type=type(error).__name__, trace=places(error))
