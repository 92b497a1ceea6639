"""The database of clients that may send mail: one row for each address, with an expiry time (SMTP after POP).

Children of pproxy write it after logins, pclean removes expired rows, and Postfix reads it with its sqlite map.  In WAL
mode readers and writers do not wait for each other.  With `synchronous = NORMAL` a row is not synced; that happens only
when the log is written to the database, after about 1,000 rows.  No connection is used across a fork.  Raises
ClientsError.

Importing this loads SQLite, so children of a pproxy that records nobody must not import it.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from popular.errors import PopularError
from popular.paths import sqlite_uri

_MODE = 0o660    # of the file: readers in WAL mode must write its -shm file, which gets the same mode
PORTION = 500    # rows removed in one transaction, so that no login waits long for the lock

_TABLE = "CREATE TABLE clients (address TEXT PRIMARY KEY NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID"
_ADD = ("INSERT INTO clients (address, until) VALUES (?, ?) "
        "ON CONFLICT (address) DO UPDATE SET until = excluded.until WHERE until < excluded.until")

_REMOVE = "DELETE FROM clients WHERE address = ? AND until <= ?"

_BESIDE = ("-wal", "-shm")    # files that SQLite keeps beside a database in WAL mode


class ClientsError(PopularError):
    """The database cannot be made, read or written; the text says why."""


class Clients:
    """The database in one file, opened when needed, and again if the file was replaced."""

    def __init__(self, path: str, patience: float) -> None:
        """Take the file's name, and the seconds to wait for another writer."""
        self.path = path
        self._patience = patience
        self._database: sqlite3.Connection | None = None
        self._seen: tuple[int, int] = (0, 0)

    def prepare(self) -> None:
        """Make the file if it does not exist, so that Postfix finds it."""
        with _telling():
            if not self._is_there():
                self._make()

    def is_there(self) -> bool:
        """Tell whether the file exists and is not empty."""
        with _telling():
            return self._is_there()

    def add(self, address: str, until: int) -> None:
        """Let `address`, as inet_ntop(3) writes it, send mail until the UNIX time `until`; never shorten that."""
        with _telling():
            try:
                self._connection().execute(_ADD, (address, until))
            except sqlite3.Error:
                self.close()
                raise

    def count_expired(self, now: int) -> int:
        """Return how many rows `expire` would remove."""
        with _telling():
            [(number,)] = self._connection().execute("SELECT count(*) FROM clients WHERE until <= ?", (now,))
            return int(number)

    def expire(self, now: int) -> int:
        """Remove the rows that have expired at the UNIX time `now`; return their number."""
        with _telling():
            database = self._connection()
            rows = database.execute("SELECT address FROM clients WHERE until <= ?", (now,)).fetchall()
            removed = 0
            for start in range(0, len(rows), PORTION):
                database.execute("BEGIN IMMEDIATE")
                portion = [(address, now) for (address,) in rows[start:start + PORTION]]
                removed += database.executemany(_REMOVE, portion).rowcount
                database.execute("COMMIT")
            return removed

    def close(self) -> None:
        """Close the database."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def _is_there(self) -> bool:
        try:
            return os.stat(self.path).st_size > 0
        except FileNotFoundError:
            return False

    def _connection(self) -> sqlite3.Connection:
        """Return the open database; make one if there is none.  Raises OSError, sqlite3.Error."""
        if not self._is_there():
            self._make()
        status = os.stat(self.path)
        seen = (status.st_dev, status.st_ino)
        if self._database is not None and seen != self._seen:
            self.close()
        if self._database is None:
            self._database, self._seen = _connect(self.path, self._patience), seen
        return self._database

    def _make(self) -> None:
        """Make an empty database under another name and rename it, so that nobody sees an incomplete one."""
        fresh = f"{self.path}.{os.getpid()}"
        try:
            os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE))
            os.chmod(fresh, _MODE)
            with closing(_connect(fresh, self._patience)) as database:
                database.execute("PRAGMA journal_mode = WAL").fetchall()
                database.execute(_TABLE)
            if not self._is_there():    # else another process was quicker
                _remove(self.path, _BESIDE)    # of a deleted database; SQLite would use them for the new one
                os.replace(fresh, self.path)
        finally:
            _remove(fresh, ("", *_BESIDE))


def _connect(path: str, patience: float) -> sqlite3.Connection:
    """Open an existing database; raises sqlite3.Error."""
    database = sqlite3.connect(sqlite_uri(path, "rw"), uri=True, timeout=patience, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _remove(path: str, suffixes: Iterable[str]) -> None:
    """Remove `path` with each of the suffixes, if the file exists; raises OSError."""
    for suffix in suffixes:
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            pass


@contextmanager
def _telling() -> Iterator[None]:
    """Turn errors of the system and of SQLite into ClientsError."""
    try:
        yield
    except OSError as why:
        raise ClientsError(str(why.strerror)) from why
    except sqlite3.Error as why:
        raise ClientsError(f"SQLite says: {why}") from why
