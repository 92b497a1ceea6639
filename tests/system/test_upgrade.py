"""Upgrades: a new master from the files on disk takes the place of the old one, or nothing has happened."""

import os
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.control.client import ControlClient
from tests.harness.control import control, listening, refused, tell, variable
from tests.harness.daemon import Daemon
from tests.harness.pstatus import pstatus, status
from tests.harness.release import Point, Release
from tests.harness.system import BUSY, children_of, is_alive, reap, state_of, title_of, wait_for
from tests.harness.toyclient import is_refused
from tests.harness.upgrades import MAIL, finish, left_in, session, start, upgrade, wants_service

NEXT = "99.0"
HANG = "import sys, time; '--succeed' in sys.argv and time.sleep(60)\n"
OLD_MASTER = "popular/daemon/upgrade/old_master.py"
NEW_MASTER = "popular/daemon/upgrade/new_master.py"
SOON = 0.3       # seconds, where the test shortens a time
LATER = 8.0      # the same, for what takes a second on a quiet machine


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """A release whose masters prove less and give up sooner."""
    release = Release(tmp_path / "release")
    release.set(OLD_MASTER, UPGRADE_SECONDS=LATER, STAY_SECONDS=SOON)
    release.set(NEW_MASTER, PROOF_SECONDS=SOON)
    return release


@pytest.fixture
def pserv(release: Release, rundir: Path, spool: Path, make_mailbox: Callable[..., Path]) -> Iterator[Daemon]:
    """A pserv of that release."""
    make_mailbox("joe", cur=[MAIL])
    with start(release, rundir, spool) as daemon:
        yield daemon
    assert not daemon.bugs()
    if left_in(rundir):    # by those that were killed: it goes with the next start
        reap()
        start(release, rundir, spool).close()
    assert left_in(rundir) == []


def test_a_new_version_takes_over(release: Release, pserv: Daemon) -> None:
    release.set("popular/version.py", VERSION=NEXT)
    with session(pserv) as client:
        [child] = [pid for pid in children_of(pserv.pid) if "test-1" in title_of(pid)]
        new = upgrade(pserv)
        assert title_of(pserv.pid) == "pserv: master, replaced" and title_of(new) == "pserv: master"
        assert os.readlink(pserv.rundir / "pserv.ctrl") == f"pserv.{new}.ctrl"
        with control(pserv) as control_client:
            assert control_client.ask("version").lines == (f"pserv (POPular) {NEXT}",)
        wants_service(pserv)
        assert pserv.wait_log("upgraded")[0].endswith(f"process={new} version='{NEXT}'")
        assert pserv.wait_log(f"pserv {new} - INF 021c took_over")[0].endswith(f"process={pserv.pid}")
        wait_for(lambda: {*children_of(pserv.pid)} == {child}, 10.0, "idle children of the old master to leave")
        finish(client)
    assert pserv.wait() == 0
    assert [path.name for path in pserv.rundir.glob("pserv.*.state")] == []
    wants_service(pserv)


def test_the_old_master_is_still_to_be_seen_and_told(pserv: Daemon) -> None:
    with session(pserv) as client:
        new = upgrade(pserv)
        with ControlClient(str(pserv.rundir / f"pserv.{pserv.pid}.ctrl")) as old:
            assert [line.split()[0] for line in old.ask("session list").lines] == ["test-1"]
            assert old.ask("set maxsession 7").text == "another process has taken over"
            assert old.ask("upgrade").text == "another process has taken over"
            aside = pserv.rundir / f"pserv.{pserv.pid}.state"
            assert f"master {pserv.pid} has 1 more sessions: pstatus -f {aside}" in " ".join(
                pstatus("-R", pserv.rundir, "-p", "pserv").stdout.split())
            assert status(pserv)["replaced"] == [{"pid": pserv.pid, "file": str(aside), "sessions": 1}]
            shown = pstatus("-f", pserv.rundir / f"pserv.{pserv.pid}.state")
            assert "test-1" in shown.stdout
            assert old.ask("session kill test-1").ok
        assert client.rest() == b""
    assert pserv.wait() == 0
    assert pserv.master == new
    assert status(pserv)["replaced"] == []


