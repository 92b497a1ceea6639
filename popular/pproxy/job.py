"""The work of pproxy's children: which clients are served, and by what.

Made in the master for each configuration, run in children.  Lean, because every child has what is imported here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from popular.addresses import Endpoint
from popular.daemon.child.accept import AcceptJob, Admission, turn_away
from popular.daemon.child.door import Door
from popular.daemon.child.session import Connection, Session, new_sid, note_limited
from popular.daemon.spec import Listener
from popular.daemon.tls import IMPLICIT, Tls
from popular.log.writer import Log
from popular.pdm.asking.chain import Chain
from popular.pdm.secrets import DRIVERS
from popular.pproxy.limits.clients import AreTooMany, ClientCounts, keys_counted
from popular.pproxy.limits.guesses import LoginGuard
from popular.pproxy.login import LoginAttempt
from popular.pproxy.messages import CLIENT_LIMITED
from popular.pproxy.objects import ProxyConfig, Vserv
from popular.pproxy.session import ProxySession
from popular.proc.child import Child
from popular.statefile.layout import CountedBy
from popular.unix.walls.walls import Policy

if TYPE_CHECKING:
    from popular.pproxy.limits.sharing.shared import Sharing
    from popular.pproxy.modules.worker import WorkerJob
    from popular.pproxy.policy.hook import PolicyHook
    from popular.pproxy.recorder import Recorder
    from popular.pproxy.relays.channel import RelayChannels


@dataclass(frozen=True, slots=True)
class ProxyService:
    """What all children of one configuration share."""

    config: ProxyConfig
    chain: Chain
    log: Log
    recorder: "Recorder | None" = None    # of clients that may send mail; None: no client was ever to be recorded
    clients: ClientCounts | None = None    # None: they have no limits
    hooks: "Mapping[str, PolicyHook]" = field(default_factory=dict)    # of virtual servers that have a policy server
    relays: "RelayChannels | None" = None    # None: children relay by themselves

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
        why = self.objection(owner, peer, child.slot.are_too_many)
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
                                     hook.attempt if hook else LoginAttempt, self.judge, self.relays)
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

    def __init__(self, proxy: ProxyService, maxuse: int, tls: Mapping[str, Tls] = MappingProxyType({}),
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

    def forget_answers(self) -> None:
        """Empty the cache."""
        if self.workers is not None and self.workers.cache is not None:
            self.workers.cache.clear()

    def module_troubles(self, ident: str) -> list[str]:
        """Ask them, except those of PDM workers."""
        return self.proxy.chain.troubles(ident)

    def run(self, child: Child, listeners: Sequence[Listener]) -> int:
        """Work as every child that accepts connections."""
        if self.workers is not None:
            self.workers.channel.become_asker()
            if self.workers.cache is not None:
                self.workers.cache.become_reader()
        return super().run(child, listeners)
