"""net.wire: lines in, replies out, and every way a peer can misbehave."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from popular.errors import CommandRefused, Gone, NulByte
from popular.net import wire as wire_module
from popular.net.transport import Octets
from popular.net.wire import MAX_SURPLUS, SEND_BLOCK, Wire
from tests.harness.pairs import PATIENCE, packets_from, read_all, read_exactly, reset, tcp_pair

SHORT = 0.05    # seconds: a real limit that must pass


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the peer at its other end."""
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.settimeout(PATIENCE)
        yield Wire(ours, idle=PATIENCE), peer


@pytest.fixture
def wire(ends: tuple[Wire, socket.socket]) -> Wire:
    return ends[0]


@pytest.fixture
def peer(ends: tuple[Wire, socket.socket]) -> socket.socket:
    return ends[1]


def lines_until_end(wire: Wire) -> list[bytes | str]:
    """Return what readline brings, refusals as their text, until the peer is gone."""
    found: list[bytes | str] = []
    while True:
        try:
            found.append(wire.readline())
        except CommandRefused as why:
            found.append(why.text)
        except Gone as why:
            found.append(f"gone: {why}")
            return found


LONG = "line too long"
CLOSED = "gone: closed"


@pytest.mark.parametrize(("sent", "lines"), [
    pytest.param(b"", [CLOSED], id="nothing"),
    pytest.param(b"STAT\r\n", [b"STAT", CLOSED], id="CRLF"),
    pytest.param(b"STAT\n", [b"STAT", CLOSED], id="bare LF"),
    pytest.param(b"\r\n\n", [b"", b"", CLOSED], id="empty lines"),
    pytest.param(b"a\rb\r\r\n", [b"a\rb\r", CLOSED], id="a bare CR is data"),
    pytest.param(b"PASS  two  spaces \xe4\xff \r\n", [b"PASS  two  spaces \xe4\xff ", CLOSED], id="octets kept"),
    pytest.param(b"USER joe\r\nPASS x\r\nSTAT\r\n", [b"USER joe", b"PASS x", b"STAT", CLOSED], id="pipelined"),
    pytest.param(b"STAT\r\nQUIT", [b"STAT", CLOSED], id="unfinished line is not a line"),
    pytest.param(b"QUIT\r", [CLOSED], id="unfinished at the CR"),
    pytest.param(b"x" * 255 + b"\r\n", [b"x" * 255, CLOSED], id="as long as allowed"),
    pytest.param(b"x" * 255 + b"\n", [b"x" * 255, CLOSED], id="as long as allowed, bare LF"),
    pytest.param(b"x" * 256 + b"\r\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="one too long"),
    pytest.param(b"x" * 256 + b"\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="one too long, bare LF"),
    pytest.param(b"x" * 255 + b"\r\r\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="one too long by a CR"),
    pytest.param(b"x" * 10_000 + b" DELE 1\r\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="command hidden in a long line"),
    pytest.param(b"x" * 4096 + b"\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="the end at a border"),
    pytest.param((b"x" * 300 + b"\r\n") * 3, [LONG, LONG, LONG, CLOSED], id="each long line refused once"),
    pytest.param(b"x" * 10_000, [CLOSED], id="long and unfinished"),
    pytest.param(b"x" * (MAX_SURPLUS - 4096) + b"\r\nSTAT\r\n", [LONG, b"STAT", CLOSED], id="just below the surplus"),
    pytest.param(b"x" * (MAX_SURPLUS + 16_384) + b"\r\nSTAT\r\n", ["gone: endless line"], id="endless"),
])
@pytest.mark.parametrize("piecemeal", [False, True], ids=["at once", "octet by octet"])
def test_readline(monkeypatch: pytest.MonkeyPatch, wire: Wire, peer: socket.socket, sent: bytes,
                  lines: list[bytes | str], piecemeal: bool) -> None:
    if piecemeal:
        monkeypatch.setattr(wire_module, "_RECEIVE", 1)

    def send() -> None:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert lines_until_end(wire) == lines
    assert isinstance(wire.sock, socket.socket)
    wire.sock.setblocking(True)
    read_all(wire.sock)    # what an endless line left
    sender.join()
    if CLOSED in lines:
        assert wire.bytes_in == len(sent)


def test_what_came_before_a_timeout_is_kept(wire: Wire, peer: socket.socket) -> None:
    wire.idle = SHORT / 10
    for octet in b"STAT\r":
        peer.send(bytes([octet]))
        with pytest.raises(Gone, match="^timeout$"):
            wire.readline()
    peer.send(b"\n")
    assert wire.readline() == b"STAT"


def test_maxline_may_be_changed(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"12345\r\n123456789\r\n")
    wire.maxline = 4
    with pytest.raises(CommandRefused, match=LONG):
        wire.readline()
    wire.maxline = 9
    assert wire.readline() == b"123456789"


@pytest.mark.parametrize("sent", [
    pytest.param(b"\0", id="alone"),
    pytest.param(b"STAT\0\r\n", id="in a line"),
    pytest.param(b"STAT\r\nDELE 1\r\n\0", id="behind whole lines"),
    pytest.param(b"x" * 1000 + b"\0", id="in a long line"),
])
def test_spec_1_5_a_nul_byte_ends_all_at_once(wire: Wire, peer: socket.socket, sent: bytes) -> None:
    peer.sendall(sent)
    with pytest.raises(NulByte) as caught:
        wire.readline()
    assert (caught.value.length, caught.value.data) == (len(sent), sent)
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)    # nothing was said


def test_spec_1_5_a_nul_byte_is_found_in_what_is_skipped(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"x" * 9000 + b"\0\r\n")
    with pytest.raises(NulByte):
        wire.readline()


def test_lines_received_before_the_nul_byte_are_served(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"STAT\r\nNOOP\r\n")
    assert wire.readline() == b"STAT"
    peer.sendall(b"\0")
    assert wire.readline() == b"NOOP"
    with pytest.raises(NulByte):
        wire.readline()


def test_idle_time_ends_the_wait(wire: Wire) -> None:
    wire.idle = SHORT
    before = time.monotonic()
    with pytest.raises(Gone, match="^timeout$"):
        wire.readline()
    assert SHORT <= time.monotonic() - before < PATIENCE


def test_the_deadline_ends_the_wait(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"unfinished")
    wire.deadline = time.monotonic() + SHORT
    with pytest.raises(Gone, match="^timeout$"):
        wire.readline()
    assert wire.deadline <= time.monotonic() < wire.deadline + PATIENCE / 2


def test_the_deadline_holds_for_a_peer_that_never_pauses(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"NOOP\r\n" * 2000)
    wire.deadline = time.monotonic() + PATIENCE
    lines = 0
    with pytest.raises(Gone, match="^timeout$"):
        while True:
            wire.readline()
            lines += 1
            if lines == 1000:
                wire.deadline = time.monotonic()
    assert 1000 <= lines < 2000


def test_the_deadline_holds_for_sending(wire: Wire) -> None:
    wire.deadline = time.monotonic() + SHORT
    with pytest.raises(Gone, match="^timeout$"):
        wire.send(b"x" * 10_000_000)
    assert wire.deadline <= time.monotonic() < wire.deadline + PATIENCE / 2


def test_a_peer_that_takes_nothing_is_gone_after_the_idle_time(wire: Wire) -> None:
    wire.idle = SHORT
    with pytest.raises(Gone, match="^timeout$"):
        wire.send(b"x" * 10_000_000)
    assert 0 < wire.bytes_out < 10_000_000


def test_send_to_a_slow_reader(wire: Wire, peer: socket.socket) -> None:
    data = bytes(range(256)) * 8000
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read_exactly(peer, len(data))))
    reader.start()
    wire.send(data)
    reader.join()
    assert received == [data]
    assert wire.bytes_out == len(data)


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), b""], ids=lambda data: repr(data)[:6])
def test_send_takes_any_octets(wire: Wire, peer: socket.socket, data: bytes) -> None:
    wire.send(data)
    wire.close()
    assert read_all(peer) == bytes(data)


