"""Databases for tests.

Each module here that has a function `launch` starts one kind of server from Debian's packages, on private ports and
in private folders, fills it with users, and stops it by its pid; `files` has the kinds that need no server.  The
contract of all database modules (tests/system/test_database_contract.py) runs over every one of them, but for what
`promises` says that a kind lacks.
"""

import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from demo.accounts import salted
from tests.harness.databases.promises import Lacks


@dataclass(frozen=True, slots=True)
class UserRow:
    """One user, with the password in clear: a database stores it in a form that it would have at a site."""

    user: str
    password: str
    backend: str = "store"
    protocol: str = ""
    mailbox: str = "joe"
    buser: str = ""
    bpass: str = ""
    namespace: str = "default"
    passwords: tuple[tuple[str, str], ...] = ()    # more passwords, after their labels
    disabled: str = ""                             # why the user cannot log in
    form: str = ""                                 # in which the password is stored; empty: a hash

    @property
    def stored(self) -> str:
        """Return what is stored of the password."""
        return self.form or salted(self.password)

    def rules(self) -> dict[str, str]:
        """Return the values that are stored besides password and place."""
        lines = (f"{label}:{salted(password)}" for label, password in self.passwords)
        return {"passwords": "\n".join(lines), "disabled": self.disabled}


CROWD_PASSWORD = "secret"

# Names that no database has, some of which say something in a language of databases.
HOSTILE = (
    "", " ", "nobody", "jo", "joe ", " joe", "joe@", "JOE'", "%", "_oe", "j%", "?", "joe\n", "joe\t", "joe\0", "\0",
    "x" * 10_000, "joe" + "\0" * 3, "j\udcf6e", "\udcff\udcfe", "\ud800", "jo\u0308e", "😀", "\u202ejoe",
    "' OR '1'='1", "' OR 1=1 --", "'; DROP TABLE users; --", "\\' OR 1=1 #", '" OR ""="', "joe'/*", "*/", "$$",
    "$1 OR true", "%s", "%(user)s", ":namespace", "{user}", "joe) OR (1=1", "*)(uid=*", "joe)(|(uid=*", "\\2a", "\\00",
    "j*e", "jo?", "../joe", "/etc/passwd", "joe:x", "users:joe", "joe\r\nQUIT", "joe\r\nGET x", "`id`", "$(id)",
    "${joe}", "|id", "joe&user=ann", "joe%00", "joe#", "joe;", "<joe>", '{"user":"joe"}', "\x1b[2J", "\x7f",
)


def name_of(number: int) -> str:
    """Return the name of a user in the crowd."""
    return f"user{number}"


def crowd(numbers: Iterable[int]) -> Iterator[UserRow]:
    """Yield users who are many."""
    return (UserRow(name_of(number), CROWD_PASSWORD, mailbox=f"m/{number}") for number in numbers)


class Database(Protocol):
    """One database with users, and the module that asks it; without a server, `start` and `stop` concern the file."""

    module: str              # the NAME of pdm_NAME.py
    driver: str              # the Python module that it needs; empty: none
    secret: str              # the module's own password at the server; empty: it has none
    lacks: Lacks             # what of the contract is not its

    def words(self) -> list[str]:
        """Return the arguments of the module."""

    def add(self, *rows: UserRow) -> None:
        """Add users, each once."""

    def start(self) -> None:
        """Start the server again after `stop` or `end`, with the same users, and wait until it answers."""

    def stop(self) -> None:
        """Kill the server."""

    def end(self) -> None:
        """End the server in order, as its administrator does."""

    def freeze(self) -> None:
        """Stop all processes of the server by SIGSTOP: it accepts connections and does not answer."""

    def thaw(self) -> None:
        """Let them go on."""

    def close(self) -> None:
        """Stop the server for good and remove what it has written."""

    def connections(self) -> int:
        """Return how many client connections of the module the server has now."""


Launch = Callable[[Path], Database]


@contextmanager
def launched(launch: Launch) -> Iterator[tuple[Database, Path]]:
    """Start a database, and give it with its folder; nothing of both is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        with closing(launch(folder)) as database:
            yield database, folder
    finally:
        shutil.rmtree(folder)


def kinds() -> dict[str, Launch]:
    """Return the functions that start a database in a short-named new folder which everybody may enter, by name."""
    modules = {each.name: import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__)}
    servers = {name: module.launch for name, module in modules.items() if hasattr(module, "launch")}
    return {**modules["files"].LAUNCHES, **servers}


def module_of(kind: str) -> str:
    """Return the NAME of the database module for a kind: a kind is called NAME or NAME_MORE."""
    return kind.partition("_")[0]
