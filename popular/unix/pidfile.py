"""The pid file PROGRAM.pid: a locked file, so that a dead master's is never mistaken for a living one's.

Claimed by the starter, adopted by the master over exec (a flock lives as long as any process holds
the open file, hence no child may keep it).  A successor locks a file beside it, which takes the place of
the other when it takes over.  Raises StartError.
"""

import fcntl
import os

from popular.errors import StartError

NEW = ".new"       # ends the name of a file that is to take the place of the other

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

    def publish(self, *, if_stale: bool = False) -> None:
        """Put a file with a name that ends in `NEW` where the pid file belongs; raises OSError.

        With `if_stale` only when nobody holds the other's lock; raises AlreadyRunning.
        """
        path = self.path.removesuffix(NEW)
        former = PidFile.claim(path) if if_stale else None
        os.rename(self.path, path)
        self.path = path
        if former is not None:
            os.close(former.fd)

    def retake(self) -> None:
        """Put the file back after another's has taken its place, or was about to.

        The number of the descriptor stays the same.  Raises StartError, also while the other is locked, and OSError.
        """
        try:
            os.unlink(self.path + NEW)
        except FileNotFoundError:
            pass
        if not self.is_in_place:
            again = PidFile.claim(self.path)
            again.write(os.getpid())
            os.dup2(again.fd, self.fd, inheritable=False)
            os.close(again.fd)

    @property
    def is_in_place(self) -> bool:
        """Tell whether the file is where it was put: nobody's has taken its place."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Take the file away at an orderly end and give the lock up; a file that cannot be removed is emptied."""
        try:
            if self.is_in_place:
                os.unlink(self.path)
        except OSError:
            os.ftruncate(self.fd, 0)
        os.close(self.fd)


def running_pid(path: str) -> int | None:
    """Return the pid of the master that has the lock of the pid file `path`, 0 if it is not known; None: nobody has."""
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
    """Lock `fd`; returns what stood in the file, None when the file was replaced meanwhile."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, _MAX_SIZE, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise AlreadyRunning(f"already running, pid {pid}" if pid.isdigit() else "already running") from None
    if not PidFile(path, fd).is_in_place:
        return None
    return os.pread(fd, _MAX_SIZE, 0).strip()