def test_the_peer_closed(wire: Wire, peer: socket.socket) -> None:
    peer.close()
    with pytest.raises(Gone, match="^closed$"):
        wire.readline()
    with pytest.raises(Gone, match="^closed$"):
        wire.send(b"+OK\r\n")


def test_the_peer_reset_the_connection() -> None:
    with tcp_pair() as (ours, theirs):
        wire = Wire(ours, idle=PATIENCE)
        reset(theirs)
        with pytest.raises(Gone, match="^reset$"):
            wire.readline()
        with pytest.raises(Gone):
            wire.reply(True)


def test_a_reset_while_sending() -> None:
    with tcp_pair() as (ours, theirs):
        wire = Wire(ours, idle=PATIENCE)

        def read_and_reset() -> None:
            read_exactly(theirs, 100_000)
            reset(theirs)

        resetter = threading.Thread(target=read_and_reset)
        resetter.start()
        with pytest.raises(Gone, match="^(reset|closed)$"):
            wire.send(b"x" * 50_000_000)
        resetter.join()


def test_a_closed_wire_is_our_own_mistake(wire: Wire) -> None:
    wire.close()
    wire.close()
    with pytest.raises(OSError) as caught:
        wire.readline()
    assert not isinstance(caught.value, Gone)


@pytest.mark.parametrize(("ok", "text", "code", "line"), [
    pytest.param(True, "", "", b"+OK\r\n", id="bare ok"),
    pytest.param(True, "2 320", "", b"+OK 2 320\r\n", id="ok"),
    pytest.param(False, "", "", b"-ERR\r\n", id="bare err"),
    pytest.param(False, "no such message", "", b"-ERR no such message\r\n", id="err"),
    pytest.param(False, "try later", "SYS/TEMP", b"-ERR [SYS/TEMP] try later\r\n", id="code"),
    pytest.param(False, "", "AUTH", b"-ERR [AUTH]\r\n", id="code alone"),
    pytest.param(False, "a\r\n+OK b\0", "", b"-ERR a?+OK b?\r\n", id="no second line"),
    pytest.param(True, "Zo\u00eb \udcff", "", b"+OK Zo? ?\r\n", id="ASCII only"),
    pytest.param(True, "x" * 1000, "", b"+OK " + b"x" * 506 + b"\r\n", id="512 octets at most"),
])
def test_reply(wire: Wire, peer: socket.socket, ok: bool, text: str, code: str, line: bytes) -> None:
    wire.reply(ok, text, code)
    assert peer.recv(4096) == line
    assert len(line) <= 512
    assert wire.bytes_out == len(line)


