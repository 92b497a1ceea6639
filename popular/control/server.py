"""The control socket: who may connect, and how many at once (master only).

Root and our own user may, but not our children, which have the same user and may be in an attacker's hands.
Everything happens in the master's loop and nothing blocks.  Only `open` raises, StartError.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Collection

from popular.control.connection import LINE_SECONDS, ControlConnection, Obey, is_allowed
from popular.control.place import Place
from popular.proc.watch import Watch
from popular.unix.kin import child_behind
from popular.unix.rights import Peer

MAX_CONNECTIONS = 8
_REST = 1.0    # seconds without accepting connections after the system ran out of descriptors


class ControlServer:
    """The listening socket and its connections."""

    def __init__(self, place: Place, watch: Watch, obey: Obey, note_stranger: Callable[[Peer], None],
                 note_child: Callable[[int], None], masters: Callable[[], Collection[int]] = tuple) -> None:
        """Serve at `place`; `obey` answers lines.

        `note_stranger` is called with peers whose user may not connect, `note_child` with the pids of our own children
        that did so.  `masters` returns other processes whose children count as ours.
        """
        self._place = place
        self._watch = watch
        self._obey = obey
        self._note_stranger = note_stranger
        self._note_child = note_child
        self._masters = masters
        self._listener: socket.socket | None = None
        self._connections: list[ControlConnection] = []
        self._resting_until: float | None = None

    def open(self, beside: bool = False) -> None:
        """Start to listen, `beside` another master in an upgrade; raises StartError."""
        self._listener = self._place.open(beside)
        self._listen(select.POLLIN)

    def publish(self) -> None:
        """Become the one that is found, in the place of another master; raises OSError."""
        self._place.publish()

    def close(self) -> None:
        """End all connections and remove the socket; may be called twice."""
        if self._listener is None:
            return
        self._place.remove()
        self._watch.unregister(self._listener.fileno())
        self._listener.close()
        self._listener = None
        for connection in self._connections[:]:
            self._drop(connection)

    @property
    def is_quiet(self) -> bool:
        """Tell whether no command is being processed and no complete line waits."""
        return not any(connection.is_busy for connection in self._connections)

    def patience(self, now: float) -> float | None:
        """Return the seconds after which `attend` is due even if nothing comes; None: never."""
        waits = [wait for connection in self._connections if (wait := connection.patience(now)) is not None]
        if self._resting_until is not None:
            waits.append(max(0.0, self._resting_until - now))
        return min(waits, default=None)

    def attend(self) -> None:
        """Continue what is in progress; call it in every turn of the loop."""
        if self._resting_until is not None and time.monotonic() >= self._resting_until:
            self._resting_until = None
            self._listen(select.POLLIN)
        for connection in self._connections[:]:
            if not connection.is_silent:
                self._work(connection)

    def _accept(self) -> None:
        """Accept one connection; the loop calls again for the next."""
        if self._listener is None:
            return
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:    # gone again
            return
        except OSError:    # no descriptor left: waiting clients would wake us forever
            self._resting_until = time.monotonic() + _REST
            self._listen(0)
            return
        sock.setblocking(False)
        try:
            peer = Peer.of(sock)
            child = child_behind(sock, peer, self._masters()) if peer.uid == os.geteuid() else 0
        except OSError:    # gone again
            sock.close()
            return
        connection = ControlConnection(sock, peer, self._obey)
        self._connections.append(connection)
        self._watch.register(sock.fileno(), lambda: self._work(connection))
        if not is_allowed(peer):
            self._note_stranger(peer)
            self._refuse(connection, "only root and the user that the daemon runs as may control it")
        elif child:
            self._note_child(child)
            self._refuse(connection, "processes of the daemon may not control it")
        elif len(self._connections) > MAX_CONNECTIONS and not self._make_room(connection):
            self._refuse(connection, f"there are {MAX_CONNECTIONS} control connections already")

    def _listen(self, events: int) -> None:
        if self._listener is not None:
            self._watch.register(self._listener.fileno(), self._accept, events)

    def _refuse(self, connection: ControlConnection, why: str) -> None:
        try:
            connection.refuse(why)
        except OSError:
            pass
        self._drop(connection)

    def _make_room(self, newest: ControlConnection) -> bool:
        """End the connection that has been silent longest; return False if none was silent long enough."""
        silent = [each for each in self._connections if each is not newest and each.is_silent]
        oldest = min(silent, key=lambda each: each.silent_since, default=None)
        if oldest is None or time.monotonic() - oldest.silent_since < LINE_SECONDS:
            return False
        self._drop(oldest)
        return True

    def _work(self, connection: ControlConnection) -> None:
        connection.work()
        if connection.is_over:
            self._drop(connection)
        elif connection in self._connections:
            paused = select.POLLOUT if connection.wants_write else 0 if connection.is_busy else select.POLLIN
            self._watch.register(connection.sock.fileno(), lambda: self._work(connection), paused)

    def _drop(self, connection: ControlConnection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._watch.unregister(connection.sock.fileno())
            connection.close()
