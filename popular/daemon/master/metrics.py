"""The process that serves metrics: the master keeps one alive, beside the children and outside their limits.

The variable `metrics` names an address.  Its listener is opened, exchanged, inherited and closed like those of
virtual servers, under an owner that cannot be an object's id.  The master accepts no connections there.  It forks a
process that has only this listener, reads the state file's memory, and speaks a little HTTP (net.httppage).  In an
upgrade, the old master's process leaves as soon as the new master has taken over; each reports only its own master.

`MetricsKeeper` runs in the master and raises nothing; `serve` runs in the other process.
"""

import time

from popular.daemon.child.accept import own_sockets
from popular.daemon.master.loop import Master
from popular.daemon.messages import METRICS_FAILED
from popular.daemon.spec import METRICS, Listener
from popular.log.once import OnceAMinute
from popular.net.httppage import PageServer
from popular.proc.child import RETIRE, Inheritance
from popular.proc.helper import Helper, end_process, fork_helper
from popular.proc.supervisor import manner, send
from popular.statefile.prometheus import CONTENT_TYPE, StateSnapshot, exposition
from popular.statefile.reader import NotAStateFile
from popular.statefile.writer import StateFile

AGAIN = 1.0          # seconds from a death, or a refused fork, to the next try

_PATH = "/metrics"
_PATIENCE = 0.1      # seconds in all for slots that are being written


class MetricsKeeper:
    """An attendant of the master: keeps a process that serves metrics if that is configured."""

    def __init__(self, master: Master, inheritance: Inheritance) -> None:
        """Begin; the first process is started when the master's loop runs."""
        self._master = master
        self._inheritance = inheritance
        self._pid = 0                     # of the serving process
        self._has: Listener | None = None    # its listener
        self._log_number = 0              # and its log file
        self._leaving: set[int] = set()   # processes that were told to leave
        self._due = 0.0                   # monotonic: when one may be started
        self._trouble = OnceAMinute()

    def patience(self, now: float) -> float | None:
        """Return the seconds until a process is to start, 0 if one is to leave, None if nothing is to be done."""
        wanted = self._wanted
        if self._pid:
            return None if self._is_right(wanted) else 0.0
        return None if wanted is None else max(0.0, self._due - now)

    def attend(self) -> None:
        """Start a process, or tell one to leave if its listener or log is no longer that of the master."""
        wanted = self._wanted
        if self._pid and not self._is_right(wanted):
            self._leaving.add(self._pid)
            send(self._pid, RETIRE)
            self._pid = 0
        if not self._pid and wanted is not None and time.monotonic() >= self._due:
            self._start(wanted)

    def close(self) -> None:
        """End all such processes and wait for their end, so that their port is free."""
        for pid in {*self._leaving, self._pid} - {0}:
            end_process(pid)

    @property
    def _wanted(self) -> Listener | None:
        """The listener for metrics if this master is in charge; called in every turn, so it must be quick."""
        master = self._master
        if not master.is_in_charge or master.config.variables["metrics"] is None:
            return None
        return next((each for each in reversed(master.listeners) if each.owner == METRICS), None)

    def _is_right(self, wanted: Listener | None) -> bool:
        return (wanted is not None and self._has is not None and wanted.sock is self._has.sock
                and self._log_number == self._master.log_number)

    def _start(self, listener: Listener) -> None:
        others = [other.sock for other in self._master.listeners if other is not listener]
        others += own_sockets(self._master.job)
        statefile = self._inheritance.statefile
        try:
            self._pid = fork_helper("metrics", self._inheritance, others,
                                    lambda helper: serve(helper, listener, statefile))
            self._has, self._log_number = listener, self._master.log_number
        except (OSError, MemoryError) as why:
            self._fail(getattr(why, "strerror", None) or "no memory")

    def bury(self, pid: int, code: int) -> None:
        """Note a death, and log it unless the process was to leave or its listener was closed."""
        self._leaving.discard(pid)
        if pid == self._pid:
            is_loss = self._is_right(self._wanted)
            self._pid, self._has = 0, None
            if is_loss:
                self._fail(manner(code))

    def _fail(self, why: str) -> None:
        self._due = time.monotonic() + AGAIN
        if self._trouble.is_due():
            self._master.log.note(METRICS_FAILED, why=why, delay=AGAIN)


def serve(helper: Helper, listener: Listener, statefile: StateFile) -> None:
    """Serve the metrics of `statefile` until it is time to leave."""
    def page() -> bytes | None:
        try:
            return exposition([StateSnapshot.at(statefile.read, _PATIENCE)]).encode("utf-8", "backslashreplace")
        except NotAStateFile:    # the master was interrupted while writing
            return None

    PageServer(listener.sock, _PATH, CONTENT_TYPE, page, helper.wake_fds, helper.is_retiring).run()
