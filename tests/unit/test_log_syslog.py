"""log.syslog: what goes to the local logger, and a logger that is away, full or back again."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.log.form import CLASSIC
from popular.log.jsonline import JSON
from popular.log.message import ADM, BUG, DBG, ERR, INF, LEVELS, SOS, Message
from popular.log.syslog import DEV_LOG, SEVERITIES, SyslogSink
from popular.log.writer import Log

ROW = Message(0x0243, ERR, "login_refused", "user", "A login.")


class Logger:
    """A syslogd that listens at `path` until it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)

    def take(self) -> bytes:
        """Return the next datagram, which is there already."""
        return self._sock.recv(65536)

    def close(self) -> None:
        """End as a daemon that is stopped does."""
        self._sock.close()
        self._path.unlink(missing_ok=True)


@pytest.fixture
def path(rundir: Path) -> Path:
    """Where the logger's socket is."""
    return rundir / "log"


@pytest.fixture
def logger(path: Path) -> Iterator[Logger]:
    """A logger that runs."""
    logger = Logger(path)
    yield logger
    logger.close()


@pytest.fixture
def log(path: Path) -> Iterator[Log]:
    """A log that goes to syslog."""
    sink = SyslogSink.open(CLASSIC, str(path))
    yield Log("pproxy", sink)
    sink.close()


def test_rfc_3164_a_line_as_syslog_3_sends_it(
        log: Log, logger: Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = time.mktime((2004, 8, 1, 12, 19, 29, 0, 0, -1))
    monkeypatch.setattr(time, "time", lambda: moment)
    log.sid = "p1-4712"
    log.note(ROW, user="joe\n<0>root")
    assert logger.take() == (
        rb"<21>Aug  1 12:19:29 pproxy[%d]: p1-4712 ERR 0243 login_refused user='joe\x0a<0>root'" % os.getpid())


def test_the_text_may_be_json(path: Path, logger: Logger) -> None:
    sink = SyslogSink.open(JSON, str(path))
    Log("pproxy", sink).note(ROW, user="joe")
    sink.close()
    assert re.fullmatch(rb'<21>\w{3} [ \d]\d \d\d:\d\d:\d\d pproxy\[\d+\]: \{"time":.*"user":"joe"\}\}', logger.take())


def test_each_level_has_a_severity_of_the_mail_facility(log: Log, logger: Logger) -> None:
    assert set(SEVERITIES) == set(LEVELS)
    found = {}
    for level in LEVELS:
        log.note(Message(1, level, "x", "", "X."))
        found[level] = int(logger.take()[1:].partition(b">")[0]) - 16
    assert found == {DBG: 7, INF: 6, ERR: 5, ADM: 4, BUG: 3, SOS: 2}


def test_nobody_need_listen(log: Log) -> None:
    log.note(ROW, user="joe")


def test_a_dead_socket_is_like_none(log: Log, path: Path, logger: Logger) -> None:
    logger._sock.close()
    log.note(ROW, user="joe")


def test_a_path_that_no_socket_can_have() -> None:
    sink = SyslogSink.open(CLASSIC, "/" + "x" * 200)
    Log("pproxy", sink).note(ROW, user="joe")
    sink.close()


def test_a_full_logger_loses_lines_and_holds_nobody_up(log: Log, logger: Logger) -> None:
    for _ in range(5000):    # the queue holds some hundred at most
        log.note(ROW, user="joe")
    first = logger.take()
    assert b"login_refused" in first
    log.note(ROW, user="late")
    while b"late" not in first:    # ends: an empty queue raises
        first = logger.take()


@pytest.mark.parametrize("by_hup", [False, True], ids=["by itself", "after HUP"])
def test_a_logger_that_comes_back_gets_the_next_line(log: Log, path: Path, logger: Logger, by_hup: bool) -> None:
    log.note(ROW, user="one")
    logger.close()
    log.note(ROW, user="two")
    if by_hup:
        log.reopen()
    fresh = Logger(path)
    log.note(ROW, user="three")
    assert b"three" in fresh.take()
    fresh.close()


def test_a_forked_child_says_who_it_is(log: Log, logger: Logger) -> None:
    child = os.fork()
    if not child:
        try:
            log.note(ROW, user="joe")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert f"pproxy[{child}]: " in logger.take().decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops rights")
def test_it_works_with_the_rights_of_another_user(log: Log, logger: Logger, path: Path) -> None:
    path.chmod(0o666)
    path.parent.chmod(0o711)
    child = os.fork()
    if not child:
        try:
            os.setresuid(65534, 65534, 65534)
            log.note(ROW, user="joe")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b"login_refused" in logger.take()


def test_a_descriptor_is_taken_over_behind_an_exec(path: Path, logger: Logger) -> None:
    first = SyslogSink.open(CLASSIC, str(path))
    fd = os.dup(first.fileno())
    first.close()
    sink = SyslogSink.inherited(fd, CLASSIC, str(path))
    assert sink.fileno() == fd
    Log("pproxy", sink).note(ROW, user="joe")
    assert b"joe" in logger.take()
    sink.close()


def test_the_usual_socket() -> None:
    assert DEV_LOG == "/dev/log"
