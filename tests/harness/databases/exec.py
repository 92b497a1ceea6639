"""The example program of the module exec, with its file of users.

`stop` kills what runs of it and lets no other begin; `freeze` stops what runs, and those that begin.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.harness.daemon import ROOT
from tests.harness.databases import UserRow
from tests.harness.databases.promises import LACKS
from tests.harness.system import is_alive, wait_for

PROGRAM = ROOT / "etc/examples/exec/users-from-json"

_SCRIPT = """\
#!/bin/sh
[ -e {folder}/up ] || exit 1
echo $$ >> {folder}/pids
[ ! -e {folder}/frozen ] || kill -STOP $$
exec {python} -ISB {program} "$1"
"""


class Program:
    """A script that starts the program, where it may."""

    module = "exec"
    driver = ""
    secret = ""
    lacks = LACKS["exec"]

    def __init__(self, folder: Path) -> None:
        """Make it, without users."""
        self._folder, self._users = folder, folder / "users"
        self._users.touch()
        self._script = folder / "users.sh"
        self._script.write_text(_SCRIPT.format(folder=folder, python=sys.executable, program=PROGRAM))
        self._script.chmod(0o755)
        self.start()

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"program={self._script}", f"arguments={self._users}"]

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        with self._users.open("a") as file:
            for row in rows:
                file.write(json.dumps({
                    "user": row.user, "namespace": row.namespace, "password": row.stored,
                    "backend": row.backend, "protocol": row.protocol, "mailbox": row.mailbox, "buser": row.buser,
                    "bpass": row.bpass, **row.rules()}) + "\n")

    def start(self) -> None:
        """Let the program begin."""
        (self._folder / "up").touch()

    def stop(self) -> None:
        """Kill the programs, and let no other begin."""
        (self._folder / "up").unlink()
        self._signal(signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, self._running())), 5.0, "the end of the programs")

    def end(self) -> None:
        """Do the same: nobody else ends them."""
        self.stop()

    def freeze(self) -> None:
        """Stop all programs."""
        (self._folder / "frozen").touch()
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        (self._folder / "frozen").unlink()
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Nothing is left to do: whoever has started a program has ended it."""

    def connections(self) -> int:
        """Return how many programs run."""
        return len(self._running())

    def _running(self) -> list[int]:
        """Return the programs that are ours and have not ended."""
        path = self._folder / "pids"
        pids = [int(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [pid for pid in pids if is_alive(pid) and str(self._folder).encode() in _command_of(pid)]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._running():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _command_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def launch(folder: Path) -> Program:
    """Make the program."""
    return Program(folder)
