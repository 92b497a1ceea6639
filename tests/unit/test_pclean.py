"""pclean's rules, options, reports, log lines, checkpoint and exit codes, without a process of its own."""

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.config.cmdline import read_config
from popular.config.store import Config
from popular.store.mailbox import Mailbox
from popular.store.quota import Usage
from popular.tools.pclean import main as pclean, run as pclean_run
from popular.tools.pclean.settings import SCHEMA, mistakes, rules_of
from popular.tools.screen import Screen

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_700_000_000

RULES = """
[rule]
    [[vip]]
    mailbox = a/boss
    keep = on
    read = 1d
    unread = 1d
    [[a]]
    mailbox = a/*
    read = 90d
    unread = 365d
    maxnum = 2
    [[digits]]
    mailbox = [0-9]?
    read = 1h
    quota = 1
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "pclean.conf"
    path.write_text(RULES)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log will be."""
    return tmp_path / "log"


@pytest.fixture
def run(spool: Path, conf: Path, log: Path) -> Callable[..., int]:
    """A function that runs pclean over the spool at the time NOW."""
    def call(*options: str) -> int:
        rights = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
        return pclean.run(["-c", str(conf), "-m", str(spool), "-l", str(log), *rights, *options], lambda: float(NOW))
    return call


def config_of(conf: Path, text: str = RULES) -> Config:
    conf.write_text(text)
    return read_config(SCHEMA, ["-c", str(conf)], "").config


def make(spool: Path, name: str, new: tuple[int, ...] = (), cur: tuple[int, ...] = ()) -> Path:
    """Make a mailbox with messages of so many seconds' age."""
    Mailbox(str(spool), name).create()
    for folder, ages in (("new", new), ("cur", cur)):
        for pid, age in enumerate(ages):
            (spool / name / folder / f"{NOW - age}.{pid}_1000").write_bytes(b"")
    return spool / name


def count(spool: Path, folder: str = "*") -> int:
    return sum(path.is_file() for path in spool.rglob(f"{folder}/*_1000"))


def lines(log: Path, word: str = "") -> list[str]:
    """Return what stands behind the head of each log line."""
    text = log.read_text() if log.exists() else ""
    return [line.split(" ", 6)[6] for line in text.splitlines() if word in line]


@pytest.mark.parametrize(("mailbox", "read", "unread", "keeps"), [
    pytest.param("a/boss", None, None, True, id="keep-wins-over-ages"),
    pytest.param("a/joe", 90 * DAY, 365 * DAY, False, id="first-match"),
    pytest.param("a/b/c/joe", 90 * DAY, 365 * DAY, False, id="star-matches-slashes"),
    pytest.param("a", None, None, False, id="not-the-folder-itself"),
    pytest.param("ba/joe", None, None, False, id="whole-name-at-the-start"),
    pytest.param("A/joe", None, None, False, id="case-counts"),
    pytest.param("1x", HOUR, None, False, id="class-and-question-mark"),
    pytest.param("1xy", None, None, False, id="whole-name-at-the-end"),
    pytest.param("other", None, None, False, id="no-match-no-expiry"),
])
def test_the_first_matching_rule_wins(conf: Path, mailbox: str, read: float | None, unread: float | None,
                                      keeps: bool) -> None:
    rule = rules_of(config_of(conf)).of(mailbox)
    assert (rule.ages.tmp, rule.ages.read, rule.ages.unread, rule.keeps) == (36 * HOUR, read, unread, keeps)


@pytest.mark.parametrize(("number", "size", "over"), [
    (0, 0, False), (1, 2**20 - 1, False), (1, 2**20, True), (2, 0, False), (3, 0, True),
])
def test_a_mailbox_that_has_reached_its_quota_is_over_it(conf: Path, number: int, size: int, over: bool) -> None:
    rules = rules_of(config_of(conf, "[rule]\n[[x]]\nmailbox = *\nquota = 1\nmaxnum = 3\n"))
    assert rules.of("x").quota.is_reached(Usage(size, number)) is over


