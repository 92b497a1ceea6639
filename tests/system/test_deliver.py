"""pdeliver as the MTA runs it: many at once, on full disks, ended by signals at every moment."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popular.store.filename import is_ours, size_of
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.harness.daemon import ROOT
from tests.harness.mail import crlf, samples
from tests.harness.system import wait_for

MAIL = b"Subject: x\n\ntext\n"
Prepare = Callable[[], None]


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), "joe").create()
    return spool / "joe"


def command_for(box: Path, *options: str) -> list[str]:
    return [sys.executable, str(ROOT / "bin" / "pdeliver"), "-m", str(box.parent), "-l", str(box.parent / "log"),
            *options, box.name]


@contextmanager
def running(box: Path, *options: str, prepare: Prepare | None = None) -> "Iterator[subprocess.Popen[bytes]]":
    """Run pdeliver with pipes; it is killed if it is still there at the end."""
    with subprocess.Popen(command_for(box, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, preexec_fn=prepare) as process:
        try:
            yield process
        finally:
            process.kill()


def deliver(box: Path, mail: bytes, *options: str, prepare: Prepare | None = None) -> int:
    with running(box, *options, prepare=prepare) as process:
        process.communicate(mail, timeout=30)
        return process.returncode


def messages(box: Path) -> list[bytes]:
    """Return what a client would fetch, after checking that each size told is right."""
    maildrop = MaildirMaildrop(Mailbox(str(box.parent), box.name))
    found: list[bytes] = []
    for index, entry in enumerate(maildrop.entries):
        with maildrop.open(index) as file:
            found.append(file.read())
        assert entry.size == len(found[-1])
    return found


def drafts(box: Path) -> list[str]:
    return os.listdir(box / "tmp")


def test_real_messages_are_stored_octet_for_octet(box: Path) -> None:
    try:
        mails = list(samples().values())[:12]
    except LookupError as why:
        pytest.skip(str(why))
    for mail in mails:
        assert deliver(box, mail) == 0
    assert sorted(messages(box)) == sorted(crlf(mail) for mail in mails)


def test_spec_9_1_parallel_deliveries_need_no_lock(box: Path) -> None:
    processes = [subprocess.Popen(command_for(box), stdin=subprocess.PIPE) for _ in range(20)]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(b"Subject: %03d\n\n" % number)
        process.stdin.close()
    assert [process.wait(30) for process in processes] == [0] * 20
    assert sorted(messages(box)) == [b"Subject: %03d\r\n\r\n" % number for number in range(20)]
    assert drafts(box) == []
    assert all(is_ours(name) for name in os.listdir(box / "new"))
    assert len((box.parent / "log").read_text().splitlines()) == 20


def test_a_big_mail_with_a_long_line_needs_little_memory(box: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (200 * 2**20, 200 * 2**20))

    mail = b"x" * (64 * 2**20)
    for form in ("LF", "NET"):
        assert deliver(box, mail, "-f", form, prepare=little) == 0
    assert [size_of(name) for name in os.listdir(box / "new")] == [len(mail) + 2] * 2


def test_a_full_disk_leaves_nothing(box: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert deliver(box, b"x\n" * 100_000, prepare=small) == 75
    assert (messages(box), drafts(box)) == ([], [])
    assert deliver(box, MAIL, prepare=small) == 0
    assert messages(box) == [crlf(MAIL)]


def test_no_standard_input_is_75(box: Path) -> None:
    assert deliver(box, b"", prepare=lambda: os.close(0)) == 75
    assert (messages(box), drafts(box)) == ([], [])


def test_nobody_listening_on_standard_error_is_no_over_quota(spool: Path) -> None:
    with running(spool / "missing") as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 67


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_while_waiting_for_input_is_75_and_leaves_nothing(box: Path, number: signal.Signals) -> None:
    with running(box) as process:
        assert process.stdin is not None
        process.stdin.write(MAIL)
        process.stdin.flush()
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.send_signal(number)
        assert process.wait(30) == 75
        assert process.stderr is not None
        assert number.name.encode() in process.stderr.read()
    assert (messages(box), drafts(box)) == ([], [])


def test_a_signal_that_was_ignored_stays_ignored(box: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with running(box, prepare=ignore) as process:
        assert process.stdin is not None
        process.stdin.write(MAIL)
        process.stdin.flush()
        wait_for(lambda: drafts(box), what="a file in tmp/")
        process.send_signal(signal.SIGHUP)
        process.stdin.close()
        assert process.wait(30) == 0
    assert messages(box) == [crlf(MAIL)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_signal_at_any_moment_leaves_the_whole_mail_or_none(box: Path, number: signal.Signals) -> None:
    """The moments are spread from the start of the process to its end."""
    mail = b"Subject: x\n\n" + b"line\n" * 20_000
    started = time.monotonic()
    assert deliver(box, mail) == 0
    span = time.monotonic() - started
    before = 1
    for turn in range(20):
        code = deliver_until(box, mail, number, span * (turn + 1) / 18)
        after = messages(box)
        assert all(message == crlf(mail) for message in after)
        if code == 0:
            assert len(after) == before + 1
        elif number != signal.SIGKILL:
            assert len(after) == before
        if number != signal.SIGKILL:
            assert drafts(box) == []
        before = len(after)


def deliver_until(box: Path, mail: bytes, number: signal.Signals, seconds: float) -> int:
    """Deliver, and send a signal after `seconds`; returns the exit code."""
    with running(box) as process:
        timer = threading.Timer(seconds, process.send_signal, (number,))
        timer.start()
        process.communicate(mail, timeout=30)
        timer.cancel()
        timer.join()
        return process.returncode
