"""Helper processes of a daemon: they have no slot and no sessions, and are not in the pool.

The master starts one with `fork_helper`.  As in a child, the master's exit handlers, buffers and stack are not used
twice.
"""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterable
from typing import NoReturn

from popular.log.writer import Log
from popular.proc.child import ASK, RETIRE, Inheritance, leave_master, note_failure
from popular.proc.pipes import DeathPipe
from popular.unix.rights import prove
from popular.unix.signals import HANDLED, IGNORED, SignalPipe, kill_and_wait, set_handler, set_mask


class Helper:
    """A helper process as its work sees it."""

    def __init__(self, log: Log, death: DeathPipe) -> None:
        """Begin; raises OSError."""
        self.log = log
        self._death = death
        self._is_retired = False
        self._signals = SignalPipe((RETIRE, ASK), self._retire)

    @property
    def wake_fds(self) -> tuple[int, int]:
        """Descriptors that become readable when it may be time to leave: check `is_retiring` then."""
        return self._signals.fileno(), self._death.fileno()

    def is_retiring(self) -> bool:
        """Tell whether to leave, because the master said so or is dead."""
        self._signals.take()
        return self._is_retired or self._death.is_ended()

    def _retire(self, number: int) -> None:
        self._is_retired = self._is_retired or number == RETIRE    # a helper ignores ASK


def fork_helper(name: str, inheritance: Inheritance, unneeded: Iterable[socket.socket],
                work: Callable[[Helper], None], outside: Callable[[], object] = lambda: None) -> int:
    """Fork a process that closes `unneeded`, does `work`, and ends; return its pid.  Raises OSError, MemoryError.

    `outside` is what it does before it enters its walls.
    Its title is `name`.  TERM ends it at once; on `RETIRE` and at the master's death, its work has to return.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
        if pid == 0:
            _become_helper(name, inheritance, unneeded, work, outside)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become_helper(name: str, inheritance: Inheritance, unneeded: Iterable[socket.socket],
                   work: Callable[[Helper], None], outside: Callable[[], object]) -> NoReturn:
    code = os.EX_OSERR
    try:
        for sock in unneeded:
            sock.close()
        outside()
        inheritance.walls.enter()
        leave_master(inheritance)
        inheritance.doorbell.part()
        set_handler(signal.SIGXCPU, IGNORED)    # it lives as long as the daemon needs it
        helper = Helper(inheritance.log, inheritance.death)
        set_mask(signal.SIG_SETMASK, ())
        prove(inheritance.rights)
        inheritance.title.set(name)
        work(helper)
        code = os.EX_OK
    except Exception as error:    # the top of a process
        code = os.EX_SOFTWARE
        note_failure(error, inheritance)
    finally:
        os._exit(code)


def end_process(pid: int, patience: float = 0.0) -> None:
    """Wait `patience` seconds for the end of a child process; then kill it and wait for that.

    Its pid stays its own until it is reaped.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:    # no descriptor is left to wait with
        return os.kill(pid, signal.SIGKILL)
    try:
        end = select.poll()
        end.register(pidfd, select.POLLIN)
        if patience <= 0 or not end.poll(patience * 1000):
            kill_and_wait(pidfd)
    finally:
        os.close(pidfd)
