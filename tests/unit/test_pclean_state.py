"""pclean's checkpoint: written now and then, kept by a signal, believed only where it is whole."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popular.store.mailbox import Mailbox
from popular.tools.pclean import main as pclean
from popular.tools.pclean.expire import Cleaning
from popular.tools.pclean.run import Stop
from popular.tools.pclean.state import Milestones, ProgressFile, StateError

DAY = 24 * 3600
NOW = 1_700_000_000
RULES = "[rule]\n[[a]]\nmailbox = *\nread = 90d\n"


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


def make(spool: Path, name: str) -> None:
    """Make a mailbox with one message that is too old."""
    Mailbox(str(spool), name).create()
    (spool / name / "cur" / f"{NOW - 91 * DAY}.1_1000").write_bytes(b"")


def count(spool: Path) -> int:
    return len(list(spool.rglob("*_1000")))


def lines(log: Path, word: str) -> list[str]:
    return [line for line in log.read_text().splitlines() if word in line]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Let a signal come while the mailbox with this number is cleaned; returns the names that will be cleaned."""
    seen: list[str] = []
    real = Cleaning.__init__

    def noted(cleaning: Cleaning, mailbox: Mailbox, *arguments: Any, **names: Any) -> None:
        real(cleaning, mailbox, *arguments, **names)
        seen.append(mailbox.name)

    def is_wanted(stop: Stop) -> bool:
        if len(seen) == number:
            stop.signal = "SIGTERM"
        return bool(stop.signal)

    monkeypatch.setattr(Cleaning, "__init__", noted)
    monkeypatch.setattr(Stop, "is_wanted", is_wanted)
    return seen


def test_a_signal_keeps_the_checkpoint_and_resume_does_the_rest(run: Callable[..., int], spool: Path, log: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a/{number:02d}" for number in range(12)]
    for name in names:
        make(spool, name)
    with monkeypatch.context() as patch:
        seen = interrupt_at(patch, 5)
        assert run() == 75
        assert seen == names[:5]
    assert "signal='SIGTERM' after='a/03' mailboxes=5" in lines(log, "clean_cut")[0]
    with monkeypatch.context() as patch:
        seen = interrupt_at(patch, 99)
        assert run("--resume") == 0
        assert seen == names[4:], "the one in whose middle the signal came is done again"
    assert count(spool) == 0
    assert "after='a/03'" in lines(log, "clean_start")[1]
    assert not (spool / ".pclean").exists()


def test_resume_without_a_checkpoint_begins_at_the_start(run: Callable[..., int], spool: Path, log: Path) -> None:
    make(spool, "a/joe")
    assert run("--resume") == 0
    assert count(spool) == 0
    assert lines(log, "state_lost") == []


def test_a_checkpoint_is_only_used_with_resume(run: Callable[..., int], spool: Path) -> None:
    make(spool, "a/joe")
    ProgressFile(str(spool / ".pclean"), str(spool)).write("z")
    assert run("--dry-run", "--resume") == 0
    assert (spool / ".pclean").exists()
    assert run() == 0
    assert count(spool) == 0


@pytest.mark.parametrize("content", [
    b"", b"\xff\0", b"pclean 1\n/other/spool\na/joe\n", b"pclean 1\nSPOOL\n../x\n", b"pclean 2\nSPOOL\na/joe\n",
    b"pclean 1\nSPOOL\na/joe\nmore\n", b"x" * 999999,
], ids=["empty", "noise", "other-spool", "bad-name", "other-version", "more", "long"])
def test_a_damaged_checkpoint_is_told_and_not_believed(run: Callable[..., int], spool: Path, log: Path,
                                                       content: bytes) -> None:
    make(spool, "a/joe")
    (spool / ".pclean").write_bytes(content.replace(b"SPOOL", os.fsencode(spool)))
    assert run("--resume") == 0
    assert count(spool) == 0
    assert len(lines(log, "ADM 02fb state_lost")) == 1


def test_a_checkpoint_that_cannot_be_written_is_told_once(run: Callable[..., int], conf: Path, spool: Path, log: Path,
                                                          tmp_path: Path) -> None:
    for number in range(5):
        make(spool, f"a/{number}")
    conf.write_text(f"[pclean]\nstatefile = {tmp_path}/missing/state\nstatetime = 0\n{RULES}")
    assert run() == 0
    assert len(lines(log, "state_lost")) == 1
    assert count(spool) == 0


def test_milestones_are_written_now_and_then(tmp_path: Path) -> None:
    now = 0.0
    file = ProgressFile(str(tmp_path / "state"), "/pop")
    complaints: list[StateError] = []
    milestones = Milestones(file, 5.0, lambda: now, complaints.append)
    found = []
    for number in range(12):
        now = float(number)
        milestones.reach(f"m{number}")
        found.append(file.read())
    assert found == [""] * 5 + ["m5"] * 5 + ["m10"] * 2
    milestones.finish()
    assert (file.read(), complaints, os.listdir(tmp_path)) == ("", [], [])
