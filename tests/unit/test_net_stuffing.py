"""net.stuffing: RFC 1939's multi-line answers over every block border, and TOP."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.net import stuffing
from popular.net.stuffing import stuffed, stuffed_file
from popular.net.transport import FilePart


class Blocks(io.BytesIO):
    """A source that gives at most so many octets at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size
        self.given = 0

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(self._size)
        self.given += len(block)
        return block


def unstuffed(wire: bytes) -> bytes:
    """Read an answer as a client does; fail when it is not exactly one."""
    assert wire == b".\r\n" or wire.endswith(b"\r\n.\r\n")
    lines = wire[:-3].split(b"\n")
    assert b".\r" not in lines and b"." not in lines, "the answer ends too early"
    return b"\n".join(line[1:] if line.startswith(b".") else line for line in lines)


MESSAGE = b"Subject: x\r\n\r\none\r\ntwo\r\nthree\r\n"

WHOLE = [
    pytest.param(b"", b".\r\n", id="empty message"),
    pytest.param(b"a\r\n", b"a\r\n.\r\n", id="one line"),
    pytest.param(b".\r\n", b"..\r\n.\r\n", id="one dot"),
    pytest.param(b".", b"..\r\n.\r\n", id="one dot and nothing"),
    pytest.param(b".a\r\n..\r\n.\r\nb.\r\n", b"..a\r\n...\r\n..\r\nb.\r\n.\r\n", id="dots at line starts"),
    pytest.param(b"a.b\r\n.c", b"a.b\r\n..c\r\n.\r\n", id="no final CRLF"),
    pytest.param(b"a\r\n.\n.\n.\r\n", b"a\r\n..\n..\n..\r\n.\r\n", id="bare LF and dot"),
    pytest.param(b"a\r.\r\n", b"a\r.\r\n.\r\n", id="bare CR and dot"),
    pytest.param(b"a\n", b"a\n\r\n.\r\n", id="bare LF at the end"),
    pytest.param(b"a\r", b"a\r\r\n.\r\n", id="bare CR at the end"),
    pytest.param(b"\n", b"\n\r\n.\r\n", id="only LF"),
    pytest.param(b"\r\n\r\n", b"\r\n\r\n.\r\n", id="blank lines"),
    pytest.param(b"a\0b\xff\r\n", b"a\0b\xff\r\n.\r\n", id="any octet"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 65536])
@pytest.mark.parametrize(("message", "wire"), WHOLE)
def test_whole_messages(message: bytes, wire: bytes, size: int) -> None:
    assert b"".join(stuffed(Blocks(message, size))) == wire


TOP = [
    pytest.param(MESSAGE, 0, b"Subject: x\r\n\r\n", id="0"),
    pytest.param(MESSAGE, 1, b"Subject: x\r\n\r\none\r\n", id="1"),
    pytest.param(MESSAGE, 2, b"Subject: x\r\n\r\none\r\ntwo\r\n", id="2"),
    pytest.param(MESSAGE, 3, MESSAGE, id="all"),
    pytest.param(MESSAGE, 10**9, MESSAGE, id="more than all"),
    pytest.param(b"A: b\r\n", 0, b"A: b\r\n", id="no blank line"),
    pytest.param(b"A: b\r\nC: d", 5, b"A: b\r\nC: d\r\n", id="no blank line, no CRLF"),
    pytest.param(b"A: b\r\n\r\n", 3, b"A: b\r\n\r\n", id="no body"),
    pytest.param(b"\r\none\r\ntwo\r\n", 1, b"\r\none\r\n", id="no headers"),
    pytest.param(b"\none\ntwo\n", 1, b"\none\n\r\n", id="no headers, bare LF"),
    pytest.param(b"A: b\n\none\ntwo\n", 1, b"A: b\n\none\n\r\n", id="bare LF"),
    pytest.param(b"A: b\r\r\n\r\none\r\n", 0, b"A: b\r\r\n\r\n", id="a CR is no blank line"),
    pytest.param(b"\r\r\nA: b\r\n\r\none\r\n", 0, b"\r\r\nA: b\r\n\r\n", id="nor at the start"),
    pytest.param(b"A: b\r\n\r\n\r\n\r\nx\r\n", 2, b"A: b\r\n\r\n\r\n\r\n", id="blank lines in the body"),
    pytest.param(b"A: b\r\n\r\none", 1, b"A: b\r\n\r\none\r\n", id="unfinished last line"),
    pytest.param(b"", 0, b"", id="empty message"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 13, 14, 15, 65536])
@pytest.mark.parametrize(("message", "lines", "shown"), TOP)
def test_top(message: bytes, lines: int, shown: bytes, size: int) -> None:
    assert b"".join(stuffed(Blocks(message, size), lines)) == shown + b".\r\n"


def test_top_is_stuffed_too() -> None:
    assert b"".join(stuffed(io.BytesIO(b".A: b\r\n\r\n.one\r\n.two\r\n"), 1)) == b"..A: b\r\n\r\n..one\r\n.\r\n"


