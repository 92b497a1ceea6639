"""Database module `db`: users in a Berkeley DB file, hash or B-tree.

    db FILE

The key is the user's name, the data `HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]` as
`popular.pdm.records` describes; neither ends in a NUL or line end.  The file is opened read-only and
without an environment, once in each process, and again after it was changed or replaced.  Replace it by
rename: a Berkeley DB file may be read half changed while it is being written.  The module needs the
Python package berkeleydb (`pip install popular[db]`); without it, use `cdb`.
"""

import os
from typing import Any

from popular.pdm.api import PdmError
from popular.pdm.bases import FileModule

try:
    import berkeleydb.db as driver
except ImportError:
    driver = None


class Module(FileModule):
    """The users of one Berkeley DB file."""

    API = (1, 1)
    usage = "db FILE"

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name; raises ValueError, also when the driver is missing."""
        super().__init__(ident, args)
        if driver is None:
            raise ValueError("needs the Python package berkeleydb, which is not installed")
        self._database: Any = None
        self._seen: tuple[int, ...] = ()

    def raw_record(self, key: bytes) -> bytes | None:
        """Return the value of a key, None without one; raises OSError and PdmError."""
        try:
            self._refresh()
            record: bytes | None = self._database.get(key)
        except driver.DBError as why:
            raise PdmError(f"{self.path}: Berkeley DB says: {why.args[-1] if why.args else why}") from None
        return record

    def close(self) -> None:
        """Close the file."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _refresh(self) -> None:
        """Open the file, again if it is not the same as last time; raises OSError and DBError."""
        status = os.stat(self.path)
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        if self._database is not None and seen == self._seen:
            return
        self.close()
        database = driver.DB()
        try:
            database.open(self.path, dbtype=driver.DB_UNKNOWN, flags=driver.DB_RDONLY)
        except BaseException:
            database.close()
            raise
        self._database, self._seen = database, seen
