"""A copy of pmigrate that is killed between any two of its calls: a second run completes it, and nothing is twice."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.store.mailbox import Mailbox
from popular.tools.pmigrate.copying import Tally, copy
from popular.tools.pmigrate.targets import spool
from popular.tools.pmigrate.targets.spool import Spool
from popular.unix.rights import own_rights
from tests.harness.letters import RECEIVED, Letters, letter, shown

SEED = 4711
MOMENTS = 25    # for each of two sources

LISTED = Letters(
    letter(1, "zz"), letter(2, "aa", is_read=True), letter(3, None), letter(4, None, b"Subject: 3\n\ntext\n"),
    letter(5, f"{RECEIVED}.7_20"), letter(6, "mm", b"x\n", name="1.M2P3.host:2,"), letter(7, "a" * 70))
BARE = Letters(*[letter(number, f"{RECEIVED + number}.7_20", is_read=number < 3) for number in range(1, 6)])


def bring(source: Letters, mailbox: Mailbox) -> None:
    """Copy in small batches."""
    mailbox.create()
    target = Spool(mailbox, own_rights())
    try:
        copy(source, target, Tally())
    finally:
        target.close()


def apart(work: Callable[[], None]) -> int:
    """Do something in a forked process; return its wait status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def is_call(event: str, function: object) -> bool:
    """Tell whether the system may be called, or a library that does so."""
    return event == "c_call" and getattr(function, "__module__", "") in ("posix", "io", "_io", "fcntl", None)


def killed_at(moment: int, work: Callable[[], None]) -> Callable[[], None]:
    """Return `work`, but the process is killed before it calls the system or a library for the so manieth time."""
    def run() -> None:
        left = moment

        def count(frame: object, event: str, function: object) -> None:
            nonlocal left
            if is_call(event, function):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.setprofile(count)
        work()
    return run


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> Callable[[Callable[[], None]], list[int]]:
    """Return at which calls to kill: some, chosen by a fixed seed, or with --long all."""
    def choose(work: Callable[[], None]) -> list[int]:
        calls = 0

        def count(frame: object, event: str, function: object) -> None:
            nonlocal calls
            calls += is_call(event, function)
        sys.setprofile(count)
        try:
            work()
        finally:
            sys.setprofile(None)
        every = range(1, calls + 1)
        return [*every] if request.config.getoption("--long") else sorted(random.Random(SEED).sample(every, MOMENTS))
    return choose


@pytest.mark.parametrize("source", [pytest.param(LISTED, id="listed"), pytest.param(BARE, id="names tell ids")])
def test_killed_at_any_moment(source: Letters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments) -> None:
    monkeypatch.setattr(spool, "BATCH_MESSAGES", 3)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    whole, torn = Mailbox(str(tmp_path), "whole"), Mailbox(str(tmp_path), "torn")
    chosen = moments(lambda: bring(source, whole))
    wanted = shown(tmp_path, "whole")
    assert len(wanted) == len(source.letters)
    killed = 0
    for moment in chosen:
        status = apart(killed_at(moment, lambda: bring(source, torn)))
        killed += os.WIFSIGNALED(status)
        assert os.WIFSIGNALED(status) or status == 0, moment
        if os.path.isdir(torn.new):
            there = shown(tmp_path, "torn")
            assert there == [pair for pair in wanted if pair in there], moment
        bring(source, torn)
        assert shown(tmp_path, "torn") == wanted, moment
        shutil.rmtree(torn.path)
    assert killed > len(chosen) * 0.9