class CountingWire(Wire):
    """Notes the size of every send."""

    def send(self, data: Octets, *, more: bool = False) -> None:
        self.sizes.append(len(data))
        super().send(data, more=more)

    sizes: list[int]


@pytest.mark.parametrize(("parts", "sizes"), [
    pytest.param([], [], id="none"),
    pytest.param([b"+OK\r\n", b"a\r\n", b".\r\n"], [11], id="small ones in one"),
    pytest.param([b"x" * SEND_BLOCK] * 2, [SEND_BLOCK] * 2, id="blocks"),
    pytest.param([b"+OK\r\n", b"x" * SEND_BLOCK, b".\r\n"], [SEND_BLOCK + 5, 3], id="first line goes with the block"),
    pytest.param([b"x" * 1000] * 100, [66_000, 34_000], id="gathered"),
    pytest.param([memoryview(b"ab"), bytearray(b"cd")], [4], id="any octets"),
])
def test_send_parts(parts: list[bytes], sizes: list[int]) -> None:
    ours, peer = socket.socketpair()
    with ours, peer:
        wire = CountingWire(ours, idle=PATIENCE)
        wire.sizes = []
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(read_all(peer)))
        reader.start()
        wire.send_parts(parts)
        wire.close()
        reader.join()
        assert wire.sizes == sizes
        assert received == [b"".join(parts)]


