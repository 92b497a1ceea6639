"""Databases in files, which need no server: `stop` removes the file, and `start` writes it anew.

Files are made by our tools where there are any.  Importing this loads no driver.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from demo.accounts import TABLE
from popular.tools import plmdb, pmakecdb
from tests.harness.databases import Launch, UserRow, module_of
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_module

RUBBISH = b"x" * (2 << 20)    # no format has it: it is too long for a line

Write = Callable[[Path, Iterable[UserRow]], list[str]]


def _passwd(path: Path, rows: Iterable[UserRow]) -> list[str]:
    ordered = sorted(rows, key=lambda row: row.user.encode())    # whole lines would put user1: behind user10:
    path.write_text("".join(f"{row.user}:{_record(row)}\n" for row in ordered), encoding="utf-8")
    return [str(path)]


def _cdb(path: Path, rows: Iterable[UserRow]) -> list[str]:
    return _by_tool(pmakecdb.run, path, rows)


def _lmdb(path: Path, rows: Iterable[UserRow]) -> list[str]:
    need_module("lmdb")
    return _by_tool(plmdb.run, path, rows)


def _by_tool(run: Callable[[list[str]], int], path: Path, rows: Iterable[UserRow]) -> list[str]:
    text = path.with_name("text")
    _passwd(text, rows)
    assert run([str(path), str(text)]) == 0
    text.unlink()
    return [str(path)]


def _db(path: Path, rows: Iterable[UserRow]) -> list[str]:
    db: Any = need_module("berkeleydb.db")
    with closing(db.DB()) as database:
        database.open(str(path), dbtype=db.DB_BTREE, flags=db.DB_CREATE)
        for row in rows:
            database.put(row.user.encode(), _record(row).encode())
    return [str(path)]


def _sqlite(path: Path, rows: Iterable[UserRow]) -> list[str]:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE)
        for column in UserRow("", "").rules():
            database.execute(f"ALTER TABLE users ADD COLUMN {column} TEXT")
        database.executemany("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (
            (row.user, row.namespace, row.stored, row.backend, row.protocol, row.mailbox, row.buser,
             row.bpass, *row.rules().values()) for row in rows))
    return [str(path)]


def _dovecot(path: Path, rows: Iterable[UserRow]) -> list[str]:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{row.user}@{row.namespace}:{dovecot_line(row)}\n" for row in rows)
    return [f"file={path}", "key=%u@%n", *DOVECOT_WORDS]


DOVECOT_WORDS = ("backend=store", "backends=old=old", "mailbox=%{folder}")

# By the names of `kinds`.  Each writes a file that is not there yet and returns the arguments of its module.
WRITERS: Mapping[str, Write] = {
    "passwd": _passwd, "cdb": _cdb, "db": _db, "lmdb": _lmdb, "sqlite": _sqlite, "dovecot_file": _dovecot}


def dovecot_line(row: UserRow) -> str:
    """Return what stands behind a user's name in a passwd-file of Dovecot, where no field can have a blank."""
    fields = {"folder": row.mailbox, "reason": row.disabled}
    if row.protocol == "pop3":
        fields |= {"host": row.backend, "destuser": row.buser, "pass": row.bpass}
    words = [f"{name}={text.replace(' ', '')}" for name, text in fields.items() if text]
    words += ["proxy=y"] * (row.protocol == "pop3") + ["nologin=y"] * bool(row.disabled)
    return f"{row.stored}::::::{' '.join(words)}"


class WithoutServer:
    """The part of a Database that is the same for every kind without a server."""

    secret = ""

    def close(self) -> None:
        """Nothing runs."""

    def end(self) -> None:
        """Not possible."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Not possible."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Not possible."""
        raise NotImplementedError

    def connections(self) -> int:
        """Not possible."""
        raise NotImplementedError


class FileDatabase(WithoutServer):
    """One file, which is replaced by every change."""

    def __init__(self, kind: str, folder: Path) -> None:
        """Make it, without users."""
        self.module, self.lacks = module_of(kind), LACKS[kind]
        self.driver = {"db": "berkeleydb", "lmdb": "lmdb"}.get(kind, "")
        self.path = folder / "users"
        self._write, self._rows = WRITERS[kind], list[UserRow]()
        self.start()

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return self._words

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        self._rows += rows
        self.start()

    def start(self) -> None:
        """Put a new file into the place of the old one, if there is one."""
        new = self.path.with_name("new")
        words = self._write(new, self._rows)
        os.rename(new, self.path)
        new.with_name("new-lock").unlink(missing_ok=True)    # of LMDB
        self._words = [word.replace(str(new), str(self.path)) for word in words]

    def stop(self) -> None:
        """Remove the file."""
        self.path.unlink()

    def damage(self) -> None:
        """Put a file into its place that is no database."""
        new = self.path.with_name("new")
        new.write_bytes(RUBBISH)
        os.rename(new, self.path)


def _record(row: UserRow) -> str:
    login = f":{row.buser}:{row.bpass}" if row.buser else ""
    return f"{row.stored}:{row.backend}:{row.protocol}:{row.mailbox}{login}"


LAUNCHES: Mapping[str, Launch] = {kind: partial(FileDatabase, kind) for kind in WRITERS}
