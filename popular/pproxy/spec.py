"""The specification of pproxy: rows, checks, listeners, and how the work of its children is made.

Read by the starter and run in the master; lean, because every child has what is imported here.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from popular.config.store import Config
from popular.daemon.child.accept import AcceptJob, tls_of
from popular.daemon.child.door import Door
from popular.daemon.confinement import most_processes
from popular.daemon.master.attendant import HelperPool
from popular.daemon.messages import START
from popular.daemon.settings import pool_limits, relay_limits
from popular.daemon.spec import DaemonSpec, Job, Listen, metrics_listens
from popular.daemon.tls import load_tls, note_ending
from popular.log.writer import Log
from popular.paths import RINGSOCKET
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.configured import configured_module
from popular.pdm.asking.output import ModuleOutput
from popular.pdm.asking.runner import Asked
from popular.pdm.secrets import DRIVERS
from popular.pproxy.check import check
from popular.pproxy.commands import commands
from popular.pproxy.job import ProxyJob, ProxyService
from popular.pproxy.limits.clients import ClientCounts
from popular.pproxy.limits.configured import shared_values
from popular.pproxy.messages import SHUTDOWN_PROXY
from popular.pproxy.modules.keeper import WorkerKeeper
from popular.pproxy.objects import proxy_config, records_clients
from popular.pproxy.policy.configured import policies_of
from popular.pproxy.rehearsal import ProxyStage
from popular.pproxy.screen.keeper import Reports, ScreenKeeper
from popular.pproxy.screen.process import Terms
from popular.pproxy.screen.terms import screen_terms
from popular.pproxy.session import sum_up
from popular.pproxy.settings import SCHEMA
from popular.proc.child import Inheritance
from popular.proc.overdue import LoginLimit
from popular.statefile.layout import PROXY
from popular.unix.walls.walls import Policy

if TYPE_CHECKING:
    from popular.daemon.master.loop import Master
    from popular.pproxy.limits.sharing.shared import Sharing
    from popular.pproxy.modules.worker import WorkerJob
    from popular.pproxy.policy.hook import PolicyHook
    from popular.pproxy.recorder import Recorder
    from popular.pproxy.relays.channel import RelayChannels

_GRACE = 5.0           # seconds that a child has to answer its master
_WHEN_FULL = 1.0       # seconds that a login may take when new connections find no child
_LOW_PORTS = 1024      # ports below are root's


def listens(config: Config) -> list[Listen]:
    """Return where pproxy listens: every address of every virtual server, and those for metrics.

    If ringd is named, it opens the low ports of virtual servers; else the one in the run folder is asked for those that
    we may not open.
    """
    backlog = config.variables.integer("backlog")
    ringd = config.variables.optional_text("ringd") or ""
    expected = "" if ringd else os.path.join(config.variables.text("rundir"), RINGSOCKET)
    own = [Listen("tcp", item.ident, endpoint, backlog, *((ringd, expected) if 0 < endpoint.port < _LOW_PORTS else ()))
           for item in config.items("vserv") for endpoint in item.values.endpoints("address")]
    return own + metrics_listens(config)


def make_job(config: Config, log: Log, former: Job | None) -> AcceptJob:
    """Load database modules and certificates, and return the job of the children; raises ConfigError and PdmError."""
    modules = [configured_module(item, config) for item in config.items("pdm")]
    workers: WorkerJob | None = None
    asked: Sequence[Asked] = modules
    policies = policies_of(config)
    hooks: "Mapping[str, PolicyHook]" = {}
    if policies or any(module.blocking for module in modules):
        from popular.pproxy.modules import remote    # here, because otherwise every fork would copy it in vain

        limit = login_limit(config)
        workers = remote.work_of_workers(modules, config, log, former.workers if isinstance(former, ProxyJob) else None,
                                         None if limit.may_wait else limit.ask_after + limit.answer_within, policies)
        asked = remote.stand_ins(modules, workers)
        hooks = remote.policy_hooks(workers)
    chain = Chain(asked, config.variables.seconds("pdmtimeout"), log.note, ModuleOutput(log))
    tls = load_tls("vserv", config.items("vserv"), tls_of(former), log)
    note_ending(tls, log)
    known = former if isinstance(former, ProxyJob) and former.admission is not None else None
    sharing = known.sharing if known else find_sharing(config)
    clients = known.proxy.clients if known else sharing.counts() if sharing else ClientCounts()
    assert clients is not None    # whoever has an admission has them
    relays = known.proxy.relays if known else find_relays(config)
    proxy = ProxyService(proxy_config(config, tls, chain.mechanisms, clients.delays), chain, log,
                         find_recorder(config, log, former), clients, hooks, relays)
    door = known.admission.door if known and known.admission else Door()
    folders = {folder for module in modules if not module.blocking for folder in module.writes}
    if records_clients(config):
        folders.add(os.path.dirname(config.variables.text("smtpafterpopfile")))
    return ProxyJob(proxy, config.variables.integer("maxuse"), tls, workers, door,
                    Policy(writable=tuple(sorted(folders)), keeps_databases=bool(folders),
                           processes=most_processes(config.variables.integer("maxsession"))), sharing)


def policy(config: Config, job: Job) -> Policy:
    """Have children write only the databases that need it."""
    return job.policy if isinstance(job, ProxyJob) else Policy()


def _helpers(master: "Master", inheritance: Inheritance) -> Sequence[HelperPool]:
    """Return what keeps the PDM workers, the process that screens clients, and those that relay or share counts."""
    job = _present_job(master)
    assert job.admission is not None and job.proxy.clients is not None
    keepers: list[HelperPool] = []
    if job.sharing is not None:
        from popular.pproxy.limits.sharing.keeper import ShareKeeper    # here, because only this configuration needs it

        keepers.append(ShareKeeper(master, inheritance, job.sharing))
    if job.proxy.relays is not None:
        from popular.pproxy.relays.keeper import RelayKeeper    # the same

        keepers.append(RelayKeeper(master, inheritance, job.proxy.relays))
    return (WorkerKeeper(master, inheritance, lambda: _present_job(master).workers),
            ScreenKeeper(master, inheritance, job.admission.door, lambda reports: _terms(_present_job(master), reports),
                         job.proxy.clients.stalled), *keepers)


def _present_job(master: "Master") -> ProxyJob:
    assert isinstance(master.job, ProxyJob)
    return master.job


def _terms(job: ProxyJob, reports: Reports) -> Terms:
    """Return how clients are screened under the configuration of `job`."""
    proxy = job.proxy
    assert proxy.clients is not None
    return screen_terms(proxy.config, proxy.clients, job.mute, reports, proxy.log, proxy.objection)


def find_sharing(config: Config) -> "Sharing | None":
    """Return what is shared with other proxies, None if nothing is; raises ConfigError and OSError.

    It is made once, at the start: what children share among themselves is then for all of them.
    """
    values = shared_values(config.variables)
    if values is None:
        return None
    from popular.pproxy.limits.sharing.shared import Sharing    # here, because without it every fork would copy it

    return Sharing(config.variables.text("sharewith"), values)


def find_relays(config: Config) -> "RelayChannels | None":
    """Return the ways to relay processes, None if there are none; raises OSError.  They are made once, at the start."""
    _, relays = relay_limits(config)
    if not relays:
        return None
    from popular.pproxy.relays.channel import RelayChannels    # here, because without it every fork would copy it

    return RelayChannels(relays)


def find_recorder(config: Config, log: Log, former: Job | None) -> "Recorder | None":
    """Return the recorder of clients: that of the `former` job if it still fits, a new one, or None if not needed."""
    old = former.recorder if isinstance(former, ProxyJob) else None
    if not records_clients(config):
        return old    # kept, so that its descriptor is not opened again each time that recording is turned on
    from popular.pproxy.recorder import Recorder    # here: SQLite takes 2 MB, which children without it should not load

    path, lifetime = config.variables.text("smtpafterpopfile"), config.variables.seconds("smtpafterpoptime")
    if old is not None and (old.path, old.lifetime) == (path, lifetime):
        return old
    recorder = Recorder(path, lifetime, old)
    recorder.prepare(log)
    return recorder


def login_limit(config: Config) -> LoginLimit:
    """Return how long a session may last without a login, by the master's clock.

    After authtimeout, a question that began in time may still be running.  Without authtimeout a client may take any
    time, and a module as long as all questions of both passes together may take.
    """
    authtimeout, pdmtimeout = (config.variables.seconds(name) for name in ("authtimeout", "pdmtimeout"))
    if authtimeout:
        return LoginLimit(authtimeout + pdmtimeout, _GRACE, when_full=min(authtimeout, _WHEN_FULL))
    questions = 2 * len(config.items("pdm")) * pdmtimeout + _GRACE
    return LoginLimit(questions, questions, may_wait=True, when_full=_WHEN_FULL)


def make_stage(config: Config, null: Log) -> ProxyStage:
    """Return the stage on which sessions are rehearsed; raises OSError, StartError."""
    knows_auth = any(item.values["saslmechanisms"] for item in config.items("vserv"))
    return ProxyStage(null, lambda scene, chain: ProxyJob(ProxyService(scene, chain, null), 1), knows_auth=knows_auth)


SPEC = DaemonSpec(
    name="pproxy", schema=SCHEMA, check=check, listens=listens, make_job=make_job, pool=pool_limits,
    start_message=START, end_message=SHUTDOWN_PROXY, commands=commands, statefile=PROXY,
    stage=make_stage, fulfil=DRIVERS.supply, sum_up=sum_up, login=login_limit,
    helpers=_helpers, policy=policy)
