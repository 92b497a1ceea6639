"""A mailbox in use, moved as a whole: copied, held by a command of the site, copied again, compared, switched over.

Part of pmigrate, and used in pmove.  Steps and what they leave, so that the same command continues after any of them:

    1. copy           the old server goes on meanwhile
    2. COMMAND hold   nobody gets in, and new mail waits
    3. settle         answers that are kept somewhere expire, and sessions that run end
    4. copy           the last time, also what is gone
    5. verify
    6. a note         from here on, another run goes on with 7: clients may have changed the new mailbox already
    7. COMMAND done   the new mailbox serves the user

If 2 to 7 fail or are interrupted, COMMAND undo follows, and 6 is forgotten before.  Raises StoreError and OSError.
"""

import fcntl
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from types import FrameType

from popular.errors import PopularError, StoreError
from popular.store.folders import sync_folder
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, MoveResult, MoveVerdict
from popular.tools.pmigrate.moving import Mover, why_failed
from popular.tools.pmigrate.targets.remote import note_of
from popular.tools.printing import harmless
from popular.tools.pstatus.snapshot import take

_MAX_OUTPUT = 4096        # octets of a command's output that are told
_PAUSE = 1.0              # seconds between two looks at sessions
_MAX_NOTE = 64            # octets


class SwitchStep(Enum):
    """The first word that the site's command gets."""

    HOLD = "hold"
    DONE = "done"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Switch:
    """The site's command that changes the database; the time limit is in seconds."""

    command: tuple[str, ...]
    words: tuple[str, ...]    # behind the step: user, mailbox, and with pmove the store
    limit: float

    def run(self, step: SwitchStep) -> list[str]:
        """Run it; return what it printed, in lines.  Raises StoreError unless it ends with 0 in time."""
        with tempfile.TemporaryFile() as output:
            try:
                process = subprocess.Popen([*self.command, step.value, *self.words], stdin=subprocess.DEVNULL,
                                           stdout=output, stderr=output, start_new_session=True)
            except OSError as why:
                raise StoreError(f"{step.value}: {self.command[0]}: {why.strerror}") from why
            try:
                code: int | None = process.wait(self.limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            output.seek(0)
            text = output.read(_MAX_OUTPUT).decode("utf-8", "replace")
        lines = [f"{step.value}: {harmless(line)}" for line in text.splitlines()]
        if code != 0:
            how = f"has not ended after {self.limit:g} seconds" if code is None else f"ended with {code}"
            raise StoreError("\n".join([*lines, f"{step.value}: {self.command[0]} {how}"]))
        return lines


class SwitchNote:
    """A file of one mailbox, locked while it is open, that tells how far its move has come.

    Empty: the old mailbox serves the user.  HELD: nobody gets in, or soon.  SWITCHED: the new one serves them, or soon.
    """

    HELD = "held"
    SWITCHED = "switched"

    def __init__(self, state: str, mailbox: str) -> None:
        """Open the file in the folder `state`, made if it is missing."""
        self._path = self.path_of(state, mailbox)
        try:
            os.makedirs(state, 0o700, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except PermissionError as why:    # no default for each user: whoever goes on with a move must find its notes
            raise StoreError(f"{why.filename}: {why.strerror}: give --state a folder of yours, the same in each run"
                             ) from why
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise StoreError(f"{self._path}: this mailbox is being moved by another process") from None

    @staticmethod
    def path_of(state: str, mailbox: str) -> str:
        """Return the path of the file."""
        return f"{note_of(state, mailbox)}%switch"    # the note of another mailbox has no such name

    def read(self) -> str:
        """Return what is noted; a line that a crash has cut off does not count."""
        word, end, _ = os.pread(self._file, _MAX_NOTE, 0).decode("ascii", "replace").partition("\n")
        return word if end else ""

    def write(self, word: str) -> None:
        """Note a word, on disk."""
        os.ftruncate(self._file, 0)
        if word:
            os.pwrite(self._file, f"{word}\n".encode("ascii"), 0)
        os.fsync(self._file)
        sync_folder(os.path.dirname(self._path))

    def remove(self) -> None:
        """Remove the file."""
        os.unlink(self._path)

    def close(self) -> None:
        """Close and unlock it."""
        os.close(self._file)


class OnDemandMover:
    """Moves mailboxes in use."""

    def __init__(self, options: MoveOptions, show: Callable[[str], None] = lambda text: None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """See `Mover`; `options` has the command, and a folder for notes."""
        self._options = options
        self._show = show
        self._sleep = sleep

    def move(self, job: MoveJob) -> MoveResult:
        """Do it with one mailbox; whatever fails is told in the result."""
        try:
            user, mailbox = self._whose(job)
            options = self._options
            switch = Switch(options.switch, (user, mailbox, *filter(None, [options.store])), options.timeout)
            job = replace(job, mailbox=mailbox)
            if options.is_dry:
                return Mover(replace(options, command=MoveCommand.COPY), self._show, self._sleep).move(job)
            note = SwitchNote(options.state, mailbox)
        except (PopularError, OSError) as why:
            return MoveResult(MoveVerdict.FAILED, remarks=(why_failed(why),))
        try:
            return _Move(options, job, switch, note, self._show, self._sleep).run()
        finally:
            note.close()

    def _whose(self, job: MoveJob) -> tuple[str, str]:
        """Return user and mailbox; raises StoreError."""
        kind, colon, user = job.mailbox.partition(":")
        is_user = bool(colon) and kind == "user"
        if is_user and self._options.to is not None:
            raise StoreError("name the mailbox: its user gets no mail while it is held")
        if not is_user and not job.user:
            raise StoreError("the command needs the name of the user: user:NAME, --user, or a word in the list")
        return user if is_user else job.user, Mover(self._options).mailbox_of(job)


class _Move:
    """One mailbox on its way."""

    def __init__(self, options: MoveOptions, job: MoveJob, switch: Switch, note: SwitchNote,
                 show: Callable[[str], None], sleep: Callable[[float], None]) -> None:
        self._options = options
        self._job = job
        self._switch = switch
        self._note = note
        self._show = show
        self._sleep = sleep
        self._result = MoveResult(MoveVerdict.DONE)
        self._told: list[str] = []    # by the command

    def run(self) -> MoveResult:
        """Take all steps that are left."""
        try:
            if self._note.read() == SwitchNote.SWITCHED:
                self._told += self._switch.run(SwitchStep.DONE)
            else:
                if not self._note.read():
                    self._do(MoveCommand.COPY)
                    self._sessions()    # a wrong path is to be told before anybody is held
                with _ended_by_sigterm():
                    self._hand_over()
        except (PopularError, OSError) as why:
            lines = why_failed(why, "\n").splitlines()
            return replace(self._result, verdict=MoveVerdict.FAILED, remarks=(*self._told, *lines))
        return replace(self._result, remarks=(*self._told, *self._result.remarks))

    def _hand_over(self) -> None:
        """Take the steps in which the user has no mailbox; undo them if one fails."""
        try:
            self._note.write(SwitchNote.HELD)
            self._told += self._switch.run(SwitchStep.HOLD)
            self._settle()
            self._do(MoveCommand.COPY, removes=True)
            self._do(MoveCommand.VERIFY)
            if self._sessions():
                raise StoreError("a session has begun while the mailbox was held: --settle is too short")
            self._note.write(SwitchNote.SWITCHED)
            self._told += self._switch.run(SwitchStep.DONE)
        except BaseException as why:
            with _undisturbed():
                undone = self._undo()
            if isinstance(why, (PopularError, OSError)):
                raise StoreError(f"{why_failed(why, chr(10))}\n{undone}") from why
            raise

    def _undo(self) -> str:
        """Give the user back to the old mailbox; return how that went."""
        try:
            self._note.write(SwitchNote.HELD)
            self._told += self._switch.run(SwitchStep.UNDO)
            self._note.write("")
        except (PopularError, OSError) as why:
            return f"{why_failed(why, chr(10))}\nTHE USER IS STILL HELD"
        return "undone: the old mailbox serves the user again"

    def _settle(self) -> None:
        """Wait until nothing uses the old mailbox any more; raises StoreError if that takes too long."""
        self._sleep(self._options.settle)
        waited = 0.0
        while number := self._sessions():
            if waited >= self._options.wait:
                raise StoreError(f"{number} sessions have not ended after {self._options.wait:g} seconds")
            self._show(f"waiting for sessions to end: {number}")
            self._sleep(_PAUSE)
            waited += _PAUSE

    def _sessions(self) -> int:
        """Return how many sessions have the mailbox open, if pserv of this host serves it; raises StoreError."""
        kind, _, mailbox = self._job.source.partition(":")
        return sessions_with(self._options.statefile, mailbox) if kind == "popular" else 0

    def _do(self, command: MoveCommand, *, removes: bool = False) -> None:
        """Copy or compare; raises StoreError with all lines if anything is wrong."""
        options = replace(self._options, command=command, removes=removes)
        did = Mover(options, self._show, self._sleep).move(self._job)
        before = self._result
        self._result = MoveResult(MoveVerdict.DONE, did.found, before.brought + did.brought, before.octets + (
            did.octets if command is MoveCommand.COPY else 0), before.removed + did.removed,
            did.unnamed or before.unnamed, did.remarks)
        if did.verdict is not MoveVerdict.DONE:
            self._result = replace(self._result, remarks=())
            raise StoreError("\n".join([*did.remarks, f"{command.value}: {did.verdict.value}"]))


def sessions_with(statefile: str, mailbox: str) -> int:
    """Return how many sessions of a pserv have a mailbox open, by its state file; raises StoreError."""
    try:
        snapshot = take(statefile)
        rows = [*snapshot.rows, *(row for other in snapshot.replaced for row in take(other.path).rows)]
    except (OSError, PopularError) as why:
        raise StoreError(f"{statefile}: {getattr(why, 'strerror', None) or why}; is pserv running here?") from why
    return sum(row is None or row.has_session and row.user == mailbox for row in rows)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end what runs here as Ctrl-C does, so that it is undone."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let nothing but SIGKILL end what runs here."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
