"""The answering loop of pcheckd's children on real sockets, without a daemon around it."""

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from popular.mailcheck.port import AnsweringPort
from popular.mailcheck.server import MAX_BURST, DatagramJob


@dataclass
class FakeChild:
    """A process that retires when its pipe is closed."""

    retiring: bool = False
    wake_fds: tuple[int, ...] = ()
    titles: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        self.titles.append(text)


@dataclass
class FakeListener:
    host: str = "127.0.0.1"
    sock: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.bind((self.host, 0))
        self.sock.setblocking(False)


@pytest.fixture
def listener() -> Iterator[FakeListener]:
    listener = FakeListener()
    with listener.sock:
        yield listener


@pytest.fixture
def asker(listener: FakeListener) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5.0)
        asker.connect(listener.sock.getsockname())
        yield asker


def echo(request: bytes) -> bytes | None:
    """Answer with the request, but be silent to `hush`."""
    return None if request == b"hush" else b"=" + request


def test_a_burst_answers_all_that_is_there(listener: FakeListener, asker: socket.socket) -> None:
    for request in (b"a", b"hush", b"", b"b"):
        asker.send(request)
    DatagramJob(echo).serve_burst(AnsweringPort(listener.sock))
    assert [asker.recv(100) for _ in range(3)] == [b"=a", b"=", b"=b"]
    asker.setblocking(False)
    with pytest.raises(BlockingIOError):
        asker.recv(100)


def test_a_burst_has_an_end(listener: FakeListener, asker: socket.socket) -> None:
    served = []
    for _ in range(MAX_BURST + 5):
        asker.send(b"x")
    DatagramJob(lambda request: served.append(request)).serve_burst(AnsweringPort(listener.sock))
    assert len(served) == MAX_BURST


def test_over_long_requests_are_seen_as_over_long(listener: FakeListener, asker: socket.socket) -> None:
    asker.send(b"x" * 60000)
    DatagramJob(lambda request: b"%d" % len(request)).serve_burst(AnsweringPort(listener.sock))
    assert asker.recv(100) == b"1025"


def test_askers_that_are_gone_do_no_harm(listener: FakeListener, asker: socket.socket) -> None:
    for _ in range(3):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.sendto(b"x", listener.sock.getsockname())
    asker.send(b"y")
    job = DatagramJob(echo)
    job.serve_burst(AnsweringPort(listener.sock))
    job.serve_burst(AnsweringPort(listener.sock))
    assert asker.recv(100) == b"=y"


def test_trace_is_told_of_every_packet(listener: FakeListener, asker: socket.socket) -> None:
    told = []
    asker.send(b"a")
    asker.send(b"hush")
    DatagramJob(echo, lambda *what: told.append(what)).serve_burst(AnsweringPort(listener.sock))
    peer = asker.getsockname()
    assert told == [("received", peer, b"a"), ("sent", peer, b"=a"), ("received", peer, b"hush")]


def test_the_loop_serves_until_the_child_retires(listener: FakeListener, asker: socket.socket) -> None:
    death_read, death_write = os.pipe()
    child = FakeChild(wake_fds=(death_read,))
    codes: list[int] = []
    loop = threading.Thread(target=lambda: codes.append(DatagramJob(echo).run(child, [listener])))
    loop.start()
    for _ in range(3):
        asker.send(b"a")
        assert asker.recv(100) == b"=a"
    child.retiring = True
    os.close(death_write)
    loop.join(5.0)
    os.close(death_read)
    assert codes == [0] and child.titles == ["answering"]


def test_a_child_that_leaves_answers_what_is_there(listener: FakeListener, asker: socket.socket) -> None:
    asker.send(b"a")
    assert DatagramJob(echo).run(FakeChild(retiring=True), [listener]) == 0
    assert asker.recv(100) == b"=a"


@pytest.mark.parametrize("bound, asked", [
    pytest.param("0.0.0.0", "127.0.0.1", id="ipv4-first-address"),
    pytest.param("0.0.0.0", "127.0.0.77", id="ipv4-other-address"),
    pytest.param("127.0.0.77", "127.0.0.77", id="ipv4-bound-to-it"),
    pytest.param("::", "::1", id="ipv6"),
])
def test_the_answer_comes_from_the_address_that_was_asked(bound: str, asked: str) -> None:
    listener = FakeListener(bound)
    port = listener.sock.getsockname()[1]
    with listener.sock, socket.socket(listener.sock.family, socket.SOCK_DGRAM) as asker:
        asker.settimeout(5.0)
        asker.connect((asked, port))
        asker.send(b"early")    # before a child is there to read it
        server = AnsweringPort(listener.sock)
        asker.send(b"a")
        DatagramJob(echo).serve_burst(server)
        assert [asker.recv(100), asker.recv(100)] == [b"=early", b"=a"]
