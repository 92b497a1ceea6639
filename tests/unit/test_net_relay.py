"""net.relay.pair: every byte both ways, back-pressure, half-close, and every way to end."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from popular.net.relay import pair as relay_module
from popular.net.relay.pair import RelayEnd, relay
from tests.harness.middle import Middle, in_thread, relay_by_epoll
from tests.harness.pairs import PATIENCE, read_all, read_exactly, reset, tcp_pair

SHORT = 0.05    # seconds: a real limit that must pass
MIB = 1024 * 1024


@pytest.fixture(params=[relay, relay_by_epoll], ids=["select", "epoll"])
def middle(request: pytest.FixtureRequest) -> Iterator[Middle]:
    """Connections, and a relay to be started between them: that of a child, and that of a process with many pairs."""
    with tcp_pair() as (to_client, client), tcp_pair() as (to_server, server):
        middle = Middle(client, server, to_client, to_server, request.param)
        yield middle
        middle.close()


def test_a_dialogue(middle: Middle) -> None:
    middle.start()
    for _ in range(3):
        middle.client.sendall(b"STAT\r\n")
        assert read_exactly(middle.server, 6) == b"STAT\r\n"
        middle.server.sendall(b"+OK 0 0\r\n")
        assert read_exactly(middle.client, 9) == b"+OK 0 0\r\n"
    middle.client.sendall(b"QUIT\r\n")
    assert read_exactly(middle.server, 6) == b"QUIT\r\n"
    middle.server.sendall(b"+OK bye\r\n")
    middle.server.close()
    assert read_all(middle.client) == b"+OK bye\r\n"
    assert middle.end() == RelayEnd(24, 36, "server closed")


def test_twenty_megabytes_both_ways_at_once_with_slow_readers(middle: Middle) -> None:
    up, down = os.urandom(MIB) * 20, os.urandom(MIB) * 20
    middle.start()
    received: dict[str, bytes] = {}

    def read_slowly(name: str, sock: socket.socket, size: int) -> None:
        parts = []
        while size:
            part = sock.recv(min(size, 3000 if size % 7 else 70_000))
            assert part
            parts.append(part)
            size -= len(part)
        received[name] = b"".join(parts)

    threads = [in_thread(lambda: middle.client.sendall(up)), in_thread(lambda: middle.server.sendall(down)),
               in_thread(lambda: read_slowly("down", middle.client, len(down))),
               in_thread(lambda: read_slowly("up", middle.server, len(up)))]
    for thread in threads:
        thread.join()
    middle.server.close()
    assert middle.end() == RelayEnd(len(up), len(down), "server closed")
    assert received["up"] == up
    assert received["down"] == down


@pytest.mark.parametrize("size", [1, 5000, 8 * MIB], ids=["small", "some", "more than the kernel takes"])
def test_early_bytes_go_first_in_both_directions(middle: Middle, size: int) -> None:
    middle.client.sendall(b"client later")
    middle.server.sendall(b"server later")
    middle.start(to_server=b"u" * size, to_client=b"d" * size)
    assert read_exactly(middle.client, size + 12) == b"d" * size + b"server later"
    assert read_exactly(middle.server, size + 12) == b"u" * size + b"client later"
    middle.server.close()
    assert middle.end() == RelayEnd(size + 12, size + 12, "server closed")


def test_any_octet_passes_unchanged(middle: Middle) -> None:
    octets = bytes(range(256)) * 3 + b"\0\r\n.\r\n.."
    middle.start(to_server=octets)
    middle.client.sendall(octets)
    middle.server.sendall(octets)
    middle.server.shutdown(socket.SHUT_WR)
    assert read_all(middle.client) == octets
    assert read_exactly(middle.server, 2 * len(octets)) == octets * 2


def test_half_close_of_the_client_is_passed_on_and_the_rest_delivered(middle: Middle) -> None:
    middle.start()
    middle.client.sendall(b"RETR 1\r\n")
    middle.client.shutdown(socket.SHUT_WR)
    assert read_all(middle.server) == b"RETR 1\r\n"
    sender = in_thread(lambda: middle.server.sendall(b"m" * 5 * MIB))
    assert read_exactly(middle.client, 5 * MIB) == b"m" * 5 * MIB
    sender.join()
    middle.server.close()
    assert read_all(middle.client) == b""
    assert middle.end() == RelayEnd(8, 5 * MIB, "client closed")


def test_half_close_of_the_client_behind_early_bytes(middle: Middle) -> None:
    middle.client.shutdown(socket.SHUT_WR)
    middle.start(to_server=b"q" * 8 * MIB)
    assert read_all(middle.server) == b"q" * 8 * MIB
    middle.server.close()
    assert middle.end() == RelayEnd(8 * MIB, 0, "client closed")


def test_half_close_of_the_server_ends_the_relay(middle: Middle) -> None:
    middle.start()
    middle.server.sendall(b"+OK bye\r\n")
    middle.server.shutdown(socket.SHUT_WR)
    assert read_all(middle.client) == b"+OK bye\r\n"
    assert middle.end() == RelayEnd(0, 9, "server closed")


def test_what_the_server_sent_before_it_closed_is_delivered_to_a_slow_client(middle: Middle) -> None:
    middle.start()

    def send_and_close() -> None:
        middle.server.sendall(b"m" * 8 * MIB)
        middle.server.close()

    sender = in_thread(send_and_close)
    sender.join(SHORT)    # the client is late
    assert read_all(middle.client) == b"m" * 8 * MIB
    sender.join()
    assert middle.end() == RelayEnd(0, 8 * MIB, "server closed")


def test_the_server_resets(middle: Middle) -> None:
    middle.start()
    middle.server.sendall(b"+OK bye\r\n")
    assert read_exactly(middle.client, 9) == b"+OK bye\r\n"
    reset(middle.server)
    assert middle.end() == RelayEnd(0, 9, "server reset")
    assert read_all(middle.client) == b""


def test_what_the_server_sent_before_it_reset_is_delivered(middle: Middle) -> None:
    middle.client.sendall(b"NOOP\r\n" * 1000)
    middle.server.sendall(b"+OK bye\r\n")
    assert middle.to_server.recv(1, socket.MSG_PEEK) == b"+"
    reset(middle.server)
    end = middle.run()
    assert (end.to_client, end.reason) == (9, "server reset")
    assert middle.client.recv(9) == b"+OK bye\r\n"


def test_the_client_resets(middle: Middle) -> None:
    middle.start()
    middle.client.sendall(b"STAT\r\n")
    assert read_exactly(middle.server, 6) == b"STAT\r\n"
    reset(middle.client)
    assert middle.end() == RelayEnd(6, 0, "client reset")
    assert read_all(middle.server) == b""


def test_the_client_resets_in_the_middle_of_a_message(middle: Middle) -> None:
    middle.start()
    failed: list[OSError] = []

    def send() -> None:
        try:
            middle.server.sendall(b"m" * 50 * MIB)
        except OSError as why:
            failed.append(why)

    sender = in_thread(send)
    read_exactly(middle.client, MIB)
    reset(middle.client)
    assert middle.end().reason == "client reset"
    sender.join()
    assert failed


def test_what_the_client_sent_before_it_reset_goes_up(middle: Middle) -> None:
    middle.client.sendall(b"QUIT\r\n")
    middle.server.sendall(b"+OK\r\n")
    assert middle.to_client.recv(1, socket.MSG_PEEK) == b"Q"
    reset(middle.client)
    assert middle.run(to_client=b"+OK\r\n").reason == "client reset"
    assert read_all(middle.server) == b"QUIT\r\n"


def test_both_closed_at_once(middle: Middle) -> None:
    middle.client.close()
    middle.server.close()
    assert middle.run().reason in ("server closed", "client closed")


def test_nothing_moves_for_the_idle_time(middle: Middle) -> None:
    before = time.monotonic()
    assert middle.run(idle=SHORT) == RelayEnd(0, 0, "idle")
    assert SHORT <= time.monotonic() - before < PATIENCE


def test_a_client_that_never_reads_is_idle_at_last(middle: Middle) -> None:
    middle.start(idle=4 * SHORT)
    failed: list[OSError] = []

    def send() -> None:
        try:
            middle.server.sendall(b"m" * 50 * MIB)
        except OSError as why:
            failed.append(why)

    sender = in_thread(send)
    end = middle.end()
    sender.join()
    assert failed
    assert end.reason == "idle"
    assert 0 < end.to_client < 50 * MIB


def test_a_server_that_stays_after_the_clients_half_close_is_idle_at_last(middle: Middle) -> None:
    middle.client.shutdown(socket.SHUT_WR)
    assert middle.run(idle=SHORT) == RelayEnd(0, 0, "idle")


def test_what_moves_is_not_idle(middle: Middle) -> None:
    middle.start(idle=10 * SHORT)
    middle.client.settimeout(2 * SHORT)
    for _ in range(7):
        with pytest.raises(TimeoutError):
            middle.client.recv(1)    # nothing comes this way
        middle.client.sendall(b"x")
        assert middle.server.recv(1) == b"x"
    middle.server.close()
    assert middle.end() == RelayEnd(7, 0, "server closed")


def test_no_more_than_one_block_is_held_per_direction(middle: Middle, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    push = relay_module._Flow.push

    def spy(flow: relay_module._Flow) -> bool:
        held.append(flow.held)
        return push(flow)

    monkeypatch.setattr(relay_module._Flow, "push", spy)
    middle.start()
    sender = in_thread(lambda: middle.server.sendall(b"m" * 5 * MIB))
    assert read_exactly(middle.client, 5 * MIB) == b"m" * 5 * MIB
    sender.join()
    assert 0 < max(held) <= 256 * 1024


@pytest.mark.parametrize("blocking", [True, False])
def test_the_sockets_become_non_blocking_and_stay_open(blocking: bool) -> None:
    with tcp_pair() as (to_client, client), tcp_pair() as (to_server, server):
        to_client.setblocking(blocking)
        to_server.setblocking(blocking)
        server.close()
        relay(to_client, to_server, idle=PATIENCE)
        assert not os.get_blocking(to_client.fileno()) and not os.get_blocking(to_server.fileno())
