"""One relay process: what it does with sessions, orders, and hostile children that share its sockets."""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from popular.log.writer import Log
from popular.net.relay.pairs import RelayedPair
from popular.pproxy.relays.channel import ABOUT, RelayChannel, RelayHandOver, Story
from popular.pproxy.relays.process import END_SESSION, ORDER, RelayProcess
from popular.proc.helper import Helper
from popular.statefile.layout import PROXY, SLOT, TAKES_NONE
from popular.statefile.writer import StateFile
from tests.harness.logs import read_classic
from tests.harness.pairs import tcp_pair

MOST_OCTETS = 1 << 62


class FakeHelper(Helper):
    """One that is never retired."""

    wake_fds = ()    # type: ignore[assignment]

    def __init__(self, log: Log) -> None:
        self.log = log

    def is_retiring(self) -> bool:
        return False


class Relay:
    """A process in this one, with what children and the master see of it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.statefile = StateFile(PROXY, 1, str(folder / "pproxy.state"), relayed=10, relays=1)
        self.logfile = folder / "log"
        self.log = Log.open("pproxy", str(self.logfile))
        self.channel = RelayChannel()
        self.process = RelayProcess(FakeHelper(self.log), self.statefile.relay_slots(0), self.channel, 10)
        self.stack = stack

    def give(self, sid: str = "px-1", *, octets: int = 0, to_server: bytes = b"") -> tuple[socket.socket, ...]:
        """Hand over a session; return client, backend, where the answer comes, and a hostile child's copies."""
        to_client, client = self.stack.enter_context(tcp_pair())
        to_server_sock, server = self.stack.enter_context(tcp_pair())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.stack.enter_context(ours)
        record = SLOT.pack(1, 1, 0, 0, 1000, 5, octets, octets, 0.0, 0.0, 0.0, sid.encode(), b"192.0.2.1", b"joe")
        story = Story(sid, dict.fromkeys(ABOUT, "x"), {}, 0, 0, 0.0, 0.0)
        hand = RelayHandOver(record, (7, 8, 9), 600.0, story.write(), to_server, b"")
        with theirs:
            socket.send_fds(self.channel.outer, [hand.write()],
                            [to_client.fileno(), to_server_sock.fileno(), theirs.fileno()])
        return client, server, ours, to_client, to_server_sock

    def take(self) -> None:
        """Have it take what was handed over."""
        self.process.turn()

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.close()
        self.channel.close()
        self.statefile.close()
        os.close(self.log.fileno())


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    with ExitStack() as stack:
        made = Relay(tmp_path, stack)
        yield made
        made.close()


def test_a_session_whose_counts_are_nearly_full_is_counted_on(relay: Relay) -> None:
    client, server, answer, *_ = relay.give(octets=MOST_OCTETS)
    relay.take()
    assert answer.recv(1) == b"+"
    client.sendall(b"NOOP\r\n")
    relay.process.turn()
    server.close()
    while relay.statefile.relayed():
        relay.process.turn()
    [end] = [read_classic(line) for line in relay.logfile.read_text().splitlines()]
    assert (end.session, end.fields["bytes_in"]) == ("px-1", 6)


@pytest.mark.parametrize("sid, is_ended", [("px-1", True), ("px-2", False)])
def test_an_order_ends_the_session_that_it_names(relay: Relay, sid: str, is_ended: bool) -> None:
    client, server, *_ = relay.give()
    relay.take()
    [row] = relay.statefile.relayed()
    relay.channel.masters.send(ORDER.pack(END_SESSION, row.slot, sid.encode()) + b"session kill")
    relay.process.turn()
    assert bool(relay.statefile.relayed()) is not is_ended


def test_a_connection_that_a_child_makes_wait_holds_up_nobody(relay: Relay) -> None:
    _, server, _, *copies = relay.give()
    relay.take()
    for copy in copies:
        copy.setblocking(True)
    server.setblocking(False)
    while select.select([], [server], [], 0.2)[1]:    # the client reads nothing, so at last no socket takes more
        server.send(b"m" * 1_000_000)
        relay.process.turn()
    client, other, *_ = relay.give("px-2")
    relay.take()
    other.sendall(b"+OK\r\n")
    relay.process.turn()
    assert client.recv(5) == b"+OK\r\n"


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_connection_whose_close_waits_holds_up_nobody(relay: Relay, surplus: int) -> None:
    """Surplus descriptors, and those of a session that ends at once."""
    with tcp_pair() as (near, far):
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        near.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                near.send(b"m" * 100_000)
        sent = [near.fileno()] * (3 + surplus)
        socket.send_fds(relay.channel.outer, [b"rubbish"], sent)
        near.close()
        began = time.monotonic()
        relay.take()
        assert time.monotonic() - began < 30.0


def test_a_process_without_its_socket_takes_none_also_after_an_end(relay: Relay) -> None:
    """Or children would go on choosing it, because it has fewest."""
    _, server, *_ = relay.give()
    relay.take()
    relay.channel.outer.shutdown(socket.SHUT_RDWR)
    relay.process.turn()
    server.close()
    while relay.statefile.relayed():
        relay.process.turn()
    child = relay.statefile.slot(0)
    assert child.relays() == (TAKES_NONE,)
    child.release()


def test_octets_that_the_child_has_counted_count_once(relay: Relay) -> None:
    """Though the backend takes only a part of them at first."""
    relay.give(octets=100, to_server=b"n" * 100)
    relay.take()
    [pair] = relay.process._pairs.all()
    for moved in (40, 100, 106):
        pair.up.moved = moved
        relay.process._report(pair)
    [row] = relay.statefile.relayed()
    assert row.bytes_in == 106


def test_a_session_that_cannot_be_watched_stays_with_its_child(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pair: RelayedPair) -> None:
        raise OSError(errno.ENOSPC, "no space")

    client, _, answer, *copies = relay.give()
    monkeypatch.setattr(relay.process._pairs, "add", refuse)
    relay.take()
    assert answer.recv(1) == b"" and not relay.statefile.relayed()
    copies[0].sendall(b"+OK\r\n")
    assert client.recv(5) == b"+OK\r\n"


def test_a_session_whose_child_has_not_waited_is_dropped(relay: Relay) -> None:
    client, server, answer, *copies = relay.give()
    answer.shutdown(socket.SHUT_RD)
    relay.take()
    assert not relay.statefile.relayed() and not len(relay.process._pairs)
    for copy in copies:
        copy.close()
    assert client.recv(1) == server.recv(1) == b""
