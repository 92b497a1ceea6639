r"""POP3 dialogues as text files: read them, and play the client's part against any server.

A transcript (tests/transcripts/*/*.pop) is a head, then steps, one a line; `#` starts a comment line.

    tags: memory pserv        the servers that play it: memory, pserv, or for pproxy one of
                              `empty` (after a login, over no mail) and `authorization` (from the greeting)
    mailbox: two              a mailbox of tests/harness/mailboxes.py; without it there is none
    flags: M                  XPOP flags

    C: DELE 1                 the client sends this line; those up to the next answer go in one packet
    C-: DEL                   the same without the line end
    S: +OK *                  the server sends exactly this line; `*` stands for anything,
                              ` *` at the end also for nothing
    message: 1                the server sends message 1 whole, stuffed, with the final dot
    do: half-close            the client sends no more
    do: drop                  the client resets the connection
    do: remove 2              another session removes message 2
    do: deliver               a message arrives
    closed:                   the server closes, having sent nothing more
    disk: new/1 cur/0         what lies in the mailbox afterwards

In C and S lines `\r`, `\n`, `\\`, `\xNN` and `\{1000*text}` (a repetition) stand for octets.  After the
last step the client closes its sending side, and the server must close without another word.
"""

import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.harness.mailboxes import MAILBOXES, naive_stuffing

FOLDER = Path(__file__).resolve().parents[1] / "transcripts"
PATIENCE = 40.0     # seconds for one answer
SHOWN = 240         # octets of a line in a failure

_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|\{(\d+)\*([^}]*)\}|([rn\\]))|([^\\])", re.DOTALL)
_LETTERS = {b"r": b"\r", b"n": b"\n", b"\\": b"\\"}
_TAGS = {"memory", "pserv", "empty", "authorization"}
_HEAD = ("tags", "mailbox", "flags")
_STEPS = ("C", "C-", "S", "message", "do", "closed", "disk")


class BadTranscript(Exception):
    """A transcript that cannot be read."""


class Mismatch(AssertionError):
    """The server did not say what the transcript says."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a transcript."""

    word: str
    text: bytes
    place: str      # file:line


@dataclass(slots=True)
class Transcript:
    """A dialogue with what must be true before and after it."""

    name: str
    tags: frozenset[str] = frozenset()
    mailbox: str | None = None
    flags: str = ""
    steps: list[Step] = field(default_factory=list)

    @property
    def messages(self) -> tuple[bytes, ...]:
        """The messages of its mailbox."""
        return MAILBOXES[self.mailbox] if self.mailbox is not None else ()

    @property
    def starts_bare(self) -> bool:
        """Whether the first line of the dialogue is the first of the connection."""
        return self.name.split("/")[0] in ("authorization", "xpop")


class Stage(Protocol):
    """A server made ready for one transcript: the connection, and the other side of its mailbox."""

    sock: socket.socket

    def remove(self, number: int) -> None:
        """Remove a message behind the server's back."""
        ...

    def deliver(self, message: bytes) -> None:
        """Add a message while the session runs."""
        ...

    def disk(self) -> dict[str, int]:
        """Return the number of messages in `new` and `cur`; called when the session is over."""
        ...


class Carrier(Protocol):
    """A server that transcripts can be played on."""

    def plays(self, transcript: Transcript) -> bool:
        """Tell whether its tags allow it."""
        ...

    def stage(self, transcript: Transcript) -> AbstractContextManager[Stage]:
        """Set the stage: mailbox, connection, and login unless the transcript brings its own."""
        ...


def transcripts() -> list[Transcript]:
    """Return all transcripts, in the order of their names."""
    return [parse(path, path.relative_to(FOLDER).with_suffix("").as_posix()) for path in sorted(FOLDER.glob("*/*.pop"))]


def parse(path: Path, name: str) -> Transcript:
    """Read one file; raises BadTranscript with file and line."""
    transcript = Transcript(name)
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        place = f"{path.name}:{number}"
        if not line.strip() or line.startswith(b"#"):
            continue
        word, colon, text = line.partition(b":")
        _take(transcript, Step(word.decode("ascii") if colon else "", text.removeprefix(b" "), place))
    if not transcript.tags or not transcript.steps:
        raise BadTranscript(f"{path}: a transcript needs tags and steps")
    return transcript


def _take(transcript: Transcript, step: Step) -> None:
    value = step.text.decode("latin-1")
    match step.word:
        case "tags":
            transcript.tags = frozenset(value.split())
            if transcript.tags - _TAGS:
                raise BadTranscript(f"{step.place}: tags are {', '.join(sorted(_TAGS))}")
        case "mailbox":
            if value not in MAILBOXES:
                raise BadTranscript(f"{step.place}: no mailbox {value!r} in mailboxes.py")
            transcript.mailbox = value
        case "flags":
            transcript.flags = value
        case "S":
            pattern(step)
            transcript.steps.append(step)
        case "C" | "C-":
            octets(step)
            transcript.steps.append(step)
        case word if word in _STEPS:
            transcript.steps.append(step)
        case word:
            raise BadTranscript(f"{step.place}: {word!r} is none of {', '.join(_HEAD + _STEPS)}")


