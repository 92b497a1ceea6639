"""Database module `lmdb`: users in a Lightning Memory-Mapped Database, for millions of users on one machine.

    lmdb FILE

The key is the user's name, the value `HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]` as `popular.pdm.records`
describes.  `plmdb FILE < users` makes the file, and changes it while it is in use: each look-up sees all of
a change or nothing, and all processes share the pages of the file.

Readers and writers coordinate by the file FILE-lock, to which readers must be able to write; without it, a
reader could see pages that are being used again.  The file is opened once in each process, and again after
it was replaced by another one.  It must never be overwritten or cut short, except by plmdb: a process that
reads beyond its end is killed.  Not two modules may use the same file.

It needs the Python package lmdb, which is loaded in the master, once for all sessions.  Runs in the process that
asks; nothing here waits.
"""

import os
from typing import Any

from popular.pdm.api import PdmError
from popular.pdm.bases import FileModule

driver: Any = None
try:
    import lmdb
    driver = lmdb
except ImportError:
    pass    # the constructor says so

READERS = 4096    # look-ups at one time, if this process is the first to open the file


class Module(FileModule):
    """The users of one LMDB file."""

    API = (1, 1)
    usage = "lmdb FILE"

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name; raises ValueError, also when the driver is missing."""
        super().__init__(ident, args)
        if driver is None:
            raise ValueError("needs the Python package lmdb, which is not installed")
        self.writes = (os.path.dirname(self.path),)    # its lock file
        self._environment: Any = None
        self._seen: tuple[int, int] = (0, 0)

    def open(self) -> None:
        """Close what another process has opened; the first question opens the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    def raw_record(self, key: bytes) -> bytes | None:
        """Return the value of a key, None without one; raises OSError and PdmError."""
        try:
            try:
                return self._get(key)
            except (driver.MapResizedError, driver.BadRslotError):
                self.close()    # the file has grown, or a copy of this process has closed it and taken our slot
            except driver.ReadersFullError:
                self._environment.reader_check()    # forget those that were killed
            return self._get(key)
        except driver.Error as why:
            raise PdmError(f"{self.path}: LMDB says: {why}") from None

    def _get(self, key: bytes) -> bytes | None:
        self._refresh()
        with self._environment.begin() as transaction:
            record: bytes | None = transaction.get(key)
        return record

    def _refresh(self) -> None:
        """Open the file, again if it is not the same as last time; raises OSError, PdmError and the driver's Error."""
        status = os.stat(self.path)
        seen = (status.st_dev, status.st_ino)
        if self._environment is not None and seen == self._seen:
            return
        self.close()
        lock = f"{self.path}-lock"
        if os.path.exists(lock) and not os.access(lock, os.W_OK, effective_ids=True):
            raise PdmError(f"{lock}: readers must be able to write to it, too")
        self._environment = driver.open(self.path, subdir=False, readonly=True, create=False, readahead=False,
                                        max_readers=READERS, max_spare_txns=0)
        self._seen = seen