def test_more_commands_may_follow_on_the_connection(release: Release, pserv: Daemon) -> None:
    release.set(OLD_MASTER, STAY_SECONDS=LATER)
    old = upgrade(pserv)    # to a master that stays for longer
    with control(pserv) as client:
        assert client.ask("upgrade").ok
        wait_for(lambda: not children_of(old), what="the end of its children")
        assert client.ask("sync").ok
    os.kill(pserv.master, signal.SIGTERM)
    wait_for(lambda: not is_alive(old), LATER / BUSY / 2, what="its end, with the new one, at once")


def test_what_commands_changed_is_inherited(pserv: Daemon) -> None:
    tell(pserv, "set maxsession 77", "server add other 127.0.0.1:0")
    ports = [pserv.endpoint(), listening(pserv, "other", "server")[0]]
    upgrade(pserv)
    assert variable(pserv, "maxsession") == "77"
    assert [listening(pserv, name, "server")[0] for name in ("main", "other")] == ports
    with control(pserv) as client:
        assert client.ask("reload").text == "reloaded, no setting changed", "what only commands set stays"
    pserv.config.write_text(pserv.config.read_text().replace("[pserv]", "[pserv]\nmaxspare = 9"))
    with control(pserv) as client:
        assert client.ask("reload").lines == ("variable maxspare",)
    tell(pserv, "server remove other")
    assert is_refused(ports[1])
    wants_service(pserv)


def test_usr2_does_the_same(pserv: Daemon) -> None:
    pserv.signal(signal.SIGUSR2)
    pserv.wait_log("took_over")
    assert pserv.wait() == 0
    assert "command source='SIGUSR2' words='upgrade'" in pserv.report()
    wants_service(pserv)


FAILING = """
import os, time
from dataclasses import replace
from popular.errors import StartError

def _fail(config, log, former):
    {}

SPEC = replace(SPEC, make_job=_fail)
"""
FAILING_CHILDREN = FAILING.format("""
    class Job:
        def run(self, child, listeners):
            raise KeyError("secret")
    return Job()
""")


# What is wrong with a release: the file, what stands at its end, what is said.
BROKEN = [
    ("pserv/spec.py", "raise RuntimeError('broken')", "RuntimeError: broken"),
    ("pserv/main.py", "def (:", "SyntaxError: invalid syntax"),
    ("daemon/start/boot.py", "raise ImportError('no boot')", "ImportError: no boot"),
    ("pserv/spec.py", FAILING.format("raise StartError('no job')"), "no job"),
    ("pserv/spec.py", FAILING.format("os._exit(9)"), "the new process ended before it was ready"),
    ("pserv/spec.py", FAILING_CHILDREN, "its children die"),
    ("pserv/spec.py", "import time; time.sleep(60)", "the new process was not ready after 8 s"),
    ("pserv/spec.py", FAILING.format("time.sleep(60)"), "the new process was not ready after 8 s"),
]


@pytest.mark.limit(240)
def test_a_new_version_that_does_not_work_changes_nothing(release: Release, pserv: Daemon) -> None:
    wants_service(pserv)
    there = {pserv.rundir / f"pserv.{kind}": (pserv.rundir / f"pserv.{kind}").stat().st_ino
             for kind in ("pid", "state", "ctrl")}
    for count, (path, text, why) in enumerate(BROKEN, 1):
        good = (release.root / "popular" / path).read_text()
        release.append(f"popular/{path}", f"{text}\n")
        with session(pserv) as client:
            reply = refused(pserv, "upgrade")
            assert reply.text == "the upgrade failed, this process goes on", text
            assert why in reply.lines[-1] and not any("Traceback" in line for line in reply.lines), text
            assert why in pserv.wait_log("upgrade_failed", count=count)[-1]
            finish(client)
        wants_service(pserv)
        assert {path: path.stat().st_ino for path in there} == there, text
        assert pserv.master == pserv.pid and title_of(pserv.pid) == "pserv: master"
        (release.root / "popular" / path).write_text(good)
    for line in [line for line in pserv.log_lines(" BUG ")]:    # of the failing children
        assert "child_failed type='KeyError'" in line
    upgrade(pserv)
    wants_service(pserv)
    pserv.logfile.write_text("")