def test_a_rule_without_a_pattern_is_a_mistake(conf: Path) -> None:
    [mistake] = mistakes(config_of(conf, "[rule]\n[[x]]\nmailbox = ''\n"))
    assert "[rule] x: mailbox" in str(mistake)


@pytest.mark.parametrize("text", [
    pytest.param("[pclean]\ntmpage = 59m\n", id="tmpage-below-1h"),
    pytest.param("[rule]\n[[x]]\nread = 1d\n", id="no-pattern"),
    pytest.param("[rule]\n[[x]]\nmailbox = *\nread = 0\n", id="age-0"),
    pytest.param("[rule]\n[[x]]\nmailbox = *\nunread = -1d\n", id="negative"),
    pytest.param("[rule]\n[[x]]\nmailbox = ' '\n", id="empty-pattern"),
    pytest.param("[rules]\n", id="section"),
    pytest.param("[pclean]\nuser = no.such.user.here\n" if os.geteuid() == 0 else "[pclean]\nuser = a b\n", id="user"),
])
def test_wrong_settings_are_78_and_change_nothing(spool: Path, conf: Path, text: str,
                                                  capfd: pytest.CaptureFixture[str]) -> None:
    conf.write_text(text)
    (make(spool, "a/joe", cur=(999 * DAY,)))
    assert pclean.run(["-c", str(conf), "-m", str(spool)]) == 78
    assert pclean.run(["-c", str(conf), "-m", str(spool), "--check-config"]) == 78
    assert capfd.readouterr().err.startswith("pclean: ")
    assert count(spool) == 1