@pytest.mark.parametrize("dot", range(-3, 4))
def test_a_dot_around_the_border_of_real_blocks(dot: int) -> None:
    before = b"x" * (stuffing.READ_BLOCK + dot - 2) + b"\r\n"
    assert b"".join(stuffed(io.BytesIO(before + b".y\r\n"))) == before + b"..y\r\n.\r\n"


def test_a_line_of_a_megabyte() -> None:
    message = b"A: b\r\n\r\n" + b"." * 1_000_000 + b"\r\n"
    wire = b"".join(stuffed(io.BytesIO(message)))
    assert unstuffed(wire) == message
    assert len(wire) == len(message) + 1 + 3
    assert b"".join(stuffed(io.BytesIO(message), 1)) == wire


def test_top_reads_no_more_than_it_shows() -> None:
    source = Blocks(MESSAGE * 1000, 100)
    list(stuffed(source, 1))
    assert source.given == 100


def test_blocks_are_not_gathered() -> None:
    source: BinaryIO = Blocks(b"x" * 1000, 10)
    assert [len(block) for block in stuffed(source)] == [10] * 100 + [5]


MESSAGES = st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\r\n.", b"\r\n\r\n"])).map(b"".join)


@settings(deadline=None)
@given(MESSAGES, st.integers(1, 5))
def test_what_a_client_reads_is_the_message(message: bytes, size: int) -> None:
    wire = b"".join(stuffed(Blocks(message, size)))
    missing = b"" if not message or message.endswith(b"\r\n") else b"\r\n"
    assert unstuffed(wire) == message + missing


def plain_top(message: bytes, lines: int) -> bytes:
    """TOP in the plainest way."""
    shown = []
    left = None
    for line in split(message):
        if left == 0:
            break
        shown.append(line)
        if left is not None:
            left -= 1
        elif line in (b"\n", b"\r\n"):
            left = lines
    return b"".join(shown)


def split(message: bytes) -> list[bytes]:
    """Cut behind every LF."""
    *whole, rest = message.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])


@settings(deadline=None)
@given(MESSAGES, st.integers(1, 5), st.integers(0, 4))
def test_top_is_what_the_plainest_way_gives(message: bytes, size: int, lines: int) -> None:
    assert b"".join(stuffed(Blocks(message, size), lines)) == b"".join(stuffed(io.BytesIO(plain_top(message, lines))))


# Files

def from_file(folder: Path, message: bytes, size: int | None = None) -> tuple[bytes, list[int]]:
    """Return what `stuffed_file` yields as octets, and the sizes of the parts that the kernel is to send."""
    path = folder / "message"
    path.write_bytes(message)
    octets, parts = [], []
    with path.open("rb", buffering=0) as file:
        for part in stuffed_file(file.fileno(), len(message) if size is None else size):
            if isinstance(part, FilePart):
                parts.append(len(part))
                octets.append(os.pread(part.fd, part.count, part.start))
                assert part.fd == file.fileno() and len(octets[-1]) == part.count > 0
            else:
                octets.append(part)
    return b"".join(octets), parts


@pytest.mark.parametrize(("message", "wire"), WHOLE)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_whole_files(tmp_path: Path, message: bytes, wire: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuffing, "FILE_BLOCK", size)
    assert from_file(tmp_path, message)[0] == wire


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGES, block=st.integers(1, 6), limit=st.integers(1, 20), told=st.integers(-3, 3))
def test_a_file_is_sent_as_any_other_source(tmp_path: Path, message: bytes, block: int, limit: int,
                                            told: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stuffing, "FILE_BLOCK", block)
        patch.setattr(stuffing, "PART_LIMIT", limit)
        wire = from_file(tmp_path, message, len(message) + told)[0]
    assert wire == b"".join(stuffed(io.BytesIO(message)))


BLOCK = stuffing.FILE_BLOCK
LINE = b"x." * 31 + b"\r\n"    # of 64 octets


@pytest.mark.parametrize(("message", "parts"), [
    pytest.param(LINE * 100, [], id="short"),
    pytest.param(LINE * 16_384, [2 * BLOCK] * 4, id="long"),
    pytest.param(b".\r\n" + LINE * 16_384, [3 * BLOCK - 1, 2 * BLOCK, 2 * BLOCK, BLOCK], id="a dot first"),
    pytest.param(LINE * 2048 + b".\r\n" + LINE * 2048, [BLOCK, BLOCK - 1], id="a dot at a border"),
    pytest.param((LINE + b".\r\n") * 5000, None, id="dots all over"),
])
def test_what_the_kernel_sends(tmp_path: Path, message: bytes, parts: list[int] | None) -> None:
    wire, found = from_file(tmp_path, message)
    assert unstuffed(wire) == message
    assert parts is None or found == parts
    assert sum(found) <= len(message)


def test_a_file_that_ends_where_its_name_says_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    pread = os.pread

    def count(fd: int, size: int, place: int) -> bytes:
        reads.append(place)
        return pread(fd, size, place)

    monkeypatch.setattr(os, "pread", count)
    assert from_file(tmp_path, MESSAGE)[0] == MESSAGE + b".\r\n"
    assert reads == [0]
    reads.clear()
    assert from_file(tmp_path, LINE * 4096)[1] == [2 * BLOCK]
    assert reads == [0, BLOCK, 0]    # the last one is that of `from_file`
