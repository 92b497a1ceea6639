"""net.listen and net.dial: sockets that wait for peers, and connections to backends."""

import os
import re
import socket
from collections.abc import Callable, Iterator

import pytest

from popular.addresses import Endpoint
from popular.errors import BackendError, StartError
from popular.net.dial import dial
from popular.net.listen import UNSENT, bind_tcp, bind_udp, bound_endpoint, endpoint_of, resolve
from tests.harness.pairs import PATIENCE

LOOPBACKS = [pytest.param("127.0.0.1", id="IPv4"), pytest.param("::1", id="IPv6")]
Bind = Callable[[Endpoint], socket.socket]


def listen(endpoint: Endpoint) -> socket.socket:
    """Bind a TCP listener with some backlog."""
    return bind_tcp(endpoint, 5)


@pytest.fixture(params=[listen, bind_udp], ids=["tcp", "udp"])
def bind(request: pytest.FixtureRequest) -> Bind:
    """Both ways to bind."""
    way: Bind = request.param
    return way


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A TCP listener on IPv4 loopback."""
    with bind_tcp(Endpoint("127.0.0.1", 0), 5) as sock:
        yield sock


def flag(sock: socket.socket, level: int, name: int) -> bool:
    """Tell whether a socket option is on."""
    return bool(sock.getsockopt(level, name))


@pytest.mark.parametrize("host", LOOPBACKS)
def test_spec_1_5_accepted_sockets_have_keepalive(host: str) -> None:
    with bind_tcp(Endpoint(host, 0), 5) as sock:
        assert sock.gettimeout() == 0.0 and not os.get_blocking(sock.fileno()) and not sock.get_inheritable()
        assert flag(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)
        with dial(bound_endpoint(sock), PATIENCE, None) as ours, sock.accept()[0] as theirs:
            for end in (ours, theirs):
                assert flag(end, socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert flag(end, socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT
            assert not os.get_blocking(ours.fileno())
            assert endpoint_of(theirs.getpeername()) == bound_endpoint(ours)
            ours.send(b"x")
            theirs.settimeout(PATIENCE)
            assert theirs.recv(2) == b"x"


@pytest.mark.parametrize("host", LOOPBACKS)
def test_bound_endpoint_shows_the_port_that_the_kernel_chose(bind: Bind, host: str) -> None:
    with bind(Endpoint(host, 0)) as sock:
        endpoint = bound_endpoint(sock)
        assert endpoint.host == host and endpoint.port > 0
        assert not os.get_blocking(sock.fileno())


def test_the_wildcards_of_both_families_do_not_collide(bind: Bind) -> None:
    with bind(Endpoint("0.0.0.0", 0)) as first, bind(Endpoint("::", bound_endpoint(first).port)) as second:
        assert bound_endpoint(second) == Endpoint("::", bound_endpoint(first).port)


def test_a_busy_port_is_reported_with_address_and_reason(bind: Bind) -> None:
    with bind(Endpoint("127.0.0.1", 0)) as sock:
        endpoint = bound_endpoint(sock)
        with pytest.raises(StartError, match=f"^cannot listen on {endpoint}: Address already in use; another program"):
            bind(endpoint)


@pytest.mark.parametrize(("endpoint", "reason"), [
    pytest.param(Endpoint("192.0.2.1", 0), "Cannot assign requested address; no interface", id="not ours"),
    pytest.param(Endpoint("2001:db8::1", 0), "Cannot assign requested address; no interface", id="not ours, IPv6"),
    pytest.param(Endpoint("localhost", 0), "a numeric address is needed here", id="name"),
])
def test_an_address_that_cannot_be_bound(bind: Bind, endpoint: Endpoint, reason: str) -> None:
    with pytest.raises(StartError, match=f"^cannot listen on {re.escape(str(endpoint))}: {reason}"):
        bind(endpoint)


def test_a_port_below_1024_without_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Forbidden)
    with pytest.raises(StartError, match="^cannot listen on 127.0.0.1:110: Permission denied; ports below 1024 need"):
        listen(Endpoint("127.0.0.1", 110))


def test_no_descriptor_left_for_a_listener(monkeypatch: pytest.MonkeyPatch, bind: Bind) -> None:
    def full(*family: int) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(StartError, match="^cannot listen on 127.0.0.1:0: Too many open files$"):
        bind(Endpoint("127.0.0.1", 0))


@pytest.mark.parametrize(("address", "endpoint"), [
    (("10.0.0.5", 110), Endpoint("10.0.0.5", 110)),
    (("::1", 110, 0, 0), Endpoint("::1", 110)),
    (("fe80::1", 110, 0, 2), Endpoint("fe80::1%2", 110)),
    (("fe80::1%eth0", 110, 0, 2), Endpoint("fe80::1%eth0", 110)),
])
def test_endpoint_of(address: tuple[str, int] | tuple[str, int, int, int], endpoint: Endpoint) -> None:
    assert endpoint_of(address) == endpoint


def test_resolve_leaves_numeric_addresses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    for host in ("10.0.0.5", "::1"):
        assert resolve(Endpoint(host, 110)) == Endpoint(host, 110)


def test_resolve_takes_the_first_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *name, **hints: [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::5", 110, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.5", 110))])
    assert resolve(Endpoint("store1", 110)) == Endpoint("2001:db8::5", 110)


@pytest.mark.parametrize(("error", "reason"), [
    (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    (UnicodeError("label too long"), "not a host name"),
])
def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str) -> None:
    def ask(*name: object, **hints: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with pytest.raises(StartError, match=f"^cannot resolve the host name store1: {reason}$"):
        resolve(Endpoint("store1", 110))


@pytest.mark.parametrize(("host", "source"), [("127.0.0.1", "127.0.0.9"), ("::1", "::1")])
def test_dial_from_a_source_address(host: str, source: str) -> None:
    with bind_tcp(Endpoint(host, 0), 5) as sock:
        with dial(bound_endpoint(sock), PATIENCE, source) as ours, sock.accept()[0] as theirs:
            assert endpoint_of(theirs.getpeername()).host == source == bound_endpoint(ours).host


@pytest.mark.parametrize("host", LOOPBACKS)
def test_dial_nobody_there(host: str) -> None:
    with bind_tcp(Endpoint(host, 0), 5) as sock:
        endpoint = bound_endpoint(sock)
    with pytest.raises(BackendError, match=f"^cannot connect to {re.escape(str(endpoint))}: Connection refused$"):
        dial(endpoint, PATIENCE, None)


def test_dial_nobody_answers_in_time() -> None:
    with bind_tcp(Endpoint("127.0.0.1", 0), 0) as sock:
        endpoint = bound_endpoint(sock)
        waiting: list[socket.socket] = []
        with pytest.raises(BackendError, match=f"^cannot connect to {endpoint}: no answer within 0.05 s$"):
            for _ in range(10):    # a full backlog: the kernel drops what comes then
                waiting.append(dial(endpoint, 0.05, None))
        for ours in waiting:
            ours.close()


@pytest.mark.parametrize(("host", "source", "reason"), [
    pytest.param("localhost", None, "numeric addresses are needed here", id="name"),
    pytest.param("127.0.0.1", "localhost", "numeric addresses are needed here", id="source name"),
    pytest.param("127.0.0.1", "192.0.2.1", "Cannot assign requested address; is the source", id="source not ours"),
    pytest.param("127.0.0.1", "::1", "Address family", id="source of the other family"),
    pytest.param("::1", "127.0.0.1", "Address family", id="the other way round"),
])
def test_dial_with_wrong_addresses(listener: socket.socket, host: str, source: str | None, reason: str) -> None:
    with pytest.raises(BackendError, match=f"^cannot connect to .*: {reason}"):
        dial(Endpoint(host, bound_endpoint(listener).port), PATIENCE, source)


def test_dial_without_a_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*family: int) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(BackendError, match="^cannot connect to 127.0.0.1:110: Too many open files"):
        dial(Endpoint("127.0.0.1", 110), PATIENCE, None)
