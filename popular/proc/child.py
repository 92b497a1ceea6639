"""Becoming a child, and what its work sees of it.

`become_child` is the contract of the fork, in its order; it never returns.  Runs in the child only,
entered with all signals masked.  Nothing here raises to a caller: whatever happens, the process
ends by os._exit, so that nothing of the master's (exit handlers, open buffers, its stack) runs twice.
"""

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
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
from popular.unix.title import Title

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

RETIRE = signal.SIGUSR1    # finish the session, then leave
ASK = signal.SIGUSR2       # tell whether the session has logged in
SHORTAGES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN))

# Numbers on the doorbell: states, answers to ASK, from WISHES on wishes, from FAILURES_FROM on failures of backends.
LOGGED_IN = 8
NOT_LOGGED_IN = 9    # waits for its client
WISHES = 16
FAILURES_FROM = 256

PAUSE = 1.0    # seconds between two tries of a child to get what the system refuses

_DEFAULT = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPWR)
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))


class ChildState(IntEnum):
    """What a child is doing, as its master knows it."""

    BOOTING = 0    # forked, has not reported yet
    IDLE = 1       # ready for work
    BUSY = 2       # has a session


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a child gets from its master: kept are all but `masters_own`."""

    log: Log
    title: Title
    doorbell: Doorbell
    death: DeathPipe
    masters_own: MastersOwn
    rights: Rights
    reserved: ReservedDescriptors
    once: OnceAMinute        # for the log lines of shortages, shared by all children
    statefile: StateFile


class Child:
    """What a job sees of its process."""

    def __init__(self, slot: int, generation: int, inheritance: Inheritance) -> None:
        """Begin as child number `slot` with the configuration number `generation`."""
        self.pid = os.getpid()
        self.generation = generation
        self.log = inheritance.log
        self.reserved = inheritance.reserved
        self.slot = inheritance.statefile.slot(slot)
        self.when_retired: Callable[[], None] | None = None
        self.has_login = False    # the session has logged in
        self._is_lent = False     # foreign code is at work: whether it comes back nobody knows
        self._was_asked = False   # meanwhile
        self._state = ChildState.BOOTING
        self.title = inheritance.title.set     # shows `PROGRAM: text` as the title of the process
        self._doorbell = inheritance.doorbell
        self._death = inheritance.death
        self._once = inheritance.once
        self._is_retired = False
        self._signals = SignalPipe((RETIRE, ASK), self._obey)

    @property
    def state(self) -> ChildState:
        """What was reported last."""
        return self._state

    @property
    def retiring(self) -> bool:
        """Tell whether to leave after the session: told so by the master, or the master is dead."""
        return self._is_retired or self._death.is_ended()

    @property
    def wake_fds(self) -> tuple[int, int]:
        """Descriptors that become readable, and stay so, when `retiring` has become true.

        A signal with a handler that is not ours, such as an alarm, makes them readable until `forget_alarms`.
        """
        return self._signals.fileno(), self._death.fileno()

    def forget_alarms(self) -> None:
        """Forget signals that ask for nothing; look at `retiring` between this and the next wait."""
        if not self._is_retired:
            self._signals.take()

    def report(self, state: ChildState) -> None:
        """Tell the master what this child is doing now."""
        self._state = state
        self.has_login = False
        self._doorbell.ring(self.pid, state)

    def lend(self, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Return what `call(*args)` returns, which is foreign code: until then a master that asks gets no answer.

        Signals that it blocked are let through again.
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
        """Tell the master what children to come should have, as a number that it knows the meaning of, 0 to 239."""
        self._doorbell.ring(self.pid, WISHES + number)

    def count_failure(self, backend: str, kind: str) -> None:
        """Have the master count that a login at a backend failed in one of the ways of `FAILURES`."""
        self._doorbell.ring(self.pid, FAILURES_FROM + self.slot.failure(backend, kind))

    def retire_with_master(self) -> None:
        """Be told to retire, as if by the master, at the moment the master dies.

        For children that keep listeners during a session (maxuse above 1): they must not hold a
        port on which nobody accepts.  Where the kernel cannot do it, the port stays busy until the
        session ends.
        """
        try:
            self._death.send_signal_at_end(RETIRE)
        except OSError as why:
            self.log.debug("no_death_signal", error=why.strerror)

    def note_shortage(self, error: OSError) -> None:
        """Log that the system refused a descriptor or memory; once a minute for all children together."""
        if self._once.is_due():
            self.log.note(CHILD_SHORT, error=error.strerror)

    def close(self) -> None:
        """Let go of what is this child's own; for rehearsals, a process ends with it."""
        self._signals.close()
        self.slot.release()
        self.when_retired = None

    def _obey(self, number: int) -> None:
        """Handle a signal of the master's; to retire: the flag first, then what must not wait for the session's end."""
        if number == ASK:
            self._answer()
            return
        self._is_retired = True
        if self._state is ChildState.BUSY and self.when_retired is not None:
            self.when_retired()

    def _answer(self) -> None:
        """Tell the master whether the session has logged in; later, if foreign code is at work."""
        self._was_asked = self._is_lent
        if self._state is ChildState.BUSY and not self._is_lent:
            self._doorbell.ring(self.pid, LOGGED_IN if self.has_login else NOT_LOGGED_IN)


