"""The accept loop in one process: errors of accept(2), retiring, and who gets the connection."""

import errno
import os
import socket
from collections.abc import Iterable

import pytest

from popular.addresses import Endpoint
from popular.daemon.child import accept
from popular.daemon.child.accept import AcceptJob, Gate
from popular.daemon.child.door import Door
from popular.daemon.child.session import Connection
from popular.daemon.spec import Listen, Listener
from popular.net.listen import bound_endpoint
from popular.proc.child import ChildState
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile
from popular.unix.descriptors import ReservedDescriptors


class FakeChild:
    """A child without a process."""

    def __init__(self):
        self.retiring = False
        self.reports, self.titles, self.shortages = [], [], []
        self.when_retired = None
        self.wakes = os.pipe()
        self.reserved = ReservedDescriptors.reserve()
        self.statefile = StateFile(SERVER, 1)
        self.slot = self.statefile.slot(0)
        self.with_master = 0

    @property
    def wake_fds(self):
        return (self.wakes[0],)

    def retire(self):
        self.retiring = True
        os.write(self.wakes[1], b"x")

    def forget_alarms(self):
        pass

    def retire_with_master(self):
        self.with_master += 1

    def report(self, state):
        self.reports.append(state)

    def title(self, text):
        self.titles.append(text)

    def note_shortage(self, error):
        self.shortages.append(error.errno)
        self.retire_after_shortages()

    def retire_after_shortages(self):
        pass

    def close(self):
        for fd in (*self.wakes, *self.reserved.descriptors):
            os.close(fd)


class Troubled(socket.socket):
    """A listening socket whose accept fails with some errors first."""

    errors: "list[int]" = []

    def _accept(self):
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super()._accept()


@pytest.fixture
def child():
    child = FakeChild()
    yield child
    child.close()


@pytest.fixture
def listen():
    """A function (errors) that returns a listener and a way to connect to it."""
    opened = []

    def make(errors: Iterable[int] = ()) -> Listener:
        sock = Troubled(socket.AF_INET, socket.SOCK_STREAM)
        sock.bind(("127.0.0.1", 0))
        sock.listen(5)
        sock.setblocking(False)
        sock.errors = list(errors)
        opened.append(sock)
        endpoint = bound_endpoint(sock)
        return Listener("main", endpoint, sock, Listen("tcp", "main", endpoint, 5))

    yield make
    for sock in opened:
        sock.close()


@pytest.fixture
def connect():
    opened = []

    def make(listener):
        endpoint = listener.endpoint
        opened.append(socket.create_connection((endpoint.host, endpoint.port), 5))
        return opened[-1]

    yield make
    for sock in opened:
        sock.close()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH])
def test_errors_of_one_connection_are_passed_over(child, listen, connect, number):
    listener = listen([number, number])
    client = connect(listener)
    gate = Gate([listener], child)
    accepted = gate.next()
    sock, peer = accepted.sock, accepted.peer
    assert (peer.host, peer.port) == client.getsockname()
    sock.close()
    gate.close()
    assert child.shortages == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
def test_a_shortage_is_noted_and_waited_out(child, listen, connect, monkeypatch, number):
    monkeypatch.setattr(accept, "PAUSE", 0.01)
    listener = listen([number, number])
    connect(listener)
    gate = Gate([listener], child)
    gate.next().sock.close()
    gate.close()
    assert child.shortages == [number, number]


def test_a_retiring_child_does_not_wait_for_the_end_of_a_shortage(child, listen, connect):
    listener = listen([errno.EMFILE] * 10)
    connect(listener)
    child.retire_after_shortages = child.retire
    gate = Gate([listener], child)
    assert gate.next() is None
    gate.close()
    assert len(child.shortages) <= 2


def test_a_listener_that_was_shut_down_ends_the_waiting(child, listen):
    listener, other = listen(), listen()
    gate = Gate([listener, other], child)
    for each in (listener, other):
        each.sock.shutdown(socket.SHUT_RDWR)
    assert gate.next() is None
    gate.close()


def test_a_listener_that_was_shut_down_does_not_hinder_the_others(child, listen, connect):
    listener, other = listen(), listen()
    gate = Gate([listener, other], child)
    listener.sock.shutdown(socket.SHUT_RDWR)
    connect(other)
    accepted = gate.next()
    assert accepted.local == other.endpoint
    accepted.sock.close()
    gate.close()


def test_no_listener_always_comes_first(child, listen, connect):
    firsts = set()
    for _ in range(64):
        listeners = [listen(), listen()]
        for each in listeners:
            connect(each)
        gate = Gate(listeners, child)
        accepted = gate.next()
        firsts.add([each.endpoint for each in listeners].index(accepted.local))
        accepted.sock.close()
        gate.close()
        if len(firsts) == 2:
            break
    assert firsts == {0, 1}


def test_any_other_error_is_one_of_ours(child, listen, connect):
    listener = listen([errno.EFAULT])
    connect(listener)
    gate = Gate([listener], child)
    with pytest.raises(OSError):
        gate.next()
    gate.close()


def test_a_retiring_child_takes_the_connection_that_woke_it(child, listen, connect):
    listener = listen()
    gate = Gate([listener], child)
    connect(listener)
    child.retire()
    gate.next().sock.close()
    gate.close()


