"""Files with many users for the database modules without a server, made as at a site, by our tools if there are any.

Used by tests.bench.lookups, in its process.  Raises OSError.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from demo.accounts import TABLE
from popular.tools import plmdb, pmakecdb
from tests.harness.databases import UserRow, stored


def _sqlite(path: Path, rows: Iterable[UserRow]) -> list[str]:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE)
        database.executemany("INSERT INTO users VALUES (?, ?, ?, ?, '', ?, '', '')", (
            (row.user, row.namespace, stored(row.password), row.backend, row.mailbox) for row in rows))
    return [str(path)]


def _text(path: Path, rows: Iterable[UserRow]) -> None:
    lines = [f"{row.user}:{stored(row.password)}:{row.backend}::{row.mailbox}\n" for row in rows]
    path.write_text("".join(sorted(lines)))


def _passwd(path: Path, rows: Iterable[UserRow]) -> list[str]:
    _text(path, rows)
    return [str(path)]


def _cdb(path: Path, rows: Iterable[UserRow]) -> list[str]:
    text = path.with_name("text")
    _text(text, rows)
    assert pmakecdb.run([str(path), str(text)]) == 0
    text.unlink()
    return [str(path)]


def _lmdb(path: Path, rows: Iterable[UserRow]) -> list[str]:
    text = path.with_name("text")
    _text(text, rows)
    assert plmdb.run([str(path), str(text)]) == 0
    text.unlink()
    return [str(path)]


def _dovecot(path: Path, rows: Iterable[UserRow]) -> list[str]:
    with path.open("w") as file:
        file.writelines(f"{row.user}:{stored(row.password)}::::{row.mailbox}::\n" for row in rows)
    return [f"file={path}", "backend=store", "mailbox=%{home}"]


def _route(path: Path, rows: Iterable[UserRow]) -> list[str]:
    return ["backends=store,other", "users=*@example.org"]


# Each writes a file that is not there yet and returns the arguments of its module.
WRITERS: Mapping[str, Callable[[Path, Iterable[UserRow]], list[str]]] = {
    "passwd": _passwd, "cdb": _cdb, "sqlite": _sqlite, "lmdb": _lmdb, "dovecot": _dovecot, "route": _route}
