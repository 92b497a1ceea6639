"""The log of one process: what happens becomes an event, and a sink writes it (spec 5.1).

Used in every process.  The sink decides where events go, and the form how they look.  A log that
cannot be written never raises and never waits; only `open` and `reopen` raise StartError.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from popular.lean import TYPE_CHECKING
from popular.log.form import CLASSIC, LogForm
from popular.log.line import MAX_VALUE, word
from popular.log.message import DBG, Event, Message
from popular.log.sink import FileSink, Sink

if TYPE_CHECKING:    # it brings mmap
    from popular.log.limit import LineLimit


class Log:
    """The log of one program for its administrator."""

    def __init__(self, program: str, sink: Sink, debug: bool = False, limit: "LineLimit | None" = None) -> None:
        """Write for `program` to `sink`; `debug`: also events for developers.

        `limit` is for callers that log what a peer can cause at will; they must ask it themselves.
        """
        self.limit = limit
        self.debug_on = debug
        self._sink = sink
        self._host = word(os.uname().nodename.partition(".")[0])
        self._program = word(program)
        self._sid = "-"

    @classmethod
    def open(cls, program: str, path: str, *, debug: bool = False, form: LogForm = CLASSIC) -> "Log":
        """Open or create the file `path` for appending; raises StartError."""
        return cls(program, FileSink.open(path, form), debug)

    @property
    def sid(self) -> str:
        """The session id in every line, `-` outside a session."""
        return self._sid

    @sid.setter
    def sid(self, sid: str) -> None:
        self._sid = word(sid[:MAX_VALUE])

    @contextmanager
    def about(self, sid: str) -> Iterator[None]:
        """Write lines about the session `sid` (empty: none) in a process without its own session."""
        former, self.sid = self.sid, sid or "-"
        try:
            yield
        finally:
            self.sid = former

    def fileno(self) -> int:
        """Return the sink's descriptor; its number stays the same over `reopen`."""
        return self._sink.fileno()

    def note(self, message: Message, /, **fields: object) -> None:
        """Write one event with the fields that its row names, each once.

        Raises TypeError for a missing or surplus field, which is a mistake in the calling code.
        """
        if tuple(fields) != message.names:
            fields = _in_order(message, fields)
        self._sink.write(Event(time.time(), self._host, self._program, os.getpid(), self._sid, message, fields))

    def debug(self, name: str, /, **fields: object) -> None:
        """Write one event for developers, when debugging is on; `name` is one word (spec 5.1: number 0000)."""
        if self.debug_on:
            self.note(Message(0, DBG, word(name), " ".join(fields), ""), **fields)

    def reopen(self) -> None:
        """Open the log file anew, after it was renamed (spec 5.4); does nothing without a file.

        When that fails the old file stays in use and StartError is raised.
        """
        self._sink.reopen()


def _in_order(message: Message, fields: dict[str, object]) -> dict[str, object]:
    """Return the fields in the order of their row; raises TypeError when fields are missing or surplus."""
    if sorted(fields) != sorted(message.names):
        raise TypeError(f"{message.name} wants the fields {message.fields!r}, got {' '.join(fields)!r}")
    return {name: fields[name] for name in message.names}
