"""A process that starts a server, again and again if wanted, and stays the same meanwhile.

A server that a test stops and starts is then no new child of the test's process, which must not have any left.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.harness.system import descendants_of, die_with_parent, wait_for

UNPRIVILEGED = "nobody"    # what servers run as that refuse to run as root

_ESTABLISHED = "01"        # in /proc/net/tcp

# For each line that it reads: start the server, tell its pid, and tell when it has ended.
_SCRIPT = 'while read -r _; do setpriv --pdeathsig TERM "$@" </dev/null >&2 & echo $!; wait $!; echo; done'


def own_user() -> str | None:
    """Return the user that a server shall run as if it refuses root; None: as we do."""
    return UNPRIVILEGED if os.geteuid() == 0 else None


def give(path: Path, user: str | None) -> None:
    """Let a file or folder belong to `user`."""
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def connections_to(port: int) -> int:
    """Return how many connections to a port of 127.0.0.1 are established, as its server sees them."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == _ESTABLISHED for row in rows)


class Keeper:
    """Starts and kills one server."""

    def __init__(self, command: Sequence[str | Path], log: Path, user: str | None = None) -> None:
        """Get ready to run `command`, which must stay in the foreground, as `user`; its output goes to `log`."""
        with log.open("ab") as file:
            self._process = subprocess.Popen(["sh", "-c", _SCRIPT, "keeper", *command], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=file, user=user,
                                             extra_groups=None if user is None else (), preexec_fn=die_with_parent)
        self.pid = 0    # of the running server

    def start(self) -> None:
        """Start the server; it need not answer yet."""
        self.pid = int(self._ask())

    def family(self) -> list[int]:
        """Return the server's processes."""
        return [self.pid, *descendants_of(self.pid)] if self.pid else []

    def freeze(self) -> None:
        """Stop all processes of the server, also those forked meanwhile, and wait until their threads have stopped."""
        wait_for(self._stopped, 5.0, "the server to stop")

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(self.family(), signal.SIGCONT)

    def kill(self) -> None:
        """Kill the server, and wait until it is gone; twice is fine."""
        if not self.pid:
            return
        self.freeze()    # so that none of them sees another one die and starts anything
        family = self.family()
        self._signal(family, signal.SIGKILL)
        self._told()
        for pid in family:
            with suppress(ChildProcessError):    # those of the server became ours when it died
                os.waitpid(pid, 0)
        self.pid = 0

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server in order by the signal `number`, and wait until it is gone."""
        os.kill(self.pid, number)
        self._told()
        self.pid = 0

    def close(self) -> None:
        """Kill the server for good."""
        self.kill()
        self._process.communicate(timeout=10.0)

    def _stopped(self) -> bool:
        """Stop the processes there are; tell whether all have stopped and none was forked before that."""
        family = self.family()
        self._signal(family, signal.SIGSTOP)
        return all(_has_stopped(pid) for pid in family) and self.family() == family

    @staticmethod
    def _signal(pids: Sequence[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _ask(self) -> bytes:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._told()

    def _told(self) -> bytes:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def _has_stopped(pid: int) -> bool:
    """Tell whether no thread of a process runs (any more)."""
    states = []
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):
            states.append(stat.read_text(errors="replace").rpartition(")")[2].split()[0])
    return set(states) <= {"T", "Z", "X"}


class KeptServer:
    """The part of a Database that is the same for every kind whose one server has a Keeper."""

    farewell = signal.SIGTERM    # ends the server in order, although it has clients

    def __init__(self, keeper: Keeper) -> None:
        """Let `keeper` start and kill the server."""
        self._keeper = keeper

    def stop(self) -> None:
        """Kill it."""
        self._keeper.kill()

    def end(self) -> None:
        """End it in order."""
        self._keeper.end(self.farewell)

    def freeze(self) -> None:
        """Stop its processes: it accepts connections, but does not answer."""
        self._keeper.freeze()

    def thaw(self) -> None:
        """Let them go on."""
        self._keeper.thaw()

    def close(self) -> None:
        """Kill it for good."""
        self._keeper.close()
