"""Exchanging listeners: what is kept, bound and closed, and that a failure leaves everything as it was."""

import socket

import pytest

from popular.addresses import Endpoint
from popular.daemon.master.listeners import Exchange, OwnPorts, close_all
from popular.daemon.spec import Listen, Listener
from popular.errors import StartError
from tests.harness.toyclient import is_refused


class Ports(OwnPorts):
    """Real ports, and a note of every binding and closing."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.open: list[Listener] = []
        self.refused: Endpoint | None = None

    def bind(self, listen: Listen) -> Listener:
        if listen.endpoint == self.refused:
            raise StartError("refused")
        listener = super().bind(listen)
        self.notes.append(f"bind {listen.owner}")
        self.open.append(listener)
        return listener

    def close(self, listener: Listener) -> None:
        self.notes.append(f"close {listener.owner}")
        super().close(listener)


@pytest.fixture
def ports():
    """Ports that are closed with the test."""
    ports = Ports()
    yield ports
    for listener in ports.open:
        listener.sock.close()


def listen(owner: str, port: int = 0, host: str = "127.0.0.1", backlog: int = 5) -> Listen:
    """Return a wish."""
    return Listen("tcp", owner, Endpoint(host, port), backlog)


def begun(ports: Ports, *wanted: Listen) -> list[Listener]:
    """Bind `wanted` from nothing."""
    exchange = Exchange([], wanted, ports)
    exchange.begin()
    ports.notes.clear()
    return exchange.listeners


def test_what_is_wanted_as_before_is_kept(ports):
    before = begun(ports, listen("a"), listen("b"))
    exchange = Exchange(before, [listen("b"), listen("a")], ports)
    assert exchange.is_empty
    exchange.begin()
    exchange.finish()
    assert exchange.listeners == [before[1], before[0]]
    assert ports.notes == []


def test_new_ones_are_bound_and_old_ones_closed_for_everybody(ports):
    before = begun(ports, listen("a"))
    child = before[0].sock.dup()
    exchange = Exchange(before, [listen("b")], ports)
    exchange.begin()
    assert not is_refused(before[0].endpoint)
    exchange.finish()
    assert ports.notes == ["bind b", "close a"]
    assert is_refused(before[0].endpoint)
    assert not is_refused(exchange.listeners[0].endpoint)
    child.close()


def test_a_fixed_port_goes_over_to_another_owner(ports):
    [first] = begun(ports, listen("a"))
    fixed = Listener("a", first.endpoint, first.sock, listen("a", first.endpoint.port))
    exchange = Exchange([fixed], [listen("b", first.endpoint.port)], ports)
    exchange.begin()
    assert [(each.owner, each.sock) for each in exchange.listeners] == [("b", first.sock)]


def test_a_port_of_the_kernels_choice_stays_with_its_owner(ports):
    exchange = Exchange(begun(ports, listen("a")), [listen("b")], ports)
    assert not exchange.is_empty


def test_a_failure_leaves_everything_as_it_was(ports):
    before = begun(ports, listen("a"))
    ports.refused = Endpoint("127.0.0.1", 1)
    exchange = Exchange(before, [listen("b"), listen("c", 1)], ports)
    with pytest.raises(StartError):
        exchange.begin()
    assert ports.notes == ["bind b", "close b"]
    assert not is_refused(before[0].endpoint)
    assert not exchange.disturbed


def test_an_overlapping_port_that_goes_makes_room(ports):
    [wild] = begun(ports, listen("a", host="0.0.0.0"))
    port = wild.endpoint.port
    exchange = Exchange([wild], [listen("a", port)], ports)
    exchange.begin()
    exchange.finish()
    assert exchange.listeners[0].endpoint == Endpoint("127.0.0.1", port)
    assert not is_refused(Endpoint("127.0.0.1", port))
    assert is_refused(Endpoint("127.0.0.2", port))


def test_an_overlapping_port_listens_again_after_a_failure(ports):
    [wild] = begun(ports, listen("a", host="0.0.0.0"))
    port = wild.endpoint.port
    ports.refused = Endpoint("127.0.0.1", 1)
    exchange = Exchange([wild], [listen("a", port), listen("c", 1)], ports)
    with pytest.raises(StartError):
        exchange.begin()
    assert exchange.disturbed
    with socket.create_connection(("127.0.0.2", port), 5) as client:
        accepted, _ = wild.sock.accept()
        accepted.close()
        client.recv(1)


def test_a_port_of_another_program_is_in_use(ports):
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(StartError, match="another program listens there"):
            begun(ports, listen("a", other.getsockname()[1]))


def test_a_listener_of_others_is_closed_but_not_shut_down(ports):
    [listener] = begun(ports, listen("a"))
    theirs = listener.sock.dup()
    close_all([Listener("a", listener.endpoint, listener.sock, listener.listen, ours=False)], ports)
    assert not is_refused(listener.endpoint)
    theirs.close()


def test_the_backlog_is_set_anew(ports):
    [listener] = begun(ports, listen("a"))
    exchange = Exchange([listener], [listen("a", backlog=50)], ports)
    exchange.begin()
    with listener.sock.dup() as queue:
        clients = [socket.create_connection((listener.endpoint.host, listener.endpoint.port), 2) for _ in range(20)]
        for client in clients:
            client.close()
        assert queue.fileno() >= 0
