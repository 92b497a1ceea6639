"""The store of the module `poauth`: an SQLite file with the tokens of users, encrypted, and how their refresh stands.

A row belongs to one user of one module (its id), so several modules may share a file.  The row of the user "" is that
of the module: how its provider stands and, if the application has a token of its own for all mailboxes, this token.

Many workers want a token at the same moment, but only one may refresh it.  That one has a claim, with a time limit for
the case that it dies.  Each change of a row's tokens counts up its generation, so that a worker that was late does not
overwrite what is newer.  A new refresh token replaces the old one in one transaction, which is on disk before anybody
gets the access token that came with it.

Runs in PDM workers and in the tool poauth.  Raises PdmError; its texts hold no secrets.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from popular.paths import sqlite_uri
from popular.pdm import records
from popular.pdm.api import PdmError
from popular.pdm.drivers import driver
from popular.pdm.oauth.keyfile import KeyFile, WrongKey
from popular.pdm.oauth.oauthclient import Tokens

LOCK_SECONDS = 5.0    # to wait for somebody who writes: a busy disk takes more than a second for a sync

_VERSION = 1
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS grants (
    module TEXT NOT NULL,
    user TEXT NOT NULL,                         -- in small letters
    refresh BLOB,                               -- encrypted
    access BLOB,                                -- encrypted
    until REAL NOT NULL DEFAULT 0,              -- when access expires; these are seconds since 1970
    busy REAL NOT NULL DEFAULT 0,               -- until when somebody has a claim
    retry REAL NOT NULL DEFAULT 0,              -- when the provider may be asked again
    failures INTEGER NOT NULL DEFAULT 0,        -- one after the other
    trouble TEXT NOT NULL DEFAULT '',           -- why the last question has failed
    is_refused INTEGER NOT NULL DEFAULT 0,      -- it was refused for good
    granted REAL NOT NULL DEFAULT 0,
    refreshed REAL NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (module, user)
) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_COLUMNS = ("user", "access", "until", "busy", "retry", "failures", "trouble", "is_refused", "granted", "refreshed",
            "generation")
_SELECT = f"SELECT {', '.join(_COLUMNS)}, refresh FROM grants WHERE module = ?"


@dataclass(frozen=True, slots=True)
class Consent:
    """One row; moments are in seconds since 1970, 0: never."""

    user: str
    access: str = field(repr=False)    # empty: none
    until: float
    busy: float
    retry: float
    failures: int
    trouble: str
    is_refused: bool
    granted: float
    refreshed: float
    generation: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to refresh the token of one user, for a while."""

    kept: Consent
    refresh: str = field(repr=False)


