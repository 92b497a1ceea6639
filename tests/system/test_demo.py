"""`make run`: every kind of session is shown, it can be run again, also after kill -9 of it or of anything."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.__main__ import show
from demo.databases import names
from demo.screen import Screen
from demo.servers import Missing
from demo.service import MailSystem
from demo.site import Site
from tests.harness.daemon import ROOT
from tests.harness.needs import lacking
from tests.harness.system import all_pids, children_of, is_alive, title_of, wait_for

pytestmark = pytest.mark.limit(120)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo writes: reachable for the Dovecot that it may start."""
    made = Path(tempfile.mkdtemp(prefix="popular-"))
    made.chmod(0o755)
    yield made / "run"
    shutil.rmtree(made)


def command(folder: Path, *options: str) -> list[str]:
    """Return the words that start the demo."""
    return [sys.executable, "-m", "demo", "--folder", str(folder), *options]


def run_once(folder: Path, *options: str) -> str:
    """Run the demo to its end; returns what it shows."""
    result = subprocess.run(command(folder, "--once", *options), cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=100)
    if result.returncode == os.EX_UNAVAILABLE:
        lacking(result.stdout)
    assert result.returncode == 0, result.stdout
    return result.stdout


def play(folder: Path, database: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Do here what the demo does, so that the nursery starts its daemons; returns what is shown."""
    folder.mkdir()
    try:
        with MailSystem(Site(folder), database) as system:
            show(system, Screen())
    except Missing as why:
        lacking(str(why))
    return capsys.readouterr().out


@pytest.mark.parametrize("database", names())
def test_every_kind_of_session_is_shown(folder, database, capsys):
    assert_sessions_are_shown(play(folder, database, capsys))


def assert_sessions_are_shown(shown: str) -> None:
    """Fail unless there is one session of each kind, with its lines in the log."""
    sessions = shown.split("\n── ")[1:]
    assert len(sessions) == 5
    empty, stored, elsewhere, refused, master = sessions
    assert "S: +OK 0 0" in empty and " pserv " not in empty and "mailbox_empty" in empty
    assert "Subject: Lunch" in stored and " pserv " in stored and "On disk now: 2 new, 0 read." in stored
    assert "protocol='pop3'" in elsewhere and "Subject: From another server" in elsewhere
    assert "S: -ERR [AUTH]" in refused and "login_refused" in refused
    assert "master=1" in master and "S: +OK" in master and "On disk now: 2 new, 0 read." in master


def test_it_stays_up_until_it_is_told_to_end_and_has_the_folder_for_itself(folder):
    with demo(folder) as running:
        wait_for(lambda: any(masters(folder)), 5.0)
        second = subprocess.run(command(folder, "--once"), cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=30)
        assert second.returncode != 0
        assert "in use" in second.stderr
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    assert masters(folder) == []


def test_it_runs_again_after_it_or_its_daemons_were_killed(folder):
    """The server of a database ends with it."""
    with demo(folder, "--database", "redis") as running:
        pids = masters(folder)
        assert len(pids) >= 3    # the POP3 backend may be one more
        servers = [pid for pid in children_of(running.pid)
                   if title_of(pid).partition(" ")[0].endswith(("redis-server", "valkey-server"))]
        assert len(servers) == 1
        running.kill()
        running.wait()
        wait_for(lambda: not any(is_alive(pid) for pid in pids + servers), 15.0, "the end of daemons and server")
    with demo(folder) as running:
        for pid in masters(folder):
            os.kill(pid, signal.SIGKILL)
        running.send_signal(signal.SIGTERM)
        running.wait(30)
    assert_sessions_are_shown(run_once(folder))


_WITHOUT = "import runpy, sys; sys.modules[sys.argv.pop(1)] = None; runpy.run_module('demo', run_name='__main__')"


def test_a_missing_driver_is_told(folder):
    result = subprocess.run([sys.executable, "-c", _WITHOUT, "lmdb", "--database", "lmdb", "--folder", str(folder)],
                            cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=30)
    assert result.returncode == os.EX_UNAVAILABLE
    assert result.stderr == "DB=lmdb needs what is not installed here: .venv/bin/pip install -e '.[lmdb]'\n"


@contextmanager
def demo(folder: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the demo and wait until it tells how to connect; killed at the end should it still be there."""
    with subprocess.Popen(command(folder, *options), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as running:
        assert running.stdout
        try:
            assert any(line.startswith("  Logs:") for line in running.stdout), "the demo does not come up"
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def masters(folder: Path) -> list[int]:
    """Return the pids of the demo's daemons, as their pid files tell them."""
    found = []
    for path in (folder / "var").rglob("*.pid"):
        pid = int(path.read_text() or "0")
        if pid in all_pids() and title_of(pid).endswith("master"):
            found.append(pid)
    return found
