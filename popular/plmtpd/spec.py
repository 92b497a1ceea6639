"""The specification of plmtpd: rows, checks, listeners and the work of its children.

Read by the starter and run in the master; lean, because every child has what is imported here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from popular.config.mistakes import Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config, Item, gather
from popular.daemon.child.accept import AcceptJob, tls_of
from popular.daemon.child.session import Connection, Session, new_sid
from popular.daemon.messages import START
from popular.daemon.settings import pool_limits, pool_mistakes
from popular.daemon.spec import DaemonSpec, Job, Listen, metrics_listens
from popular.daemon.tls import Tls, load_tls, note_ending
from popular.log.writer import Log
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.configured import configured_module, module_mistakes
from popular.pdm.asking.output import ModuleOutput
from popular.plmtpd.commands import commands
from popular.plmtpd.messages import SHUTDOWN_DELIVERY
from popular.plmtpd.objects import LmtpConfig, lmtp_config, socket_access
from popular.plmtpd.session import LmtpSession, sum_up
from popular.plmtpd.settings import SCHEMA
from popular.proc.child import Child
from popular.statefile.layout import DELIVERY
from popular.unix.walls.landlock import around
from popular.unix.walls.walls import Policy

_OVERLOADED = b"421 4.3.2 system load too high, please try again later\r\n"
_APOLOGY = b"421 4.3.0 internal error, please try again later\r\n"
_MAX_SIDPREFIX = 32    # characters
_MAX_LINE = 2048       # octets of a command; RFC 5321 requires 512, and parameters need more


@dataclass(frozen=True, slots=True)
class Delivery:
    """What all children of one configuration share."""

    config: LmtpConfig
    chain: Chain    # of database modules
    log: Log
    sidprefix: str

    def serve(self, connection: Connection, child: Child) -> None:
        """Serve one session."""
        config = self.config
        sid = new_sid(self.sidprefix, child.pid, connection.number)
        with Session(connection, child, self.log, sid=sid, idle=config.idletimeout, maxline=_MAX_LINE) as session:
            session.apology = _APOLOGY
            LmtpSession(config, session, config.servers[connection.owner], self.chain).run()


class LmtpJob(AcceptJob):
    """The work of a child of plmtpd."""

    def __init__(self, delivery: Delivery, maxuse: int, tls: Mapping[str, Tls] = MappingProxyType({}),
                 written: tuple[str, ...] = (), *, asks_servers: bool = False) -> None:
        """Take what all children share, and the TLS of servers.

        Database modules write to the folders `written`, and some ask servers.
        """
        super().__init__(maxuse, delivery.serve, tls, overloaded=_OVERLOADED)
        self.written = written
        self.asks_servers = asks_servers
        self._chain = delivery.chain

    def module_troubles(self, ident: str) -> list[str]:
        """Ask them."""
        return self._chain.troubles(ident)


def check(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows: a default spool that does not exist, what goes together, modules."""
    return gather([
        partial(pool_mistakes, config),
        partial(_spool_mistakes, config),
        *(partial(_takeover_mistakes, item) for item in config.items("server")),
        *(partial(module_mistakes, item, config) for item in config.items("pdm")),
    ])


def _spool_mistakes(config: Config) -> list[Mistake]:
    folder = config.variables.text("mailboxdir")
    return [] if os.path.isdir(folder) else [
        Mistake(place("plmtpd", "mailboxdir"), f"{quoted(folder)} is not a directory that exists")]


def _takeover_mistakes(item: Item) -> list[Mistake]:
    if not item.values.flag("takeover") or any(each.is_unix for each in item.values.endpoints("address")):
        return []
    return [Mistake(place("server", item.ident, "takeover"),
                    "is for peers of Unix sockets, and it has none; write the networks of others into the variable "
                    "takeover")]


def listens(config: Config) -> list[Listen]:
    """Return where plmtpd listens: every address of every enabled server, and those for metrics."""
    backlog = config.variables.integer("backlog")
    own = [Listen("unix" if endpoint.is_unix else "tcp", item.ident, endpoint, backlog, access=socket_access(item))
           for item in config.items("server") if item.values.flag("enabled")
           for endpoint in item.values.endpoints("address")]
    return own + metrics_listens(config)


def make_job(config: Config, log: Log, former: Job | None) -> LmtpJob:
    """Load database modules and certificates, and return the job of the children; raises ConfigError and PdmError.

    Modules are asked in the children themselves, also those that wait for a server: a child serves many connections,
    and its client waits for the answer about each recipient anyway.
    """
    modules = [configured_module(item, config) for item in config.items("pdm")]
    chain = Chain(modules, config.variables.seconds("pdmtimeout"), log.note, ModuleOutput(log))
    tls = load_tls("server", config.items("server"), tls_of(former), log)
    note_ending(tls, log)
    prefix = os.uname().nodename.partition(".")[0][:_MAX_SIDPREFIX]
    written = tuple(sorted({folder for module in modules for folder in module.writes}))
    return LmtpJob(Delivery(lmtp_config(config, tls), chain, log, prefix), config.variables.integer("maxuse"), tls,
                   written, asks_servers=any(module.blocking for module in modules))


def policy(config: Config, job: Job) -> Policy:
    """Have children write mailboxes, which may be links to any disk, but nothing in the run folder or beside the log.

    They also write the databases of modules that need it.
    """
    values = config.variables
    kept = values.text("rundir"), os.path.dirname(values.text("logfile"))
    written, asks_servers = (job.written, job.asks_servers) if isinstance(job, LmtpJob) else ((), False)
    return Policy(writable=(*around(kept), values.text("mailboxdir"), *written), keeps_databases=bool(written),
                  asks_servers=asks_servers)


SPEC = DaemonSpec(
    name="plmtpd", schema=SCHEMA, check=check, listens=listens, make_job=make_job, pool=pool_limits,
    start_message=START, end_message=SHUTDOWN_DELIVERY, commands=commands, statefile=DELIVERY,
    sum_up=sum_up, policy=policy)
