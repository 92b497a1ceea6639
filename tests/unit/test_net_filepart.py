"""Wire.send_parts with parts of files: sent whole and in order, or an error that names the one at fault."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import Gone, StoreError
from popular.net.transport import FilePart
from popular.net.wire import Wire
from tests.harness.pairs import PATIENCE, read_all, read_exactly, reset, tcp_pair

SHORT = 0.05    # seconds: a real limit that must pass
SIZE = 5_000_000
TEXT = os.urandom(SIZE)


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    """A wire and the peer at its other end."""
    with tcp_pair() as (ours, peer):
        wire = Wire(ours, idle=PATIENCE)
        yield wire, peer
        wire.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file with TEXT in it."""
    (tmp_path / "message").write_bytes(TEXT)
    fd = os.open(tmp_path / "message", os.O_RDWR)
    yield fd
    os.close(fd)


def unable(number: int) -> Callable[..., int]:
    """Return a sendfile that fails."""
    def fail(*_: int) -> int:
        raise OSError(number, os.strerror(number))

    return fail


def sendfile_by_bits(sink: int, source: int, place: int, count: int) -> int:
    """Send a little."""
    return os.write(sink, os.pread(source, min(count, 100_000), place))


@pytest.mark.parametrize("sendfile", [
    pytest.param(os.sendfile, id="by the kernel"),
    pytest.param(sendfile_by_bits, id="in bits"),
    pytest.param(unable(errno.EINVAL), id="not with this file"),
    pytest.param(unable(errno.EIO), id="broken, yet it can be read"),
])
def test_parts_of_a_file_among_others(ends: tuple[Wire, socket.socket], file: int, monkeypatch: pytest.MonkeyPatch,
                                      sendfile: Callable[..., int]) -> None:
    monkeypatch.setattr(os, "sendfile", sendfile)
    wire, peer = ends
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read_all(peer)))
    reader.start()
    wire.send_parts([b"+OK\r\n", FilePart(file, 0, 1000), FilePart(file, 1000, 0), b".", b"x",
                     FilePart(file, 1000, SIZE - 1500), b".\r\n"])
    wire.close()
    reader.join()
    wanted = b"+OK\r\n" + TEXT[:1000] + b".x" + TEXT[1000:-500] + b".\r\n"
    assert received == [wanted]
    assert wire.bytes_out == len(wanted)
    assert not wire.is_unfinished


@pytest.mark.parametrize("sendfile", [os.sendfile, unable(errno.EINVAL)], ids=["sendfile", "copied"])
def test_a_file_that_was_cut_off_is_an_error_and_no_wait(ends: tuple[Wire, socket.socket], file: int,
                                                         monkeypatch: pytest.MonkeyPatch,
                                                         sendfile: Callable[..., int]) -> None:
    monkeypatch.setattr(os, "sendfile", sendfile)
    wire, peer = ends
    os.ftruncate(file, 10_000)
    with pytest.raises(StoreError, match="cut off"):
        wire.send_parts([b"+OK\r\n", FilePart(file, 0, 10_001), b".\r\n"])
    assert wire.is_unfinished
    wire.close()
    assert read_all(peer) == b"+OK\r\n" + TEXT[:10_000]


def test_a_file_that_cannot_be_read_is_not_the_peers_fault(ends: tuple[Wire, socket.socket], file: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sendfile", unable(errno.EIO))
    monkeypatch.setattr(os, "pread", unable(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        ends[0].send_parts([FilePart(file, 0, 10)])


def test_a_peer_that_is_gone(ends: tuple[Wire, socket.socket], file: int) -> None:
    wire, peer = ends
    reset(peer)
    with pytest.raises(Gone):
        wire.send_parts([FilePart(file, 0, SIZE)])
        wire.send_parts([FilePart(file, 0, SIZE)])


def test_a_peer_that_takes_nothing(ends: tuple[Wire, socket.socket], file: int) -> None:
    wire, peer = ends
    wire.idle = SHORT
    assert isinstance(wire.sock, socket.socket)
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    with pytest.raises(Gone, match="timeout"):
        wire.send_parts([FilePart(file, 0, SIZE)] * 20)
    assert 0 < wire.bytes_out < 20 * SIZE


def test_the_line_before_a_part_of_a_file_is_in_the_same_packet(ends: tuple[Wire, socket.socket], file: int) -> None:
    wire, peer = ends
    wire.send_parts([b"+OK\r\n", FilePart(file, 0, 1000)])
    assert peer.recv(5000) == b"+OK\r\n" + TEXT[:1000]
    assert read_exactly(peer, 0) == b""
