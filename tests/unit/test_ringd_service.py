"""ringd.service and net.ring.client: the two ends of the protocol, in one process."""

import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.errors import StartError
from popular.log.writer import Log
from popular.net.listen import UNSENT, bind_tcp, bound_endpoint
from popular.net.ring.client import RingClient
from popular.net.ring.packet import RingAnswer
from popular.proc.watch import Watch
from popular.ringd import service as ringd
from popular.ringd.ports import PortTable
from popular.ringd.service import Service, open_service
from popular.ringd.settings import PortRanges
from popular.unix.descriptors import MastersOwn
from tests.harness.toyclient import is_refused


class Ring:
    """A service whose loop is turned by the test."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "ringd.sock")
        self.logfile = folder / "log"
        self.watch = Watch(MastersOwn())
        self.log = Log.open("ringd", str(self.logfile))
        self.table = PortTable(lambda endpoint: bind_tcp(endpoint, 5))
        self.service: Service = open_service(self.path, PortRanges(((1024, 65535),)), self.table, self.log, self.watch)
        self.socks: list[socket.socket] = []

    def turn(self) -> None:
        """Do all that there is to do now."""
        for _ in range(10):
            self.watch.wait(0)

    def connect(self) -> socket.socket:
        """Return a bare connection that the service has taken in."""
        self.socks.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.socks[-1].connect(self.path)
        self.socks[-1].settimeout(5.0)
        self.turn()
        return self.socks[-1]

    def ask(self, sock: socket.socket, packet: bytes) -> bytes:
        """Send a packet and return the answer; descriptors with it are closed."""
        sock.send(packet)
        self.turn()
        answer, fds, _, _ = socket.recv_fds(sock, 1000, 3)
        for fd in fds:
            os.close(fd)
        return answer

    def lines(self, name: str) -> list[str]:
        """Return the log lines of one message."""
        return [line for line in self.logfile.read_text().splitlines() if f" {name} " in line]

    def close(self) -> None:
        for sock in self.socks:
            sock.close()
        self.service.close()
        os.close(self.log.fileno())


@pytest.fixture
def ring(rundir: Path) -> Iterator[Ring]:
    """A service in this process."""
    ring = Ring(rundir)
    yield ring
    ring.close()


@pytest.fixture
def free() -> Endpoint:
    """An address that was free a moment ago."""
    with bind_tcp(Endpoint("127.0.0.1", 0), 5) as sock:
        return bound_endpoint(sock)


@pytest.fixture
def call(ring: Ring) -> Iterator[Callable[..., "Future[object]"]]:
    """Call a function that waits for the service, while the service turns."""
    with ThreadPoolExecutor(1) as pool:
        def call_one(function: Callable[..., object], *words: object) -> "Future[object]":
            future = pool.submit(function, *words)
            while not future.done():
                ring.watch.wait(0.01)
            return future

        yield call_one


def test_the_socket_is_for_user_and_group_alone(ring: Ring) -> None:
    found = os.stat(ring.path)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o660
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


def test_the_socket_of_a_dead_one_is_replaced_and_a_file_is_not(rundir: Path) -> None:
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    dead.bind(str(rundir / "ringd.sock"))
    dead.close()
    Ring(rundir).close()
    (rundir / "ringd.sock").write_text("precious")
    log, watch = Log.open("ringd", str(rundir / "log")), Watch(MastersOwn())
    with pytest.raises(StartError, match="^cannot make the socket .*ringd.sock: Address already in use$"):
        open_service(str(rundir / "ringd.sock"), PortRanges(()), PortTable(lambda _: socket.socket()), log, watch)
    assert (rundir / "ringd.sock").read_text() == "precious"
    os.close(log.fileno())


def test_spec_8_3_a_port_is_given_shared_and_closed(ring: Ring, free: Endpoint, call: Callable[..., Future]) -> None:
    first, second = RingClient.connect(ring.path), RingClient.connect(ring.path)
    ours = call(first.acquire, free, 7).result()
    theirs = call(second.acquire, free, 9).result()
    assert bound_endpoint(ours) == bound_endpoint(theirs) == free
    for sock in (ours, theirs):
        assert not os.get_blocking(sock.fileno()) and not sock.get_inheritable()
        with socket.create_connection((free.host, free.port), 5.0) as caller:
            peer, address = sock.accept()    # whoever accepts gets it
            assert address == caller.getsockname()
            peer.close()
    ours.close()
    call(first.release, free)
    assert not is_refused(free)
    second.close()    # without a word, as by kill -9
    ring.turn()
    assert is_refused(free), "although `theirs` is still open somewhere"
    theirs.close()
    first.close()
    events = [(line.split(" ")[8], line.split("references=")[1][0]) for line in
              ring.logfile.read_text().splitlines()]
    assert events == [("port_given", "1"), ("port_given", "2"), ("port_returned", "1"), ("port_returned", "0")]


def test_the_backlog_is_the_clients_and_a_shut_socket_revives(ring: Ring, free: Endpoint,
                                                              call: Callable[..., Future]) -> None:
    first, second = RingClient.connect(ring.path), RingClient.connect(ring.path)
    ours = call(first.acquire, free, 5).result()
    ours.shutdown(socket.SHUT_RDWR)    # which no client should do
    assert is_refused(free)
    theirs = call(second.acquire, free, 5).result()
    assert not is_refused(free)
    for thing in (ours, theirs, first, second):
        thing.close()


def test_what_cannot_be_had_is_told_with_the_reason(ring: Ring, free: Endpoint, call: Callable[..., Future]) -> None:
    client = RingClient.connect(ring.path)
    with bind_tcp(free, 5):
        why = call(client.acquire, free, 5).exception()
    assert isinstance(why, StartError) and re.fullmatch(
        f"cannot listen on {free} by ringd at {ring.path}: Address already in use; .*",
        str(why))
    why = call(client.acquire, Endpoint("127.0.0.1", 80), 5).exception()
    assert "port 80 is not among those that ringd may open: 1024-65535" in str(why)
    assert len(ring.lines("port_refused")) == 2
    call(client.acquire, free, 5).result().close()    # the connection is still good
    client.close()


def test_answers_that_came_too_late_are_skipped(ring: Ring, free: Endpoint, call: Callable[..., Future]) -> None:
    client = RingClient.connect(ring.path, patience=0.05)
    with pytest.raises(StartError, match="no answer in 0.05 s$"):
        client.acquire(free, 5)    # nobody turns the loop
    ring.turn()
    assert len(ring.table) == 0, "what was late is given back"
    client = RingClient(client.path, client._sock)
    call(client.acquire, free, 5).result().close()
    assert not client.is_gone()
    client.close()


def test_a_client_sees_the_end_of_ringd(rundir: Path, free: Endpoint) -> None:
    ring = Ring(rundir)
    client = RingClient.connect(ring.path)
    ring.turn()
    ring.close()
    assert client.is_gone()
    with pytest.raises(StartError, match=f"^cannot listen on {free} by ringd at {ring.path}: "):
        client.acquire(free, 5)
    client.release(free)    # raises nothing
    client.close()
    with pytest.raises(StartError, match=f"^cannot reach ringd at {ring.path}: No such file or directory$"):
        RingClient.connect(ring.path)


def test_spec_8_3_ports_outlive_ringd(rundir: Path, free: Endpoint) -> None:
    ring = Ring(rundir)
    client = ring.connect()
    client.send(b"bind 1 %s\n" % str(free).encode())
    ring.turn()
    _, fds, _, _ = socket.recv_fds(client, 100, 1)
    with socket.socket(fileno=fds[0]):
        ring.close()
        assert not is_refused(free)


@pytest.mark.parametrize("packet", [b"hello\n", b"bind 1 localhost:110\n", b"bind 1 [::1%nowhere]:2000\n", b"\n",
                                    b"x" * 100_000])
def test_nonsense_is_answered_and_harms_nobody(ring: Ring, packet: bytes) -> None:
    client = ring.connect()
    assert ring.ask(client, packet).startswith(b"-ERR ")
    assert ring.ask(client, b"release 5 127.0.0.1:2000\n") == b"-ERR 5 not yours\n"


def test_descriptors_sent_to_it_are_closed(ring: Ring) -> None:
    client = ring.connect()
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(client, [b"hello\n"], [0, 1, 2])
    ring.turn()
    assert client.recv(1000).startswith(b"-ERR 0 ")
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_user_gets_nothing(ring: Ring, free: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.service._uid = os.geteuid() + 1
    monkeypatch.setattr(ringd, "_ROOT", os.geteuid() + 2)
    client = ring.connect()
    assert client.recv(1000) == b"-ERR 0 not served for this user\n" and client.recv(1) == b""
    for _ in range(3):
        ring.connect()
    assert len(ring.lines("client_refused")) == 1, "once a minute"
    ring.socks.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    ring.socks[-1].connect(ring.path)
    ring.socks[-1].send(b"bind 1 %s\n" % str(free).encode())
    ring.turn()
    assert is_refused(free)


def test_who_holds_nothing_makes_room(ring: Ring, free: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringd, "_MAX_CLIENTS", 2)
    holder, idle = ring.connect(), ring.connect()
    assert ring.ask(holder, b"bind 1 %s\n" % str(free).encode()) == b"+OK 1\n"
    newcomer = ring.connect()
    assert idle.recv(1) == b""
    assert ring.ask(newcomer, b"bind 2 %s\n" % str(free).encode()) == b"+OK 2\n"
    assert ring.connect().recv(1000) == b"-ERR 0 too many programs\n"
    assert ring.ask(holder, b"release 3 %s\n" % str(free).encode()) == b"+OK 3\n"


def test_who_asks_too_fast_is_dropped(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringd, "_MAX_RATE", 3)
    monkeypatch.setattr(time, "monotonic", lambda: 1.5)
    client = ring.connect()
    for number in range(3):
        assert ring.ask(client, b"x\n").startswith(b"-ERR")
    client.send(b"x\n")
    ring.turn()
    assert client.recv(1000) == b""
    assert "too many requests" in ring.lines("client_dropped")[0]


def test_who_does_not_read_is_dropped_with_his_ports(ring: Ring, free: Endpoint) -> None:
    client = ring.connect()
    client.setblocking(False)
    for number in range(100_000):
        try:
            client.send(b"bind %d %s\n" % (number, str(free).encode()))
        except BlockingIOError:
            ring.turn()
        except BrokenPipeError:
            break
        ring.watch.wait(0)
    else:
        raise AssertionError("never dropped")
    assert "does not read answers" in ring.lines("client_dropped")[0]
    assert len(ring.table) == 0


@pytest.mark.parametrize("answer", [b"+OK 7 or so\n", b"\xff", RingAnswer(0, "go away").encode()])
def test_a_client_survives_a_ringd_that_is_none(rundir: Path, free: Endpoint, answer: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = RingClient("/ringd.sock", ours, patience=0.05)
    theirs.send(answer)
    with pytest.raises(StartError, match="^cannot listen on "):
        client.acquire(free, 5)
    client.close()
    theirs.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_client_takes_no_other_socket(free: Endpoint, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = RingClient("/ringd.sock", ours, patience=0.05)
    with socket.socket(socket.AF_INET, kind) as wrong:
        wrong.bind((free.host, free.port if kind == socket.SOCK_DGRAM else 0))
        socket.send_fds(theirs, [b"+OK %d\n" % (client._number + 1)], [wrong.fileno()])
        with pytest.raises(StartError, match="got a socket of "):
            client.acquire(free, 5)
    assert theirs.recv(100).startswith(b"bind ") and theirs.recv(100).startswith(b"release ")
    client.close()
    theirs.close()


def test_a_socket_of_an_older_ringd_is_made_as_ours_are(free: Endpoint) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = RingClient("/ringd.sock", ours)
    with socket.create_server((free.host, free.port)) as bare:
        socket.send_fds(theirs, [b"+OK %d\n" % (client._number + 1)], [bare.fileno()])
        sock = client.acquire(free, 5)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT
    for each in (sock, client, theirs):
        each.close()
