"""pclean as cron runs it: ended at any moment, beside daemons and deliveries, on big spools, without rights."""

import grp
import os
import pty
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.store.mailbox import Mailbox
from popular.tools import screen as tool_screen
from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.system import wait_for
from tests.harness.tools import run_tool

DAY = 24 * 3600
MAIL = b"Subject: x\r\n\r\ntext\r\n"
RULES = "[rule]\n[[all]]\nmailbox = *\nread = 30d\nunread = 30d\n"
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def conf(rundir: Path) -> Path:
    """A configuration file in a folder that everybody may enter."""
    rundir.chmod(0o755)
    path = rundir / "pclean.conf"
    path.write_text(f"[pclean]\nstatetime = 0\n{RULES}")
    return path


@pytest.fixture
def quick_spool() -> Iterator[Path]:
    """A spool in memory if there is a place for that, for tens of thousands of folders."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def command_for(spool: Path, conf: Path, *options: str) -> list[str]:
    rights = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    return [sys.executable, str(ROOT / "bin/pclean"), "-c", str(conf), "-m", str(spool), "-l",
            str(conf.parent / "pclean.log"), *rights, *options]


def run(spool: Path, conf: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return run_tool(*command_for(spool, conf, *options)[1:], folder=ROOT)


@contextmanager
def running(spool: Path, conf: Path, *options: str) -> "Iterator[subprocess.Popen[bytes]]":
    """Run pclean in the background; it is killed if it is still there at the end."""
    with subprocess.Popen(command_for(spool, conf, *options), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def make(spool: Path, names: list[str], old: bool = True, folders: tuple[str, ...] = ("new", "cur", "tmp")) -> None:
    """Make mailboxes, quickly; each with a message that is too old if `old`."""
    for name in names:
        box = spool / name
        box.mkdir(parents=True)
        for folder in folders:
            os.mkdir(box / folder)
        if old:
            (box / "cur" / f"{int(time.time()) - 40 * DAY}.1_5").touch()


def log_lines(conf: Path, word: str) -> list[str]:
    path = conf.parent / "pclean.log"
    return [line for line in path.read_text().splitlines() if word in line] if path.exists() else []


def messages(spool: Path) -> int:
    return sum(path.is_file() for folder in ("new", "cur") for path in spool.rglob(f"{folder}/*_*"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
                         ids=lambda number: number.name)
def test_ended_in_the_middle_it_is_resumed_and_does_each_mailbox(spool: Path, conf: Path,
                                                                 number: signal.Signals) -> None:
    names = [f"{folder}/{box:02d}" for folder in "abc" for box in range(20)]
    make(spool, names)
    with running(spool, conf, "--pause", "10ms") as process:
        wait_for(lambda: (spool / ".pclean").exists() and "b/" in (spool / ".pclean").read_text(), what="a checkpoint")
        process.send_signal(number)
        assert process.wait(20) == (-9 if number == signal.SIGKILL else 75)
        assert process.stderr is not None
        if number != signal.SIGKILL:
            assert number.name.encode() in process.stderr.read()
    left = messages(spool)
    assert 0 < left < len(names)
    assert run(spool, conf, "--resume").returncode == 0
    assert messages(spool) == 0
    untold = len(names) - len(log_lines(conf, "mailbox_cleaned"))
    assert 0 <= untold <= (number == signal.SIGKILL), "which may come between the removal and its line"
    [first, second] = log_lines(conf, "clean_start")
    assert "after=''" in first and "after='b/" in second
    done = int(log_lines(conf, "clean_end")[-1].partition("mailboxes=")[2].split()[0])
    assert done <= left + 1, "only what was not done, but for the one at the edge"


def test_a_pause_does_not_delay_the_end(spool: Path, conf: Path) -> None:
    make(spool, ["a", "b"])
    with running(spool, conf, "--pause", "10s") as process:
        wait_for((spool / ".pclean").exists, what="the pause")
        started = time.monotonic()
        process.terminate()
        assert process.wait(20) == 75
        assert time.monotonic() - started < 5


def test_a_signal_that_was_ignored_stays_ignored(spool: Path, conf: Path) -> None:
    make(spool, [f"{number:02d}" for number in range(30)])
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command_for(spool, conf, "--pause", "10ms")]
    with subprocess.Popen(command) as process:
        wait_for((spool / ".pclean").exists, what="the first mailbox")
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0


def test_two_runs_do_not_meet(spool: Path, conf: Path) -> None:
    make(spool, ["a", "b"])
    with running(spool, conf, "--pause", "10s") as process:
        wait_for((spool / ".pclean").exists, what="the first one")
        second = run(spool, conf)
        assert (second.returncode, messages(spool)) == (75, 1)
        assert "another pclean works on it" in second.stderr
        process.kill()
        process.wait(20)
    assert run(spool, conf).returncode == 0, "the lock goes with the process"


def deliver(spool: Path, name: str, text: bytes) -> "subprocess.Popen[bytes]":
    """Start a delivery."""
    process = subprocess.Popen([sys.executable, str(ROOT / "bin/pdeliver"), "-m", str(spool), "-l", "/dev/null", name],
                               stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.close()
    return process


def test_beside_deliveries_and_a_session_no_message_is_lost(spool: Path, conf: Path, start: Callable[..., Daemon],
                                                            pop: Callable[[Endpoint], PopClient]) -> None:
    make(spool, ["a/joe", "a/jim", "b"])
    old = int(time.time()) - 40 * DAY
    (spool / "a/joe/new" / f"{int(time.time())}.7_{len(MAIL)}").write_bytes(MAIL)
    for pid in range(1000, 1200):
        (spool / "a/joe/new" / f"{old}.{pid}_5").touch()
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    client = pop(pserv.endpoint())
    client.send(b"a/joe\r\nx\r\n\r\n")
    assert client.line().startswith(b"+OK 202 messages")
    sent = 0
    for _ in range(6):
        deliveries = [deliver(spool, name, b"Subject: %d\n\n" % sent) for name in ("a/joe", "a/jim")]
        assert run(spool, conf).returncode == 0
        assert [process.wait(30) for process in deliveries] == [0, 0]
        sent += 1
    assert client.err("RETR 2")
    assert client.message(202) == MAIL
    assert client.ok("DELE 1") is not None    # is gone already, which is as good
    assert client.ok("QUIT") == b"bye"
    assert len(os.listdir(spool / "a/joe/new")) == sent
    assert [path.read_bytes() for path in (spool / "a/joe/cur").iterdir()] == [MAIL]
    assert len(os.listdir(spool / "a/jim/new")) == sent and messages(spool) == 2 * sent + 1


@pytest.mark.limit(120)
def test_a_delivery_to_a_mailbox_that_is_being_removed_is_there_or_was_refused(spool: Path, conf: Path) -> None:
    conf.write_text("[pclean]\nremoveafter = 0\n")
    outcomes = []
    for turn in range(12):
        name = f"joe{turn}"
        make(spool, [name], old=False)
        (spool / name / ".removed").touch()
        with running(spool, conf, "--pause", "5ms") as cleaner:    # those kept before give it something to do
            delivery = deliver(spool, name, b"x\n")
            code = delivery.wait(30)
            assert cleaner.wait(30) == 0
        arrived = len(os.listdir(spool / name / "new")) if (spool / name).exists() else 0
        assert code in (0, 67, 75)
        assert code != 0 or arrived == 1, "an accepted mail is gone"
        assert not [entry for entry in os.listdir(spool) if entry.startswith(":")]
        outcomes.append((code, arrived))
    assert run(spool, conf).returncode == 0
    assert len(os.listdir(spool)) == sum(arrived for _, arrived in outcomes)


# The kernel counts in what the process had before exec, which is all of ours: so something smaller starts it.
_PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_kib(command: list[str]) -> int:
    """Run a command and return the most memory that it had resident."""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", _PEAK, *command], stdout=subprocess.PIPE, text=True,
                          timeout=150)
    assert done.returncode == 0
    return int(done.stdout.splitlines()[-1])


@pytest.mark.limit(180)
def test_memory_does_not_grow_with_the_spool(quick_spool: Path, conf: Path) -> None:
    conf.write_text(RULES)
    wide, deep, small = quick_spool / "wide", quick_spool / "deep", quick_spool / "small"
    make(wide, [f"user{number:05d}" for number in range(5_000)], False, ("new", "cur"))
    make(deep, [f"{number % 100:02d}/user{number:05d}" for number in range(10_000)], False, ("new", "cur"))
    make(small, ["joe"], old=False)
    base = peak_kib(command_for(small, conf, "--report", "all"))
    assert peak_kib(command_for(wide, conf)) - base < 2048, "the names of the widest folder"
    assert peak_kib(command_for(deep, conf)) - base < 1024
    assert "mailboxes=10000 " in log_lines(conf, "clean_end")[-1]
    box = deep / "00/user00000"
    for number in range(10_000):
        (box / "cur" / f"{number}.1_5").touch()
    assert peak_kib(command_for(deep, conf)) - base < 1024
    assert os.listdir(box / "cur") == []


def test_progress_is_for_terminals(spool: Path, conf: Path) -> None:
    make(spool, [f"{number:03d}" for number in range(3)])
    master, slave = pty.openpty()
    seen = b""
    try:
        command = command_for(spool, conf, "--pause", "%dms" % (tool_screen.INTERVAL * 1000), "--report", "empty")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave) as process:
            assert process.stdout is not None
            told = process.stdout.read()
            assert process.wait(20) == 0
        os.close(slave)
        slave = -1
        try:
            while data := os.read(master, 65536):
                seen += data
        except OSError:    # the end of a terminal
            pass
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    assert told == b"empty 000\nempty 001\nempty 002\n"
    assert b"1 mailboxes, at 000" in seen
    assert seen.endswith(b"\r\x1b[K"), "it is taken away"
    quiet = run(spool, conf)
    assert (quiet.stdout, quiet.stderr) == ("", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_as_root_it_becomes_the_mail_user_and_goes_on_where_he_is_refused(spool: Path, conf: Path,
                                                                          tmp_path: Path) -> None:
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(0o755)
    make(spool, ["a/1", "a/2", "a/3", "closed/4", "b/5"])
    for path in (spool, *spool.rglob("*"), conf.parent):
        os.chown(path, NOBODY, -1)
    os.chown(spool / "a/2/cur", 0, 0)    # of somebody else, who lets others look
    (spool / "a/2/cur").chmod(0o755)
    os.chown(spool / "closed", 0, 0)
    (spool / "closed").chmod(0o700)
    conf.write_text(f"[pclean]\nuser = nobody\n{RULES}")
    command = [word for word in command_for(spool, conf) if word not in ("-u", "-g", "root")]
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    result = subprocess.run([*command, "-g", group], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, result.stderr
    assert sorted(str(path.relative_to(spool)) for path in spool.rglob("cur") if any(path.iterdir())) == [
        "a/2/cur", "closed/4/cur"]
    assert len(log_lines(conf, "mailbox_cleaned")) == 3
    assert "Permission denied" in log_lines(conf, "clean_failed")[0]
    assert "closed" in log_lines(conf, "folder_unreadable")[0]
    assert os.stat(conf.parent / "pclean.log").st_uid == NOBODY


def test_a_mailbox_without_cur_is_cleaned_too(spool: Path, conf: Path) -> None:
    Mailbox(str(spool), "joe").create()
    (spool / "joe/cur").rmdir()
    (spool / "joe/new" / "1.1_5").touch()
    assert run(spool, conf).returncode == 0
    assert messages(spool) == 0