def _tokens(step: Step) -> Iterator[tuple[bytes, bool]]:
    """Yield (octets, whether they were written as an escape)."""
    at = 0
    while at < len(step.text):
        match = _ESCAPE.match(step.text, at)
        if match is None:
            raise BadTranscript(f"{step.place}: bad escape at column {at + len(step.word) + 3}")
        code, times, what, letter, plain = match.groups()
        at = match.end()
        if plain is not None:
            yield plain, False
        elif code is not None:
            yield bytes([int(code, 16)]), True
        elif letter is not None:
            yield _LETTERS[letter], True
        else:
            yield what * int(times), True


def octets(step: Step) -> bytes:
    """Return what a C line sends, without the line end."""
    return b"".join(token for token, _ in _tokens(step))


def pattern(step: Step) -> "re.Pattern[bytes]":
    """Return what an S line allows, without the line end."""
    parts = [b".*" if token == b"*" and not escaped else re.escape(token) for token, escaped in _tokens(step)]
    if parts[-2:] == [re.escape(b" "), b".*"]:
        parts[-2:] = [b"(?: .*)?"]
    return re.compile(b"".join(parts), re.DOTALL)


class Player:
    """Plays the client's part of one transcript."""

    def __init__(self, transcript: Transcript, stage: Stage) -> None:
        self.transcript = transcript
        self.stage = stage
        self.sock = stage.sock
        self.sock.settimeout(PATIENCE)
        self.said: list[str] = []        # the conversation so far, for a failure
        self._unsent = b""
        self._received = b""
        self._closed = False

    def play(self) -> None:
        """Go through all steps; raises Mismatch."""
        last = self.transcript.steps[-1]
        for step in self.transcript.steps:
            if step.word != "disk":
                self._play(step)
        if not self._closed:
            self._flush()
            self.sock.shutdown(socket.SHUT_WR)
            self._expect_end(last)
        for step in self.transcript.steps:
            if step.word == "disk":
                self._check_disk(step)

    def _play(self, step: Step) -> None:
        match step.word:
            case "C" | "C-":
                data = octets(step) + (b"\r\n" if step.word == "C" else b"")
                self.said.append(f"  {step.word}: {show(data)}")
                self._unsent += data
                return
        self._flush()
        match step.word:
            case "S":
                self._expect_line(step, pattern(step), show(step.text))
            case "message":
                wanted = naive_stuffing(self.transcript.messages[int(step.text) - 1])
                for number, line in enumerate(wanted.split(b"\r\n")[:-1], 1):
                    self._expect_line(step, line, f"line {number} of it, {show(line)}")
            case "closed":
                self._expect_end(step)
            case "do":
                self._do(step)

    def _do(self, step: Step) -> None:
        self.said.append(f"  do: {show(step.text)}")
        match step.text.decode("ascii").split():
            case ["half-close"]:
                self.sock.shutdown(socket.SHUT_WR)
            case ["drop"]:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.sock.close()
                self._closed = True
            case ["remove", number]:
                self.stage.remove(int(number))
            case ["deliver"]:
                self.stage.deliver(MAILBOXES["one"][0])
            case _:
                raise BadTranscript(f"{step.place}: do what?")

    def _flush(self) -> None:
        data, self._unsent = self._unsent, b""
        try:
            self.sock.sendall(data)
        except OSError as why:
            self.said.append(f"  (sending failed: {why})")

    def _receive(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            return b""

    def _expect_line(self, step: Step, wanted: "re.Pattern[bytes] | bytes", shown: str) -> None:
        while b"\n" not in self._received:
            try:
                data = self._receive()
            except TimeoutError:
                raise self._mismatch(step, shown, f"nothing for {PATIENCE:.0f} s") from None
            if not data:
                raise self._mismatch(step, shown, "the end of the connection")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        same = line[:-1] == wanted if isinstance(wanted, bytes) else wanted.fullmatch(line[:-1])
        if not line.endswith(b"\r") or not same:
            raise self._mismatch(step, shown, show(line.removesuffix(b"\r")) + (
                "" if line.endswith(b"\r") else ", ended by a bare LF"))
        self.said.append(f"  S: {show(line[:-1])}")

    def _expect_end(self, step: Step) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._received:
            self.sock.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self._receive()
            except TimeoutError:
                raise self._mismatch(step, "the end of the connection", "no end") from None
            if not data:
                self._closed = True
                return
            self._received += data
        raise self._mismatch(step, "the end of the connection", show(self._received))

    def _check_disk(self, step: Step) -> None:
        wanted = dict(item.split("/") for item in step.text.decode("ascii").split())
        found = {folder: str(count) for folder, count in self.stage.disk().items() if folder in wanted}
        if found != wanted:
            raise self._mismatch(step, show(step.text), " ".join(f"{name}/{count}" for name, count in found.items()))

    def _mismatch(self, step: Step, wanted: str, found: str) -> Mismatch:
        return Mismatch("\n".join([
            f"{self.transcript.name} ({step.place})", f"  expected: {wanted}", f"       got: {found}",
            "the conversation before it:", *self.said[-20:]]))


def show(data: bytes) -> str:
    """Return octets for a human: printable, not endless."""
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(data)} octets)"


def play(carrier: Carrier, transcript: Transcript) -> None:
    """Play one transcript on one carrier; raises Mismatch."""
    with carrier.stage(transcript) as stage:
        Player(transcript, stage).play()