@pytest.mark.parametrize("argv", [
    ["joe"], ["--report", "full"], ["--pause", "11s"], ["-m", "/no/such/folder"], ["--foreground"], ["--ready-fd", "3"],
    ["--dry"],
], ids=" ".join)
def test_wrong_usage_is_64(argv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pclean.run(argv)
    assert caught.value.code == 64
    assert "pclean" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version(option: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pclean.run([option])
    assert caught.value.code == 0
    assert "pclean" in capfd.readouterr().out


def test_the_printed_configuration_is_the_same_configuration(run: Callable[..., int], conf: Path,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    assert run("--print-config", "--report", "all") == 0
    before = config_of(conf)
    after = config_of(conf, capfd.readouterr().out)
    assert after.objects == before.objects
    assert after.variables.text("report") == "all"


def test_a_run_expires_and_logs(run: Callable[..., int], spool: Path, log: Path,
                                capfd: pytest.CaptureFixture[str]) -> None:
    make(spool, "a/joe", new=(366 * DAY, DAY), cur=(91 * DAY, 91 * DAY, DAY))
    make(spool, "a/boss", new=(999 * DAY,), cur=(999 * DAY,))
    make(spool, "b/jim", new=(999 * DAY,), cur=(999 * DAY,))
    (spool / "b/jim/tmp/x").write_bytes(b"12345")
    os.utime(spool / "b/jim/tmp/x", (0, NOW - 36 * HOUR - 1))
    assert run() == 0
    assert count(spool) == 6
    start, first, second, end = lines(log)
    assert start == f"INF 02f0 clean_start mailboxdir='{spool}' after=''"
    assert first == "INF 02f4 mailbox_cleaned mailbox='a/joe' tmp=0 read=2 unread=1 octets=3000"
    assert second == "INF 02f4 mailbox_cleaned mailbox='b/jim' tmp=1 read=0 unread=0 octets=5"
    assert re.fullmatch(r"INF 02f1 clean_end mailboxes=3 tmp=1 read=2 unread=1 removed=0 octets=3005 empty=0 "
                        r"overquota=0 errors=0 seconds=\d\.\d{3}", end)
    assert capfd.readouterr() == ("", "")
    assert run() == 0
    assert len(lines(log)) == 6, "a mailbox without anything to do has no line"
    assert sorted(os.listdir(spool)) == ["a", "b"], "no checkpoint is left"


def test_without_rules_no_mail_expires(run: Callable[..., int], conf: Path, spool: Path) -> None:
    make(spool, "a/joe", new=(9999 * DAY,), cur=(9999 * DAY,))
    conf.write_text("")
    assert run() == 0
    assert count(spool) == 2


def snapshot(spool: Path) -> list[tuple[str, os.stat_result]]:
    paths = [spool, *sorted(spool.rglob("*"))]
    return [(str(path), path.lstat()) for path in paths]


def test_a_dry_run_touches_nothing_and_tells_all(run: Callable[..., int], spool: Path, log: Path,
                                                 capfd: pytest.CaptureFixture[str]) -> None:
    make(spool, "a/joe", new=(366 * DAY,), cur=(91 * DAY,))
    (make(spool, "gone") / ".removed").write_bytes(b"")
    os.utime(spool / "gone/.removed", (0, NOW - 8 * DAY))
    make(spool, "left").rename(spool / ":removed:left")
    (spool / "odd name").mkdir()
    before = snapshot(spool)
    assert run("--dry-run", "--report", "empty") == 0
    assert snapshot(spool) == before
    assert not log.exists()
    told = capfd.readouterr().out.splitlines()
    assert told[:-1] == [
        "left: would remove the mailbox",
        "a/joe: would remove 0 files in tmp, 1 read and 1 unread mails, 2000 octets",
        "empty a/joe", "gone: would remove the mailbox", f"{spool}/odd name: no mailbox can have this name"]
    assert told[-1] == ("in total: mailboxes 2, tmp 0, read 1, unread 1, removed 2, octets 2000, empty 1, overquota 0, "
                        "errors 0")


def test_verbose_names_every_file_and_forges_nothing(run: Callable[..., int], spool: Path,
                                                     capfd: pytest.CaptureFixture[str]) -> None:
    box = make(spool, "a/joe")
    (box / "cur/x\n\x1b[2Jj\xf6\udcff").write_bytes(b"")
    os.utime(box / "cur/x\n\x1b[2Jj\xf6\udcff", (0, 0))
    assert run("-v", "-n") == 0
    dry = capfd.readouterr().out
    assert run("-v") == 0
    wet = capfd.readouterr().out
    assert f"    {box}/cur/x\\n\\x1b[2Jj\\xf6\\udcff\n" in wet
    assert dry.replace("would remove", "removed") == wet


def test_hostile_names_forge_no_log_line(run: Callable[..., int], spool: Path, log: Path) -> None:
    for name in ("x\n20040821 forged", "q' why='", "\udcff\x1b"):
        (spool / name).mkdir()
    assert run() == 0
    assert len(log.read_text().splitlines()) == 5
    assert all(line.isascii() and line.isprintable() for line in log.read_text().splitlines())


@pytest.mark.parametrize(("report", "wanted"), [
    ("none", []),
    ("empty", ["empty 1x", "empty b/none"]),
    ("overquota", ["overquota 2x 2 mails 2000000 octets", "overquota a/many 2 mails"]),
    ("all", ["empty 1x", "overquota 2x 2 mails 2000000 octets", "overquota a/many 2 mails", "empty b/none"]),
])
def test_reports(run: Callable[..., int], spool: Path, report: str, wanted: list[str],
                 capfd: pytest.CaptureFixture[str]) -> None:
    make(spool, "1x", cur=(2 * HOUR,))    # is empty when its mail has gone
    box = make(spool, "2x")
    for pid in (1, 2):
        (box / f"new/{NOW}.{pid}_1000000").write_bytes(b"")
    make(spool, "a/many", new=(0,), cur=(0,))
    make(spool, "a/few", new=(0,))
    make(spool, "b/none")
    assert run("--report", report) == 0
    assert capfd.readouterr().out.splitlines() == wanted


@pytest.mark.parametrize(("age", "name", "goes"), [
    pytest.param(7 * DAY, "joe", True, id="due"),
    pytest.param(7 * DAY - 1, "joe", False, id="not-yet"),
    pytest.param(-1, "joe", False, id="future"),
    pytest.param(99 * DAY, "a/boss", False, id="kept-by-its-rule"),
])
def test_marked_mailboxes(run: Callable[..., int], spool: Path, log: Path, age: int, name: str, goes: bool) -> None:
    box = make(spool, name)
    (box / ".removed").write_bytes(b"")
    os.utime(box / ".removed", (0, NOW - age))
    (box / "cur/1.1_5").write_bytes(b"")
    assert run() == 0
    assert box.exists() is not goes
    removed = [f"INF 02f5 mailbox_removed mailbox='{name}' mails=1 octets=5"]
    assert lines(log, "mailbox_removed") == (removed if goes else [])
    assert len(lines(log, "mailbox_kept")) == (name == "a/boss")


def test_late_mail_keeps_a_marked_mailbox_which_is_cleaned_as_ever(run: Callable[..., int], spool: Path,
                                                                   log: Path) -> None:
    box = make(spool, "a/joe", new=(366 * DAY, 0))
    (box / ".removed").write_bytes(b"")
    os.utime(box / ".removed", (0, NOW - 8 * DAY))
    assert run() == 0
    [kept] = lines(log, "mailbox_kept")
    assert kept.startswith("ADM 02f6 mailbox_kept mailbox='a/joe' why='mail came after it was marked: ")
    assert len(os.listdir(box / "new")) == 1


def test_errors_are_1_and_end_nothing(run: Callable[..., int], spool: Path, log: Path,
                                      monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a/1", "a/2", "a/3"):
        make(spool, name, cur=(91 * DAY,))
    real = os.unlink

    def refuse(path: str) -> None:
        if "/a/2/" in path:
            raise PermissionError(13, "Permission denied", path)
        real(path)

    monkeypatch.setattr(os, "unlink", refuse)
    assert run() == 1
    assert [count(spool / f"a/{number}") for number in (1, 2, 3)] == [0, 1, 0]
    [failed] = lines(log, "clean_failed")
    assert failed.startswith("ADM 02f7 clean_failed mailbox='a/2' failures=1 why=") and "Permission denied" in failed
    assert "errors=1" in lines(log, "clean_end")[0]
    assert "1 mailboxes, folders or databases with errors" in capfd.readouterr().err


def test_what_is_wrong_in_the_spool_is_logged(run: Callable[..., int], spool: Path, log: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/joe", "b/joe", "c/joe"):
        make(spool, name)
    (spool / "a/up").symlink_to("..")
    (spool / "a b").mkdir()
    real = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run() == 1
    assert lines(log)[1:-1] == [
        f"ADM 02fa link_loop path='{spool}/a/up'", f"ADM 02f9 odd_name path='{spool}/a b'",
        f"ADM 02f8 folder_unreadable path='{spool}/b' why='Permission denied'"]
    assert "mailboxes=2 " in lines(log)[-1] and "errors=1 " in lines(log)[-1]


def test_a_second_run_on_the_spool_is_75(run: Callable[..., int], spool: Path, log: Path, tmp_path: Path,
                                         capfd: pytest.CaptureFixture[str]) -> None:
    make(spool, "a/joe", cur=(91 * DAY,))
    (tmp_path / "alias").symlink_to(spool)
    held = os.open(tmp_path / "alias", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert run() == 75
    assert count(spool) == 1
    assert f"ADM 02f3 clean_refused why='{spool}: another pclean works on it'" in lines(log)
    assert run("--dry-run") == 0, "which may look on"
    os.close(held)
    capfd.readouterr()
    assert run() == 0


def test_a_log_that_cannot_be_written_is_75(run: Callable[..., int], spool: Path, tmp_path: Path) -> None:
    make(spool, "a/joe", cur=(91 * DAY,))
    assert run("-l", str(tmp_path / "missing/log")) == 75
    assert count(spool) == 1


def test_a_mistake_of_ours_is_70_and_logged(run: Callable[..., int], spool: Path, log: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *arguments: object, **names: object) -> None:
            raise ZeroDivisionError

    make(spool, "a/joe")
    monkeypatch.setattr(pclean_run, "Cleaning", Broken)
    assert run() == 70
    assert lines(log, "clean_bug")[0].startswith("BUG 02fc clean_bug after='' type='ZeroDivisionError' place='test_")


def test_the_screen_needs_no_reader(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    screen = Screen(writer, writer)
    screen.line("x")
    screen.progress(1, "a")
    os.close(writer)
