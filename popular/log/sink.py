"""Where log lines go, and the two sinks that write to a plain descriptor: a file, and standard error.

Used in every process.  The master and its children share one open file; O_APPEND and a single write
per line keep their lines apart.  A sink that cannot be written to (disk full, file closed, folder gone,
pipe without reader) loses lines but never raises and never waits, so that mail service continues.  Only
opening and `reopen` raise StartError.
"""

import fcntl
import os
import select
import stat

from popular.errors import StartError
from popular.lean import Protocol
from popular.log.form import CLASSIC, LogForm
from popular.log.message import Event

STDERR = 2

# O_NONBLOCK does nothing to a file, and keeps a pipe or terminal without reader from stopping a session.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o640


class Sink(Protocol):
    """Where one program's events go."""

    def write(self, event: Event) -> None:
        """Write one event, at once or not at all; never raises."""
        ...

    def reopen(self) -> None:
        """Open a file anew, after it was renamed; raises StartError, and then keeps the old one."""
        ...

    def fileno(self) -> int:
        """Return the descriptor; its number stays the same over `reopen`."""
        ...


class FileSink:
    """An open descriptor: of a log file, or of anything else that takes octets."""

    def __init__(self, fd: int, form: LogForm = CLASSIC, path: str = "") -> None:
        """Write to `fd`, which came from `path` (empty: cannot be reopened)."""
        self._fd = fd
        self._path = path
        self._form = form
        self._torn = False
        self._may_block = _may_block(fd)

    @classmethod
    def open(cls, path: str, form: LogForm = CLASSIC) -> "FileSink":
        """Open or create the file `path` for appending, mode 0640; raises StartError."""
        return cls(_open(path), form, path)

    @classmethod
    def stderr(cls, form: LogForm = CLASSIC) -> "FileSink":
        """Write to the present standard error, on a separate descriptor; raises StartError.

        It is opened anew where possible, because O_NONBLOCK on the old one would affect every process
        that shares it, such as the shell.
        """
        try:
            return cls(os.open(f"/proc/self/fd/{STDERR}", _FLAGS), form)
        except OSError:    # a socket, or another user's
            pass
        try:
            return cls(fcntl.fcntl(STDERR, fcntl.F_DUPFD_CLOEXEC, STDERR + 1), form)
        except OSError as why:
            raise StartError(f"cannot log to standard error: {why.strerror}") from why

    def fileno(self) -> int:
        """Return the descriptor; its number stays the same over `reopen`."""
        return self._fd

    def write(self, event: Event) -> None:
        """Write one line in one write; what the system refuses is lost."""
        octets = self._form.line(event)
        if self._torn:
            octets = b"\n" + octets    # the last line was cut by a full disk: the new one must not be appended to it
        try:
            if not self._may_block or self._has_room():
                self._torn = os.write(self._fd, octets) < len(octets)
        except OSError:
            pass

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

    def _has_room(self) -> bool:
        """Tell whether a write is possible now without waiting."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))


def _open(path: str) -> int:
    """Open a log file; raises StartError with its name and the reason."""
    try:
        return os.open(path, _FLAGS | os.O_CREAT, _MODE)
    except (OSError, ValueError) as why:
        reason = why.strerror if isinstance(why, OSError) else why
        raise StartError(f"cannot open the log file {path}: {reason}") from why


def _may_block(fd: int) -> bool:
    """Tell whether a write to `fd` might have to wait for a reader."""
    return not stat.S_ISREG(os.fstat(fd).st_mode) and not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
