"""The files with the users, as our database modules read them and as Dovecot does.

Each is made anew, and may take the place of one that nobody uses any more.  Users are written as they
come, none is kept; a million take a few seconds.  Raises OSError.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from demo.accounts import TABLE
from popular.pdm.databases import cdbfile

NAMESPACE = "default"


class Person(NamedTuple):
    """A user as our databases know them."""

    name: str
    password: str
    backend: str
    mailbox: str = ""       # at a backend that speaks cxpop
    buser: str = ""         # and their login at one that speaks pop3
    bpass: str = ""

    @property
    def record(self) -> str:
        """What stands behind the name in passwd, and as the value in cdb."""
        login = f":{self.buser}:{self.bpass}" if self.buser else ""
        return f"{{PLAIN}}{self.password}:{self.backend}::{self.mailbox}{login}"


def write_users(module: str, path: Path, people: Iterable[Person]) -> None:
    """Write the file of one of our modules, readable for everyone; `people` come in the order of octets."""
    path.unlink(missing_ok=True)
    _WRITERS[module](path, people)
    path.chmod(0o644)


def write_dovecot(path: Path, names: Iterable[str], password: str) -> None:
    """Write a passwd-file in which everyone has the same password."""
    with path.open("w") as file:
        file.writelines(f"{name}:{{PLAIN}}{password}\n" for name in names)


def _write_sqlite(path: Path, people: Iterable[Person]) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE)
        database.executemany(f"INSERT INTO users VALUES (?, '{NAMESPACE}', '{{PLAIN}}' || ?, ?, '', ?, ?, ?)", people)


def _write_passwd(path: Path, people: Iterable[Person]) -> None:
    with path.open("w") as file:
        file.writelines(f"{person.name}:{person.record}\n" for person in people)


def _write_cdb(path: Path, people: Iterable[Person]) -> None:
    with path.open("w+b") as file:
        cdbfile.write(file, ((person.name.encode(), person.record.encode()) for person in people))


_WRITERS: Mapping[str, Callable[[Path, Iterable[Person]], None]] = {
    "sqlite": _write_sqlite, "passwd": _write_passwd, "cdb": _write_cdb}
MODULES = tuple(_WRITERS)
