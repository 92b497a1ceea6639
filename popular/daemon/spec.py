"""What distinguishes one daemon from another, and the interfaces between the skeleton and a program.

Each program's `spec.py`, which the starter and the master import, holds a `DaemonSpec`.  Data and protocols
only, lean.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from popular.addresses import Endpoint
from popular.config.mistakes import Mistake
from popular.config.setting import Schema
from popular.config.store import Config
from popular.daemon.admin.context import Commands
from popular.daemon.master.attendant import HelperPool
from popular.daemon.master.limits import LoadSource
from popular.daemon.signals import SIGNALS, SignalRow
from popular.log.message import Message
from popular.log.writer import Log
from popular.net.unixsocket import SocketAccess
from popular.proc.child import Child, Inheritance
from popular.proc.overdue import LoginLimit
from popular.proc.pool import PoolLimits
from popular.statefile.layout import StateFileKind
from popular.statefile.reader import Row
from popular.unix.walls.walls import Policy

if TYPE_CHECKING:
    from popular.daemon.master.loop import Master

METRICS = "@metrics"    # owner of the listener for metrics (daemon.master.metrics); no object has such an id
_METRICS_BACKLOG = 128

ListenKind = Literal["tcp", "udp", "unix"]


@dataclass(frozen=True, slots=True)
class Listen:
    """One address that a program wants to listen on."""

    kind: ListenKind
    owner: str           # id of the object it belongs to, such as a vserv
    endpoint: Endpoint   # numeric; port 0 lets the kernel choose
    backlog: int         # of listen(2); no meaning for udp
    ringd: str = ""      # socket of the ringd that opens it; empty: we do
    fallback: str = ""   # socket of the ringd that opens it if we may not
    access: SocketAccess = SocketAccess()    # to a Unix socket


@dataclass(frozen=True, slots=True)
class Listener:
    """One bound socket, non-blocking; those that are not UDP are listening."""

    owner: str
    endpoint: Endpoint   # as bound: with the port that the kernel chose
    sock: socket.socket
    listen: Listen       # what was asked for
    ours: bool = True    # bound by this daemon: may be shut down for every process that holds it
    ringd: str = ""      # socket of the ringd that it came from, where it must be released after closing
    given: bool = False  # opened by a service manager, which keeps it: not ours

    @property
    def is_stream(self) -> bool:
        """Tell whether connections are accepted here."""
        return self.sock.type == socket.SOCK_STREAM


def metrics_listens(config: Config) -> list[Listen]:
    """Return where metrics are served, for the `listens` of a program that has METRICS_ROWS."""
    endpoint = config.variables.optional_endpoint("metrics")
    return [] if endpoint is None else [Listen("tcp", METRICS, endpoint, _METRICS_BACKLOG)]


class Job(Protocol):
    """What a child does from its start to its end."""

    def run(self, child: Child, listeners: Sequence[Listener]) -> int:
        """Work; returns the exit code of the child."""
        ...


class Stage(Protocol):
    """The surroundings of a child in a rehearsal (daemon.child.warmup)."""

    log: Log
    owner: str    # of the listener
    job: Job      # of one session

    def be_the_others(self, endpoint: Endpoint, number: int) -> None:
        """Play all peers of the child in session `number`, from 0; `endpoint` is its listener."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class Startable(Protocol):
    """What the starter needs from any daemon; see DaemonSpec for the meanings."""

    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> Schema: ...
    @property
    def check(self) -> Callable[[Config], list[Mistake]]: ...
    @property
    def listens(self) -> Callable[[Config], list[Listen]]: ...
    @property
    def capabilities(self) -> tuple[int, ...]: ...
    @property
    def import_name(self) -> str: ...


def _say_nothing(config: Config, log: Log, row: Row, how: str) -> None:
    """Leave sessions without a last line."""


def _no_limit(config: Config) -> LoginLimit:
    """Set no limit for sessions."""
    return LoginLimit()


def _no_files(config: Config, job: Job) -> Policy:
    """Have children write no file."""
    return Policy()


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """One daemon: a master and its children."""

    name: str
    schema: Schema
    check: Callable[[Config], list[Mistake]]     # starter: what single rows cannot see
    listens: Callable[[Config], list[Listen]]
    # Master, at start, for each new Config and at HUP, with the present job; raises ConfigError, PdmError.
    make_job: Callable[[Config, Log, Job | None], Job]
    pool: Callable[[Config], PoolLimits]
    start_message: Message    # fields: any of version, pid, user, addresses
    end_message: Message      # fields: any of command, children, version, pid, user
    signals: tuple[SignalRow, ...] = SIGNALS
    capabilities: tuple[int, ...] = ()    # kept when root's rights are given up (unix.walls)
    commands: Commands | None = None    # of the control socket; None: it has none
    module: str = ""          # which defines `SPEC`; empty: popular.NAME.spec
    statefile: StateFileKind | None = None    # what its state file holds; None: it has no state file
    load: LoadSource = LoadSource()   # for maxlocalload
    stage: Callable[[Config, Log], Stage] | None = None    # for rehearsals, with a log that is discarded
    # Master: get what a child wishes for, by its number, for future children; returns whether there is more now.
    # Must not raise or block.  Children may be hostile, so unknown and repeated numbers must be ignored.
    fulfil: Callable[[int], bool] | None = None
    # Master: log the summary of a session whose child died first; gets the child's last row, and why it died.
    sum_up: Callable[[Config, Log, Row, str], None] = _say_nothing
    login: Callable[[Config], LoginLimit] = _no_limit
    # Master, at start: processes that it keeps beside its children; raises OSError.
    helpers: Callable[["Master", Inheritance], Sequence[HelperPool]] = lambda master, inheritance: ()
    policy: Callable[[Config, Job], Policy] = _no_files    # of children, for each new Config

    @property
    def import_name(self) -> str:
        """The module from which the master imports `SPEC`."""
        return self.module or f"popular.{self.name}.spec"

    @property
    def main_name(self) -> str:
        """The module whose `main` is the starter."""
        return self.module or f"popular.{self.name}.main"
