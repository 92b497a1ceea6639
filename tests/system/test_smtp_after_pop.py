"""SMTP after POP: who is recorded, who is not, and that nobody waits for it or suffers from it."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import refused, tell
from tests.harness.daemon import Daemon, StartFailed
from tests.harness.fake_backend import FakeBackend
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, PASSWORD, PAUL, XENIA, StartProxy, script_for, store
from tests.harness.system import wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
LIFETIME = 1800                       # seconds, the default
TRAFFIC = 80                          # sessions at once

Pop = Callable[..., PopClient]


@pytest.fixture
def file(rundir: Path) -> Path:
    """Where the database is to be."""
    (rundir / "smtp").mkdir()
    return rundir / "smtp/clients.db"


@pytest.fixture
def check() -> Iterator[FakePcheckd]:
    """A pcheckd that has mail for nobody."""
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as pcheckd:
        yield pcheckd


@pytest.fixture
def recording(proxy: StartProxy, file: Path, check: FakePcheckd) -> Daemon:
    """A pproxy that records clients, and whose backend is out of reach."""
    return proxy(store(NOWHERE, check.endpoint), vserv={"smtpafterpop": "on", "address": "127.0.0.1:0, [::1]:0"},
                 smtpafterpopfile=file)


def records(file: Path) -> Mapping[str, int]:
    """Return who may send mail, and until when."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT address, until FROM clients"))


def visit(daemon: Daemon, source: str, user: str = CASPER, password: str = PASSWORD, endpoint: int = 0) -> None:
    """Log in from an address, successfully or not, and leave; returns when the session is over."""
    before = len(daemon.log_lines("session_end"))
    with PopClient(daemon.addresses["main"][endpoint], source=source) as client:
        client.greeting()
        client.ok(f"USER {user}")
        client.command(f"PASS {password}")
        client.command("STAT")
        client.command("QUIT")
    daemon.wait_log("session_end", count=before + 1)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Be one who keeps the database locked."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def test_an_empty_mailbox_is_a_login(recording: Daemon, file: Path) -> None:
    before = int(time.time())
    visit(recording, "127.0.0.7")
    [(address, until)] = records(file).items()
    assert address == "127.0.0.7"
    assert before + LIFETIME <= until <= time.time() + LIFETIME * 1.25 + 2


def test_ipv6_is_written_as_postfix_asks_for_it(recording: Daemon, file: Path) -> None:
    visit(recording, "::1", endpoint=1)
    assert list(records(file)) == ["::1"]


@pytest.mark.parametrize("user", [XENIA, PAUL])
def test_a_backend_that_lets_in_is_a_login(proxy: StartProxy, file: Path, user: str) -> None:
    with FakeBackend(script_for(user)) as backend:
        daemon = proxy(store(backend), vserv={"smtpafterpop": "on"}, smtpafterpopfile=file, smtpafterpoptime="1m")
        visit(daemon, "127.0.0.8", user)
    [(address, until)] = records(file).items()
    assert address == "127.0.0.8"
    assert until <= time.time() + 60 * 1.25 + 2


@pytest.mark.parametrize(("user", "password"), [
    pytest.param(CASPER, "wrong", id="wrong password"),
    pytest.param("nobody", PASSWORD, id="unknown"),
    pytest.param(PAUL, PASSWORD, id="soft failure of a backend that would have checked the password"),
])
def test_who_did_not_log_in_is_not_recorded(recording: Daemon, file: Path, user: str, password: str) -> None:
    visit(recording, "127.0.0.9", user, password)
    assert records(file) == {}


def test_a_master_login_is_not_recorded(start: Callable[..., Daemon], rundir: Path, file: Path,
                                        check: FakePcheckd) -> None:
    (rundir / "users").write_text(f"{CASPER}:{{PLAIN}}{PASSWORD}:store:cxpop:c/casper\n")
    (rundir / "master").write_text("*:*:{PLAIN}support\n")
    daemon = start("pproxy", {
        "pproxy": {"smtpafterpopfile": file}, "vserv": {"main": {"address": "127.0.0.1:0", "smtpafterpop": "on"}},
        "backend": store(NOWHERE, check.endpoint),
        "pdm": {"users": {"module": "passwd", "args": rundir / "users"},
                "support": {"module": "master", "args": rundir / "master"}}})
    visit(daemon, "127.0.0.10", password="support")
    assert "master=1" in daemon.log_lines("login ")[0]
    assert records(file) == {}


def test_the_switch_is_of_each_virtual_server_and_is_obeyed_at_once(proxy: StartProxy, file: Path,
                                                                    check: FakePcheckd) -> None:
    daemon = proxy(store(NOWHERE, check.endpoint), smtpafterpopfile=file)
    visit(daemon, "127.0.0.11")
    assert not file.exists()
    tell(daemon, "vserv set main smtpafterpop=on")
    visit(daemon, "127.0.0.12")
    tell(daemon, "vserv set main smtpafterpop=off")
    visit(daemon, "127.0.0.13")
    tell(daemon, "vserv set main smtpafterpop=on", "set smtpafterpoptime 1h")
    visit(daemon, "127.0.0.14")
    assert records(file).keys() == {"127.0.0.12", "127.0.0.14"}
    assert records(file)["127.0.0.14"] >= time.time() + 3590


