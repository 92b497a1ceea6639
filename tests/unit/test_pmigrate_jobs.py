"""Many mailboxes: lists, processes, limits for servers, attempts, reports, exit codes."""

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.errors import StoreError
from popular.tools.pmigrate import moving
from popular.tools.pmigrate.apart import run_apart
from popular.tools.pmigrate.crew import Crew, ServerGate
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, MoveResult, MoveVerdict, jobs_of
from popular.tools.pmigrate.moving import Mover
from popular.tools.pmigrate.opening import open_source
from popular.tools.pmigrate.sources.source import Cut, SourceError
from popular.tools.pmigrate.sources.uidlformat import DovecotIdentity, uidl_of
from tests.harness.letters import Letters, letter, shown

DEFAULT = MoveJob("", "", "all", "pass")


@pytest.mark.parametrize("line, wanted", [
    ("mbox:/a\tx/joe\n", MoveJob("mbox:/a", "x/joe", "all", "pass")),
    ("mbox:/with blank\tx/joe\tjoe smith\ta b\r\n", MoveJob("mbox:/with blank", "x/joe", "joe smith", "a b")),
    ("pop3s://h   x/joe  joe pw", MoveJob("pop3s://h", "x/joe", "joe", "pw")),
    ("pop3s://h\tx/joe\t\tpw", MoveJob("pop3s://h", "x/joe", "all", "pw")),
    ("", None), ("  \n", None), ("# x y", None),
    ("mbox:/a", "line 1: must be SOURCE MAILBOX"), ("a b c d e", "line 1: must be"), ("\tx\n", "line 1: must be"),
    ("x" * 20000 + " y", "line 1: must be")])
def test_lines_of_a_list(line: str, wanted: MoveJob | str | None) -> None:
    found = list(jobs_of([line], DEFAULT))
    if isinstance(wanted, str):
        assert isinstance(found[0], StoreError) and str(found[0]).startswith(wanted)
    else:
        assert found == ([wanted] if wanted else [])
    assert "pass" not in repr(found)


@pytest.mark.parametrize("source, server", [
    ("pop3s://joe@h:995", "h:995"), ("xpop://h/m", "h"), ("mbox:/x", ""), ("pop3://[::1]:110", "[::1]:110")])
def test_the_server_of_a_job(source: str, server: str) -> None:
    assert MoveJob(source, "x").server == server


@pytest.mark.parametrize("word, text", [
    ("mbox", "must be maildir:PATH"), ("tar:/x", "must be maildir:PATH"), ("mbox:", "must be maildir:PATH"),
    ("popular:x", "needs --to"),
    ("pop3:///x", "must be pop3://HOST"), ("imap://h", "must be pop3://HOST"), ("pop3://h:99999", "the port from 0"),
    ("pop3://h/mailbox", "a mailbox is named"), ("xpop://h", "no mailbox is named"), ("pop3s://h", "needs a user"),
    ("pop3://h:1:2", "must be pop3://HOST"), ("pop3://1.2.3/", "an IPv4 address")])
def test_words_that_name_no_source(word: str, text: str) -> None:
    with pytest.raises(SourceError, match=text):
        open_source(MoveJob(word, "x"), MoveOptions(MoveCommand.COPY, "/pop"))


@pytest.mark.parametrize("form, uidl", [
    ("%08Xu%08Xv", "000000ff00001000"), ("%v.%u", "4096.255"), ("%Xu", "ff"), ("%5u", "  255"), ("%f", "1.2.h"),
    ("%g", "abc"), ("100%%%u", "100%255"), ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "000000ff00001000"),
    ("%{guid}", "abc"), ("%{uid|hex}-%{ filename }", "ff-1.2.h"), ("%08X{uid}", "000000ff"), ("fixed", "fixed")])
def test_formats_of_dovecot(form: str, uidl: str) -> None:
    assert uidl_of(form, DovecotIdentity(255, 4096, "abc", "1.2.h")) == uidl


@pytest.mark.parametrize("form", ["%m", "%x", "%", "%{md5}", "%{uid | upper}", "%{hdr}", "%08"])
def test_formats_of_dovecot_that_are_not_known(form: str) -> None:
    with pytest.raises(SourceError, match="cannot be told here"):
        uidl_of(form, DovecotIdentity(255, 4096, "abc", "1.2.h"))


def test_a_crew_does_each_job_once() -> None:
    done: list[tuple[str, int]] = []
    crew = Crew(lambda job: MoveResult(MoveVerdict.DONE, found=os.getpid()), 3, ServerGate(0, 0),
                lambda job, result: done.append((job.mailbox, result.found)))
    crew.run(MoveJob("mbox:/x", str(number)) for number in range(50))
    assert sorted(int(name) for name, _ in done) == [*range(50)]
    assert os.getpid() not in {pid for _, pid in done} and len({pid for _, pid in done}) <= 3


