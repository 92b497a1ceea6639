"""Many connections that do their worst, from one address or from many.

    python -m tests.harness.hostile PORT CONNECTIONS ADDRESSES [TLS-PORT]

Run as a process of its own until its standard input ends.  Opens so many connections from so many addresses of
loopback, each address in a network of its own, and opens each again half a second after it was closed.  They take turns
in what they do: nothing, an octet now and then, a line without end, NOOPs, a USER without PASS; and if there is a port
for TLS, half a ClientHello there, a whole one and nothing more, and STLS and half a ClientHello at the first port.
Prints `up` when each has been tried once, and at the end how often it connected.
"""

import heapq
import selectors
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from popular.addresses import Endpoint

AGAIN = 0.5         # seconds from the end of a connection to the next
_DRIP = 5.0         # seconds from one octet to the next
_AT_ONCE = 200      # connections opened in one turn

IN_CLEAR = ("silent", "drip", "endless", "noop", "user")
WITH_TLS = (*IN_CLEAR, "half", "hello", "stls")


def start_hostile(endpoint: Endpoint, connections: int, addresses: int,
                  tls: Endpoint | None = None) -> "subprocess.Popen[str]":
    """Start them, and wait until each connection has been tried once."""
    words = [str(endpoint.port), str(connections), str(addresses), *([str(tls.port)] if tls else [])]
    process = subprocess.Popen([sys.executable, "-m", "tests.harness.hostile", *words],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def end_hostile(process: "subprocess.Popen[str]") -> int:
    """End them; returns how often they connected."""
    out, _ = process.communicate("", 60.0)
    assert process.returncode == 0
    return int(out)


@dataclass(frozen=True, slots=True)
class _Data:
    kind: str
    number: int


class Crowd:
    """All connections, in one loop."""

    def __init__(self, port: int, addresses: int, tls: int) -> None:
        self._port, self._addresses, self._tls = port, addresses, tls
        self._kinds = WITH_TLS if tls else IN_CLEAR
        hello = client_hello()
        self._says = {"drip": b"U", "endless": b"X" * 4096, "noop": b"NOOP\r\n", "user": b"USER joe\r\n",
                      "half": hello[:len(hello) // 2], "hello": hello, "stls": b"STLS\r\n"}
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.connected = 0

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Have something done later."""
        self._count += 1
        heapq.heappush(self._due, (moment, self._count, act))

    def open(self, number: int) -> None:
        """Open connection `number`; when it ends it is opened again."""
        kind = self._kinds[number % len(self._kinds)]
        source = number % self._addresses
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((f"127.{1 + source // 250}.{1 + source % 250}.1", 0))
            sock.connect_ex(("127.0.0.1", self._tls if kind in ("half", "hello") else self._port))
        except OSError:    # no port is left
            self._close(sock, number)
            return
        self._selector.register(sock, selectors.EVENT_WRITE, _Data(kind, number))

    def turn(self) -> bool:
        """Do what is due; returns False at the end of standard input."""
        now = time.monotonic()
        for _ in range(_AT_ONCE):
            if not self._due or self._due[0][0] > now:
                break
            heapq.heappop(self._due)[2]()
        wait = max(0.0, min(self._due[0][0] - now, 1.0)) if self._due else 1.0
        for key, events in self._selector.select(wait):
            sock = key.fileobj
            if sock is sys.stdin:
                return False
            assert isinstance(sock, socket.socket)
            self._serve(sock, key.data, events)
        return True

    def watch_input(self) -> None:
        """Notice the end of standard input."""
        self._selector.register(sys.stdin, selectors.EVENT_READ)

    def _serve(self, sock: socket.socket, data: _Data, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                self.connected += 1
                self._selector.modify(sock, selectors.EVENT_READ, data)
                self._act(sock, data.kind, data.number)
            elif not sock.recv(4096):
                self._end(sock, data.number)
        except BlockingIOError:
            pass
        except OSError:
            self._end(sock, data.number)

    def _act(self, sock: socket.socket, kind: str, number: int) -> None:
        """Send what belongs to the kind, and go on later where it does."""
        if sock.fileno() < 0:
            return
        try:
            sock.send(self._says.get(kind, b""))
        except BlockingIOError:
            pass
        except OSError:
            self._end(sock, number)
            return
        if kind in ("drip", "endless", "noop"):
            self.at(time.monotonic() + (_DRIP if kind == "drip" else 1.0), lambda: self._act(sock, kind, number))
        elif kind == "stls":
            self.at(time.monotonic() + 1.0, lambda: self._act(sock, "half", number))

    def _end(self, sock: socket.socket, number: int) -> None:
        if sock.fileno() >= 0:
            self._selector.unregister(sock)
            self._close(sock, number)

    def _close(self, sock: socket.socket, number: int) -> None:
        sock.close()
        self.at(time.monotonic() + AGAIN, lambda: self.open(number))


def client_hello() -> bytes:
    """Return how a handshake begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="mail.example.org").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def main(port: int, connections: int, addresses: int, tls: int = 0) -> int:
    """Run until standard input ends; returns the exit code."""
    crowd = Crowd(port, addresses, tls)
    crowd.watch_input()
    for number in range(connections):
        crowd.open(number)
        if number % _AT_ONCE == 0:
            crowd.turn()
    print("up", flush=True)
    while crowd.turn():
        pass
    print(crowd.connected)
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