class TokenStore:
    """The rows of one module."""

    def __init__(self, path: str, keys: KeyFile, module: str, clock: Callable[[], float] = time.time) -> None:
        """Open the file, or make it, for the module with this id."""
        self.path = path
        self._keys, self._module, self._clock = keys, module, clock
        self._sqlite: Any = driver("sqlite3", "sqlite3")
        self._database = self._opened()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def find(self, user: str) -> Consent | None:
        """Return the row of a user, None if there is none."""
        for is_last in (False, True):
            rows = self._rows(f"{_SELECT} AND user = ?", self._module, user)
            try:
                return self._kept(rows[0], self._plain(rows[0], "access")) if rows else None
            except WrongKey:    # perhaps the key was changed at this moment
                if is_last:
                    raise
        return None

    def users(self) -> list[Consent]:
        """Return the rows of all users, in order, without their tokens."""
        return [self._kept(row, "") for row in self._rows(f"{_SELECT} AND user != '' ORDER BY user", self._module)]

    def refresh_token(self, user: str) -> str:
        """Return the refresh token of a user, empty if there is none."""
        rows = self._rows(f"{_SELECT} AND user = ?", self._module, user)
        return self._plain(rows[0], "refresh") if rows else ""

    def claim(self, kept: Consent, seconds: float) -> Claim | None:
        """Claim the right to refresh the token of a row, if it is as it was and nobody else has the right."""
        now = self._clock()
        with self._writing():
            rows = self._rows(f"{_SELECT} AND user = ? AND generation = ? AND NOT (busy > ? AND busy <= ?)",
                              self._module, kept.user, kept.generation, now, now + seconds)    # the clock may be set
            if not rows:
                return None
            self._run("UPDATE grants SET busy = ? WHERE module = ? AND user = ?", now + seconds, self._module,
                      kept.user)
            return Claim(kept, self._plain(rows[0], "refresh"))

    def release(self, kept: Consent) -> None:
        """Give a claim back."""
        with self._writing():
            self._run("UPDATE grants SET busy = 0 WHERE module = ? AND user = ? AND generation = ?", self._module,
                      kept.user, kept.generation)

    def keep(self, kept: Consent, tokens: Tokens) -> None:
        """Store what was got with a claim, which ends, unless the row has newer tokens."""
        now = self._clock()
        with self._writing():
            self._run(
                "UPDATE grants SET access = ?, until = ?, refresh = coalesce(?, refresh), busy = 0, retry = 0, "
                "failures = 0, trouble = '', is_refused = 0, refreshed = ?, generation = generation + 1 "
                "WHERE module = ? AND user = ? AND generation = ?", self._secret(tokens.access, kept.user, "access"),
                now + tokens.seconds, self._secret(tokens.refresh, kept.user, "refresh"), now, self._module, kept.user,
                kept.generation)
            self._run("UPDATE grants SET retry = 0, failures = 0, trouble = '' WHERE module = ? AND user = '' "
                      "AND failures > 0", self._module)

    def put_off(self, kept: Consent, user: str, seconds: float, trouble: str, *, is_refused: bool = False) -> None:
        """End a claim without a token, and have the provider not asked for some seconds: for `user`, or "" for all.

        `is_refused`: the provider says that it gives none.
        """
        with self._writing():
            self._run("UPDATE grants SET busy = 0 WHERE module = ? AND user = ? AND generation = ?", self._module,
                      kept.user, kept.generation)
            self._run("UPDATE grants SET retry = ?, failures = failures + 1, trouble = ?, is_refused = ? "
                      "WHERE module = ? AND user = ? AND (user != ? OR generation = ?)", self._clock() + seconds,
                      trouble, is_refused, self._module, user, kept.user, kept.generation)

    def grant(self, user: str, tokens: Tokens) -> None:
        """Store the tokens of a new consent, in place of any others."""
        now = self._clock()
        with self._writing():
            self._run(
                "INSERT INTO grants (module, user, access, until, refresh, granted, generation) "
                "VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (module, user) DO UPDATE SET access = excluded.access, "
                "until = excluded.until, refresh = excluded.refresh, granted = excluded.granted, busy = 0, retry = 0, "
                "failures = 0, trouble = '', is_refused = 0, refreshed = 0, generation = generation + 1",
                self._module, user, self._secret(tokens.access, user, "access"), now + tokens.seconds,
                self._secret(tokens.refresh, user, "refresh"), now)

    def forget(self, user: str) -> None:
        """Remove the row of a user."""
        with self._writing():
            self._run("DELETE FROM grants WHERE module = ? AND user = ?", self._module, user)

    def encrypt_anew(self) -> int:
        """Encrypt the tokens of all modules with the present key; return how many rows there are."""
        with self._writing():
            rows = self._rows("SELECT module, user, access, refresh FROM grants")
            for module, user, *secrets in rows:
                purposes = f"access {module} {user}", f"refresh {module} {user}"
                fresh = [secret and self._keys.encrypted(self._keys.decrypted(secret, purpose), purpose)
                         for secret, purpose in zip(secrets, purposes, strict=True)]
                self._run("UPDATE grants SET access = ?, refresh = ? WHERE module = ? AND user = ?", *fresh, module,
                          user)
        return len(rows)

    @staticmethod
    def _kept(row: Sequence[Any], access: str) -> Consent:
        user, _, until, busy, retry, failures, trouble, is_refused, granted, refreshed, generation, _ = row
        return Consent(user, access, until, busy, retry, failures, trouble, bool(is_refused), granted, refreshed,
                       generation)

    def _plain(self, row: Sequence[Any], name: str) -> str:
        octets = row[-1] if name == "refresh" else row[_COLUMNS.index(name)]
        return "" if octets is None else self._keys.decrypted(octets, f"{name} {self._module} {row[0]}")

    def _secret(self, token: str, user: str, name: str) -> bytes | None:
        """Return a token for the store, None for none.

        Called in a transaction: the key is then the present one, also for `encrypt_anew`, which waits for the end.
        """
        return self._keys.encrypted(token, f"{name} {self._module} {user}") if token else None

    def _opened(self) -> Any:
        """Return the open database, with the row of the module."""
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as why:
            raise PdmError(f"{self.path}: {why.strerror}") from None
        records.prove_file(self.path)
        with self._told():
            database = self._sqlite.connect(sqlite_uri(self.path, "rw"), uri=True, timeout=LOCK_SECONDS,
                                            isolation_level=None)
        try:
            with self._told():
                database.execute("PRAGMA secure_delete = ON")
                [version] = database.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    database.executescript(_SCHEMA)
                elif version != _VERSION:
                    raise PdmError(f"{self.path}: was made by another version of POPular, or is something else")
                if not database.execute(f"{_SELECT} AND user = ''", (self._module,)).fetchall():
                    database.execute("INSERT OR IGNORE INTO grants (module, user) VALUES (?, '')", (self._module,))
        except BaseException:
            database.close()
            raise
        return database

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._told():
            rows: list[Any] = self._database.execute(query, values).fetchall()
        return rows

    def _run(self, command: str, *values: object) -> None:
        with self._told():
            self._database.execute(command, values)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Change the file in one transaction, alone."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._run("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what SQLite says."""
        try:
            yield
        except self._sqlite.Error as why:
            raise PdmError(f"{self.path}: SQLite says: {why}") from None
