"""The pid file PROGRAM.pid: a locked file, so that a dead master's is never mistaken for a living one's.

Claimed by the starter, adopted by the master over exec (a flock lives as long as any process holds
the open file, hence no child may keep it).  Raises StartError.
"""

import fcntl
import os

from popular.errors import StartError

_TRIES = 20        # against others that remove the file between our open and our lock
_MAX_SIZE = 32     # octets that are read from the file


class AlreadyRunning(StartError):
    """Another master holds the lock."""


class PidFile:
    """The lock that says: this daemon runs."""

    def __init__(self, path: str, fd: int, was_stale: bool = False) -> None:
        """Adopt the locked descriptor `fd` of the file `path`."""
        self.path = path
        self.fd = fd
        self.was_stale = was_stale    # the last master died without removing it

    @classmethod
    def claim(cls, path: str) -> "PidFile":
        """Lock the file, made when it is missing; raises AlreadyRunning with the pid of the other."""
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
        """Write the master's pid; raises StartError."""
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, b"%d\n" % pid, 0)
        except OSError as why:
            raise StartError(f"cannot write the pid file {self.path}: {why.strerror}") from why

    def remove(self) -> None:
        """Take the file away at an orderly end and give the lock up; a file that cannot be removed is emptied."""
        try:
            os.unlink(self.path)
        except OSError:
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


def _lock(path: str, fd: int) -> bytes | None:
    """Lock `fd`; returns what stood in the file, None when the file was replaced meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, _MAX_SIZE, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"already running, pid {pid}" if pid.isdigit() else "already running") from None
    here = os.fstat(fd)
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        return None
    return os.pread(fd, _MAX_SIZE, 0).strip()
