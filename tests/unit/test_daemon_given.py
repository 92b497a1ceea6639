"""Sockets from a service manager: whose they are, and what is wrong with them."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.mistakes import Mistake
from popular.daemon.spec import Listen
from popular.daemon.start import activation as given
from popular.daemon.start.activation import given_sockets


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What is closed with the test."""
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    """Return a listening socket on a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return stack.enter_context(socket.create_server((host, 0), family=family, backlog=1))


def wanted(sock: socket.socket, owner: str, host: str = "127.0.0.1") -> Listen:
    """Return what is to listen where `sock` is."""
    return Listen("tcp", owner, Endpoint(host, sock.getsockname()[1]), 50)


def hand_over(monkeypatch: pytest.MonkeyPatch, *sockets: socket.socket) -> None:
    """Let the descriptors of some sockets be those that are handed over."""
    first = os.dup(sockets[0].fileno())
    os.close(first)
    copies = [os.dup(sock.fileno()) for sock in sockets]
    assert copies == [*range(first, first + len(sockets))]
    monkeypatch.setattr(given, "_FIRST", first)


def environment(*names: str, **more: str) -> Mapping[str, str]:
    """Return the environment of a process that is handed sockets of these names."""
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names), **more}


def test_a_socket_is_found_by_name_and_address(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    first, second, other = (listening(stack) for _ in range(3))
    listens = [wanted(second, "main"), wanted(other, "other"), wanted(first, "main")]
    hand_over(monkeypatch, first, second)
    mistakes: list[Mistake] = []
    found = given_sockets("pproxy", listens, environment("main", "main"), mistakes)
    assert mistakes == []
    assert {listen: sock.getsockname() for listen, sock in found.items()} == {
        listens[0]: second.getsockname(), listens[2]: first.getsockname()}
    for sock in found.values():
        assert not sock.getblocking() and not sock.get_inheritable()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


def test_an_address_may_be_spelled_in_another_way(monkeypatch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    sock = listening(stack, "::1")
    hand_over(monkeypatch, sock)
    mistakes: list[Mistake] = []
    [found] = given_sockets("pproxy", [wanted(sock, "main", "0:0::1")], environment("main"), mistakes).values()
    found.close()
    assert mistakes == []


def test_a_unix_socket_is_found_beside_a_port(monkeypatch: pytest.MonkeyPatch, stack: ExitStack,
                                              tmp_path: Path) -> None:
    port, sock, other = listening(stack), *(stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
    for each, name in ((sock, "lmtp"), (other, "other")):
        each.bind(str(tmp_path / name))
        each.listen()
    listens = [wanted(port, "main"), Listen("unix", "main", Endpoint(str(tmp_path / "lmtp"), 0), 50)]
    hand_over(monkeypatch, sock, port, other)
    mistakes: list[Mistake] = []
    found = given_sockets("plmtpd", listens, environment("main", "main", "main"), mistakes)
    assert {listen.endpoint: given.getsockname() for listen, given in found.items()} == {
        listens[0].endpoint: port.getsockname(), listens[1].endpoint: str(tmp_path / "lmtp")}
    assert [str(mistake).partition(": it is ")[2] for mistake in mistakes] == [
        f"unix:{tmp_path}/other, not an address from the configuration: no further one"]
    for given_one in found.values():
        assert not given_one.getblocking()
        given_one.close()


def test_a_unix_socket_is_not_taken_for_a_port(monkeypatch: pytest.MonkeyPatch, stack: ExitStack,
                                               tmp_path: Path) -> None:
    sock = stack.enter_context(socket.socket(socket.AF_UNIX))
    sock.bind(str(tmp_path / "lmtp"))
    sock.listen()
    hand_over(monkeypatch, sock)
    mistakes: list[Mistake] = []
    assert given_sockets("pserv", [wanted(listening(stack), "main")], environment("main"), mistakes) == {}
    assert str(mistakes[0]).endswith("it is a socket: Unix, stream, listening, not a listening TCP socket")


@pytest.mark.parametrize(("variables", "wrong"), [
    pytest.param({"LISTEN_FDS": "x"}, "pproxy: LISTEN_FDS: 'x' is not a number", id="no number"),
    pytest.param({"LISTEN_FDNAMES": "a:b"}, "pproxy: LISTEN_FDNAMES: 2 names for the 1 sockets of LISTEN_FDS",
                 id="names that do not fit"),
    pytest.param({"LISTEN_PID": "1", "LISTEN_FDS": "x"}, "", id="for another process"),
    pytest.param({"LISTEN_FDS": "0", "LISTEN_FDNAMES": ""}, "", id="none"),
])
def test_what_the_environment_says(variables: dict[str, str], wrong: str) -> None:
    mistakes: list[Mistake] = []
    assert given_sockets("pproxy", [], environment("main", **variables), mistakes) == {}
    assert "\n".join(map(str, mistakes)) == wrong


def test_a_daemon_that_listens_nowhere_takes_none() -> None:
    mistakes: list[Mistake] = []
    assert given_sockets("ringd", [], environment("main"), mistakes) == {}
    assert [str(mistake) for mistake in mistakes] == [
        "ringd: socket 'main', descriptor 3: it is for a name that does not listen, not for one that does: "
        "none: nothing listens"]
