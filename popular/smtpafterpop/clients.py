"""The database of clients that may send mail: one row for each address, and until when (SMTP after POP).

Children of pproxy write it after logins, pclean removes what is over, and Postfix reads it by its sqlite map.  In WAL
mode readers and writers do not wait for each other; with `synchronous = NORMAL` nothing is synced for a row, only when
the log goes into the database, after about 1,000 rows.  No connection goes over a fork.  Raises ClientsError.

Importing this loads SQLite: children of a pproxy that records nobody are to do without.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

from popular.errors import PopularError
from popular.paths import sqlite_uri

MODE = 0o660      # of the file: readers in WAL mode must write its -shm file, which gets the same
PORTION = 500     # rows removed in one transaction, so that no login meets a lock for long

TABLE = "CREATE TABLE clients (address TEXT PRIMARY KEY NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID"
ADD = ("INSERT INTO clients (address, until) VALUES (?, ?) "
       "ON CONFLICT (address) DO UPDATE SET until = excluded.until WHERE until < excluded.until")

REMOVE = "DELETE FROM clients WHERE address = ? AND until <= ?"

_BESIDE = ("-wal", "-shm")    # what SQLite keeps beside a database in WAL mode


class ClientsError(PopularError):
    """The database cannot be made, read or written; the text says why."""


class Clients:
    """The database in one file, opened when it is needed, and again when it was replaced."""

    def __init__(self, path: str, patience: float) -> None:
        """Take the file's name, and the seconds to wait for another writer."""
        self.path = path
        self._patience = patience
        self._database: sqlite3.Connection | None = None
        self._seen: tuple[int, int] = (0, 0)

    def prepare(self) -> None:
        """Make the file if there is none, so that Postfix finds it."""
        with _telling():
            if not self._is_there():
                self._make()

    def is_there(self) -> bool:
        """Tell whether there is a file with something in it."""
        with _telling():
            return self._is_there()

    def add(self, address: str, until: int) -> None:
        """Let `address`, as inet_ntop(3) writes it, send mail until then, seconds since 1970, or longer if it may."""
        with _telling():
            try:
                self._connection().execute(ADD, (address, until))
            except sqlite3.Error:
                self.close()
                raise

    def count_expired(self, now: int) -> int:
        """Return how many rows `expire` would remove."""
        with _telling():
            [(number,)] = self._connection().execute("SELECT count(*) FROM clients WHERE until <= ?", (now,))
            return int(number)

    def expire(self, now: int) -> int:
        """Remove the rows that are over at `now`; returns how many they were."""
        with _telling():
            database = self._connection()
            rows = database.execute("SELECT address FROM clients WHERE until <= ?", (now,)).fetchall()
            removed = 0
            for start in range(0, len(rows), PORTION):
                database.execute("BEGIN IMMEDIATE")
                portion = [(address, now) for (address,) in rows[start:start + PORTION]]
                removed += database.executemany(REMOVE, portion).rowcount
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
        """Return the open database; makes one where there is none.  Raises OSError, sqlite3.Error."""
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
        """Make an empty database beside its place and put it there, so that nobody sees half of one."""
        fresh = f"{self.path}.{os.getpid()}"
        try:
            os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, MODE))
            os.chmod(fresh, MODE)
            with closing(_connect(fresh, self._patience)) as database:
                database.execute("PRAGMA journal_mode = WAL").fetchall()
                database.execute(TABLE)
            if not self._is_there():    # else another process was quicker
                _remove(self.path, _BESIDE)    # of one that somebody deleted; SQLite would take them for the new one's
                os.replace(fresh, self.path)
        finally:
            _remove(fresh, ("", *_BESIDE))


def _connect(path: str, patience: float) -> sqlite3.Connection:
    """Open a database that is there; raises sqlite3.Error."""
    database = sqlite3.connect(sqlite_uri(path, "rw"), uri=True, timeout=patience, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _remove(path: str, suffixes: Iterable[str]) -> None:
    """Remove those of some files that are there; raises OSError."""
    for suffix in suffixes:
        try:
            os.unlink(path + suffix)
        except FileNotFoundError:
            pass


@contextmanager
def _telling() -> Iterator[None]:
    """Make what the system and SQLite say our own error."""
    try:
        yield
    except OSError as why:
        raise ClientsError(str(why.strerror)) from why
    except sqlite3.Error as why:
        raise ClientsError(f"SQLite says: {why}") from why