def become_child(slot: int, generation: int, inheritance: Inheritance, work: Callable[[Child], int]) -> NoReturn:
    """Turn this just forked process into a child, do `work`, and end with the exit code it returns.

    All signals are masked here, since before the fork: a TERM to a newborn child must not be lost.
    """
    code = os.EX_OSERR    # for what is no Exception, such as SystemExit: the master logs it
    try:
        os.register_at_fork(after_in_child=lambda: _end_copy(inheritance))
        code = _live(slot, generation, inheritance, work)
    except Exception as error:    # the top of a child: a fault ends this session and no other
        code = os.EX_SOFTWARE
        note_failure(error, inheritance)
    finally:
        os._exit(code)


def rehearse_child(inheritance: Inheritance, work: Callable[[Child], int]) -> bool:
    """Do in the master, before it has children, what a child does (daemon.child.warmup); False when it failed.

    Resets all signals.
    """
    def watched(child: Child) -> int:
        try:
            return work(child)
        finally:
            child.close()

    try:
        return _live(0, 0, inheritance, watched) == os.EX_OK
    except Exception:    # as at the top of a child: what is wrong will be seen, and logged, in real ones
        return False


def _live(slot: int, generation: int, inheritance: Inheritance, work: Callable[[Child], int]) -> int:
    """Do the steps of the contract (design 4) in their order; returns the exit code."""
    leave_master(inheritance)
    child = Child(slot, generation, inheritance)   # its own handler and pipe are in before the unmasking
    early = pending() & _ENDING
    if early:
        inheritance.log.note(GOT_TERM_SIGNAL, signal=signal.Signals(min(early)).name)
        return os.EX_OK
    set_mask(signal.SIG_SETMASK, ())
    child.slot.idle()
    prove(inheritance.rights)
    child.report(ChildState.IDLE)                  # from here on it counts as proved
    child.title("idle")                            # after the report: whoever sees the title may rely on it
    return work(child)


def leave_master(inheritance: Inheritance) -> None:
    """Forget, right after the fork, what is the master's alone: its signals and its descriptors."""
    signal.set_wakeup_fd(-1)                       # the master's pipe: forget it before it is closed
    for number in _DEFAULT:
        set_handler(number, DEFAULT)
    set_handler(signal.SIGPIPE, IGNORED)
    inheritance.masters_own.close_all()


def _end_copy(inheritance: Inheritance) -> NoReturn:
    """End a process that foreign code has forked from a child: it would go on with the session, as its twin.

    Programs are started by other calls (posix_spawn, subprocess), or end here before their exec.
    """
    try:
        inheritance.log.note(CHILD_COPIED, child=os.getppid())
    finally:
        os._exit(os.EX_SOFTWARE)


def note_failure(error: Exception, inheritance: Inheritance) -> None:
    """Log one line: the type and the places, never the text, which may hold what a client sent."""
    if isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno in SHORTAGES:
        if inheritance.once.is_due():
            inheritance.log.note(CHILD_SHORT, error=getattr(error, "strerror", None) or type(error).__name__)
        inheritance.death.is_ended(PAUSE)    # or the next child would meet the same shortage at once, and so on
        return
    inheritance.log.note(CHILD_FAILED, type=type(error).__name__, trace=places(error))
