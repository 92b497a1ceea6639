"""Dovecot with a passwd-file, asked at its auth socket."""

import socket
from contextlib import suppress
from pathlib import Path

from tests.harness.databases import UserRow
from tests.harness.databases.files import DOVECOT_WORDS, dovecot_line
from tests.harness.databases.keeper import Keeper, KeptServer
from tests.harness.databases.promises import LACKS
from tests.harness.dovecot import NoDovecot, find_dovecot, prepare, write_config
from tests.harness.needs import lacking
from tests.harness.ports import free_port
from tests.harness.system import wait_for

AUTH_SERVICE = """\
auth_username_chars =
auth_failure_delay = 0
service auth {{
  unix_listener popular {{
    mode = 0600
  }}
}}
"""
_CONNECTED = "03"    # in /proc/net/unix


class AuthSocket(KeptServer):
    """One Dovecot."""

    module = "dovecot"
    driver = ""
    secret = ""
    lacks = LACKS["dovecot_socket"]

    def __init__(self, folder: Path) -> None:
        """Start it without users."""
        try:
            program = find_dovecot()
            prepare(folder)
        except NoDovecot as why:
            lacking(str(why))
        self._path, self._users = folder / "base/popular", folder / "users"
        self._users.touch(0o644)
        self._percent = "%%" if program.language == "2.3" else "%"    # there, a single one begins a variable
        config = write_config(folder, program.language, free_port(), more=AUTH_SERVICE)
        super().__init__(Keeper([program.path, "-F", "-c", config], folder / "dovecot.err"))
        self.start()

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"socket={self._path}", *DOVECOT_WORDS]

    def add(self, *rows: UserRow) -> None:
        """Add users: Dovecot looks at its file at most once a second, unless it begins again."""
        with self._users.open("a", encoding="utf-8") as file:
            for row in rows:
                line = dovecot_line(row).replace("%", self._percent)
                file.write(f"{row.user}:{line}\n")
        self.stop()
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._path.unlink(missing_ok=True)
        self._keeper.start()
        wait_for(self._answers, 10.0, f"Dovecot at {self._path}")

    def connections(self) -> int:
        """Return how many connections the socket has."""
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
        return sum(row[7:] == [str(self._path)] and row[5] == _CONNECTED for row in rows)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._path))
            sock.settimeout(5.0)
            return b"VERSION" in sock.recv(64)
        return False


def launch(folder: Path) -> AuthSocket:
    """Start a Dovecot."""
    return AuthSocket(folder)
