"""The master's side of sharing with other proxies: it keeps the process that does it (process.py).

An attendant of the master, imported where `sharewith` is set.  Raises nothing.
"""

import time
from dataclasses import replace

from popular.daemon.child.accept import own_sockets
from popular.daemon.master.loop import Master
from popular.log.once import OnceAMinute
from popular.pproxy.limits.sharing.shared import Sharing
from popular.pproxy.messages import SHARING_LOST
from popular.proc.child import RETIRE, Inheritance
from popular.proc.helper import Helper, end_process, fork_helper
from popular.proc.supervisor import manner, send
from popular.statefile.layout import SharingState

_AGAIN = 1.0        # seconds from a death, or a refused fork, to the next try
_FAREWELL = 1.0     # seconds to take our counts back at the end


class ShareKeeper:
    """Keeps the process as long as the master lives, also while it waits for its last sessions."""

    def __init__(self, master: Master, inheritance: Inheritance, sharing: Sharing) -> None:
        """Begin without a process."""
        self._master = master
        self._sharing = sharing
        master.watch.keep(sharing.pipe.reading_end)
        self._inheritance = replace(inheritance,
                                    masters_own=inheritance.masters_own.but(sharing.pipe.reading_end))
        self._statefile = inheritance.statefile
        self._statefile.elsewhere = sharing.others.sessions_with
        self._statefile.tell_sharing(SharingState.STARTING)
        self._pid = 0
        self._log_number = 0
        self._due = 0.0    # monotonic: when one may be started
        self._trouble = OnceAMinute()

    def patience(self, now: float) -> float | None:
        """Return the seconds until a process is to start; None: there is one."""
        if self._pid:
            return None if self._log_number == self._master.log_number else 0.0
        return max(0.0, self._due - now)

    def attend(self) -> None:
        """Start it, or replace it if the log was reopened."""
        if self._pid and self._log_number != self._master.log_number:
            pid, self._pid = self._pid, 0
            end_process(pid)    # without a farewell, since the next one has the same name
        if not self._pid and time.monotonic() >= self._due:
            self._start()

    def bury(self, pid: int, code: int) -> None:
        """Note its death."""
        if pid == self._pid:
            self._pid = 0
            self._fail(f"the process that shares: {manner(code)}")

    def close(self) -> None:
        """End it."""
        if self._pid:
            send(self._pid, RETIRE)
            end_process(self._pid, _FAREWELL)

    def _start(self) -> None:
        others = [*(each.sock for each in self._master.listeners), *own_sockets(self._master.job)]
        try:
            self._pid = fork_helper("sharing", self._inheritance, others, self._share)
            self._log_number = self._master.log_number
        except (OSError, MemoryError) as why:
            self._fail(getattr(why, "strerror", None) or "no memory")

    def _share(self, helper: Helper) -> None:
        """Do the work of the process."""
        from popular.pproxy.limits.sharing.exchange import ProxyExchange
        from popular.pproxy.limits.sharing.process import Sharer

        Sharer(self._sharing, self._statefile, ProxyExchange(self._sharing.values), helper).run()

    def _fail(self, why: str) -> None:
        self._due = time.monotonic() + _AGAIN
        if self._trouble.is_due():
            self._master.log.note(SHARING_LOST, why=why)
        self._statefile.tell_sharing(SharingState.ALONE)