def test_commands_that_would_be_lost_are_refused(release: Release, pserv: Daemon) -> None:
    release.append("popular/pserv/spec.py", HANG)
    with control(pserv) as asking:
        asking.send("upgrade")    # the answer comes late
        pserv.wait_log("upgrade_begun")
        for line in ("set maxsession 7", "reload", "upgrade"):
            assert refused(pserv, line).text == "an upgrade is under way"
        assert not asking.receive().ok
    tell(pserv, "set maxsession 7")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGPWR])
def test_a_daemon_told_to_end_wants_no_successor(release: Release, pserv: Daemon, number: signal.Signals) -> None:
    release.append("popular/pserv/spec.py", HANG)
    pserv.signal(signal.SIGUSR2)
    new = started(pserv)
    pserv.signal(number)
    assert pserv.wait() == 0
    assert not is_alive(new)


def test_what_ends_the_new_master_ends_the_old_sessions_too(pserv: Daemon) -> None:
    with session(pserv) as client:
        os.kill(upgrade(pserv), signal.SIGTERM)
        assert client.rest() == b""
    assert pserv.wait() == 0


def started(daemon: Daemon, count: int = 1) -> int:
    """Return the pid of the successor that was started last."""
    line = daemon.wait_log("upgrade_begun", count=count)[-1]
    return int(line.rpartition("process=")[2])


def moment(seconds: float) -> None:
    """Let some time pass: what matters is that it is another time in each turn."""
    select.select([], [], [], seconds)


MOMENTS = [number * 0.12 for number in range(8)]    # seconds from the start of a successor; it takes half a second


@pytest.mark.limit(240)
def test_the_new_master_may_be_killed_at_any_moment(release: Release, pserv: Daemon) -> None:
    release.set(NEW_MASTER, PROOF_SECONDS=MOMENTS[-1])    # so that it does not serve before
    with session(pserv) as client:
        for count, seconds in enumerate(MOMENTS, 1):
            pserv.signal(signal.SIGUSR2)
            new = started(pserv, count)
            moment(seconds)
            os.kill(new, signal.SIGKILL)
            pserv.wait_log("upgrade_failed", count=count)
            wait_for(lambda: not is_alive(new), 5.0, "the end of the new master")
            wants_service(pserv)
            is_in_place(pserv, pserv.pid)
        finish(client)


def is_in_place(daemon: Daemon, master: int) -> None:
    """Have this master serve, be found by all its files, and nothing left of another."""
    wait_for(lambda: daemon.master == master, what="its pid file")
    wait_for(lambda: os.readlink(daemon.rundir / "pserv.ctrl") == f"pserv.{master}.ctrl")
    assert variable(daemon, "pid") == str(master)
    assert status(daemon)["pid"] == master
    assert title_of(master) == "pserv: master"
    wants_service(daemon)
    assert not [*daemon.rundir.glob("*.new")]


# Where a master is struck, and how far it has come then.
SOCKET: Point = ("socket.bind", "pserv.")
STATE: Point = ("os.rename", "pserv.state")
LINK: Point = ("os.rename", "pserv.ctrl")
TAKING_OVER = [
    pytest.param((SOCKET,), id="begins"),
    pytest.param((STATE,), id="has-the-pid-file"),
    pytest.param((LINK,), id="has-the-state-file"),
    pytest.param((LINK, ("os.listdir", "")), id="has-the-control-socket"),
]


