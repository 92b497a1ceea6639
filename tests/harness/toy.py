"""A toy daemon for process tests: an echo server made of nothing but the skeleton.

Run as a script it is the starter.  A connection is greeted with `pid N`; a line is sent back, but
`crash` raises, `deaf` ignores TERM from then on, `modules` answers with the names of all loaded
modules, `home` with the home folder, and `quit` ends.  The file named by the setting `fault` injects faults while it
exists:
`nojob` and `dead` let the master fail or die before it is ready, `nostart` lets every newborn child
die, `nofork` makes fork(2) fail, `lost` makes it raise what nobody expects.  The last three add an octet
to the file `fault`.count each time.
"""

import errno
import os
import select
import signal
import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])    # not this folder, which has a daemon.py

from popular.config.kinds import Addresses, File
from popular.config.setting import Schema, Setting
from popular.config.store import Config
from popular.control.grammar import CommandArguments, CommandSet
from popular.daemon.admin.commands import commands as common
from popular.daemon.admin.context import CommandContext, Commands, Result
from popular.daemon.child.accept import AcceptJob
from popular.daemon.child.session import Connection
from popular.daemon.messages import START
from popular.daemon.settings import POOL_ROWS, pool_limits, pool_mistakes, process_rows
from popular.daemon.spec import DaemonSpec, Job, Listen
from popular.errors import PdmError
from popular.log.message import INF, Message
from popular.log.writer import Log
from popular.proc.child import Child

TOY = Path(__file__).resolve()

STOPPED = Message(0xfff0, INF, "stopped", "command children", "The toy ends.")

SCHEMA = Schema("toy", (
    *process_rows("toy"), *POOL_ROWS,
    Setting("address", Addresses(), (), "Where to listen."),
    Setting("fault", File(), None, "A file that injects faults."),
))


def listens(config: Config) -> list[Listen]:
    """Return the addresses."""
    backlog = config.variables.integer("backlog")
    return [Listen("tcp", "toy", endpoint, backlog) for endpoint in config.variables.endpoints("address")]


def make_job(config: Config, log: Log, former: Job | None) -> AcceptJob:
    """Return the echoing job; runs in the master, where the faults are put in."""
    fault = config.variables.optional_text("fault")
    if fault is not None:
        _inject(Path(fault))
    if fault is not None and os.path.exists(fault):
        word = Path(fault).read_text()
        if word == "nojob":
            raise PdmError("no job for the toy")
        if word == "dead":
            os._exit(9)
    return AcceptJob(config.variables.integer("maxuse"), lambda connection, child: echo(connection, child, log))


def echo(connection: Connection, child: Child, log: Log) -> None:
    """Serve one client."""
    log.sid = f"toy-{child.pid}.{connection.number}"
    child.title(f"ECHO {log.sid} {connection.peer.host}")
    try:
        talk(connection.sock, child)
    except ConnectionError:    # the test went away
        pass


def talk(sock: socket.socket, child: Child) -> None:
    """Answer lines until one says quit, or the connection ends."""
    sock.sendall(b"pid %d\n" % child.pid)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while poll.poll():
        data = sock.recv(4096)
        if data == b"crash\n":
            raise KeyError("secret")
        if data in (b"", b"quit\n"):
            return
        if data == b"deaf\n":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        answers = {b"modules\n": " ".join(sorted(sys.modules)), b"home\n": os.environ.get("HOME", "")}
        sock.sendall(answers[data].encode() + b"\n" if data in answers else data)


def _inject(path: Path) -> None:
    fork = os.fork

    def has(word: str) -> bool:
        if not path.exists() or path.read_text() != word:
            return False
        with open(f"{path}.count", "ab") as file:
            file.write(b".")
        return True

    def failing_fork() -> int:
        if has("nofork"):
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if has("lost"):
            raise LookupError("secret")
        pid = fork()
        if pid == 0 and has("nostart"):
            os._exit(3)
        return pid

    os.fork = failing_fork


commands: Commands = CommandSet(common)


@commands.add("fault", "Fail as no command should.")
def fail(context: CommandContext, given: CommandArguments) -> Result:
    """Raise what nobody expects."""
    raise KeyError("secret")


SPEC = DaemonSpec(
    name="toy", schema=SCHEMA, check=pool_mistakes, listens=listens, make_job=make_job, pool=pool_limits,
    start_message=START, end_message=STOPPED, commands=commands,
    module="tests.harness.toy")


def main() -> int:
    """Be the starter; heavy, so that it is imported here."""
    from popular.daemon.start.starter import main as start
    return start(SPEC, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