def test_buffered_input_is_handed_on_once(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"PASS x\r\nSTAT\r\nQUI")
    assert wire.readline() == b"PASS x"
    assert wire.take_buffered() == b"STAT\r\nQUI"
    assert wire.take_buffered() == b""
    peer.sendall(b"NOOP\r\n")
    assert wire.readline() == b"NOOP"


def test_buffered_input_after_an_over_long_line(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"x" * 5000 + b"\r\nSTAT\r\n")
    with pytest.raises(CommandRefused):
        wire.readline()
    assert wire.take_buffered() == b"STAT\r\n"


def test_buffered_input_can_be_discarded(wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"STLS\r\nUSER attacker\r\n")
    assert wire.readline() == b"STLS"
    wire.discard_buffered()
    peer.sendall(b"USER joe\r\n")
    assert wire.readline() == b"USER joe"


def test_linger_close_lets_a_peer_with_unread_input_see_the_reply() -> None:
    for _ in range(20):
        with tcp_pair() as (ours, theirs):
            wire = Wire(ours, idle=PATIENCE)
            theirs.sendall(b"STAT\r\n" * 3000)
            assert wire.readline() == b"STAT"
            wire.reply(False, "too many errors")
            closer = threading.Thread(target=wire.linger_close)
            closer.start()
            theirs.sendall(b"STAT\r\n" * 100)
            assert read_all(theirs) == b"-ERR too many errors\r\n"
            theirs.close()
            closer.join()


def test_linger_close_ends_with_the_peer(wire: Wire, peer: socket.socket) -> None:
    peer.close()
    before = time.monotonic()
    wire.linger_close()
    assert time.monotonic() - before < wire_module.LINGER_SECONDS
    assert wire.sock.fileno() == -1
    wire.linger_close()
    wire.close()


def test_linger_close_does_not_wait_for_ever(wire: Wire, peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "LINGER_SECONDS", SHORT)
    before = time.monotonic()
    wire.linger_close()
    assert SHORT <= time.monotonic() - before < PATIENCE
    assert read_all(peer) == b""


def test_linger_close_without_patience_reads_what_is_there_and_waits_for_nothing(
        wire: Wire, peer: socket.socket) -> None:
    peer.sendall(b"sent ahead")
    wire.reply(True, "bye")
    wire.linger_close(0.0)
    assert peer.recv(100) == b"+OK bye\r\n"
    assert peer.recv(100) == b""    # an end, not a reset: all input was read


@pytest.mark.parametrize("is_last, packets", [(True, 1), (False, 2)])
def test_a_last_reply_goes_in_one_packet_with_the_end(is_last: bool, packets: int) -> None:
    with tcp_pair() as (ours, theirs):
        before, wire = packets_from(theirs), Wire(ours, idle=PATIENCE)
        wire.reply(True, "bye", last=is_last)
        wire.linger_close(0.0)
        assert (read_all(theirs), packets_from(theirs) - before) == (b"+OK bye\r\n", packets)


def test_linger_close_does_not_listen_for_ever(wire: Wire, peer: socket.socket) -> None:
    sent = 0

    def talk() -> None:
        nonlocal sent
        try:
            while True:
                sent += peer.send(b"x" * 4096)
        except OSError:
            pass

    talker = threading.Thread(target=talk)
    talker.start()
    wire.linger_close()
    talker.join()
    assert sent < 1_000_000


def test_linger_close_after_a_reset() -> None:
    with tcp_pair() as (ours, theirs):
        wire = Wire(ours, idle=PATIENCE)
        reset(theirs)
        wire.linger_close()
        assert wire.sock.fileno() == -1
