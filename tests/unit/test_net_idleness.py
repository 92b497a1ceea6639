"""Who is idle: a peer whose TCP takes nothing; one that takes little is not, in clear, under TLS and in a relay."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import Gone
from popular.net.idleness import Idleness
from popular.net.relay.pair import relay
from popular.net.tls.stream import secure
from popular.net.wire import Wire
from tests.harness.certificates import Authority, context_of, server_of
from tests.harness.pairs import PATIENCE, tcp_pair

NAME = "pop.example.org"
IDLE = 0.4              # seconds
MUCH = 2 * 1024 * 1024  # octets, more than the kernel takes at once from us
PIECE = 8 * 1024        # octets that a slow client reads at a time
PAUSE = IDLE / 5        # seconds between two pieces
PIECES = 25             # read slowly: five idle times

Send = Callable[[socket.socket], str]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end, whose TCP has little room, and ours, whose kernel takes all of MUCH at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * PIECE)
        client.settimeout(PATIENCE)
        client.connect(listener.getsockname())
        ours, _ = listener.accept()
    with client, ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
        yield client, ours


def by_wire(ours: socket.socket) -> str:
    """Send more than the kernel takes."""
    wire = Wire(ours, idle=IDLE)
    try:
        wire.send(bytes(2 * MUCH))
        wire.readline()
    except Gone as why:
        return str(why)
    return "heard"


def by_waiting_wire(ours: socket.socket) -> str:
    """Send what the kernel takes at once, and wait for the client's next command."""
    wire = Wire(ours, idle=IDLE)
    try:
        wire.send(bytes(MUCH // 2))
        wire.readline()
    except Gone as why:
        return str(why)
    return "heard"


def by_relay(ours: socket.socket) -> str:
    """Relay more than the kernel takes from a server that sends it at once."""
    with tcp_pair() as (server, to_server):
        server.setblocking(True)

        def serve() -> None:
            with contextlib.suppress(OSError):
                server.sendall(bytes(2 * MUCH))
                while server.recv(100) not in (b"QUIT\r\n", b""):
                    pass
            server.close()

        thread = threading.Thread(target=serve)
        thread.start()
        end = relay(ours, to_server, idle=IDLE)
        to_server.close()
        thread.join(PATIENCE)
    return "timeout" if end.reason == "idle" else "heard"


class Sending(threading.Thread):
    """One that sends to the client, in a thread."""

    def __init__(self, send: Send, ours: socket.socket) -> None:
        super().__init__()
        self.end = ""
        self._send = send
        self._ours = ours

    def run(self) -> None:
        self.end = self._send(self._ours)
        self._ours.close()


WAYS = [pytest.param(by_wire, id="wire"), pytest.param(by_waiting_wire, id="wire that waits for a command"),
        pytest.param(by_relay, id="relay")]


def read_slowly(client: socket.socket) -> None:
    """Read PIECES pieces, one each PAUSE."""
    pause = threading.Event()
    for _ in range(PIECES):
        assert client.recv(PIECE), "cut off"
        pause.wait(PAUSE)


@pytest.mark.parametrize("send", WAYS)
def test_a_slow_but_steady_reader_is_not_idle(ends: tuple[socket.socket, socket.socket], send: Send) -> None:
    client, ours = ends
    sending = Sending(send, ours)
    sending.start()
    read_slowly(client)
    client.sendall(b"QUIT\r\n")
    while client.recv(65536):
        pass
    sending.join(PATIENCE)
    assert sending.end == "heard"


@pytest.mark.parametrize("send", WAYS)
def test_a_reader_that_stops_is_idle_at_last(ends: tuple[socket.socket, socket.socket], send: Send) -> None:
    client, ours = ends
    sending = Sending(send, ours)
    sending.start()
    assert client.recv(PIECE)
    sending.join(PATIENCE)
    assert sending.end == "timeout"


def test_a_slow_but_steady_reader_is_not_idle_under_tls(ends: tuple[socket.socket, socket.socket],
                                                        tmp_path: Path) -> None:
    client, ours = ends
    authority = Authority.make(tmp_path)
    context = server_of([authority.sign(NAME)])

    def by_tls_wire(ours: socket.socket) -> str:
        wire = Wire(ours, idle=IDLE)
        secure(wire, context, server_side=True)
        try:
            wire.send(bytes(2 * MUCH))
            return "heard" if wire.readline() == b"QUIT" else ""
        except Gone as why:
            return str(why)

    sending = Sending(by_tls_wire, ours)
    sending.start()
    with context_of(authority).wrap_socket(client, server_hostname=NAME) as tls:
        read_slowly(tls)
        tls.sendall(b"QUIT\r\n")
        while sending.is_alive():
            with contextlib.suppress(OSError):
                tls.recv(65536)
    sending.join(PATIENCE)
    assert sending.end == "heard"


def test_other_sockets_than_tcp_have_no_progress_to_show() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(b"x")
        idleness = Idleness(3600.0, 3600.0, ours)
        theirs.recv(1)
        assert idleness.is_over()
        assert not Idleness(3600.0, 1.0, ours).is_over()
