"""Several processes that move mailboxes, each one at a time, and the limits for one server.

Part of pmigrate.  A process that dies costs its mailbox, not the run.  Raises nothing.
"""

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

from popular.tools.pmigrate.job import MoveJob, MoveResult, MoveVerdict

_WINDOW = 1000    # jobs that are held to find one whose server is free

Work = Callable[[MoveJob], MoveResult]
Done = Callable[[MoveJob, MoveResult], None]


class ServerGate:
    """What one server is asked to bear: connections at once, and new ones in a second."""

    def __init__(self, connections: int, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Limit each server; 0 is no limit."""
        self._connections = connections
        self._interval = 1 / rate if rate else 0.0
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._next: dict[str, float] = {}

    def delay(self, server: str) -> float | None:
        """Return for how many seconds a new connection has to wait; None: until another one has ended."""
        if server and self._connections and self._open[server] >= self._connections:
            return None
        return max(0.0, self._next.get(server, 0.0) - self._clock())

    def enter(self, server: str) -> None:
        """Count a new connection."""
        self._open[server] += 1
        if server and self._interval:
            self._next[server] = self._clock() + self._interval

    def leave(self, server: str) -> None:
        """Count the end of a connection."""
        self._open[server] -= 1


class _Worker:
    """One process."""

    def __init__(self, work: Work, others: "list[_Worker]") -> None:
        self.job: MoveJob | None = None
        context = get_context("fork")
        self.pipe, theirs = context.Pipe()
        self._process: ForkProcess = context.Process(target=_serve, args=(
            work, theirs, [self.pipe, *(other.pipe for other in others)]))
        self._process.start()
        theirs.close()

    def end(self, *, at_once: bool) -> None:
        """End the process, after its job unless `at_once`."""
        self.pipe.close()
        if at_once:
            self._process.terminate()
        self._process.join()

    @property
    def why(self) -> str:
        """How the process has ended."""
        self._process.join()
        return f"its process ended with {self._process.exitcode}"


def _serve(work: Work, pipe: "Connection[MoveResult, MoveJob]",
           not_ours: "list[Connection[MoveJob, MoveResult]]") -> None:
    """Do one job after the other, until the other end is closed."""
    for other in not_ours:    # or nobody sees that the first process has died
        other.close()
    try:
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


def run_alone(work: Work, jobs: Iterator[MoveJob], gate: ServerGate, done: Done) -> None:
    """Do all jobs in this process."""
    for job in jobs:
        time.sleep(gate.delay(job.server) or 0.0)
        gate.enter(job.server)
        result = work(job)
        gate.leave(job.server)
        done(job, result)


class Crew:
    """Processes that do jobs at the same time."""

    def __init__(self, work: Work, number: int, gate: ServerGate, done: Done) -> None:
        """Start processes as they are needed, at most `number`; `done` is called here for each job that has ended."""
        self._work = work
        self._number = number
        self._gate = gate
        self._done = done
        self._workers: list[_Worker] = []
        self._waiting: deque[MoveJob] = deque()

    def run(self, jobs: Iterator[MoveJob]) -> None:
        """Do all jobs; an exception, such as KeyboardInterrupt, ends the processes at once."""
        try:
            while self._fill(jobs) or any(worker.job for worker in self._workers):
                self._collect(self._give())
        except BaseException:
            self._end(at_once=True)
            raise
        self._end(at_once=False)

    def _fill(self, jobs: Iterator[MoveJob]) -> bool:
        """Hold some jobs; tell whether there are any."""
        while len(self._waiting) < _WINDOW and (job := next(jobs, None)) is not None:
            self._waiting.append(job)
        return bool(self._waiting)

    def _give(self) -> float | None:
        """Give jobs to idle processes; return after how many seconds another one may begin, None: when one ends."""
        delays: list[float] = []
        for job in list(self._waiting):
            if sum(worker.job is not None for worker in self._workers) == self._number:
                return None
            delay = self._gate.delay(job.server)
            if delay:
                delays.append(delay)
            elif delay is not None:
                self._begin(job)
        return min(delays, default=None)

    def _begin(self, job: MoveJob) -> None:
        worker = next((each for each in self._workers if each.job is None), None)
        if worker is None:
            worker = _Worker(self._work, self._workers)
            self._workers.append(worker)
        self._waiting.remove(job)
        self._gate.enter(job.server)
        worker.job = job
        try:
            worker.pipe.send(job)
        except OSError:    # it has died: `_collect` sees that
            pass

    def _collect(self, timeout: float | None) -> None:
        """Wait for results."""
        by_pipe = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        for pipe in wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]    # type: ignore[index]
            job, worker.job = worker.job, None
            assert job is not None
            try:
                result = worker.pipe.recv()
            except (EOFError, OSError):
                result = MoveResult(MoveVerdict.FAILED, remarks=(worker.why,))
                self._workers.remove(worker)
                worker.end(at_once=True)
            self._gate.leave(job.server)
            self._done(job, result)

    def _end(self, *, at_once: bool) -> None:
        for worker in self._workers:
            worker.end(at_once=at_once)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