def test_a_retiring_child_leaves_when_nobody_waits(child, listen):
    gate = Gate([listen()], child)
    child.retire()
    assert gate.next() is None
    gate.close()


@pytest.mark.parametrize("maxuse, uses", [(1, 1), (2, 2), (3, 3)])
def test_a_child_serves_its_share_and_leaves(child, listen, connect, monkeypatch, maxuse, uses):
    monkeypatch.setattr(accept.gc, "disable", lambda: None)
    listener = listen()
    clients = [connect(listener) for _ in range(4)]
    served: list[Connection] = []

    def serve(connection, own):
        served.append(connection)
        assert connection.sock.fileno() == child.reserved.client
        assert connection.sock.gettimeout() == 0
        is_last = connection.number == maxuse
        assert (listener.sock.fileno() == -1) == is_last    # no port is held that nobody will accept on

    assert AcceptJob(maxuse, serve).run(child, [listener]) == 0
    assert [connection.number for connection in served] == list(range(1, uses + 1))
    assert [(each.peer.host, each.peer.port) for each in served] == [each.getsockname() for each in clients[:uses]]
    assert {each.local for each in served} == {listener.endpoint}
    assert child.reports == [ChildState.BUSY, *[ChildState.IDLE, ChildState.BUSY] * (uses - 1)]
    assert child.with_master == (maxuse > 1)


def test_the_address_behind_a_wildcard_is_found_out(child, listen, connect, monkeypatch):
    monkeypatch.setattr(accept.gc, "disable", lambda: None)
    listener = listen()
    connect(listener)
    wild = Listener("main", listener.endpoint.__class__("0.0.0.0", listener.endpoint.port), listener.sock,
                    listener.listen)
    served = []
    AcceptJob(1, lambda connection, own: served.append(connection.local)).run(child, [wild])
    assert served == [listener.endpoint]


def test_a_child_told_to_leave_in_mid_session_leaves_after_it(child, listen, connect):
    listener = listen()
    connect(listener)
    connect(listener)
    served = []

    def serve(connection, own):
        served.append(connection.number)
        child.retire()
        child.when_retired()    # what the signal handler does
        assert listener.sock.fileno() == -1

    assert AcceptJob(5, serve).run(child, [listener]) == 0
    assert served == [1]
    assert child.reports == [ChildState.BUSY]


def test_the_connection_is_closed_whatever_happens(child, listen, connect, monkeypatch):
    monkeypatch.setattr(accept.gc, "disable", lambda: None)
    listener = listen()
    client = connect(listener)

    def serve(connection, own):
        raise KeyError

    with pytest.raises(KeyError):
        AcceptJob(1, serve).run(child, [listener])
    assert client.recv(1) == b""


@pytest.mark.parametrize("mute, said", [
    (frozenset(), b"-ERR [SYS/TEMP] system load too high, please try again later\r\n"),
    (frozenset({"main"}), b""),
])
def test_a_refusal_is_said_only_where_it_can_be_understood(child, listen, connect, monkeypatch, mute, said):
    monkeypatch.setattr(type(child.slot), "must_refuse", True)
    listener = listen()
    client = connect(listener)
    gate = Gate([listener], child, mute)
    client.shutdown(socket.SHUT_WR)
    child.retire()
    assert gate.next() is None
    gate.close()
    assert client.recv(200) == said


# Screened clients

class FakeAdmission:
    """An admission that knows one virtual server, and admits nobody by itself."""

    def __init__(self):
        self.door = Door()
        self.counted = []

    def admit(self, owner, peer, child):
        return False

    def count(self, owner, peer, child):
        self.counted.append((owner, peer))
        return owner == "main"


@pytest.fixture
def admission():
    admission = FakeAdmission()
    yield admission
    admission.door.close()


@pytest.mark.parametrize("mute, is_greeted", [(frozenset(), True), (frozenset(("main",)), False)])
def test_a_screened_client_comes_by_the_door(child, listen, admission, mute, is_greeted):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        admission.door.give("main", theirs.fileno(), Endpoint("192.0.2.1", 50123))
    gate = Gate([listen()], child, mute, admission)
    accepted = gate.next()
    assert (accepted.owner, accepted.peer, accepted.is_greeted) == ("main", Endpoint("192.0.2.1", 50123), is_greeted)
    assert admission.counted == [("main", Endpoint("192.0.2.1", 50123))]
    accepted.sock.close()
    gate.close()


def test_a_screened_client_of_an_owner_that_is_gone_is_closed(child, listen, admission):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        admission.door.give("gone", theirs.fileno(), Endpoint("192.0.2.1", 50123))
        theirs.close()
        gate = Gate([listen()], child, frozenset(), admission)
        child.retire()
        assert gate.next() is None
        assert ours.recv(1) == b""
    gate.close()


def test_while_clients_are_screened_nobody_else_is_accepted(child, listen, connect, admission):
    listener = listen()
    connect(listener)
    child.statefile.tell(is_screening=1)
    gate = Gate([listener], child, frozenset(), admission)
    child.retire()
    assert gate.next() is None
    gate.close()


def test_who_is_not_admitted_is_told_so(child, listen, connect, admission):
    listener = listen()
    client = connect(listener)
    gate = Gate([listener], child, frozenset(), admission)
    child.retire()
    assert gate.next() is None
    assert client.recv(100).startswith(b"-ERR [SYS/TEMP] connection refused")
    gate.close()
