"""The specification of pproxy: rows, checks, listeners and the work of its children.

Read by the starter and run in the master; lean, because every child has what is imported here.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from popular.addresses import Endpoint, is_ip
from popular.config.setting import place, quoted
from popular.config.store import Config, Item, Values, gather
from popular.daemon.child.accept import AcceptJob, Admission, tls_of, turn_away
from popular.daemon.child.door import Door
from popular.daemon.child.session import Connection, Session, new_sid, note_limited
from popular.daemon.confinement import most_processes
from popular.daemon.master.attendant import HelperPool
from popular.daemon.messages import START
from popular.daemon.settings import pool_limits, pool_mistakes
from popular.daemon.spec import DaemonSpec, Job, Listen, Listener, metrics_listens
from popular.daemon.tls import IMPLICIT, OFF, STARTTLS, Tls, load_tls, note_ending
from popular.errors import ConfigError, Mistake, PdmError
from popular.log.writer import Log
from popular.paths import RINGSOCKET
from popular.pdm.chain import Chain
from popular.pdm.runner import Asked
from popular.pdm.secrets import DRIVERS
from popular.pproxy.commands import commands
from popular.pproxy.limits.clients import AreTooMany, ClientCounts, count_in, keys_counted
from popular.pproxy.limits.configured import denied_by_file, shared_values
from popular.pproxy.limits.guesses import LoginGuard
from popular.pproxy.login import LoginAttempt
from popular.pproxy.messages import CLIENT_LIMITED, SHUTDOWN_PROXY
from popular.pproxy.modules.configured import configured_module
from popular.pproxy.modules.keeper import WorkerKeeper
from popular.pproxy.modules.output import ModuleOutput
from popular.pproxy.objects import TOKEN_LOGINS, ProxyConfig, Vserv, proxy_config, sid_prefix, unusable
from popular.pproxy.policy.configured import policies_of, policy_mistakes
from popular.pproxy.rehearsal import ProxyStage
from popular.pproxy.screen.keeper import Reports, ScreenKeeper
from popular.pproxy.screen.process import Terms
from popular.pproxy.screen.terms import screen_terms
from popular.pproxy.session import ProxySession, sum_up
from popular.pproxy.settings import SCHEMA
from popular.proc.child import Child, Inheritance
from popular.proc.overdue import LoginLimit
from popular.statefile.layout import PROXY, CountedBy
from popular.unix.walls import Policy

if TYPE_CHECKING:
    from popular.daemon.master.loop import Master
    from popular.pproxy.limits.shared import Sharing
    from popular.pproxy.modules.worker import WorkerJob
    from popular.pproxy.policy.hook import PolicyHook
    from popular.pproxy.recorder import Recorder

_GRACE = 5.0           # seconds that a child has to answer its master
_WHEN_FULL = 1.0       # seconds that a login may take when new connections find no child
_LOW_PORTS = 1024      # ports below are root's
_MAX_SIDPREFIX = 32    # characters, so that a whole id stays below names.MAX_SID


@dataclass(frozen=True, slots=True)
class _Proxy:
    """What all children of one configuration share."""

    config: ProxyConfig
    chain: Chain
    log: Log
    recorder: "Recorder | None" = None    # of clients that may send mail; None: no client was ever to be recorded
    clients: ClientCounts | None = None    # None: they have no limits
    hooks: "Mapping[str, PolicyHook]" = field(default_factory=dict)    # of virtual servers that have a policy server

    def admit(self, owner: str, peer: Endpoint, child: Child) -> bool:
        """Tell whether a peer may connect; count and log it if not.

        If it is to send a PROXY header, it must be trusted, and the client whom it names is judged later.
        """
        proxies = self.config.vservs[owner].proxies
        if proxies is not None and proxies.has_header:
            return proxies.admit(peer, self.log, child.slot.count)
        return self.admit_client(owner, peer, child)

    def admit_client(self, owner: str, peer: Endpoint, child: Child) -> bool:
        """Tell whether a client may be served; count and log it if not."""
        why = self.objection(owner, peer, count_in(child.slot))
        if why:
            child.slot.count(f"client_{why}")
        return not why

    def objection(self, owner: str, peer: Endpoint, are_too_many: AreTooMany) -> str:
        """Return why a client may not connect, and log it; empty: they may."""
        assert self.clients is not None    # else nobody asks
        why = self.clients.objection(self.config.vservs[owner].limits, peer.host, are_too_many)
        if why:
            note_limited(self.log, peer.host, CLIENT_LIMITED, client=str(peer), vserv=owner, why=why)
        return why

    def count(self, owner: str, peer: Endpoint, child: Child) -> bool:
        """Count a client that was admitted elsewhere; return False if the virtual server does not exist any more."""
        vserv = self.config.vservs.get(owner)
        if vserv is not None and not (vserv.proxies is not None and vserv.proxies.has_header):
            self.count_client(vserv, peer, child)
        return vserv is not None

    @staticmethod
    def count_client(vserv: Vserv, peer: Endpoint, child: Child) -> None:
        """Count a client that was admitted elsewhere."""
        for by, key in zip(CountedBy, keys_counted(vserv.limits, peer.host)):
            child.slot.count_by(by, key)

    def guard(self, vserv: Vserv, child: Child) -> LoginGuard | None:
        """Return what judges the logins of the client for whom the child is counted."""
        return self.clients.guard(vserv.limits, *child.slot.client_keys) if self.clients else None

    def meet(self, connection: Connection, vserv: Vserv, child: Child) -> Connection | None:
        """Read the PROXY header; return the connection of the client whom it names, None if they are not served."""
        assert vserv.proxies is not None    # else there is no header
        found = vserv.proxies.meet(connection, self.log, child.slot.count, vserv.banner, vserv.tls)
        if found is None or self.clients is None:
            return found
        if connection.is_admitted:
            self.count_client(vserv, found.peer, child)
        elif not self.admit_client(vserv.ident, found.peer, child):
            if vserv.tls is None or vserv.tls.mode != IMPLICIT:
                turn_away(connection.sock)
            return None
        return found

    def serve(self, connection: Connection, child: Child) -> None:
        """Serve one client."""
        config, vserv = self.config, self.config.vservs[connection.owner]
        if vserv.proxies is not None and vserv.proxies.has_header:
            found = self.meet(connection, vserv, child)
            if found is None:
                return
            connection = found
        sid = new_sid(config.sidprefix, child.pid, connection.number)
        try:
            with Session(connection, child, self.log, sid=sid, idle=config.idletimeout,
                         maxline=config.maxline) as session:
                hook = self.hooks.get(connection.owner)
                story = ProxySession(config, self.chain, session, vserv, self.recorder, self.guard(vserv, child),
                                     hook.attempt if hook else LoginAttempt, self.judge)
                story.run()
            if story.unrecorded:    # now no client waits any more
                story.record_late()
        finally:
            while DRIVERS.news:    # a stored password needed a module that this child had to load
                child.wish_for(DRIVERS.news.pop())

    def judge(self, owner: str, client: Endpoint, child: Child) -> tuple[bool, LoginGuard | None]:
        """Return whether a client is served whom a proxy has named after the greeting, and what judges their logins."""
        if self.clients is None:
            return True, None
        return self.admit_client(owner, client, child), self.guard(self.config.vservs[owner], child)


class ProxyJob(AcceptJob):
    """The work of a child of pproxy."""

    def __init__(self, proxy: _Proxy, maxuse: int, tls: Mapping[str, Tls] = MappingProxyType({}),
                 workers: "WorkerJob | None" = None, door: Door | None = None,
                 policy: Policy = Policy(), sharing: "Sharing | None" = None) -> None:
        """Take what all children share, the TLS of virtual servers, and the work of PDM workers if there are any.

        Screened clients come by `door`; without it, all clients are admitted.  `sharing`: with other proxies.
        """
        super().__init__(maxuse, proxy.serve, tls, Admission(proxy.admit, proxy.count, door) if door else None)
        self.proxy = proxy
        self.recorder = proxy.recorder
        self.workers = workers
        self.policy = policy
        self.sharing = sharing

    @property
    def reads_files(self) -> bool:
        """Tell whether there are certificates or lists of networks."""
        return super().reads_files or any(
            vserv.limits.denied_by_file.text for vserv in self.proxy.config.vservs.values())

    def run(self, child: Child, listeners: Sequence[Listener]) -> int:
        """Work as every child that accepts connections."""
        if self.workers is not None:
            self.workers.channel.become_asker()
            if self.workers.cache is not None:
                self.workers.cache.become_reader()
        return super().run(child, listeners)


def check(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows: capability lists, addresses, folders, modules that do not load."""
    return gather([
        partial(pool_mistakes, config),
        partial(_variable_mistakes, config),
        partial(policy_mistakes, config),
        *(partial(_limit_mistakes, config, read) for read in (denied_by_file, shared_values)),
        *(partial(_backend_mistakes, item, config) for item in config.items("backend")),
        *(partial(unusable, item, config) for cls in ("vserv", "backend") for item in config.items(cls)),
        *(partial(_module_mistakes, item, config) for item in config.items("pdm")),
    ])