def test_a_process_that_dies_costs_one_mailbox() -> None:
    def work(job: MoveJob) -> MoveResult:
        if job.mailbox == "3":
            os.kill(os.getpid(), signal.SIGKILL)
        return MoveResult(MoveVerdict.DONE)

    done: dict[str, MoveResult] = {}
    Crew(work, 2, ServerGate(0, 0), lambda job, result: done.update({job.mailbox: result})).run(
        MoveJob("mbox:/x", str(number)) for number in range(8))
    assert len(done) == 8
    assert {name for name, result in done.items() if result.verdict is MoveVerdict.FAILED} == {"3"}
    assert done["3"].remarks == ("its process ended with -9",)


def test_an_interrupted_crew_leaves_nobody() -> None:
    def jobs() -> Iterator[MoveJob]:
        yield MoveJob("mbox:/x", "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Crew(lambda job: MoveResult(MoveVerdict.DONE), 2, ServerGate(0, 0), lambda job, result: None).run(jobs())
    with pytest.raises(KeyboardInterrupt):
        Crew(lambda job: MoveResult(MoveVerdict.DONE), 2, ServerGate(0, 0), interrupted).run(
            iter([MoveJob("mbox:/x", "1")]))


def interrupted(job: MoveJob, result: MoveResult) -> None:
    raise KeyboardInterrupt


def test_the_limits_for_a_server() -> None:
    now = itertools.count(10.0, 0.25)
    gate = ServerGate(2, 2.0, lambda: next(now))
    assert gate.delay("h") == 0.0
    gate.enter("h")
    assert [gate.delay("h"), gate.delay("other"), gate.delay("")] == [0.25, 0.0, 0.0]
    gate.enter("h")
    assert gate.delay("h") is None
    gate.leave("h")
    assert gate.delay("h") is not None
    for _ in range(5):
        gate.enter("")
    assert gate.delay("") == 0.0


def test_a_crew_obeys_the_limits(tmp_path: Path) -> None:
    def work(job: MoveJob) -> MoveResult:
        Path(tmp_path, job.mailbox).touch()
        at_once = len(os.listdir(tmp_path))
        os.unlink(tmp_path / job.mailbox)
        return MoveResult(MoveVerdict.DONE, found=at_once)

    most: list[int] = []
    Crew(work, 4, ServerGate(1, 1000.0), lambda job, result: most.append(result.found)).run(
        MoveJob("pop3://h", str(number)) for number in range(20))
    assert most == [1] * 20


def test_attempts_go_on_while_something_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [letter(number, f"u{number}") for number in range(4)]
    shows: list[str] = []
    pauses: list[float] = []

    def opened(job: MoveJob, options: MoveOptions) -> Letters:
        """Return a source that is cut after one more message."""
        there = len(shown(tmp_path, "joe")) if (tmp_path / "joe/new").exists() else 0
        rest = [(message, Cut("away") if index == there + 1 else octets)
                for index, (message, octets) in enumerate(letters)]
        return Letters(*rest)

    monkeypatch.setattr(moving, "open_source", opened)
    mover = Mover(MoveOptions(MoveCommand.COPY, str(tmp_path), wait=1.5), shows.append, pauses.append)
    result = mover.move(MoveJob("x", "joe"))
    assert (result.verdict, result.brought, result.remarks) == (MoveVerdict.DONE, 4, ("a remark",))
    assert pauses == [1.0, 1.0, 1.0]
    assert shows[-1] == "4 of 4 messages, joe"


def test_attempts_end_when_nothing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(moving, "open_source", lambda job, options: Letters(letter(1, "a", Cut("away"))))
    mover = Mover(MoveOptions(MoveCommand.COPY, str(tmp_path), wait=100.0), sleep=pauses.append)
    result = mover.move(MoveJob("x", "joe"))
    assert (result.verdict, result.remarks) == (MoveVerdict.FAILED, ("away",))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0]


def test_what_is_asked_apart() -> None:
    def refuse() -> str:
        raise StoreError("no such user")

    def fail() -> str:
        raise KeyError("x")

    def die() -> str:
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    assert run_apart(lambda: f"{os.getpid()}") not in ("", f"{os.getpid()}")
    with pytest.raises(StoreError, match="no such user"):
        run_apart(refuse)
    with pytest.raises(StoreError, match=r"KeyError in test_pmigrate_jobs.py:\d+"):
        run_apart(fail)
    with pytest.raises(StoreError, match="a process ended with status 9"):
        run_apart(die)
