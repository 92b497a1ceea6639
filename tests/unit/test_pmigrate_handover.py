"""pmigrate move: a mailbox in use, switched by a command; whatever fails is undone, whatever is killed continues."""

import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from popular.errors import StoreError
from popular.tools.pmigrate import handover, moving
from popular.tools.pmigrate.copying import Tally, copy
from popular.tools.pmigrate.handover import OnDemandMover, Switch, SwitchNote, SwitchStep, sessions_with
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, MoveResult, MoveVerdict
from popular.tools.pmigrate.sources.source import MailSource, SourceError
from popular.tools.pmigrate.targets.target import Target
from tests.harness.letters import Letters, letter, shown
from tests.unit.test_pmigrate_kill import apart

JOB = MoveJob("letters:x", "j/joe", "joe")
SCRIPT = """\
#!/bin/sh
echo "$*" >> {folder}/calls
[ ! -e {folder}/$1.fails ]
"""


class Site:
    """An old mailbox, a spool, and a command that notes whom the user belongs to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.letters = Letters(letter(1, "b"), letter(2, "a", is_read=True))
        self.command = folder / "switch"
        self.command.write_text(SCRIPT.format(folder=folder))
        self.command.chmod(stat.S_IRWXU)
        (folder / "pop").mkdir()
        self.on_hold: Callable[[], None] = lambda: None    # what happens at the old server meanwhile

    def move(self, job: MoveJob = JOB, **more: object) -> MoveResult:
        """Move the mailbox."""
        options = MoveOptions(MoveCommand.MOVE, str(self.folder / "pop"), state=str(self.folder / "state"), wait=0,
                              switch=(str(self.command),), settle=7, timeout=20, **more)    # type: ignore[arg-type]
        return OnDemandMover(options, sleep=self.pause).move(job)

    def pause(self, seconds: float) -> None:
        """Take the place of the time in which the old mailbox comes to rest."""
        assert seconds == 7 and self.calls[-1].startswith("hold "), "it settles when the user is held"
        self.on_hold()

    @property
    def calls(self) -> list[str]:
        """What the command was called with."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def steps(self) -> list[str]:
        """The steps of these calls."""
        return [call.split()[0] for call in self.calls]

    @property
    def mails(self) -> list[str]:
        """The unique ids in the new mailbox."""
        return [uid for uid, _ in shown(self.folder / "pop", "j/joe")]

    def note(self) -> str:
        """What is noted."""
        with closing(SwitchNote(str(self.folder / "state"), "j/joe")) as note:
            return note.read()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose old mailbox is in memory."""
    made = Site(tmp_path)
    monkeypatch.setattr(moving, "open_source", lambda job, options: made.letters)
    before = signal.getsignal(signal.SIGTERM)
    yield made
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_changes_until_the_user_is_held_is_taken_along(site: Site) -> None:
    def change() -> None:
        assert site.mails == ["b", "a"], "most was copied before"
        site.letters.letters = [site.letters.letters[1], letter(3, "c")]

    site.on_hold = change
    result = site.move()
    assert (result.verdict, result.found, result.brought, result.removed) == (MoveVerdict.DONE, 2, 3, 1)
    assert site.mails == ["a", "c"]
    assert site.calls == ["hold joe j/joe", "done joe j/joe"]
    assert result.remarks == ("a remark",)


def test_who_may_not_write_notes_is_told_to_name_a_folder(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: int, *, exist_ok: bool) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "makedirs", refuse)
    result = site.move()
    assert (result.verdict, site.calls) == (MoveVerdict.FAILED, [])
    assert "/state: Permission denied: give --state a folder of yours, the same in each run" in result.remarks[0]


def test_a_second_run_only_repeats_done(site: Site) -> None:
    site.move()
    shutil.rmtree(site.folder / "pop/j/joe/new")    # a client has removed its mail since
    (site.folder / "pop/j/joe/new").mkdir()
    site.letters.letters = []
    assert site.move(store="s2").verdict is MoveVerdict.DONE
    assert site.calls[2:] == ["done joe j/joe s2"]
    assert site.mails == ["a"]


def break_copy(site: Site) -> None:
    site.on_hold = lambda: site.letters.letters.append(letter(9, "z", SourceError("torn")))


def break_verify(site: Site) -> None:
    def late() -> None:
        os.unlink(next(iter((site.folder / "pop/j/joe/cur").iterdir())))
    site.on_hold = late


def break_rest(site: Site) -> None:
    def late() -> None:
        raise StoreError("sessions have not ended")
    site.on_hold = late


@pytest.mark.parametrize("break_it, told", [
    (lambda site: (site.folder / "hold.fails").touch(), "hold: {command} ended with 1"),
    (break_rest, "sessions have not ended"),
    (break_copy, "message 9: torn"),
    (break_verify, "message 2, a: is missing; it was brought and is gone"),
    (lambda site: (site.folder / "done.fails").touch(), "done: {command} ended with 1")])
def test_whatever_fails_is_undone(site: Site, break_it: Callable[[Site], None], told: str) -> None:
    break_it(site)
    result = site.move()
    assert result.verdict is MoveVerdict.FAILED
    assert told.format(command=site.command) in result.remarks
    assert result.remarks[-1] == "undone: the old mailbox serves the user again"
    assert site.steps[0] == "hold" and site.steps[-1] == "undo"
    assert site.note() == ""


def test_an_undo_that_fails_is_told_and_tried_again_by_the_next_run(site: Site) -> None:
    for step in ("done", "undo"):
        (site.folder / f"{step}.fails").touch()
    result = site.move()
    assert result.remarks[-2:] == (f"undo: {site.command} ended with 1", "THE USER IS STILL HELD")
    (site.folder / "undo.fails").unlink()
    assert site.move().remarks[-1] == "undone: the old mailbox serves the user again"
    assert site.steps == ["hold", "done", "undo"] * 2


def test_nothing_is_switched_if_the_first_copy_fails(site: Site) -> None:
    site.letters.letters.append(letter(9, "z", SourceError("torn")))
    result = site.move()
    assert (result.verdict, result.remarks[-1]) == (MoveVerdict.FAILED, "copy: failed")
    assert site.calls == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_move_is_undone(site: Site, number: signal.Signals) -> None:
    site.on_hold = lambda: os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        site.move()
    assert site.steps == ["hold", "undo"]
    assert site.note() == ""


def die(*words: object, **more: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_command(where: str) -> Callable[[Switch, SwitchStep], list[str]]:
    """Return a way of running the command that dies at a step."""
    def run(switch: Switch, step: SwitchStep, run: Callable[[Switch, SwitchStep], list[str]] = Switch.run) -> list[str]:
        if where == f"before {step.value}":
            die()
        lines = run(switch, step)
        if where == step.value:
            die()
        return lines
    return run


def dying_copy(source: MailSource, target: Target, tally: Tally, *, removes: bool) -> None:
    """Die when it is copied for the last time."""
    copy(source, target, tally, removes=removes)
    if removes:
        die()


@pytest.mark.parametrize("where", ["before hold", "hold", "settle", "copy", "verify", "before done", "done"])
def test_killed_at_any_step_and_run_again(site: Site, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Switch, "run", dying_command(where))
        if where == "settle":
            site.on_hold = die
        elif where == "copy":
            patch.setattr(moving, "copy", dying_copy)
        elif where == "verify":
            patch.setattr(moving, "compare", die)
        assert os.WTERMSIG(apart(lambda: None if site.move() else None)) == signal.SIGKILL

    def change() -> None:
        site.letters.letters = [site.letters.letters[1], letter(3, "c")]

    site.on_hold = change
    assert site.move().verdict is MoveVerdict.DONE
    assert site.mails == (["b", "a"] if "done" in where else ["a", "c"])
    assert site.steps[-1] == "done" and "undo" not in site.steps
    assert site.note() == SwitchNote.SWITCHED


def test_two_runs_do_not_work_on_one_mailbox(site: Site) -> None:
    with closing(SwitchNote(str(site.folder / "state"), "j/joe")):
        os.makedirs(site.folder / "state", exist_ok=True)
        result = site.move()
    assert result.verdict is MoveVerdict.FAILED and "is being moved by another process" in result.remarks[0]


def test_a_rehearsal_holds_nobody(site: Site) -> None:
    assert site.move(is_dry=True).brought == 2
    assert site.calls == [] and not (site.folder / "state").exists()


def test_a_mailbox_that_is_to_be_removed_gets_no_mail(site: Site) -> None:
    (site.folder / "pop/j/joe").mkdir(parents=True)
    (site.folder / "pop/j/joe/.removed").touch()
    assert f"{site.folder}/pop/j/joe is marked for removal: first remove .removed there" in site.move().remarks
    assert site.calls == []


@pytest.mark.parametrize("mailbox, user, to, told", [
    ("j/joe", "", None, "the command needs the name of the user"),
    ("user:joe", "", "/socket", "name the mailbox: its user gets no mail while it is held")])
def test_jobs_that_tell_too_little(site: Site, mailbox: str, user: str, to: str | None, told: str) -> None:
    assert site.move(MoveJob("letters:x", mailbox, user), to=to).remarks[0].startswith(told)


def test_a_command_that_hangs_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    command = ("sh", "-c", "echo so far; sleep 60 & sleep 60")
    with pytest.raises(StoreError, match="^hold: so far\nhold: sh has not ended after 0.5 seconds$"):
        Switch(command, (), 0.5).run(SwitchStep.HOLD)
    with pytest.raises(StoreError, match="^undo: /does/not/exist: No such file or directory$"):
        Switch(("/does/not/exist",), (), 1).run(SwitchStep.UNDO)


def test_a_state_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No such file or directory; is pserv running here?"):
        sessions_with(str(tmp_path / "x"), "j/joe")


def test_sessions_that_do_not_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([0, 1, 1])
    monkeypatch.setattr(handover, "sessions_with", lambda statefile, mailbox: next(counts))
    result = site.move(MoveJob("popular:j/joe", "j/joe", "joe"))
    assert "1 sessions have not ended after 0 seconds" in result.remarks and site.steps == ["hold", "undo"]
    counts = iter([0, 0, 1])
    result = site.move(MoveJob("popular:j/joe", "j/joe", "joe"))
    assert "a session has begun while the mailbox was held: --settle is too short" in result.remarks