def _limit_mistakes(config: Config, read: Callable[[Values], object]) -> Sequence[Mistake]:
    try:
        read(config.variables)
    except ConfigError as why:
        return why.mistakes
    return []


def _variable_mistakes(config: Config) -> list[Mistake]:
    found = []
    if len(sid_prefix(config)) > _MAX_SIDPREFIX:
        found.append(Mistake(place("pproxy", "sidprefix"),
                             f"{quoted(sid_prefix(config))} has more than {_MAX_SIDPREFIX} characters"))
    folder = os.path.dirname(config.variables.text("smtpafterpopfile"))
    if records_clients(config) and not os.path.isdir(folder):
        found.append(Mistake(place("pproxy", "smtpafterpopfile"), f"no such folder: {folder}"))
    return found


def _backend_mistakes(item: Item, config: Config) -> list[Mistake]:
    found = [*_replica_mistakes(item, config)]
    source = item.values.optional_text("source")
    if source is not None and not is_ip(source):
        found.append(Mistake(place("backend", item.ident, "source"),
                             f"{quoted(source)} is not a numeric address of this host"))
    if item.values.text("tls") == STARTTLS and item.values.text("protocol") != "pop3":
        found.append(Mistake(place("backend", item.ident, "tls"),
                             "tls = starttls needs protocol = pop3, since no other has STLS; write implicit"))
    found += [Mistake(place("backend", item.ident, key), why) for key, why in _login_mistakes(item.values)]
    return found


