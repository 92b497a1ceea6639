"""popular.pproxy.screen: the door to the children, and which connections go through it."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from popular.addresses import Endpoint
from popular.daemon.child.door import Door, Passed
from popular.daemon.spec import Listen, Listener
from popular.net.listen import bind_tcp, bound_endpoint
from popular.networks import Networks
from popular.pproxy.screen.process import ClientScreen, Keys, Terms, has_hello
from popular.pproxy.vserv.proxied import Proxies
from popular.statefile.layout import PROXY, CountedBy, LimitState
from popular.statefile.writer import StateFile
from tests.harness.system import wait_for

CLIENT = Endpoint("2001:db8::1", 50123)
HELLO = bytes.fromhex("1603010009 01000005") + b"hello"


@pytest.fixture
def door() -> Iterator[Door]:
    with closing(Door()) as door:
        yield door


# The door

def test_a_connection_goes_through_the_door(door: Door) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        door.give("main", theirs.fileno(), CLIENT)
        passed = door.take()
        assert passed is not None and (passed.owner, passed.peer) == ("main", CLIENT)
        with socket.socket(fileno=passed.fd) as taken:
            ours.send(b"x")
            assert taken.recv(1) == b"x"


def test_one_at_a_time(door: Door) -> None:
    assert door.is_free()
    door.give("main", door.inner.fileno(), CLIENT)
    assert not door.is_free()
    passed = door.take()
    assert passed is not None
    os.close(passed.fd)
    assert door.is_free()
    with pytest.raises(BlockingIOError):
        door.take()


@pytest.mark.parametrize("packet", [b"", b"x", b"\xff" * 200], ids=["empty", "short", "no text"])
def test_what_is_no_connection_is_none(door: Door, packet: bytes) -> None:
    door.outer.send(packet)
    assert door.take() is None


def record(data: bytes) -> bytes:
    """Return a record of a handshake."""
    return b"\x16\3\1" + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize("data, found", [
    (HELLO, True), (HELLO + b"more", True), (b"", False), *((HELLO[:size], False) for size in range(1, len(HELLO))),
    (record(b"\1\0") + record(b"\0\5hel") + record(b"lo"), True), (record(b"\1") + record(b"\0\0"), False),
    (record(b"\1\0\4\0" + bytes(1024)), True), (record(b"\1\0\4\0" + bytes(1023)), False),
    (record(b"\2\0\0\0"), None), (record(b"") * 9, None), (record(b"\1") + b"USER joe\r\n", None),
    (b"USER joe\r\n", None), (b"\x15\3\1\0\2", None)])
def test_a_whole_hello(data: bytes, found: bool | None) -> None:
    assert has_hello(data) is found


# The screen

class FakeHelper:
    """A helper that is told to leave by the test."""

    def __init__(self) -> None:
        self.wake_fds = os.pipe()
        self.is_leaving = False

    def is_retiring(self) -> bool:
        return self.is_leaving

    def close(self) -> None:
        for fd in self.wake_fds:
            os.close(fd)


class Stand:
    """A screen with a listener, whose turns the test takes."""

    def __init__(self, door: Door, greeting: bytes) -> None:
        self.door = door
        self.statefile = StateFile(PROXY, 1)
        self.set(screening=True, full=True)
        sock = bind_tcp(Endpoint("127.0.0.1", 0), 64)
        self.endpoint = bound_endpoint(sock)
        self.listener = Listener("main", self.endpoint, sock, Listen("tcp", "main", self.endpoint, 64))
        self.counted: list[str] = []
        self.stalled: set[int] = set()
        self.refused: set[int] = set()      # networks
        self.wishes = self.seen = 0
        self.networks = iter(range(1, 1000))
        self.next_network = 0               # of the next client; 0: one of its own
        self.headers: dict[str, Proxies] = {}    # by owner: the test adds who sends headers
        self.headless: list[str] = []            # why connections were refused for want of one
        self.helper = FakeHelper()
        self.screen = ClientScreen(
            self.helper, door, [self.listener], self.statefile.slot(0),    # type: ignore[arg-type]
            Terms(lambda owner, peer: greeting, 30, 60.0, self.admit, self.stalled.__contains__, self.counted.append,
                  self.wish, lambda: None, self.headers, lambda owner, peer, why: self.headless.append(why)))

    def set(self, *, screening: bool, full: bool) -> None:
        self.statefile.tell(is_screening=int(screening), session_state=int(LimitState.MAX if full else LimitState.WARN))

    def admit(self, owner: str, peer: Endpoint, screen: ClientScreen) -> Keys | None:
        self.seen += 1
        network = self.next_network or next(self.networks)
        return None if network in self.refused else (network, network)

    def wish(self) -> None:
        self.wishes += 1

    def connect(self, data: bytes = b"") -> socket.socket:
        """Connect, send `data`, and wait until the screen has looked."""
        seen = self.seen
        sock = socket.create_connection((self.endpoint.host, self.endpoint.port), 10.0)
        self.until(lambda: self.seen > seen)
        if data:
            sock.send(data)
            self.turns(3)
        return sock

    def turns(self, count: int = 1) -> None:
        for _ in range(count):
            self.screen.turn()

    def until(self, condition: "object") -> None:
        assert callable(condition)

        def is_met() -> bool:
            self.screen.turn()
            return bool(condition())
        wait_for(is_met, 5.0, "the screen")

    def taken(self) -> Passed | None:
        try:
            passed = self.door.take()
        except BlockingIOError:
            return None
        if passed is not None:
            os.close(passed.fd)
        return passed

    def close(self) -> None:
        self.screen.close()
        self.helper.close()
        self.listener.sock.close()
        self.screen.slot.release()
        self.statefile.close()


@pytest.fixture
def stand(door: Door) -> Iterator[Stand]:
    with closing(Stand(door, b"+OK ready\r\n")) as stand:
        yield stand


@pytest.mark.parametrize("data, is_passed", [
    (b"USER joe\r\n", True), (b"\n", True), (b"", False), (b"USER", False)])
def test_whoever_sends_a_line_is_passed_on(stand: Stand, data: bytes, is_passed: bool) -> None:
    with stand.connect(data) as client:
        assert client.recv(100) == b"+OK ready\r\n"
        passed = stand.taken()
        assert (passed is not None) is is_passed
        assert passed is None or str(passed.peer) == "{}:{}".format(*client.getsockname())


def test_a_line_without_end_is_too_long(stand: Stand) -> None:
    with stand.connect(b"x" * 33) as client:
        with pytest.raises(ConnectionResetError):    # as something was not read
            while client.recv(100):
                pass
            raise ConnectionResetError
    assert stand.counted == ["screen_closed"]


def test_whoever_has_stalled_waits_until_the_pool_has_room(stand: Stand) -> None:
    stand.next_network = 7
    stand.stalled.add(7)
    with stand.connect(b"USER joe\r\n"):
        assert stand.taken() is None
        assert stand.wishes == 0, "nobody is ended for them"
        stand.set(screening=True, full=False)
        stand.until(stand.taken)
    assert stand.counted == ["screen_passed"]


def test_newcomers_come_first_and_room_is_asked_for_until_they_have_it(stand: Stand) -> None:
    """Of those that wait, the one whose network has fewest connections."""
    stand.next_network = 7
    with stand.connect(b"USER a\r\n"), stand.connect(), stand.connect(b"USER b\r\n"):
        stand.next_network = 8
        with stand.connect(b"USER c\r\n") as alone:
            assert stand.taken() is not None    # the first one, which came to a free door
            stand.until(lambda: stand.wishes >= 2)
            passed = stand.taken()
            assert passed is not None and passed.peer.port == alone.getsockname()[1]


def test_those_who_wait_are_moved_when_their_network_stalls(stand: Stand) -> None:
    stand.next_network = 7
    with stand.connect(b"USER a\r\n"), stand.connect(b"USER b\r\n"):
        stand.stalled.add(7)
        assert stand.taken() is not None
        stand.turns(3)
        assert stand.taken() is None


def test_who_is_not_admitted_is_turned_away(stand: Stand) -> None:
    stand.refused.add(1)
    with socket.create_connection((stand.endpoint.host, stand.endpoint.port), 10.0) as client:
        stand.turns(3)
        assert client.recv(100).startswith(b"-ERR [SYS/TEMP]")


def test_connections_are_counted_while_they_are_held(stand: Stand) -> None:
    with stand.connect():
        assert stand.screen.held_by(CountedBy.ADDRESS, 1) == 1
    stand.until(lambda: stand.screen.held_by(CountedBy.ADDRESS, 1) == 0)


def test_without_screening_nobody_is_accepted(stand: Stand) -> None:
    stand.set(screening=False, full=False)
    with socket.create_connection((stand.endpoint.host, stand.endpoint.port), 10.0):
        stand.turns(3)
        assert stand.screen.most_held == 0
        stand.set(screening=True, full=False)
        stand.until(lambda: stand.screen.most_held == 1)


@pytest.mark.parametrize("data, is_passed", [(HELLO, True), (HELLO[:-1], False), (b"USER joe\r\n", False)])
def test_under_tls_a_handshake_comes_first(door: Door, data: bytes, is_passed: bool) -> None:
    with closing(Stand(door, b"")) as stand, stand.connect(data):
        assert (stand.taken() is not None) is is_passed
        assert stand.counted == (["screen_passed"] if is_passed else ["screen_closed"] if data[0] == 85 else [])


def test_it_leaves_when_nothing_is_held_any_more(stand: Stand) -> None:
    client = stand.connect()
    stand.helper.is_leaving = True
    client.close()
    stand.screen.run()
    assert (stand.screen.passed, stand.screen.closed) == (0, 1)


# PROXY headers

CHECK = b"PROXY UNKNOWN\r\n"
NAMED = b"PROXY TCP4 192.0.2.1 198.51.100.1 50123 110\r\n"


@pytest.fixture
def front(stand: Stand) -> Stand:
    """A screen whose connections come from a load balancer."""
    stand.headers["main"] = Proxies("main", Networks.read(["127.0.0.1"]), True, seconds=60.0)
    return stand


def arrive(front: Stand, data: bytes) -> socket.socket:
    """Connect as the balancer does, and send `data`."""
    sock = socket.create_connection((front.endpoint.host, front.endpoint.port), 10.0)
    held = front.screen.most_held
    front.until(lambda: front.screen.most_held > held or front.headless)
    sock.send(data)
    front.turns(3)
    return sock


def test_the_client_is_judged_whom_the_header_names(front: Stand) -> None:
    with arrive(front, NAMED[:20]) as balancer:
        assert front.seen == 0 and front.taken() is None
        balancer.send(NAMED[20:])
        front.until(lambda: front.seen == 1)
        assert balancer.recv(100) == b"+OK ready\r\n"
        assert front.screen.held_by(CountedBy.ADDRESS, 1) == 1
        assert front.taken() is None
        balancer.send(b"USER joe\r\n")
        front.turns(3)
        passed = front.door.take()
        assert passed is not None and passed.peer == Endpoint(*balancer.getsockname()), "the child reads the header"
        with socket.socket(fileno=passed.fd) as taken:
            assert taken.recv(100) == NAMED + b"USER joe\r\n"
        assert front.screen.held_by(CountedBy.ADDRESS, 1) == 0


def test_header_and_line_at_once(front: Stand) -> None:
    with arrive(front, NAMED + b"USER joe\r\n"):
        assert front.taken() is not None


def test_a_client_who_is_refused_is_told_so(front: Stand) -> None:
    front.refused.add(1)
    with arrive(front, NAMED) as balancer:
        assert balancer.recv(100).startswith(b"-ERR [SYS/TEMP]")
        assert balancer.recv(100) == b""


@pytest.mark.parametrize("data, why", [
    (b"USER joe\r\n", "no PROXY header"), (NAMED.replace(b"TCP4", b"TCP6"), "version 1 with a malformed address")])
def test_a_bad_header_is_refused(front: Stand, data: bytes, why: str) -> None:
    with arrive(front, data):
        assert (front.headless, front.seen, front.taken()) == ([why], 0, None)


def test_a_header_that_is_cut_off_is_refused(front: Stand) -> None:
    arrive(front, NAMED[:20]).close()
    front.until(lambda: front.headless == ["cut off"])


def test_a_late_header_is_refused(front: Stand) -> None:
    front.headers["main"] = Proxies("main", Networks.read(["127.0.0.1"]), True, seconds=0.0)
    with socket.create_connection((front.endpoint.host, front.endpoint.port), 10.0):
        front.until(lambda: front.headless == ["late"])


def test_who_is_not_trusted_is_refused_at_once(front: Stand) -> None:
    front.headers["main"] = Proxies("main", Networks.read(["192.0.2.1"]), True)
    with socket.create_connection((front.endpoint.host, front.endpoint.port), 10.0):
        front.until(lambda: front.headless == ["not trusted"])
    assert front.seen == 0


@pytest.mark.parametrize("data, heard", [
    (b"", b""), (CHECK, b"+OK ready\r\n"), (CHECK + b"QUIT\r\n", b"+OK ready\r\n+OK bye\r\n")])
def test_a_health_check_gets_no_child(front: Stand, data: bytes, heard: bytes) -> None:
    with arrive(front, data) as balancer:
        balancer.shutdown(socket.SHUT_WR)
        front.until(lambda: front.counted)
        assert b"".join(iter(lambda: balancer.recv(100), b"")).removesuffix(b"+OK bye\r\n") == (
            heard.removesuffix(b"+OK bye\r\n"))
    assert (front.counted, front.seen, front.headless, front.taken()) == (["health_checks"], 0, [], None)
