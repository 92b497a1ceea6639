"""The pool of PDM workers (modules.worker): the master keeps some beside its children while a module needs them.

The supervisor of children does the work, with a doorbell and slots of the workers' own.  The doorbell is for starts
only: questions are seen by a clock (modules.clock).  A worker that takes much longer for a question than pdmtimeout
allows is ended and replaced.

Master only; raises nothing.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace

from popular.daemon.child.accept import own_sockets
from popular.daemon.confinement import most_processes
from popular.daemon.master.loop import Master
from popular.daemon.settings import SESSIONLIMIT
from popular.pproxy.messages import CHANNEL_BROKEN, WORKER_OVERDUE
from popular.pproxy.modules.clock import QuestionClock
from popular.pproxy.modules.worker import WorkerJob
from popular.proc.child import Child, Inheritance
from popular.proc.helper import end_process
from popular.proc.overdue import LoginLimit
from popular.proc.pipes import Doorbell
from popular.proc.pool import PoolLimits
from popular.proc.supervisor import Supervisor
from popular.statefile.layout import PROXY
from popular.statefile.writer import StateFile
from popular.unix.walls.walls import Policy

MAX_WORKERS = 256

_OVERDUE_SECONDS = 0.5    # that a worker gets in addition to pdmtimeout, twice
_AGAIN = 0.5              # seconds; how often to look at busy workers, and ask who has logged in when the daemon ends
_GOODBYE_SECONDS = 1.0    # that workers have at the daemon's end to close their connections


class WorkerPool:
    """What WorkerKeeper keeps."""

    def __init__(self, master: Master, inheritance: Inheritance, job: Callable[[], WorkerJob | None]) -> None:
        """Begin without workers; `job` returns the present work for them, None if no module needs any.

        Raises OSError.
        """
        self._master = master
        self._job = job
        self._doorbell = Doorbell()
        master.watch.register(self._doorbell.fileno(), self._hurry)
        self._childrens = inheritance.doorbell
        workers_end = self._doorbell.childrens_end
        master.watch.keep(workers_end)    # a hostile child could have workers ended
        walls = inheritance.walls.like()
        walls.prepare(Policy(is_worker=True, processes=most_processes(SESSIONLIMIT)))
        self._clock = QuestionClock()
        master.watch.keep(self._clock.fileno())    # likewise
        self._inheritance = replace(inheritance, walls=walls, doorbell=self._doorbell,
                                    statefile=StateFile(PROXY, MAX_WORKERS),
                                    masters_own=inheritance.masters_own.but(workers_end, self._clock.fileno()))
        self._pool = Supervisor(_limits(0), self._inheritance, _no_work, overdue=WORKER_OVERDUE)
        self._size = 0
        self._has: tuple[object, ...] = ()    # what the workers were forked for
        self._next: float | None = 0.0        # monotonic: when `attend` is due; None: never
        self._seen: tuple[tuple[object, ...], int, bool, list[float]] = ((), 0, False, [])    # by `attend`
        self._told = (0, 0)
        self._losses = 0

    def patience(self, now: float) -> float | None:
        """Return the seconds until `attend` is due; None: it is not."""
        return None if self._next is None else max(0.0, self._next - now)

    def attend(self) -> None:
        """Follow the configuration, and what workers report; start missing workers and end overdue ones."""
        job, size = self._job(), self._wanted()
        if job is None and not self._has and not self._pool.count:
            self._next = None
            return
        wanted = () if job is None else (job.digests, job.timeout, job.cache, self._master.log_number)
        seen = wanted, size, self._master.is_ending, self._clock.read(MAX_WORKERS)
        if seen == self._seen and not self._is_due():    # for nearly every session, so this must be quick
            return
        self._seen = seen
        self._pool.hear()
        if wanted != self._has or size != self._size:
            if job is None:
                self._pool.adopt(_no_work, _limits(0))
            else:
                self._pool.adopt(self._work(job), _limits(size),
                                 LoginLimit(job.longest + _OVERDUE_SECONDS, _OVERDUE_SECONDS))
            if wanted != self._has:
                self._pool.retire_old()
            self._has, self._size = wanted, size
        self._pool.look(seen[-1])
        wait = self._pool.attend()
        if self._pool.busy:    # they do not report the end of a question
            wait = _AGAIN if wait is None else min(wait, _AGAIN)
        if self._master.is_ending and size:    # until the last session has logged in
            self._master.supervisor.ask_newcomers()
            wait = _AGAIN if wait is None else min(wait, _AGAIN)
        self._next = None if wait is None else time.monotonic() + wait
        self._tell()

    def bury(self, pid: int, code: int) -> None:
        """Note a dead process that is not one of the children."""
        self._pool.hear()
        self._pool.bury(pid, code)
        self._hurry()
        job = self._job()
        if job is not None:
            self._mend(job)

    def close(self) -> None:
        """End all workers if no session is left that could ask; else they leave by themselves."""
        if self._master.supervisor.count:
            return
        self._pool.retire_all()
        until = time.monotonic() + _GOODBYE_SECONDS
        for pid in self._pool.pids():
            end_process(pid, until - time.monotonic())

    def _is_due(self) -> bool:
        return self._next is not None and self._next <= time.monotonic()

    def _hurry(self) -> None:
        self._next = 0.0

    def _mend(self, job: WorkerJob) -> None:
        """Have a new channel if a child has shut down the old one, which all workers leave then."""
        try:
            if not job.channel.renew():
                return
        except OSError:    # no descriptors: the next worker leaves, too
            return
        self._master.log.note(CHANNEL_BROKEN)
        self._pool.renew()
        self._master.supervisor.renew()

    def _wanted(self) -> int:
        """Return how many workers there should be; called in every turn, so it must be quick."""
        if self._job() is None or self._master.is_ending and not self._master.supervisor.awaits_logins:
            return 0
        return self._master.config.variables.integer("pdmworkers")

    def _work(self, job: WorkerJob) -> Callable[[Child], int]:
        def work(child: Child) -> int:
            self._childrens.part()
            for sock in (*(listener.sock for listener in self._master.listeners), *own_sockets(self._master.job)):
                sock.close()
            return job.run(child, self._clock)
        return work

    def _tell(self) -> None:
        """Show in the state file what has changed."""
        now = (self._pool.count, self._pool.busy)
        if now != self._told:
            self._told = now
            self._master.statefile.tell(workers=now[0], workers_busy=now[1])
        while self._losses < self._pool.losses:
            self._losses += 1
            self._master.statefile.count("workers_died")


def _limits(size: int) -> PoolLimits:
    return PoolLimits(minspare=size, maxspare=size, limit=size, maxuse=0)


def _no_work(child: Child) -> int:
    return os.EX_OK
