"""Database servers for tests.

Each module here starts one kind of server from Debian's packages, on private ports and in private folders, fills it
with users, and stops it by its pid.
"""

from dataclasses import dataclass
from typing import Protocol


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


class Database(Protocol):
    """One running server with users, and the database module that asks it."""

    module: str    # the NAME of pdm_NAME.py

    def words(self) -> list[str]:
        """Return the arguments of the module."""

    def add(self, *rows: UserRow) -> None:
        """Add users."""

    def start(self) -> None:
        """Start the server again after `stop`, with the same users, and wait until it answers."""

    def stop(self) -> None:
        """Kill the server."""

    def freeze(self) -> None:
        """Stop all processes of the server by SIGSTOP: it accepts connections and does not answer."""

    def thaw(self) -> None:
        """Let them go on."""

    def close(self) -> None:
        """Stop the server for good and remove what it has written."""

    def connections(self) -> int:
        """Return how many client connections the server has now."""