def _login_mistakes(values: Values) -> Iterator[tuple[str, str]]:
    """Yield the keys that do not go with a backend's `auth`, and why."""
    how, has_master = values.text("auth"), values.optional_text("masteruser") is not None
    if values.text("protocol") != "pop3" and (how != "user" or has_master):
        yield "auth" if how != "user" else "masteruser", "needs protocol = pop3, since no other has logins"
    if has_master and how not in ("user", "plain", "scram"):
        yield "masteruser", f"does not go with auth = {how}; write user, plain or scram"
    if has_master is not (values.optional_text("masterpasswordfile") is not None):
        yield "masteruser", "needs masterpasswordfile, and that needs masteruser"
    if how in (*TOKEN_LOGINS, "external") and values.text("tls") == OFF:
        yield "auth", f"auth = {how} needs TLS; set tls"
    if how == "external" and values.optional_text("certificate") is None:
        yield "auth", "auth = external needs a certificate, by which the backend knows pproxy"


def _replica_mistakes(item: Item, config: Config) -> Iterator[Mistake]:
    """Yield why the replica of a backend cannot take its place."""
    name = item.values.optional_text("replica")
    if name is None:
        return
    other = config.item("backend", name)
    own, others = (each.values.text("protocol") if each else "" for each in (item, other))
    if other is None:
        yield Mistake(place("backend", item.ident, "replica"), f"no backend {quoted(name)} is configured")
    elif name == item.ident:
        yield Mistake(place("backend", item.ident, "replica"), "a backend is not its own replica")
    elif own != others:
        yield Mistake(place("backend", item.ident, "replica"),
                      f"backend {quoted(name)} has protocol = {others}, and this one {own}; they must be the same")
    elif any(other.values[key] != item.values[key] for key in ("auth", "masteruser")):
        yield Mistake(place("backend", item.ident, "replica"),
                      f"backend {quoted(name)} has another auth or masteruser; they must be the same")


def _module_mistakes(item: Item, config: Config) -> list[Mistake]:
    try:
        configured_module(item, config)
    except PdmError as why:
        return [Mistake(place("pdm", item.ident), str(why).removeprefix(f"{item.ident}: "))]
    return []


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
    proxy = _Proxy(proxy_config(config, tls, chain.mechanisms), chain, log, find_recorder(config, log, former), clients,
                   hooks)
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
    """Return what keeps the PDM workers, the process that screens clients, and that which shares their counts."""
    job = _present_job(master)
    assert job.admission is not None and job.proxy.clients is not None
    keepers: list[HelperPool] = []
    if job.sharing is not None:
        from popular.pproxy.limits.sharekeeper import ShareKeeper    # here, because only this configuration needs it

        keepers.append(ShareKeeper(master, inheritance, job.sharing))
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
    from popular.pproxy.limits.shared import Sharing    # here, because without it every fork would copy it

    return Sharing(config.variables.text("sharewith"), values)


def records_clients(config: Config) -> bool:
    """Tell whether clients of any virtual server are recorded for SMTP after POP."""
    return any(item.values.flag("smtpafterpop") for item in config.items("vserv"))


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
    return ProxyStage(null, lambda scene, chain: ProxyJob(_Proxy(scene, chain, null), 1), knows_auth=knows_auth)


SPEC = DaemonSpec(
    name="pproxy", schema=SCHEMA, check=check, listens=listens, make_job=make_job, pool=pool_limits,
    start_message=START, end_message=SHUTDOWN_PROXY, commands=commands, statefile=PROXY,
    stage=make_stage, fulfil=DRIVERS.supply, sum_up=sum_up, login=login_limit,
    helpers=_helpers, policy=policy)
