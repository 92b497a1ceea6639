"""The specification of pserv: rows, checks, listeners and the work of its children.

Read by the starter and run in the master; lean, because every child has what is imported here.
"""

import os
from dataclasses import dataclass
from functools import partial

from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config, Item, gather
from popular.daemon.admin.capa import list_of
from popular.daemon.child.accept import AcceptJob, tls_of
from popular.daemon.child.session import Connection, Session
from popular.daemon.messages import START
from popular.daemon.settings import pool_limits, pool_mistakes
from popular.daemon.spec import DaemonSpec, Job, Listen, metrics_listens
from popular.daemon.tls import load_tls, note_ending
from popular.log.writer import Log
from popular.proc.child import Child
from popular.pserv.commands import commands
from popular.pserv.messages import SHUTDOWN_SERVER
from popular.pserv.objects import ServConfig, serv_config
from popular.pserv.rehearsal import ServStage
from popular.pserv.session import ServSession, sum_up
from popular.pserv.settings import SCHEMA
from popular.statefile.layout import SERVER
from popular.unix.walls.landlock import around
from popular.unix.walls.walls import Policy


@dataclass(frozen=True, slots=True)
class Serv:
    """What all children of one configuration share."""

    config: ServConfig
    log: Log

    def serve(self, connection: Connection, child: Child) -> None:
        """Serve one session."""
        config = self.config
        with Session(connection, child, self.log, sid="-", idle=config.idletimeout, maxline=config.maxline) as session:
            ServSession(config, session, config.servers[connection.owner]).run()


def check(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows: a default spool that does not exist, capability lists."""
    return gather([
        partial(pool_mistakes, config),
        partial(_spool_mistakes, config),
        *(partial(_list_mistakes, item, config) for item in config.items("server")),
    ])


def _spool_mistakes(config: Config) -> list[Mistake]:
    folder = config.variables.text("mailboxdir")
    return [] if os.path.isdir(folder) else [
        Mistake(place("pserv", "mailboxdir"), f"{quoted(folder)} is not a directory that exists")]


def _list_mistakes(item: Item, config: Config) -> list[Mistake]:
    try:
        list_of(item, config, ())
    except ConfigError as why:
        return [*why.mistakes]
    return []


def listens(config: Config) -> list[Listen]:
    """Return where pserv listens: every address of every enabled server, and those for metrics."""
    backlog = config.variables.integer("backlog")
    own = [Listen("tcp", item.ident, endpoint, backlog)
           for item in config.items("server") if item.values.flag("enabled")
           for endpoint in item.values.endpoints("address")]
    return own + metrics_listens(config)


def make_job(config: Config, log: Log, former: Job | None) -> AcceptJob:
    """Return the job of the children; raises ConfigError."""
    tls = load_tls("server", config.items("server"), tls_of(former), log)
    note_ending(tls, log)
    return AcceptJob(config.variables.integer("maxuse"), Serv(serv_config(config, tls), log).serve, tls)


def policy(config: Config, job: Job) -> Policy:
    """Have children write mailboxes, which may be links to any disk, but nothing in the run folder or beside the log.

    A child of one session is enclosed in its mailbox later.
    """
    values = config.variables
    kept = values.text("rundir"), os.path.dirname(values.text("logfile"))
    return Policy(writable=(*around(kept), values.text("mailboxdir")), encloses=values.integer("maxuse") == 1)


def make_stage(config: Config, null: Log) -> ServStage:
    """Return the stage on which sessions are rehearsed; raises OSError."""
    return ServStage(null, config.variables.text("rundir"), lambda scene: AcceptJob(1, Serv(scene, null).serve))


SPEC = DaemonSpec(
    name="pserv", schema=SCHEMA, check=check, listens=listens, make_job=make_job, pool=pool_limits,
    start_message=START, end_message=SHUTDOWN_SERVER, commands=commands, statefile=SERVER,
    stage=make_stage, sum_up=sum_up, policy=policy)
