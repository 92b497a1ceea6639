"""log.sink: descriptors that are no file, above all those that nobody reads."""

import fcntl
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import StartError
from popular.log.form import CLASSIC
from popular.log.jsonline import JSON
from popular.log.message import ADM, Message
from popular.log.sink import STDERR, FileSink
from popular.log.writer import Log

ROW = Message(0x0246, ADM, "something", "", "Something.")


@pytest.fixture
def become_stderr() -> Iterator[Callable[[int], None]]:
    """A function (fd) that makes a descriptor standard error until the end of the test."""
    kept = os.dup(STDERR)

    def become(fd: int) -> None:
        os.dup2(fd, STDERR)

    yield become
    os.dup2(kept, STDERR)
    os.close(kept)


def write_many(sink: FileSink) -> None:
    """Write more than any pipe or socket holds."""
    log = Log("pproxy", sink)
    for _ in range(20_000):
        log.note(ROW)


def test_standard_error_gets_the_lines(become_stderr: Callable[[int], None], tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as file:
        become_stderr(file.fileno())
    sink = FileSink.stderr(JSON)
    os.write(STDERR, b"before\n")
    Log("pproxy", sink).note(ROW)
    assert not os.get_inheritable(sink.fileno())
    os.close(sink.fileno())
    before, line = (tmp_path / "err").read_text().splitlines()
    assert before == "before"
    assert '"name":"something"' in line


def test_reopening_standard_error_is_nothing(become_stderr: Callable[[int], None], tmp_path: Path) -> None:
    path = tmp_path / "err"
    with path.open("wb") as file:
        become_stderr(file.fileno())
    log = Log("pproxy", FileSink.stderr())
    path.rename(tmp_path / "err.1")
    log.reopen()
    log.note(ROW)
    os.close(log.fileno())
    assert not path.exists()
    assert "something" in (tmp_path / "err.1").read_text()


def test_a_pipe_that_nobody_reads_holds_nobody_up(become_stderr: Callable[[int], None]) -> None:
    reader, writer = os.pipe()
    become_stderr(writer)
    sink = FileSink.stderr()
    write_many(sink)
    assert not fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK, "others share it"
    assert os.read(reader, 100_000).count(b"something\n") > 100
    for fd in (reader, writer, sink.fileno()):
        os.close(fd)


def test_a_socket_that_nobody_reads_holds_nobody_up(become_stderr: Callable[[int], None]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        become_stderr(theirs.fileno())
        sink = FileSink.stderr()
        write_many(sink)
        assert b" something\n" in ours.recv(1000)
        os.close(sink.fileno())


def test_no_standard_error_at_all(become_stderr: Callable[[int], None]) -> None:
    become_stderr(STDERR)
    os.close(STDERR)
    with pytest.raises(StartError, match="^cannot log to standard error: Bad file descriptor$"):
        FileSink.stderr()


def test_a_named_pipe_without_a_reader_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(StartError, match="No such device or address"):
        FileSink.open(str(tmp_path / "log"))


def test_a_named_pipe_whose_reader_stopped_reading_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink.open(str(tmp_path / "log"))
    write_many(sink)
    data = os.read(reader, 1 << 20)
    assert data.count(b"\n") > 100 and data.endswith(b"\n"), "a line was torn"
    os.close(reader)
    write_many(sink)
    os.close(sink.fileno())


def test_a_full_disk_is_as_if_nothing_happened() -> None:
    sink = FileSink.open("/dev/full")
    write_many(sink)
    assert stat.S_ISCHR(os.fstat(sink.fileno()).st_mode)
    os.close(sink.fileno())


def test_a_handed_over_descriptor_may_be_one_that_waits() -> None:
    reader, writer = os.pipe()
    sink = FileSink(writer, CLASSIC)
    write_many(sink)
    os.close(reader)
    write_many(sink)
    os.close(writer)
