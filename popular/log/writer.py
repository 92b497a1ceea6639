"""The log file of one process: one line per event, one write per line (spec 5.1).

Used in every process.  The master and its children share one open file; O_APPEND and a single
write per line keep their lines apart.  Never syslog.  A log that cannot be written (disk full,
file closed, folder gone) loses lines but never raises: mail goes on without it.  Only `open` and
`reopen` raise, StartError.
"""

import os
import time

from popular.errors import StartError
from popular.log.line import line, word
from popular.log.message import DBG, Message

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
_MODE = 0o640


class Log:
    """Where one program writes what happens."""

    def __init__(self, program: str, fd: int, path: str = "", debug: bool = False) -> None:
        """Write for `program` to the open descriptor `fd`, which came from `path` (empty: cannot be reopened)."""
        self.debug_on = debug
        self._fd = fd
        self._path = path
        self._torn = False
        self._origin = f"{word(os.uname().nodename.partition('.')[0])} {word(program)}"
        self._sid = "-"

    @classmethod
    def open(cls, program: str, path: str, *, debug: bool = False) -> "Log":
        """Open or create the file `path` for appending; raises StartError."""
        return cls(program, _open(path), path, debug)

    @property
    def sid(self) -> str:
        """The session id that stands in every line, `-` outside a session."""
        return self._sid

    @sid.setter
    def sid(self, sid: str) -> None:
        self._sid = word(sid)

    def fileno(self) -> int:
        """Return the descriptor; its number stays the same over `reopen`."""
        return self._fd

    def note(self, message: Message, /, **fields: object) -> None:
        """Write one event with the fields that its row names, each once.

        Raises TypeError for a missing or surplus field, which is a mistake in the calling code.
        """
        names = message.fields.split()
        if fields.keys() != set(names):
            raise TypeError(f"{message.name} wants the fields {message.fields!r}, got {' '.join(fields)!r}")
        self._write(message.level, message.number, message.name, [(name, fields[name]) for name in names])

    def debug(self, name: str, /, **fields: object) -> None:
        """Write one event for developers, when debugging is on; `name` is one word (spec 5.1: number 0000)."""
        if self.debug_on:
            self._write(DBG, 0, word(name), list(fields.items()))

    def reopen(self) -> None:
        """Open the path anew, after the file was renamed (spec 5.4).

        When that fails the old file stays in use and StartError is raised.
        """
        if not self._path:
            return
        fresh = _open(self._path)
        try:
            os.dup2(fresh, self._fd, inheritable=False)
        finally:
            os.close(fresh)
        self._torn = False

    def _write(self, level: str, number: int, name: str, fields: list[tuple[str, object]]) -> None:
        """Write one line in one write; what the system refuses is lost."""
        head = f"{time.strftime('%Y%m%d %H%M%S')} {self._origin} {os.getpid()} {self._sid} {level} {number:04x} {name}"
        octets = line(head, fields)
        if self._torn:
            octets = b"\n" + octets    # the last line was cut by a full disk: the new one must not grow onto it
        try:
            self._torn = os.write(self._fd, octets) < len(octets)
        except OSError:
            pass


def _open(path: str) -> int:
    """Open a log file; raises StartError that says which and why."""
    try:
        return os.open(path, _FLAGS, _MODE)
    except (OSError, ValueError) as why:
        reason = why.strerror if isinstance(why, OSError) else why
        raise StartError(f"cannot open the log file {path}: {reason}") from why
