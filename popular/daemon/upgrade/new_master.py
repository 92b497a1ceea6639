"""A new master's view of the one before it: taking its place, and telling it of the end.

The successor has the listeners from its start and serves on them beside the old master.  As soon as
children of its own have proved that they can work, it takes over: pid file, state file and control
socket are replaced by rename, then the old master is told.  Until that moment it can be killed without
a trace; a predecessor that was killed is no reason not to go on.

Master only.  Raises nothing once it is made.
"""

import socket
import time
from collections.abc import Callable, Sequence

from popular.daemon.master.loop import Master
from popular.daemon.messages import TOOK_OVER as TAKEN
from popular.daemon.messages import UPGRADE_FAILED
from popular.daemon.spec import Listener
from popular.daemon.upgrade.heir import END, TOOK_OVER
from popular.errors import StartError
from popular.unix.rights import Peer
from popular.version import VERSION

PROOF_SECONDS = 0.2    # that the first children must not die in

_BLOCK = 4096


class Predecessor:
    """The master before this one."""

    def __init__(self, master: Master, listeners: Sequence[Listener], channel: socket.socket,
                 open_socket: Callable[[], None]) -> None:
        """Take the place of whoever is at the other end of `channel`.

        `listeners` are those of `master` with their true owners; `open_socket` takes the place of the
        control socket (StartError).  Raises OSError.
        """
        self._master = master
        self._listeners = listeners
        self._channel = channel
        self._pid = Peer.of(channel).pid
        self._open_socket = open_socket
        self._due: float | None = None    # when to take over
        self._has_taken_over = False
        self._is_gone = False
        channel.setblocking(False)
        master.watch.register(channel.fileno(), self._listen)

    def patience(self, now: float) -> float | None:
        """Return the seconds until it is time to take over; None: it is done, or no child is ready yet."""
        return None if self._has_taken_over or self._due is None else max(0.0, self._due - now)

    def attend(self) -> None:
        """Take over as soon as we can serve."""
        master = self._master
        if self._has_taken_over or master.is_ending:
            return
        if master.supervisor.losses:
            self._give_up("its children die")
        elif self._due is None and master.supervisor.has_proved:
            self._due = time.monotonic() + PROOF_SECONDS
        elif self._due is not None and time.monotonic() >= self._due:
            self._take_over()

    def end_begins(self, command: str) -> None:
        """Let what the predecessor still has to do end as this master does."""
        if self._has_taken_over:
            self._tell(f"{END} {command}\n")

    @property
    def is_awaited(self) -> bool:
        """A predecessor that was told to end has sessions: who waits for this master's end waits for theirs."""
        return self._has_taken_over and not self._is_gone

    def close(self) -> None:
        """Part with the predecessor."""
        if not self._is_gone:
            self._is_gone = True
            self._master.watch.unregister(self._channel.fileno())
            self._channel.close()

    def _take_over(self) -> None:
        master = self._master
        try:
            master.pidfile.publish(if_stale=self._is_gone)
            master.statefile.publish()
            self._open_socket()
        except (StartError, OSError) as why:
            self._give_up(f"cannot take over: {why}")
            return
        self._has_taken_over = True
        master.own(self._listeners)
        master.notify.speaks = True
        master.notify.ready()
        master.log.note(TAKEN, process=self._pid)
        self._tell(f"{TOOK_OVER} {VERSION}\n")

    def _give_up(self, why: str) -> None:
        """Leave the field to the predecessor; who is being served already shall be served."""
        self._tell(f"{why}\n")
        self._master.log.note(UPGRADE_FAILED, why=why)
        self.close()
        self._master.shutdown_delayed()

    def _tell(self, text: str) -> None:
        if self._is_gone:
            return
        try:
            self._channel.send(text.encode("ascii", "backslashreplace"), socket.MSG_NOSIGNAL)
        except OSError:    # gone
            pass

    def _listen(self) -> None:
        """Notice the predecessor's end; it says nothing."""
        try:
            if self._channel.recv(_BLOCK):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()
