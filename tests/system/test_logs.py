"""The logs of real daemons: their forms, where they go, and what becomes of sessions when they cannot (spec 5)."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon, StartFailed, ini_text
from tests.harness.fake_backend import FakeBackend
from tests.harness.logs import READERS, Line, only, read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, script_for, store
from tests.harness.system import wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens

Pop = Callable[..., PopClient]
Start = Callable[..., Daemon]


class Syslogd:
    """A logger at a socket of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[bytes] = []
        self.begin()

    def begin(self) -> None:
        """Listen."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(self._path))
        self._sock.setblocking(False)

    def wait(self, word: bytes, seconds: float = 10.0) -> bytes:
        """Return the first line with `word`, waiting for it."""
        return wait_for(lambda: next((line for line in self._all() if word in line), b""), seconds,
                        f"{word!r} in syslog")

    def die(self) -> None:
        """End without tidying up."""
        self._sock.close()

    def end(self) -> None:
        """End in good order."""
        self._sock.close()
        self._path.unlink()

    def _all(self) -> list[bytes]:
        try:
            while True:
                self.lines.append(self._sock.recv(65536))
        except BlockingIOError:
            return self.lines


@pytest.fixture
def syslogd(rundir: Path) -> Iterator[Syslogd]:
    """A running logger."""
    logger = Syslogd(rundir / "syslog")
    yield logger
    logger.end()


def settings(program: str, spool: Path, **variables: object) -> dict[str, dict[str, object]]:
    """Return what one of the daemons needs at least."""
    match program:
        case "pserv" | "plmtpd":
            return {program: {"mailboxdir": spool, **variables}, "server": {"main": {"address": "127.0.0.1:0"}}}
        case "pcheckd":
            return {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0, **variables}}
    return {"pproxy": {"sidprefix": "px", **variables}, "vserv": {"main": {"address": "127.0.0.1:0"}}}


DAEMONS = pytest.mark.parametrize("program", ["pproxy", "pserv", "plmtpd", "pcheckd"])


def visit(daemon: Daemon, pop: Pop) -> None:
    """Have a session at a proxy: from the greeting to the end."""
    client = pop(daemon.endpoint())
    client.greeting()
    client.ok("QUIT")
    assert client.rest() == b""


@DAEMONS
@pytest.mark.parametrize("form", ["classic", "json"])
def test_each_daemon_writes_each_form(start: Start, spool: Path, program: str, form: str) -> None:
    daemon = start(program, settings(program, spool, logformat=form))
    lines = [READERS[form](line) for line in daemon.wait_log("start")]
    line = only(lines, "start")
    assert (line.program, line.pid, line.session, line.number) == (program, daemon.pid, "-", "0001")
    assert line.fields["addresses"] == str(daemon.endpoint()).encode()


@DAEMONS
def test_syslog_needs_no_log_file(start: Start, spool: Path, syslogd: Syslogd, rundir: Path, program: str) -> None:
    daemon = start(program, settings(program, spool, logto="syslog", syslogsocket=rundir / "syslog"),
                   options=["-l", "/nowhere/log"])
    head = rb"%s[%d]: - INF 0001 start version=" % (program.encode(), daemon.pid)
    assert syslogd.wait(head).startswith(b"<22>")
    daemon.signal(signal.SIGHUP)
    assert syslogd.wait(b"log_reopened").startswith(b"<22>")
    assert not daemon.logfile.exists()


def test_a_session_is_logged_to_syslog_by_the_child(start: Start, spool: Path, syslogd: Syslogd, rundir: Path,
                                                    pop: Pop) -> None:
    daemon = start("pproxy", settings("pproxy", spool, logto="syslog", syslogsocket=rundir / "syslog"))
    visit(daemon, pop)
    line = syslogd.wait(b" session_end ")
    pid, _, sid = line.partition(b"[")[2].partition(b"]: ")
    assert int(pid) != daemon.pid
    assert sid.startswith(b"px-") and sid.split(b" ")[0].endswith(b"-" + pid)


def test_a_syslogd_that_is_full_gone_or_back_disturbs_no_session(start: Start, spool: Path, syslogd: Syslogd,
                                                                 rundir: Path, pop: Pop) -> None:
    daemon = start("pproxy", settings("pproxy", spool, logto="syslog", syslogsocket=rundir / "syslog", debug="on"))
    client = pop(daemon.endpoint())
    client.greeting()
    client.send(b"NOOP\r\n" * 2000)    # a line each for a logger that takes none of them
    for _ in range(2000):
        assert client.line().startswith(b"+OK")
    syslogd.die()
    visit(daemon, pop)
    syslogd.end()
    visit(daemon, pop)
    syslogd.begin()
    client.ok("QUIT")
    assert b"px-" in syslogd.wait(b" session_end ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops rights")
def test_syslog_after_the_rights_are_dropped(start: Start, spool: Path, syslogd: Syslogd, rundir: Path,
                                             pop: Pop) -> None:
    for folder in (rundir, spool.parent, spool):
        folder.chmod(0o755)
    shutil.chown(rundir, "nobody", "nogroup")
    (rundir / "syslog").chmod(0o666)
    try:
        daemon = start("pproxy", settings("pproxy", spool, logto="syslog", syslogsocket=rundir / "syslog",
                                          user="nobody", group="nogroup"))
    except StartFailed as why:
        if "may not read" in why.stderr:
            pytest.skip("this Python is closed to other users")
        raise
    visit(daemon, pop)
    syslogd.wait(b" session_end ")


@DAEMONS
@pytest.mark.parametrize("form", ["classic", "json"])
def test_standard_error_for_supervisors(start: Start, spool: Path, program: str, form: str) -> None:
    daemon = start(program, settings(program, spool, logformat=form, logto="stderr"), options=["-l", "/nowhere/log"])
    daemon.signal(signal.SIGHUP)
    wait_for(lambda: "log_reopened" in daemon.stderr(), 10.0, "the answer to HUP")
    lines = [READERS[form](line) for line in daemon.stderr().splitlines()]
    assert {line.name for line in lines} >= {"start", "command", "log_reopened"}
    assert daemon.stop() == 0
    assert "shutdown" in daemon.stderr()


def test_standard_error_wants_the_foreground(spool: Path, rundir: Path) -> None:
    config = rundir / "pserv.conf"
    config.write_text(ini_text(settings("pserv", spool)))
    command = [sys.executable, str(ROOT / "bin" / "pserv"), "-c", str(config), "-r", str(rundir / "run"),
               "--logto", "stderr", "--user", "root", "--group", "root"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (
        78, "pserv: [pserv] logto: logto = stderr needs --foreground\n")
    assert not (rundir / "run").exists()


def test_a_full_disk_stops_no_session(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        daemon = proxy(store(fake), options=["-l", "/dev/full"])
        client = pop(daemon.endpoint())
        assert client.login(XENIA, PASSWORD).startswith(b"+OK")
        client.ok("STAT")
        client.ok("QUIT")
        fake.result()
    assert daemon.stop() == 0


def test_a_vanished_log_folder_stops_no_session(proxy: StartProxy, pop: Pop, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    daemon = proxy(store(NOWHERE), options=["-l", str(folder / "pproxy.log")])
    client = pop(daemon.endpoint())
    client.greeting()
    (folder / "pproxy.log").unlink()
    folder.rmdir()
    client.ok("QUIT")
    visit(daemon, pop)
    daemon.signal(signal.SIGHUP)
    visit(daemon, pop)
    assert daemon.stop() == 0


def test_spec_5_4_hup_into_a_missing_folder_keeps_the_old_file(proxy: StartProxy, pop: Pop, tmp_path: Path) -> None:
    folder, moved = tmp_path / "log", tmp_path / "moved"
    folder.mkdir()
    daemon = proxy(store(NOWHERE), options=["-l", str(folder / "pproxy.log")])
    folder.rename(moved)
    daemon.signal(signal.SIGHUP)
    daemon.logfile = moved / "pproxy.log"
    line = read_classic(daemon.wait_log(" log_not_reopened ")[0])
    assert (line.level, line.number) == ("SOS", "020a")
    assert line.fields["error"].endswith(b"/log/pproxy.log: No such file or directory")
    visit(daemon, pop)
    daemon.wait_log(" session_end ")
    folder.mkdir()
    daemon.signal(signal.SIGHUP)
    daemon.logfile = folder / "pproxy.log"
    daemon.wait_log(" log_reopened")

    def is_in_the_new_file() -> bool:
        visit(daemon, pop)    # a child that was waiting may take one more session, with the old file
        return bool(daemon.log_lines(" session_end "))

    wait_for(is_in_the_new_file, 10.0, "a child with the new file")
    assert stat.S_IMODE(daemon.logfile.stat().st_mode) == 0o640


def test_debug_lines_hide_passwords_in_every_form(start: Start, spool: Path, pop: Pop) -> None:
    daemon = start("pproxy", settings("pproxy", spool, logformat="json", debug="on", authdelay=0))
    client = pop(daemon.endpoint())
    assert client.login("joe", "swordfish").startswith(b"-ERR")
    client.ok("QUIT")
    daemon.wait_log('"session_end"')
    lines: list[Line] = [READERS["json"](line) for line in daemon.log_lines()]
    assert [line.fields["line"] for line in lines if line.name == "command"] == [b"USER joe", b"PASS ***", b"QUIT"]
    assert "swordfish" not in "".join(daemon.log_lines())
