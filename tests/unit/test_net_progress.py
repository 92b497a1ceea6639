"""How relay and Wire tell their progress, and waiting for the first octet of a peer."""

import socket
import threading
from collections.abc import Iterator

import pytest

from popular.errors import Gone, NulByte
from popular.net.relay import pair as relay_module
from popular.net.relay.pair import relay
from popular.net.wire import Wire
from tests.harness.pairs import PATIENCE, read_exactly, tcp_pair
from tests.harness.system import wait_for


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the peer at its other end."""
    ours, peer = socket.socketpair()
    with ours, peer:
        yield Wire(ours, idle=PATIENCE), peer


class Relaying:
    """A relay in a thread that notes its progress; the test plays client and server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.told: list[tuple[int, int]] = []
        self.thread = threading.Thread(target=self._run, args=(client, server))
        self.thread.start()

    def _run(self, client: socket.socket, server: socket.socket) -> None:
        self.end = relay(client, server, idle=PATIENCE, progress=lambda up, down: self.told.append((up, down)))


@pytest.fixture
def relaying(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[
        tuple[Relaying, socket.socket, socket.socket]]:
    """A relay, its client and its server; the parameter is the time between two tellings."""
    monkeypatch.setattr(relay_module, "TELL_AFTER", request.param)
    with tcp_pair() as (to_client, client), tcp_pair() as (to_server, server):
        found = Relaying(to_client, to_server)
        yield found, client, server
        server.close()
        found.thread.join(PATIENCE)


@pytest.mark.parametrize("relaying", [0.02], indirect=True)
def test_what_was_moved_before_a_silence_is_told_during_it(
        relaying: tuple[Relaying, socket.socket, socket.socket]) -> None:
    found, client, server = relaying
    for _ in range(5):
        client.sendall(b"x" * 10)
        assert read_exactly(server, 10)
        server.sendall(b"y" * 100)
        assert read_exactly(client, 100)
    wait_for(lambda: found.told and found.told[-1] == (50, 500), PATIENCE, "the last progress")


@pytest.mark.parametrize("relaying", [3600.0], indirect=True)
def test_progress_is_not_told_at_every_block(relaying: tuple[Relaying, socket.socket, socket.socket]) -> None:
    found, client, server = relaying
    for _ in range(20):
        client.sendall(b"x")
        assert read_exactly(server, 1)
    wait_for(lambda: found.told, PATIENCE, "the first progress")
    client.sendall(b"x")
    assert read_exactly(server, 1)
    assert found.told == [(1, 0)]


@pytest.mark.parametrize("relaying", [0.001], indirect=True)
def test_nothing_moved_nothing_told(relaying: tuple[Relaying, socket.socket, socket.socket]) -> None:
    found, client, server = relaying
    server.close()
    found.thread.join(PATIENCE)
    assert found.told == []


def test_the_end_is_the_same_with_and_without_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "TELL_AFTER", 0.001)
    with tcp_pair() as (to_client, client), tcp_pair() as (to_server, server):
        assert relay(to_client, to_server, idle=0.05, progress=lambda up, down: None).reason == "idle"
        assert client.fileno() != server.fileno()


def test_a_wire_calls_before_it_waits_and_only_then(ends: tuple[Wire, socket.socket]) -> None:
    sock, peer = ends[0].sock, ends[1]
    seen: list[tuple[int, int]] = []

    def note(bytes_in: int, bytes_out: int) -> None:
        seen.append((bytes_in, bytes_out))
        peer.sendall(b"STAT\r\n")

    wire = Wire(sock, idle=PATIENCE, before_wait=note)
    peer.sendall(b"USER joe\r\n")
    assert wire.readline() == b"USER joe"
    wire.reply(True)
    assert seen == []
    assert wire.readline() == b"STAT"
    assert seen == [(10, 5)]


def test_awaited_input_is_still_there_to_read(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"USER joe\r\nPASS")
    wire.await_input()
    wire.await_input()
    assert wire.readline() == b"USER joe"
    wire.await_input()    # half a line is something
    assert wire.take_buffered() == b"PASS"


@pytest.mark.parametrize("sent, error", [
    pytest.param(b"", Gone, id="closed"),
    pytest.param(b"\0", NulByte, id="NUL"),
])
def test_awaiting_input_that_is_none(ends: tuple[Wire, socket.socket], sent: bytes, error: type[Exception]) -> None:
    wire, peer = ends
    peer.sendall(sent)
    peer.close()
    with pytest.raises(error):
        wire.await_input()


def test_awaiting_input_has_the_deadline(ends: tuple[Wire, socket.socket]) -> None:
    wire, _ = ends
    wire.deadline = 0.0
    with pytest.raises(Gone, match="timeout"):
        wire.await_input()
