"""Under a service manager, by the units of etc/systemd: what it is told, its watchdog, reload, upgrade and end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.control.client import Reply
from tests.harness.daemon import ROOT, Settings, ini_text
from tests.harness.popclient import PopClient
from tests.harness.service_manager import ServiceManager, Told, Unit
from tests.harness.system import children_of, is_alive, wait_for

MAIL = b"Subject: x\r\n\r\ntext\r\n"
WATCHDOG = 1.5    # seconds, where a test waits for it
STATUS = {"pproxy": "sessions: 0 of 1000", "pserv": "sessions: 0 of 1000", "pcheckd": "children: [01]", "ringd": ""}
LEAVINGS = {"notify", "stderr"}

Manage = Callable[..., ServiceManager]


@pytest.fixture
def manage(rundir: Path, spool: Path) -> Manage:
    """A function (program, watchdog=…) that makes the manager of a service with a small configuration."""
    settings: dict[str, Settings] = {
        "pproxy": {"vserv": {"main": {"address": "127.0.0.1:0"}}},
        "pserv": {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}},
        "pcheckd": {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}},
        "ringd": {},
    }

    def make(program: str, **more: float) -> ServiceManager:
        manager = ServiceManager(program, rundir, **more)
        manager.configure(settings[program])
        return manager

    return make


def started(manager: ServiceManager) -> Told:
    """Start a service; returns what it told when it was ready."""
    manager.start()
    manager.wait_ready()
    return manager.those("READY=1")[0]


def left_in(manager: ServiceManager) -> set[str]:
    """Return what is left in the run folder, beside configuration and log."""
    return {path.name for path in manager.folder.iterdir() if path.suffix not in (".conf", ".log")} - LEAVINGS


def variables_of(pid: int) -> set[str]:
    """Return the names of a process's environment, as it was at its exec."""
    return {entry.partition(b"=")[0].decode() for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")}


@pytest.mark.parametrize("program", STATUS)
def test_from_start_to_end(manage: Manage, program: str) -> None:
    with manage(program) as manager:
        told = started(manager)
        assert told.pid == manager.main and told.facts == ("READY=1", f"MAINPID={manager.main}")
        for pid in manager.family():
            assert not [name for name in variables_of(pid) if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]
        manager.wait(lambda: re.fullmatch(STATUS[program], manager.status()))
        before = time.monotonic_ns() // 1000
        code, output = manager.reload()
        assert code == 0, output
        manager.wait_fact("READY=1", 2)
        assert before <= int(manager.those("RELOADING=1")[0].pairs["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        os.kill(manager.main, signal.SIGHUP)
        manager.wait_fact("READY=1", 3)
        manager.stop()
        assert manager.exit_code() == 0
        manager.wait_fact("STOPPING=1")
        pair = ["RELOADING", "MONOTONIC_USEC", "READY"]
        assert manager.names() == ["READY", "MAINPID", *pair, *pair, "STOPPING"]
        assert manager.killed == [] and left_in(manager) == set()


def test_a_file_with_a_mistake_is_told_and_the_service_is_ready_again(manage: Manage) -> None:
    with manage("pserv") as manager:
        started(manager)
        conf = manager.folder / "pserv.conf"
        conf.write_text(conf.read_text().replace("[pserv]", "[pserv]\nmaxspare = many"))
        code, output = manager.reload()
        assert code != 0 and "maxspare: 'many' is not" in output
        manager.wait_fact("READY=1", 2)
        assert manager.names()[2:] == ["RELOADING", "MONOTONIC_USEC", "READY"]


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
@pytest.mark.parametrize("is_there", [True, False])
def test_the_rc_file_is_given_after_the_start(manage: Manage, program: str, is_there: bool) -> None:
    with manage(program) as manager:
        started(manager)
        if is_there:
            (manager.folder / f"{program}.rc").write_text("# commands\nset maxsession 77\n")
        by_root, line = manager.unit.get("ExecStartPost").split("/bin/sh -c ")
        assert by_root == "+", "the commands may load modules"
        line = line.strip("'")
        line = line.replace("/etc/popular", str(manager.folder)).replace(
            "/usr/bin/pcontrol", f"{sys.executable} {ROOT}/bin/pcontrol -r {manager.folder}")
        subprocess.run(["/bin/sh", "-c", line], check=True, timeout=20)
        assert manager.ask("show maxsession").lines == (f"maxsession = {77 if is_there else 1000}",)


@pytest.mark.parametrize("program", ["pcheckd", "ringd"])
def test_the_watchdog_is_fed_in_half_of_its_time(manage: Manage, program: str) -> None:
    with manage(program, watchdog=WATCHDOG) as manager:
        started(manager)
        manager.wait_fact("WATCHDOG=1", 3)
        times = [told.at for told in manager.those("WATCHDOG=1")]
        gaps = [after - before for before, after in zip(times, times[1:])]
        assert min(gaps) > 0.4 * WATCHDOG, "no more often"
        assert not manager.was_barked_at


@pytest.mark.parametrize("program", ["pserv", "ringd"])
def test_who_hangs_is_not_fed_and_ended(manage: Manage, program: str) -> None:
    with manage(program, watchdog=WATCHDOG) as manager:
        started(manager)
        children = children_of(manager.main)
        os.kill(manager.main, signal.SIGSTOP)
        manager.wait(lambda: manager.was_barked_at, what="the watchdog")
        manager.wait(lambda: manager.exit_code() is not None, what="the end")
        assert manager.exit_code() == -signal.SIGABRT
        assert manager.those("STOPPING=1") == []
        wait_for(lambda: not any(is_alive(pid) for pid in children), 5.0, "the end of the children")
    with manage(program) as again:    # Restart=on-failure
        started(again)


def text_of(manager: ServiceManager) -> str:
    """Return the INI file."""
    return (manager.folder / f"{manager.program}.conf").read_text()


def session(endpoint: Endpoint) -> PopClient:
    """Begin a session of a mailbox with one message."""
    client = PopClient(endpoint)
    assert client.xpop("joe").startswith(b"+OK")
    return client


def upgraded(manager: ServiceManager) -> Reply:
    """Upgrade, and wait until the manager knows the new main process."""
    before = manager.main
    reply = manager.ask("upgrade")
    assert reply.ok, reply
    manager.wait(lambda: manager.main != before, what="MAINPID")
    return reply


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGPWR])
def test_an_upgrade_hands_over_the_watchdog_and_ends_in_order(
        manage: Manage, make_mailbox: Callable[..., Path], number: signal.Signals) -> None:
    make_mailbox("joe", cur=[MAIL])
    with manage("pserv", watchdog=WATCHDOG) as manager:
        endpoint = manager.open("main")
        manager.configure(text_of(manager).replace("127.0.0.1:0", str(endpoint)))
        started(manager)
        old = manager.main
        with session(endpoint) as client:
            upgraded(manager)
            count = len(manager.those("WATCHDOG=1"))
            manager.wait_fact("WATCHDOG=1", count + 2)
            assert manager.those("WATCHDOG=1")[-1].pid == manager.main
            os.kill(manager.main, signal.SIGHUP)
            assert manager.wait_fact("RELOADING=1").pid == manager.main
            manager.wait(lambda: len([told for told in manager.those("READY=1") if told.pid == manager.main]) == 2)
            assert is_alive(old), "it has a session"
            if number == signal.SIGPWR:
                os.kill(manager.main, number)
                manager.wait_fact("STOPPING=1")
                manager.wait_fact("WATCHDOG=1", len(manager.those("WATCHDOG=1")) + 1)
                assert is_alive(manager.main), "the service has not ended while it has a session"
                assert client.message(1) == MAIL
                client.ok("QUIT")
                # The new master ends at the end of the line, which the old one closes before its own end.
                manager.wait(lambda: not manager.family(), what="the end of both masters")
            else:
                manager.stop()
                assert client.rest() == b""
        assert not manager.was_barked_at
        assert manager.killed == [] and manager.family() == [] and left_in(manager) == set()


def test_the_unit_of_pclean_runs_it(rundir: Path, spool: Path, make_mailbox: Callable[..., Path]) -> None:
    mailbox = make_mailbox("joe", cur=[MAIL])
    unit = Unit("pclean.service")
    assert unit.get("Type") == "oneshot"
    (rundir / "pclean.conf").write_text(ini_text({"pclean": {"mailboxdir": spool}}))
    subprocess.run([*unit.words("ExecStart"), "-c", rundir / "pclean.conf", "-l", rundir / "pclean.log",
                    "--user", "root", "--group", "root"], check=True, timeout=20)
    assert len([*(mailbox / "cur").iterdir()]) == 1
