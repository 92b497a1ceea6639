"""The INBOX of a user of Dovecot, in any of its formats, read by doveadm(1), as a source of pmigrate.

Part of pmigrate.  One process of doveadm gives the messages one after the other.  Where each ends is known by its size
on the wire, which Dovecot has counted.  Raises SourceError.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO

from popular.store.lineends import BLOCK, ByteSource
from popular.tools.pmigrate.reading import BlockReader
from popular.tools.pmigrate.sources.dovecot import configured_format
from popular.tools.pmigrate.sources.source import MAX_MESSAGES, SourceMessage, SourceError
from popular.tools.pmigrate.sources.uidlformat import DovecotIdentity, uidl_of
from popular.tools.printing import harmless

_FIELDS = ("uid", "guid", "pop3.uidl", "pop3.order", "size.virtual", "date.received.unixtime", "flags")
_MAX_LINE = 4096      # octets of a line that is not a message's
_MAX_ERROR = 4096     # octets that are shown
_END = b"\f\n"        # between two messages
_VALIDITY = re.compile(r"\buidvalidity=([0-9]{1,10})\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Row:
    """What doveadm tells of a message."""

    message: SourceMessage
    uid: int
    order: int    # by POP3, 0: after those that have one

    @property
    def rank(self) -> tuple[bool, int, int]:
        return self.order == 0, self.order, self.uid


class Doveadm:
    """A user's INBOX; see `source.MailSource`."""

    def __init__(self, user: str, config: str = "") -> None:
        """Read of `user` by Dovecot's configuration, that of the file `config` if one is named."""
        self.title = f"INBOX of {harmless(user)} in Dovecot"
        self._user = user
        self._config = config
        self._sizes: dict[str, int] = {}
        self._stream: _Stream | None = None

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages in the order of POP3."""
        form = configured_format(self._config)
        status = "".join(self._printed("flow", "mailbox", "status", "uidvalidity", "INBOX"))
        validity = _VALIDITY.search(status)
        if validity is None:
            raise SourceError(f"{self.title}: doveadm tells no uidvalidity")
        lines = self._printed("tab", "fetch", " ".join(_FIELDS), "mailbox", "INBOX", "all")
        rows = [self._row(line.split("\t"), form, int(validity[1])) for line in islice(lines, 1, MAX_MESSAGES + 2)]
        for row in sorted(rows, key=lambda row: row.rank):
            self._sizes[row.message.place] = row.message.size or 0
            yield row.message

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[ByteSource]:
        """Give a reader of a message."""
        if self._stream is None or not self._stream.reach(message.place):
            self._hang_up()
            self._stream = _Stream(self._command("pager", "fetch", "uid text", "mailbox", "INBOX", "uid",
                                                 f"{message.place}:*"))
            if not self._stream.reach(message.place):
                raise SourceError("is gone")
        yield BlockReader(self._stream.text(self._sizes[message.place]))

    def remarks(self) -> Sequence[str]:
        """Return the folders that are not moved, with their messages."""
        folders = [line.rpartition("\t") for line in self._printed("tab", "mailbox", "status", "messages", "*")]
        return [f"folder {harmless(name)} is not moved: {count} messages" for name, _, count in folders
                if name.upper() != "INBOX" and count.isdigit() and int(count)]

    def close(self) -> None:
        """End doveadm."""
        self._hang_up()

    def _row(self, words: list[str], form: str, validity: int) -> _Row:
        """Return what a line tells of a message."""
        if len(words) != len(_FIELDS):
            raise SourceError(f"{self.title}: doveadm gives a line that is not known")
        uid, guid, told, order, size, received, flags = words
        message = SourceMessage(uid, told or None, int(size), int(received), "\\Seen" in flags.split())
        if not told:
            message = replace(message, uid=uidl_of(form, DovecotIdentity(int(uid), validity, guid)))
        return _Row(message, int(uid), int(order or 0))

    def _command(self, form: str, *words: str) -> list[str]:
        """Return the words of a command that prints in `form`."""
        verb = 2 if words[0] == "mailbox" else 1
        config = ["-c", self._config] if self._config else []
        return ["doveadm", *config, "-f", form, *words[:verb], "-u", self._user, *words[verb:]]

    def _printed(self, form: str, *words: str) -> Iterator[str]:
        """Yield the lines that a command prints; raises SourceError if it fails."""
        with closing(_Running(self._command(form, *words))) as running:
            while line := running.pipe.readline(_MAX_LINE):
                yield line.rstrip(b"\n").decode("utf-8", "surrogateescape")
            running.prove_success()

    def _hang_up(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _Running:
    """A program whose output is read."""

    def __init__(self, command: list[str]) -> None:
        self._name = command[0]
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             stderr=self._errors)
        except OSError as why:
            self._errors.close()
            raise SourceError(f"{self._name}: {why.strerror}") from why
        assert self._process.stdout is not None
        self.pipe: IO[bytes] = self._process.stdout

    def prove_success(self) -> None:
        """Wait for the end of the program, whose output was read; raises SourceError if it has failed."""
        if self._process.wait() != 0:
            raise SourceError(f"{self._name}: {self.complaint() or f'ended with {self._process.returncode}'}")

    def complaint(self) -> str:
        """Return what it has written to standard error."""
        self._errors.seek(0)
        return harmless("; ".join(self._errors.read(_MAX_ERROR).decode("utf-8", "replace").splitlines()))

    def close(self) -> None:
        """End the program."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()


class _Stream:
    """Messages that doveadm prints one after the other."""

    def __init__(self, command: list[str]) -> None:
        self._running = _Running(command)
        self._is_between = True    # nothing is left of a message

    def reach(self, uid: str) -> bool:
        """Read the head of the next message; tell whether it is the one with this uid."""
        if not self._is_between:
            return False
        self._is_between = False
        head = [self._running.pipe.readline(_MAX_LINE) for _ in range(2)]
        return head == [f"uid: {uid}\n".encode("ascii"), b"text:\n"]

    def text(self, size: int) -> Iterator[bytes]:
        """Yield a message of `size` octets on the wire, then be at the next one.  Raises SourceError."""
        count, end = 0, b""
        while count < size:
            piece = self._running.pipe.readline(min(BLOCK, size - count))
            if not piece:
                raise SourceError(f"doveadm: {self._running.complaint() or 'the message ends too early'}")
            count += len(piece) + (piece.endswith(b"\n") and not (end + piece).endswith(b"\r\n"))
            end = piece[-1:]
            yield piece
        if count > size or self._running.pipe.read(len(_END)) not in (_END, b""):
            raise SourceError(f"has another size than the {size} octets that Dovecot has noted")
        self._is_between = True

    def close(self) -> None:
        """End the program."""
        self._running.close()
