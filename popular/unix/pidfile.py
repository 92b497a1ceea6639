"""The pid file PROGRAM.pid: a locked file, so that a dead master's file is never mistaken for a living one's.

Claimed by the starter, adopted by the master over exec (a flock lives as long as any process holds
the open file, hence no child may keep it).  In an upgrade both masters hold the same lock, and the one in
charge writes its pid.  Raises StartError.
"""

import fcntl
import os

from popular.errors import StartError

_TRIES = 20        # if others remove the file between our open and our lock
_MAX_SIZE = 32     # octets that are read from the file


class AlreadyRunning(StartError):
    """Another master holds the lock."""


class PidFile:
    """The lock that shows that this daemon runs."""

    def __init__(self, path: str, fd: int, was_stale: bool = False) -> None:
        """Adopt the locked descriptor `fd` of the file `path`."""
        self.path = path
        self.fd = fd
        self.was_stale = was_stale    # the previous master died without removing it

    @classmethod
    def claim(cls, path: str) -> "PidFile":
        """Lock the file, making it if it is missing; raises AlreadyRunning with the pid of the other."""
        for _ in range(_TRIES):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            except OSError as why:
                raise StartError(f"cannot open the pid file {path}: {why.strerror}") from why
            found = _lock(path, fd)
            if found is not None:
                return cls(path, fd, bool(found))
            os.close(fd)
        raise StartError(f"cannot lock the pid file {path}: it is replaced all the time")

    def write(self, pid: int) -> None:
        """Write the master's pid, so that readers see either the new or the old content; raises StartError."""
        line = b"%d\n" % pid
        try:
            os.pwrite(self.fd, line.ljust(_MAX_SIZE, b"\n"), 0)
            os.ftruncate(self.fd, len(line))
        except OSError as why:
            raise StartError(f"cannot write the pid file {self.path}: {why.strerror}") from why

    @property
    def is_in_place(self) -> bool:
        """Tell whether the file is still in its place and has not been replaced."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the file at an orderly end and give up the lock; a file that cannot be removed is emptied."""
        try:
            if self.is_in_place:
                os.unlink(self.path)
        except OSError:
            os.ftruncate(self.fd, 0)
        self.close()

    def close(self) -> None:
        """Leave file and lock to the other master of an upgrade."""
        os.close(self.fd)


def running_pid(path: str) -> int | None:
    """Return the pid of the master that has the lock of the pid file `path`, 0 if unknown; None if no master has it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, _MAX_SIZE, 0).strip()
        return int(pid) if pid.isdigit() else 0
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def _lock(path: str, fd: int) -> bytes | None:
    """Lock `fd`; returns the content of the file, None when it was replaced meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, _MAX_SIZE, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"already running, pid {pid}" if pid.isdigit() else "already running") from None
    if not PidFile(path, fd).is_in_place:
        return None
    return os.pread(fd, _MAX_SIZE, 0).strip()
