"""How far a run of pclean has got, on disk: the last mailbox that was done, in the order of the walk.

The file is replaced as a whole by rename(2), so that a reader finds the old or the new one.  It is not synced: after a
crash of the machine it may be missing, and a run starts from the beginning.  Raises StateError.
"""

import os
from collections.abc import Callable

from popular.errors import PopularError
from popular.names import is_mailbox

_MAGIC = "pclean 1"
MAX_SIZE = 65536    # octets that are read


class StateError(PopularError):
    """The file cannot be written, or holds something else."""


class ProgressFile:
    """The file of one spool."""

    def __init__(self, path: str, spool: str) -> None:
        self.path = path
        self._spool = os.path.realpath(spool)

    def read(self) -> str:
        """Return the mailbox after which to continue; empty if there is nothing to resume."""
        try:
            with open(self.path, "rb") as file:
                lines = os.fsdecode(file.read(MAX_SIZE)).splitlines()
        except FileNotFoundError:
            return ""
        except OSError as why:
            raise StateError(str(why.strerror)) from why
        if len(lines) != 3 or lines[0] != _MAGIC or not is_mailbox(lines[2]):
            raise StateError("it does not say how far a run has got")
        if lines[1] != self._spool:
            raise StateError("it is for another spool")
        return lines[2]

    def write(self, mailbox: str) -> None:
        """Record that everything up to and including `mailbox` is done."""
        fresh = f"{self.path}.new"
        try:
            with open(fresh, "wb") as file:
                file.write(os.fsencode(f"{_MAGIC}\n{self._spool}\n{mailbox}\n"))
            os.replace(fresh, self.path)
        except OSError as why:
            raise StateError(str(why.strerror)) from why

    def forget(self) -> None:
        """Record that there is nothing to resume."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as why:
            raise StateError(str(why.strerror)) from why


class Milestones:
    """Writes the file from time to time; the first failure is reported."""

    def __init__(self, file: ProgressFile, interval: float, clock: Callable[[], float],
                 complain: Callable[[StateError], None]) -> None:
        """Write at most once in `interval` seconds, by the monotonic `clock`."""
        self._file = file
        self._interval = interval
        self._clock = clock
        self._complain = complain
        self._written_at = clock()
        self._has_failed = False

    def reach(self, mailbox: str) -> None:
        """Note that a mailbox is done."""
        now = self._clock()
        if now - self._written_at >= self._interval:
            self._written_at = now
            self.write(mailbox)

    def write(self, mailbox: str) -> None:
        """Write now; an empty name writes nothing, since nothing was done."""
        if mailbox:
            self._attempt(lambda: self._file.write(mailbox))

    def finish(self) -> None:
        """Note that everything is done."""
        self._attempt(self._file.forget)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StateError as why:
            if not self._has_failed:
                self._complain(why)
            self._has_failed = True
