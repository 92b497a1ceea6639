"""Database module `sqlite`: users in an SQLite database, found by one query.

    sqlite FILE [QUERY]

`popular.pdm.databases.sql` explains the parameters and columns of QUERY.  Without it:

    SELECT * FROM users WHERE user = :user AND namespace = :namespace

The database is opened read-only, once in each process, and again after the file was replaced; a query that
takes too long is interrupted, and a writer is waited for, but not for ever.  A database in WAL mode must be in
a folder where its `-shm` file can be opened or created.
"""

import os
import sqlite3
import time

from popular.paths import sqlite_uri
from popular.pdm import records
from popular.pdm.api import PdmError, Request
from popular.pdm.bases import RecordModule
from popular.pdm.databases import sql

USAGE = "sqlite FILE [QUERY]"
QUERY = "SELECT * FROM users WHERE user = :user AND namespace = :namespace"
MAX_SECONDS = 10.0          # of one query, if the chain sets no earlier deadline
LOCK_SECONDS = 5.0          # to wait for a writer: a busy disk takes more than a second for a sync
TRY_SECONDS = 0.25          # of these at a time, because SQLite's own wait ends at no deadline
STEPS = 20_000              # of SQLite's machine between two checks of the clock, about a millisecond


class Module(RecordModule):
    """The users that one query finds in one SQLite database."""

    API = (1, 1)

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name and the query, in one word or several; raises ValueError."""
        super().__init__(ident, args)
        self.path = records.file_argument(args[:1], USAGE, "the database")
        self.writes = (os.path.dirname(self.path),)    # its -shm file
        self.query = " ".join(args[1:]).strip() or QUERY
        if self.query.split(None, 1)[0].upper() not in ("SELECT", "WITH"):
            raise ValueError(f"wanted: {USAGE}, QUERY beginning with SELECT or WITH")
        sql.Query.parse(self.query)
        self._database: sqlite3.Connection | None = None
        self._seen: tuple[int, int] = (0, 0)
        self._deadline = 0.0

    def probe(self) -> None:
        """Look up a user that does not exist."""
        records.probe(self.path, self.check)
        self.close()

    def record(self, request: Request) -> records.Record | None:
        """Return the result of the query, or None; raises ValueError, OSError and PdmError."""
        values = sql.parameters_of(request)
        if values is None:
            return None
        began = time.monotonic()
        self._deadline = min(request.deadline, began + MAX_SECONDS)
        while True:
            try:
                cursor = self._connection().execute(self.query, values)
                rows = cursor.fetchmany(2)
                columns = cursor.description
                cursor.close()
                break
            except sqlite3.Error as why:
                if not _is_busy(why) or time.monotonic() >= min(self._deadline, began + LOCK_SECONDS):
                    raise PdmError(f"{self.path}: SQLite says: {why}") from None
        if not rows:
            return None
        if len(rows) > 1:
            raise ValueError("more than one row")
        return sql.record_from(sql.names_of([column[0] for column in columns]), rows[0])

    def close(self) -> None:
        """Close the database."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _connection(self) -> sqlite3.Connection:
        """Return the open database, reopened if the file was replaced; raises OSError and sqlite3.Error."""
        status = os.stat(self.path)
        seen = (status.st_dev, status.st_ino)
        if self._database is not None and seen != self._seen:
            self.close()
        if self._database is None:
            self._database, self._seen = self._opened(), seen
        return self._database

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(sqlite_uri(self.path, "ro"), uri=True, timeout=TRY_SECONDS, isolation_level=None)
        database.text_factory = bytes    # decoded in sql.record_from, because they may not be UTF-8
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 20)
        database.set_progress_handler(self._is_late, STEPS)
        return database

    def _is_late(self) -> int:
        """Tell SQLite whether to give up, 1 or 0."""
        return int(time.monotonic() > self._deadline)


def _is_busy(why: sqlite3.Error) -> bool:
    """Tell whether somebody else has the lock."""
    return getattr(why, "sqlite_errorcode", 0) & 0xff == sqlite3.SQLITE_BUSY    # the rest has details
