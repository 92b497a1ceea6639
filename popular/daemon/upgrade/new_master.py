"""The new master's part of an upgrade (popular.daemon.upgrade): proof, the word that it serves, and its end.

Master only.  Raises nothing once it is made.
"""

import socket

from popular.daemon.master.loop import Master
from popular.daemon.messages import TOOK_OVER
from popular.daemon.upgrade.old_master import END, SERVES
from popular.unix.rights import Peer
from popular.version import VERSION

PROOF_SECONDS = 2.0    # that children serve beside the old master's, and none may fail, before this one takes over


class OldMaster:
    """The master before this one, a `Peer` of it."""

    def __init__(self, master: Master, line: socket.socket, version: str) -> None:
        """Take the place of whoever is at the other end of `line`, and has that version; raises OSError."""
        self._master = master
        self._line = line
        self._version = version
        self._pid = Peer.of(line).pid
        self._was_told = False
        self._is_gone = False
        master.proof_seconds = PROOF_SECONDS
        line.setblocking(False)
        master.watch.register(line.fileno(), self._hear)

    def patience(self, now: float) -> float | None:
        """Return the seconds until `attend` has something to do; None: nothing."""
        return 0.0 if self._master.is_in_charge and not self._was_told else None

    def attend(self) -> None:
        """Tell the old master when this one has taken charge."""
        if self._master.is_in_charge and not self._was_told:
            self._was_told = True
            self._master.log.note(TOOK_OVER, version=self._version, process=self._pid)
            self._tell(f"{SERVES} {VERSION}")

    @property
    def pid(self) -> int:
        """The process id of the old master; 0: it is gone."""
        return 0 if self._is_gone else self._pid

    @property
    def objection(self) -> str:
        """Why a change would be lost now; empty: it would not."""
        return "" if self._was_told else "another process is in charge"

    def end_begins(self, command: str) -> None:
        """Let what the old master still has to do end as this master does."""
        if self._was_told:
            self._tell(f"{END} {command}")

    @property
    def is_awaited(self) -> bool:
        """An old master that was told to end has sessions: who waits for this master's end waits for theirs."""
        return self._was_told and not self._is_gone

    def close(self) -> None:
        """Keep the line: the old master takes its end for the death of this process, which may have to say why."""

    def _tell(self, word: str) -> None:
        try:
            self._line.send(word.encode(), socket.MSG_NOSIGNAL)
        except OSError:    # gone
            pass

    def _hear(self) -> None:
        """Notice the old master's end; it says nothing.  Without it there is no choice, hence nothing to prove."""
        try:
            if self._line.recv(1):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._master.proof_seconds = 0.0
        self._is_gone = True
        self._master.watch.unregister(self._line.fileno())
        self._line.close()
