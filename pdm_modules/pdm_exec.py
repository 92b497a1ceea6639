"""Database module `exec`: a program of yours answers, one line of JSON for each question.

    exec program=FILE [arguments=WORDS] [timeout=TIME]

The program is started once in each process that asks, with the rights of pproxy, and reads questions on
standard input until that ends:

    {"id": 1, "ask": "check", "user": "joe", "password": "secret", "ip": "192.0.2.7", "protocol": "pop3",
     "namespace": "example.org", "vserv": "main"}

To each it writes one line of at most 64 KiB on standard output, at once and with the same `id`:

    {"id": 1, "outcome": "found", "password": HASH, "backend": "store1", "mailbox": "3/2d/joe", …}
    {"id": 1, "outcome": "ok", "backend": "store1", "mailbox": "3/2d/joe", …}    the password is right
    {"id": 1, "outcome": "denied", "why": TEXT}                                  it is wrong
    {"id": 1, "outcome": "unknown"}
    {"id": 1, "outcome": "failed", "why": TEXT}                                  the program cannot tell

With `found` the module checks the password itself; with `ok`, `label` may say which of several it was.  The
other names are those of a record; see `popular.pdm.records` and `rules`.  Values are texts, numbers, true and
false; null is as none.  The question "find", which has neither password nor ip, asks where a user's mail is:
the answers are found or ok, unknown and failed.  It is also asked for a user who was proven by a token or a
certificate: then the rules of the record count.

Octets of a password that are not UTF-8 are escaped as Python does it, `\\udc80` to `\\udcff`; users with such a
name are unknown.  What the program writes on standard error is logged.  It is killed when an answer is late or
is none, and started again for the next question; so it is, once, when it has ended meanwhile.
"""

import json
import os
import select
import shlex
import signal
from collections.abc import Mapping
from typing import Any

from popular.pdm import records
from popular.pdm.api import PROVEN, UNKNOWN, Answer, Found, Outcome, PdmError, PdmModule, Request
from popular.pdm.options import File, Options, Setting, String, Time
from popular.pdm.timelimit import within

MAX_LINE = 1 << 16       # octets of an answer
ENDING_SECONDS = 1.0     # for the program to end by itself when its standard input has ended

OPTIONS = Options(
    Setting("program", File(), None, "The program.", required=True),
    Setting("arguments", String(), "", "Its arguments, in words as for a shell."),
    Setting("timeout", Time(0.05, 60), 5.0, "Time to wait for an answer, and for the first one of a new program."),
)

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


class Module(PdmModule):
    """The users that one program knows."""

    API = (1, 1)
    blocking = True
    mechanisms = frozenset({PROVEN})

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        values = OPTIONS.parse(args)
        self._command = [values.text("program"), *shlex.split(values.text("arguments"))]
        self._timeout = values.seconds("timeout")
        self._program: _Program | None = None

    def open(self) -> None:
        """Start the program; raises PdmError and OSError."""
        self.close()
        _prove(self._command[0])
        self._program = _Program(self._command)

    def probe(self) -> None:
        """Ask for a user who does not exist."""
        self.open()
        try:
            records.probe_server(self.check)
        finally:
            self.close()

    def close(self) -> None:
        """End the program, if this process has started it."""
        self._end(ENDING_SECONDS)

    def check(self, request: Request) -> Answer:
        """Ask the program."""
        if request.mechanism == PROVEN:
            return self._placed(request)
        more = {"password": request.password.decode("utf-8", "surrogateescape"), "ip": request.ip}
        told = self._told("check", request, more)
        outcome, why = told["outcome"], told.get("why", "")
        try:
            if outcome == "found":
                return records.answer_to(request, records.record_of(told))
            if outcome == "ok":
                return records.accepted(request, records.record_of({**told, "password": "*"}), told.get("label", ""))
        except ValueError as fault:
            return Answer(Outcome.FAILED, why=str(fault))
        if outcome == "unknown":
            return UNKNOWN
        return Answer(Outcome.DENIED if outcome == "denied" else Outcome.FAILED, why=why)

    def find(self, user: str, namespace: str) -> Found | None:
        """Ask the program where a user's mail is."""
        request = Request(user, b"", "", "pop3", namespace)
        record = self._record(request)
        return None if record is None else records.place_of(record, request)

    def _placed(self, request: Request) -> Answer:
        """Return the answer for a user who was proven; raises PdmError."""
        record = self._record(request)
        return UNKNOWN if record is None else records.accepted(request, record)

    def _record(self, request: Request) -> records.Record | None:
        """Return what the program knows about a user without their password; raises PdmError."""
        told = self._told("find", request, {})
        if told["outcome"] == "unknown":
            return None
        if told["outcome"] not in ("found", "ok"):
            raise PdmError(told.get("why", "") or told["outcome"])
        try:
            return records.record_of({**told, "password": "*"})
        except ValueError as why:
            raise PdmError(str(why)) from None

    def _told(self, ask: str, request: Request, more: Mapping[str, str]) -> dict[str, str]:
        """Return what the program says; raises PdmError and OSError."""
        try:
            is_text = records.user_octets(request.user) is not None and bool(request.user.encode())
        except UnicodeEncodeError:
            is_text = False
        if not is_text:
            return {"outcome": "unknown"}
        question = {"ask": ask, "user": request.user, **more, "protocol": request.protocol,
                    "namespace": request.namespace, "vserv": request.vserv}
        try:
            return self._asked(request.deadline, question)
        except _Ended:
            pass    # it was idle: a new one may do
        self.open()
        try:
            return self._asked(request.deadline, question)
        except _Ended:
            raise PdmError(f"{self._command[0]}: it has ended instead of answering") from None

    def _asked(self, deadline: float, question: Mapping[str, str]) -> dict[str, str]:
        if self._program is None:
            raise _Ended
        try:
            return within(self._timeout, deadline, self._program.ask, question)
        except (_Ended, PdmError):
            self._end(0.0)
            raise

    def _end(self, seconds: float) -> None:
        """End the program, by force after some time; in a copy of the process that has started it, only forget it."""
        program, self._program = self._program, None
        if program is not None:
            program.end(seconds)


