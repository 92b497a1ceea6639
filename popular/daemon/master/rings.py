"""Listeners from ringd (spec 8.3), and the connections that keep them referenced there.

The starter requests ports with `StartRings` and hands its connections over; the master uses them in
`MasterRings`, and may request more ports.  There is one connection for each socket file that a Listen names;
no child keeps one.  Raises StartError with the reason that ringd gave.
"""

import socket
from collections.abc import Callable, Iterable

from popular.addresses import Endpoint
from popular.daemon.messages import RINGD_GONE
from popular.daemon.spec import Listen
from popular.log.writer import Log
from popular.net.ring.client import RingClient
from popular.proc.watch import Watch
from popular.unix.rights import Rights, acting_as


class StartRings:
    """The connections of a starter."""

    def __init__(self, rights: Rights) -> None:
        """Begin with none.  They are made with the service user's `rights`, which ringd checks."""
        self._rights = rights
        self._clients: dict[str, RingClient] = {}

    @property
    def clients(self) -> tuple[RingClient, ...]:
        """All connections, for the hand-over."""
        return tuple(self._clients.values())

    def bind(self, path: str, listen: Listen) -> socket.socket:
        """Return the listening socket that the ringd at `path` gives; raises StartError."""
        client = self._clients.get(path)
        if client is None:
            with acting_as(self._rights):
                client = self._clients[path] = RingClient.connect(path)
        return client.acquire(listen.endpoint, listen.backlog)


class MasterRings:
    """The connections of a master."""

    def __init__(self, watch: Watch, log: Log, clients: Iterable[RingClient]) -> None:
        """Take the connections of the starter; `watch` closes them in the children."""
        self._watch = watch
        self._log = log
        self._clients: dict[str, RingClient] = {}
        for client in clients:
            self._add(client)

    @property
    def clients(self) -> tuple[RingClient, ...]:
        """All connections, for an upgrade."""
        return tuple(self._clients.values())

    def acquire(self, path: str, endpoint: Endpoint, backlog: int) -> socket.socket:
        """Return a socket listening on a numeric `endpoint` from the ringd at `path`; raises StartError.

        It must be closed, never shut down (`Listener.ours` is false), and then released.  Waits a few
        seconds at most.
        """
        client = self._clients.get(path)
        if client is not None and client.is_gone():
            self._forget(client)
            client = None
        if client is None:
            client = self._add(RingClient.connect(path))
        return client.acquire(endpoint, backlog)

    def release(self, path: str, endpoint: Endpoint) -> None:
        """Tell the ringd at `path` that a socket from it is closed; raises nothing."""
        client = self._clients.get(path)
        if client is not None:    # else ringd has dropped the references with the connection
            client.release(endpoint)

    def leave(self) -> None:
        """End all connections, which returns all ports."""
        for client in [*self._clients.values()]:
            self._forget(client)

    def _add(self, client: RingClient) -> RingClient:
        self._clients[client.path] = client
        self._watch.register(client.fileno(), self._looking_at(client))
        return client

    def _looking_at(self, client: RingClient) -> Callable[[], None]:
        """Return the callback for a readable connection: ringd has ended, or an answer came too late."""
        def look() -> None:
            if client.is_gone():
                self._forget(client)
                self._log.note(RINGD_GONE, path=client.path)

        return look

    def _forget(self, client: RingClient) -> None:
        self._watch.unregister(client.fileno())
        client.close()
        del self._clients[client.path]