@pytest.mark.parametrize("points", TAKING_OVER)
def test_the_new_master_may_die_after_each_step(release: Release, pserv: Daemon, points: tuple[Point, ...]) -> None:
    release.have_points()
    release.strike(*points)
    with session(pserv) as client:
        pserv.signal(signal.SIGUSR2)
        pserv.wait_log("upgrade_failed")
        is_in_place(pserv, pserv.pid)
        finish(client)
    release.spare()
    is_in_place(pserv, upgrade(pserv))


def test_the_new_master_may_hang_before_it_serves(release: Release, pserv: Daemon) -> None:
    release.have_points()
    release.strike(LINK, ("os.listdir", ""), number=signal.SIGSTOP)
    with session(pserv) as client:
        reply = refused(pserv, "upgrade")
        assert reply.lines == ("the new process was not ready after 8 s",)
        is_in_place(pserv, pserv.pid)
        finish(client)
    assert not is_alive(started(pserv))
    release.spare()


@pytest.mark.parametrize("points", TAKING_OVER)
def test_the_old_master_may_die_after_each_step(release: Release, pserv: Daemon, points: tuple[Point, ...]) -> None:
    release.have_points()
    release.strike(*points, number=signal.SIGSTOP)
    with session(pserv) as client:
        pserv.signal(signal.SIGUSR2)
        new = started(pserv)
        wait_for(lambda: state_of(new) == "T", what="the stop of the new master")
        pserv.kill()
        release.spare()
        os.kill(new, signal.SIGCONT)
        pserv.wait_log("took_over")
        is_in_place(pserv, new)
        finish(client)


@pytest.mark.parametrize("point", [
    pytest.param(("os.link", "pserv.state"), id="has-started-the-new-one"),
    pytest.param(("os.kill", ""), id="has-stepped-aside"),
])
def test_the_old_master_may_die_where_it_acts(release: Release, pserv: Daemon, point: Point) -> None:
    release.have_points()
    old = upgrade(pserv)    # to a master that can be struck
    assert pserv.wait() == 0, "the first master has left, and will not come back"
    release.strike(point, pid=old)
    with session(pserv) as client:
        os.kill(old, signal.SIGUSR2)
        wait_for(lambda: not is_alive(old), 10.0, "the end of the middle master")
        pserv.wait_log("took_over", count=2)
        finish(client)
    assert pserv.master not in (old, pserv.pid)
    is_in_place(pserv, pserv.master)
    release.spare()


@pytest.mark.parametrize("dies", ["old", "new"])
def test_each_may_die_before_the_old_master_hears_that_the_new_one_serves(pserv: Daemon, dies: str) -> None:
    with session(pserv) as client:
        pserv.signal(signal.SIGUSR2)
        new = started(pserv)
        pserv.signal(signal.SIGSTOP)
        pserv.wait_log("took_over")
        if dies == "old":
            pserv.kill()
        else:
            os.kill(new, signal.SIGKILL)
            wait_for(lambda: not is_alive(new), what="the end of the new master")
            pserv.signal(signal.SIGCONT)
            pserv.wait_log("upgrade_failed")
        is_in_place(pserv, new if dies == "old" else pserv.pid)
        finish(client)


def test_a_process_that_cannot_be_started_is_told(release: Release, pserv: Daemon) -> None:
    release.have_points()
    new = upgrade(pserv)
    assert pserv.wait() == 0
    release.strike(("os.posix_spawn", ""))
    assert refused(pserv, "upgrade").text == "the new process could not be started"
    release.spare()
    is_in_place(pserv, new)


@pytest.mark.limit(240)
def test_the_old_master_may_be_killed_at_any_moment(release: Release, rundir: Path, spool: Path,
                                                    make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", cur=[MAIL])
    for number, seconds in enumerate(MOMENTS[::2]):
        folder = rundir / str(number)
        folder.mkdir()
        with start(release, folder, spool) as pserv:
            with session(pserv) as client:
                pserv.signal(signal.SIGUSR2)
                new = started(pserv)
                moment(seconds)
                pserv.kill()
                wants_service(pserv)
                finish(client)
            pserv.wait_log("took_over")
            is_in_place(pserv, new)
        assert not pserv.bugs()