class _Ended(Exception):
    """The program has ended."""


class _Program:
    """A running program."""

    def __init__(self, command: list[str]) -> None:
        """Start it; raises OSError."""
        self._owner, self._number = os.getpid(), 0
        questions, self._stdin = os.pipe()
        try:
            self._stdout, answers = os.pipe()
        except OSError:
            os.close(questions)
            os.close(self._stdin)
            raise
        try:
            self._pid = os.posix_spawn(command[0], command, _ENVIRONMENT, setsigmask=[], setsigdef=[signal.SIGPIPE],
                                       setpgroup=0, file_actions=[(os.POSIX_SPAWN_DUP2, questions, 0),
                                                                  (os.POSIX_SPAWN_DUP2, answers, 1)])
        except OSError as why:
            self._close_pipes()
            raise PdmError(f"{command[0]}: {why.strerror}") from None
        finally:
            os.close(questions)
            os.close(answers)

    def ask(self, question: Mapping[str, str]) -> dict[str, str]:
        """Put a question; raises _Ended and PdmError."""
        self._number += 1
        line = json.dumps({"id": self._number, **question}).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._stdin, line):]
        except BrokenPipeError:
            raise _Ended from None
        answer = b""
        while not answer.endswith(b"\n"):
            octets = os.read(self._stdout, MAX_LINE)
            if not octets:
                raise _Ended
            answer += octets
            if len(answer) > MAX_LINE:
                raise PdmError(f"an answer has more than {MAX_LINE} octets")
        return _values(answer, self._number)

    def end(self, seconds: float) -> None:
        """Let it end; after some time kill it and what it has started."""
        self._close_pipes()
        if self._owner != os.getpid():
            return
        fd = os.pidfd_open(self._pid)
        try:
            if not select.select([fd], [], [], seconds)[0]:
                os.killpg(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        finally:
            os.close(fd)

    def _close_pipes(self) -> None:
        os.close(self._stdin)
        os.close(self._stdout)


def _prove(path: str) -> None:
    """Raise PdmError unless a program belongs to root or to us, and nobody else can write to it."""
    records.prove_file(path)
    status = os.stat(path)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise PdmError(f"{path}: must belong to root or uid {os.geteuid()}, and nobody else may write to it")


def _values(line: bytes, number: int) -> dict[str, str]:
    """Return the values of an answer as texts; raises PdmError."""
    try:
        told: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise PdmError("an answer is no line of JSON") from None
    if not isinstance(told, dict) or told.pop("id", None) != number:
        raise PdmError(f"an answer is no object with the id {number}")
    if told.get("outcome") not in ("found", "ok", "denied", "unknown", "failed"):
        raise PdmError("an answer has no outcome that is known")
    return {name: _text(name, value) for name, value in told.items() if value is not None}


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    raise PdmError(f"the value of {name} in an answer is neither a text nor a number")
