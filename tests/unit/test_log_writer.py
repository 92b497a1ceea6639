"""log.writer: the line format of spec 5.1, reopening, and a log that cannot be written."""

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import StartError
from popular.log.message import ADM, Message
from popular.log.sink import FileSink
from popular.log.writer import Log

NUL = Message(0x0035, ADM, "null_byte_in_input", "ctx len data", "A NUL came.")
BARE = Message(0x02AF, ADM, "something", "", "No fields.")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log of a test is."""
    return tmp_path / "pproxy"


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    """An open log."""
    log = Log.open("pproxy", str(path))
    yield log
    os.close(log.fileno())


def lines(path: Path) -> list[str]:
    """Return what stands in the log."""
    return path.read_text("ascii").splitlines()


def test_spec_5_1_line_format(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.mktime((2004, 8, 21, 12, 19, 29, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: moment)
    log.sid = "p1-040821121929-4712"
    log.note(NUL, ctx="client", len=12, data=b"USER \0")
    host = os.uname().nodename.partition(".")[0]
    assert lines(path) == [
        f"20040821 121929 {host} pproxy {os.getpid()} p1-040821121929-4712 ADM 0035 null_byte_in_input "
        r"ctx='client' len=12 data='USER \x00'"]


def test_spec_5_1_time_is_local_time(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)    # no other test has this second: its stamp may be kept
    monkeypatch.setenv("TZ", "XYZ-13:30")
    time.tzset()
    try:
        log.note(BARE)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert lines(path)[0][:15] == "20010909 151640"


def test_each_line_has_its_own_second(log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.mktime((2004, 8, 21, 23, 59, 58, 0, 0, -1))
    for later in (0.0, 0.9, 1.0, 1.9, 2.0, 0.5):    # the clock may be set back as well
        monkeypatch.setattr(time, "time", lambda: moment + later)
        log.note(BARE)
    assert [line[6:15] for line in lines(path)] == [
        "21 235958", "21 235958", "21 235959", "21 235959", "22 000000", "21 235958"]


def test_spec_5_1_no_session_is_a_dash_and_no_fields_is_nothing(log: Log, path: Path) -> None:
    log.note(BARE)
    assert re.fullmatch(r"\d{8} \d{6} \S+ pproxy \d+ - ADM 02af something", lines(path)[0])


def test_spec_5_1_host_name_is_without_domain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "mx1.example.org", "6", "1", "x")))
    log = Log.open("pproxy", str(path))
    log.note(BARE)
    os.close(log.fileno())
    assert lines(path)[0].split(" ")[2] == "mx1"


def test_spec_5_1_debug_lines_have_number_0000_and_come_only_when_on(log: Log, path: Path) -> None:
    log.debug("packet", len=3)
    log.debug_on = True
    log.debug("packet", len=4, name="self")
    assert [line.split(" ", 6)[6] for line in lines(path)] == ["DBG 0000 packet len=4 name='self'"]


def test_fields_stand_in_the_order_of_the_row(log: Log, path: Path) -> None:
    log.note(NUL, data="d", len=1, ctx="c")
    assert lines(path)[0].endswith(" ctx='c' len=1 data='d'")


@pytest.mark.parametrize("fields", [
    pytest.param({"ctx": "c", "len": 1}, id="missing"),
    pytest.param({"ctx": "c", "len": 1, "data": "d", "more": 1}, id="surplus"),
    pytest.param({"ctx": "c", "len": 1, "date": "d"}, id="misspelt"),
    pytest.param({}, id="none"),
])
def test_wrong_fields_are_a_mistake_in_the_code(log: Log, path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="null_byte_in_input wants the fields 'ctx len data'"):
        log.note(NUL, **fields)
    assert lines(path) == []


def test_a_field_may_be_called_message_or_self(log: Log, path: Path) -> None:
    log.note(Message(1, ADM, "odd", "message self", "Odd."), message=1, self=2)
    assert lines(path)[0].endswith(" message=1 self=2")


def test_a_session_id_cannot_forge_a_field(log: Log, path: Path) -> None:
    log.sid = "a b\nc"
    log.note(BARE)
    assert lines(path)[0].split(" ")[5] == "a?b?c" == log.sid


def test_one_write_per_line(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        written.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    log.note(NUL, ctx="x" * 500, len=1, data="\n" * 500)
    assert [data.count(b"\n") for data in written] == [1]


def test_the_file_is_appended_to_and_only_the_owner_and_group_may_read_it(path: Path) -> None:
    before = os.umask(0)
    try:
        logs = [Log.open("pproxy", str(path)) for _ in range(2)]
    finally:
        os.umask(before)
    for log in [*logs, *logs]:
        log.note(BARE)
    for log in logs:
        assert not os.get_inheritable(log.fileno())
        os.close(log.fileno())
    assert len(lines(path)) == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_children_show_their_own_process_id(log: Log, path: Path) -> None:
    child = os.fork()
    if not child:
        try:
            log.note(BARE)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    log.note(BARE)
    assert [line.split(" ")[4] for line in lines(path)] == [str(child), str(os.getpid())]


@pytest.mark.parametrize(("name", "reason"), [
    ("missing/pproxy", "No such file or directory"), (".", "Is a directory"),
    ("a\0b", "(open: )?embedded null (byte|character in path)"),    # as Python 3.11 and 3.13 say it
])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(StartError, match=f"^cannot open the log file .*: {reason}$"):
        Log.open("pproxy", f"{tmp_path}/{name}")


def test_spec_5_4_reopen_after_the_file_was_renamed(log: Log, path: Path) -> None:
    log.note(BARE)
    fd = log.fileno()
    path.rename(f"{path}.1")
    log.note(BARE)
    log.reopen()
    log.note(BARE)
    assert (len(lines(Path(f"{path}.1"))), len(lines(path))) == (2, 1)
    assert log.fileno() == fd
    assert not os.get_inheritable(fd)


def test_reopen_that_fails_keeps_the_old_file(log: Log, path: Path) -> None:
    kept = path.parent / "kept"
    path.rename(kept)
    path.mkdir()
    with pytest.raises(StartError):
        log.reopen()
    log.note(BARE)
    assert len(lines(kept)) == 1


def test_reopen_of_a_log_without_a_path_is_nothing(path: Path) -> None:
    with path.open("wb") as file:
        log = Log("pproxy", FileSink(file.fileno()))
        log.reopen()
        log.note(BARE)
    assert len(lines(path)) == 1


def full_disk(log: Log) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    os.dup2(fd, log.fileno(), inheritable=False)
    os.close(fd)


def closed(log: Log) -> None:
    os.close(log.fileno())


def broken_pipe(log: Log) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, log.fileno(), inheritable=False)
    os.close(writer)


def folder_gone(log: Log) -> None:
    folder = Path(os.readlink(f"/proc/self/fd/{log.fileno()}")).parent
    (folder / "pproxy").unlink()
    folder.rmdir()


@pytest.mark.parametrize("happens", [full_disk, closed, broken_pipe, folder_gone])
def test_a_log_that_cannot_be_written_never_raises(tmp_path: Path, happens: Callable[[Log], None]) -> None:
    (tmp_path / "log").mkdir()
    log = Log.open("pproxy", str(tmp_path / "log" / "pproxy"), debug=True)
    happens(log)
    log.note(NUL, ctx="client", len=1, data=b"x")
    log.debug("packet", len=1)
    if happens is not closed:
        os.close(log.fileno())


def test_a_line_cut_by_a_full_disk_does_not_run_into_the_next(
        log: Log, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    outcomes: list[int | None] = [30, None, 4000, 4000]    # cut, disk full, room again

    def disk(fd: int, data: bytes) -> int:
        room = outcomes.pop(0)
        if room is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:room])

    monkeypatch.setattr(os, "write", disk)
    for _ in range(4):
        log.note(BARE)
    monkeypatch.undo()
    cut, *whole = lines(path)
    assert len(cut) == 30
    assert [line.endswith(" ADM 02af something") for line in whole] == [True, True]
