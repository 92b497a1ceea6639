"""A relay between two connections, for tests that play client and server."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from popular.net.relay.pair import RelayEnd, relay
from popular.net.relay.pairs import Pairs, RelayedPair
from popular.net.transport import SharedSocket
from tests.harness.pairs import PATIENCE


@dataclass
class Middle:
    """A relay between two connections; the test plays client and server."""

    client: socket.socket
    server: socket.socket
    to_client: socket.socket    # the relay's ends
    to_server: socket.socket
    relay: Callable[..., RelayEnd] = relay
    ends: list[RelayEnd] = field(default_factory=list)
    _thread: threading.Thread | None = None

    def start(self, **more: bytes | float) -> None:
        """Run the relay in a thread."""
        self._thread = threading.Thread(target=self.run, kwargs=more)
        self._thread.start()

    def run(self, *, to_server: bytes = b"", to_client: bytes = b"", idle: float = PATIENCE) -> RelayEnd:
        """Run the relay to its end, and close its sockets as the proxy does."""
        self.ends.append(
            self.relay(self.to_client, self.to_server, to_server=to_server, to_client=to_client, idle=idle))
        self.to_client.close()
        self.to_server.close()
        return self.ends[0]

    def close(self) -> None:
        """Take client and server away, which ends the relay."""
        self.client.close()
        self.server.close()
        if self._thread is not None:
            self._thread.join()

    def end(self) -> RelayEnd:
        """Wait for the relay's end."""
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the relay goes on"
        return self.ends[0]


def relay_by_epoll(client: socket.socket, server: socket.socket, *, to_server: bytes, to_client: bytes,
                   idle: float) -> RelayEnd:
    """Relay one pair as a process with many does."""
    client, server = (SharedSocket(fileno=sock.detach()) for sock in (client, server))
    ends: list[RelayEnd] = []
    pairs = Pairs(lambda pair: None, lambda pair: ends.append(pair.result))
    pairs.add(RelayedPair(client, server, to_server, to_client, idle=idle))
    while not pairs.is_empty:
        pairs.wait()
    pairs.close()
    return ends[0]


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start a thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread
