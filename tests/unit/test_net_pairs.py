"""net.relay.pairs: many pairs in one process; test_net_relay.py shows what one pair does."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from popular.net.relay.pairs import Pairs, RelayedPair
from popular.net.transport import SharedSocket
from tests.harness.middle import in_thread
from tests.harness.pairs import PATIENCE, read_all, read_exactly, tcp_pair

MIB = 1024 * 1024


class Relays:
    """Pairs with what they have reported, and the far ends: (client, server) of each."""

    def __init__(self, stack: ExitStack) -> None:
        self.progress: list[int] = []
        self.ends: list[tuple[int, str]] = []
        self.pairs = Pairs(lambda pair: self.progress.append(pair.place),
                           lambda pair: self.ends.append((pair.place, pair.reason)))
        self.stack = stack

    def add(self, place: int, idle: float = PATIENCE) -> tuple[socket.socket, socket.socket]:
        """Begin another pair."""
        to_client, client = self.stack.enter_context(tcp_pair())
        to_server, server = self.stack.enter_context(tcp_pair())
        near, far = (SharedSocket(fileno=sock.detach()) for sock in (to_client, to_server))
        self.pairs.add(RelayedPair(near, far, b"", b"", idle=idle, place=place))
        return client, server


@pytest.fixture
def relays() -> Iterator[Relays]:
    with ExitStack() as stack:
        found = Relays(stack)
        yield found
        found.pairs.close()


def test_one_slow_reader_does_not_hold_up_others(relays: Relays) -> None:
    _, slow_server = relays.add(1)
    client, server = relays.add(2)
    slow_server.setblocking(False)
    while True:    # until client, relay and server are full
        relays.pairs.wait(0)
        try:
            slow_server.send(b"m" * MIB)
        except BlockingIOError:
            if not relays.pairs.wait(0) and not _moves(relays, slow_server):
                break
    server.sendall(b"+OK\r\n")
    while not _is_readable(client):
        relays.pairs.wait(0.1)
    assert read_exactly(client, 5) == b"+OK\r\n"


def test_progress_and_ends_are_reported_each_with_its_pair(relays: Relays) -> None:
    client, server = relays.add(1)
    relays.add(2, idle=0.05)
    server.sendall(b"+OK\r\n")
    while not relays.progress or not relays.ends:
        relays.pairs.wait()
    assert (relays.progress, relays.ends) == ([1], [(2, "idle")])
    assert len(relays.pairs) == 1
    server.close()
    reader = in_thread(lambda: read_all(client))
    while len(relays.ends) < 2:
        relays.pairs.wait()
    assert relays.ends[1:] == [(1, "server closed")] and not len(relays.pairs)
    assert not relays.pairs.is_empty, "the client has not closed yet, and may still send"
    reader.join()
    client.close()
    while not relays.pairs.is_empty:
        relays.pairs.wait()


def test_a_pair_that_is_ended_is_closed_and_reported(relays: Relays) -> None:
    client, server = relays.add(7)
    [pair] = relays.pairs.all()
    relays.pairs.end(pair, "session kill")
    assert relays.ends == [(7, "session kill")]
    assert client.recv(1) == server.recv(1) == b""


def test_a_pair_without_memory_ends_alone(relays: Relays, monkeypatch: pytest.MonkeyPatch) -> None:
    _, greedy = relays.add(1)
    client, server = relays.add(2)
    [first, _] = relays.pairs.all()

    def receive(sock: socket.socket, size: int) -> bytes:
        if sock.fileno() == first.server.fileno():
            raise MemoryError
        return socket.socket.recv(sock, size, socket.MSG_DONTWAIT)

    monkeypatch.setattr(SharedSocket, "recv", receive)
    greedy.sendall(b"m" * 1000)
    while not relays.ends:
        relays.pairs.wait()
    assert relays.ends == [(1, "no memory")]
    server.sendall(b"+OK\r\n")
    while not _is_readable(client):
        relays.pairs.wait(0.1)


def test_a_pair_that_cannot_be_watched_leaves_nothing(relays: Relays) -> None:
    with tcp_pair() as (one, _), tcp_pair() as (other, far):
        near, closed = SharedSocket(fileno=one.detach()), SharedSocket(fileno=other.detach())
        pair = RelayedPair(near, closed, b"", b"", idle=PATIENCE)
        closed.close()
        with pytest.raises(OSError):
            relays.pairs.add(pair)
        with pytest.raises(FileNotFoundError):
            relays.pairs.epoll.unregister(near)
        near.close()
    assert relays.pairs.is_empty and not relays.ends


def test_other_descriptors_are_told(relays: Relays) -> None:
    reading, writing = os.pipe()
    relays.pairs.epoll.register(reading)
    os.write(writing, b"x")
    assert relays.pairs.wait(PATIENCE) == [reading]
    relays.pairs.epoll.unregister(reading)
    os.close(reading)
    os.close(writing)


def test_a_pair_at_rest_is_small(relays: Relays) -> None:
    relays.add(1)
    [pair] = relays.pairs.all()
    things = [pair, pair.up, pair.down, pair.client, pair.server]
    assert sum(map(sys.getsizeof, things)) < 1024
    assert not pair.up.held and pair.up.pipe is None


def _is_readable(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(PATIENCE)


def _moves(relays: Relays, sock: socket.socket) -> bool:
    """Give the relay some turns, and tell whether the sender has room then."""
    for _ in range(20):
        relays.pairs.wait(0.01)
        try:
            sock.send(b"m")
            return True
        except BlockingIOError:
            pass
    return False
