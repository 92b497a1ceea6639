"""The pool of PDM workers, once a module needs them: without one, master and children do not load that code.

Master only; raises nothing.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from popular.daemon.master.loop import Master
from popular.proc.child import Inheritance
from popular.proc.messages import FORK_FAILED

if TYPE_CHECKING:
    from popular.pproxy.modules.pool import WorkerPool
    from popular.pproxy.modules.worker import WorkerJob

_AGAIN = 1.0    # seconds until the pool is made again, if the system refused that


class WorkerKeeper:
    """An attendant of the master."""

    def __init__(self, master: Master, inheritance: Inheritance, job: "Callable[[], WorkerJob | None]") -> None:
        """Begin without a pool; `job` returns the present work for workers, None if no module needs any."""
        self._master = master
        self._inheritance = inheritance
        self._job = job
        self._pool: WorkerPool | None = None
        self._due = 0.0    # monotonic: when the pool may be made

    def patience(self, now: float) -> float | None:
        """Return the seconds until `attend` is due; None: it is not."""
        if self._pool is not None:
            return self._pool.patience(now)
        return None if self._job() is None else max(0.0, self._due - now)

    def attend(self) -> None:
        """Follow the configuration, and what workers report."""
        if self._pool is None and self._job() is not None and time.monotonic() >= self._due:
            self._make()
        if self._pool is not None:
            self._pool.attend()

    def bury(self, pid: int, code: int) -> None:
        """Note a dead process that is not one of the children."""
        if self._pool is not None:
            self._pool.bury(pid, code)

    def close(self) -> None:
        """End all workers if no session is left that could ask; else they leave by themselves."""
        if self._pool is not None:
            self._pool.close()

    def _make(self) -> None:
        from popular.pproxy.modules.pool import WorkerPool

        try:
            self._pool = WorkerPool(self._master, self._inheritance, self._job)
        except OSError as why:
            self._due = time.monotonic() + _AGAIN
            self._master.log.note(FORK_FAILED, error=why.strerror, children=0, delay=_AGAIN)