@pytest.mark.usefixtures("by_exec")
def test_nothing_is_loaded_when_it_is_off(proxy: StartProxy, recording: Daemon) -> None:
    other = proxy(store(NOWHERE), name="other")

    def maps(daemon: Daemon) -> str:
        return "".join(Path(f"/proc/{pid}/maps").read_text() for pid in (daemon.master, *daemon.children()))

    assert "sqlite" in maps(recording)
    assert "sqlite" not in maps(other)


def test_a_folder_that_is_missing_is_a_mistake(proxy: StartProxy, rundir: Path) -> None:
    missing = rundir / "missing/clients.db"
    with pytest.raises(StartFailed) as failed:
        proxy(store(NOWHERE), vserv={"smtpafterpop": "on"}, smtpafterpopfile=missing)
    assert failed.value.code == os.EX_CONFIG
    assert f"smtpafterpopfile: no such folder: {missing.parent}" in failed.value.stderr
    daemon = proxy(store(NOWHERE), smtpafterpopfile=missing)
    assert "no such folder" in refused(daemon, "vserv set main smtpafterpop=on").text


@pytest.mark.parametrize("maxuse", [1, 100])
def test_many_at_once_are_all_recorded(proxy: StartProxy, file: Path, check: FakePcheckd, maxuse: int) -> None:
    daemon = proxy(store(NOWHERE, check.endpoint), vserv={"smtpafterpop": "on"}, smtpafterpopfile=file,
                   minspare=16, maxspare=64, maxuse=maxuse, checktimeout="30s", usersessions=0)
    addresses = {f"127.0.{3 + number // 100}.{number % 100 + 1}" for number in range(TRAFFIC)}
    with ExitStack() as stack:
        clients = [stack.enter_context(PopClient(daemon.endpoint(), source=address)) for address in addresses]
        for client in clients:
            client.greeting()
            client.ok(f"USER {CASPER}")
        for client in clients:
            client.send(f"PASS {PASSWORD}\r\n".encode())
        for client in clients:
            assert client.line().startswith(b"+OK")
        for client in clients:
            client.ok("QUIT")
    daemon.wait_log("session_end", count=TRAFFIC)
    wait_for(lambda: records(file).keys() == addresses, what="all records")


def test_a_lock_delays_no_login_and_is_told_once(recording: Daemon, file: Path) -> None:
    visit(recording, "127.0.0.20")
    with locked(file):
        begun = time.monotonic()
        for number in range(10):
            visit(recording, f"127.0.0.{21 + number}")
        assert time.monotonic() - begun < 10.0
        assert records(file).keys() == {"127.0.0.20"}
    [line] = recording.log_lines("smtp_not_recorded")
    assert " ADM 0250 " in line and f"client='127.0.0.21' path='{file}'" in line and "locked" in line


def test_a_client_who_met_a_lock_is_recorded_when_he_leaves(recording: Daemon, file: Path, pop: Pop) -> None:
    with locked(file):
        client = pop(recording.endpoint(), source="127.0.0.40")
        client.login(CASPER, PASSWORD)
        recording.wait_log("smtp_not_recorded")
        assert records(file) == {}
    client.ok("QUIT")
    wait_for(lambda: records(file).keys() == {"127.0.0.40"}, what="the record")


@pytest.mark.parametrize("maxuse", [1, 100])
def test_a_database_that_is_deleted_is_made_anew(proxy: StartProxy, file: Path, check: FakePcheckd,
                                                 maxuse: int) -> None:
    daemon = proxy(store(NOWHERE, check.endpoint), vserv={"smtpafterpop": "on"}, smtpafterpopfile=file, maxuse=maxuse,
                   minspare=1, maxspare=1)
    visit(daemon, "127.0.0.50")
    assert file.stat().st_mode & 0o777 == 0o660
    file.unlink()
    visit(daemon, "127.0.0.51")
    assert records(file).keys() == {"127.0.0.51"}
    assert sorted(path.name for path in file.parent.iterdir()) == ["clients.db", "clients.db-shm", "clients.db-wal"]


@pytest.fixture
def small_disk(file: Path) -> Iterator[None]:
    """The folder of the database as a file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(file.parent)], check=True, timeout=60)
    yield
    subprocess.run(["umount", "-l", str(file.parent)], check=True, timeout=60)


def test_a_full_disk_refuses_nobody_and_is_told_once(small_disk: None, recording: Daemon, file: Path) -> None:
    with (file.parent / "filler").open("wb") as filler, pytest.raises(OSError):
        filler.write(bytes(1 << 20))
    for number in range(5):
        visit(recording, f"127.0.0.{60 + number}")
    [line] = recording.log_lines("smtp_not_recorded")
    assert "why='SQLite says: " in line
    assert len(recording.log_lines("outcome='empty'")) == 5


def test_a_place_that_cannot_be_written_does_not_hinder_the_start(proxy: StartProxy, file: Path,
                                                                  check: FakePcheckd) -> None:
    file.mkdir()    # root, too, cannot write this
    (file / "x").touch()
    daemon = proxy(store(NOWHERE, check.endpoint), vserv={"smtpafterpop": "on"}, smtpafterpopfile=file)
    visit(daemon, "127.0.0.70")
    [line] = daemon.log_lines("smtp_not_recorded")
    assert f"path='{file}'" in line
