"""What the master makes for whatever waits: the work of PDM workers, stand-ins in the chain, and policy hooks.

Imported in the master once a database module that waits or a policy server is configured.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import place
from popular.config.store import Config
from popular.log.writer import Log
from popular.pdm.api import PdmModule
from popular.pdm.asking.cache import AnswerCache, CachedModule, Lifetimes
from popular.pdm.asking.channel import Channel, RemoteModule
from popular.pdm.asking.runner import Asked
from popular.pproxy.modules.worker import WorkerJob
from popular.pproxy.policy.terms import PolicyTerms

if TYPE_CHECKING:
    from popular.pproxy.policy.hook import PolicyHook


def work_of_workers(modules: Sequence[PdmModule], config: Config, log: Log, former: WorkerJob | None,
                    linger: float | None, policies: Mapping[str, PolicyTerms]) -> WorkerJob:
    """Return the work of PDM workers, over the same channel as the `former` work; raises ConfigError and OSError.

    `linger` is how many seconds they stay after the master's death; None: as long as anybody could ask.  `policies` are
    those of virtual servers.
    """
    servers = None
    if policies:
        from popular.pproxy.policy.server import PolicyServers    # here and below, because few have a policy

        servers = PolicyServers(policies, log)
    return WorkerJob([module for module in modules if module.blocking], former.channel if former else Channel(),
                     config.variables.seconds("pdmtimeout"), linger, log,
                     _find_cache(config, former.cache if former else None), servers)


def stand_ins(modules: Sequence[PdmModule], workers: WorkerJob) -> list[Asked]:
    """Return the modules as the chain asks them: for those that wait, what has a worker ask."""
    return [_stand_in(module, workers) if module.blocking else module for module in modules]


def policy_hooks(workers: WorkerJob) -> "Mapping[str, PolicyHook]":
    """Return the ways to the policy servers, by virtual servers."""
    servers = workers.policies
    if servers is None:
        return {}
    from popular.pproxy.policy.hook import PolicyHook

    return {vserv: PolicyHook(terms, workers.channel, servers.trouble) for vserv, terms in servers.policies.items()}


def _stand_in(module: PdmModule, workers: WorkerJob) -> RemoteModule:
    if workers.cache is None or type(module).check is PdmModule.check:    # there is nothing to be kept
        return RemoteModule(module, workers.channel)
    return CachedModule(module, workers.channel, workers.cache)


def _find_cache(config: Config, old: AnswerCache | None) -> AnswerCache | None:
    """Return the `old` cache if it still fits, a new one, or None if there is to be none; raises ConfigError."""
    variables = config.variables
    size = variables.integer("cache")
    lifetimes = Lifetimes(*(variables.seconds(name) for name in ("cachetime", "cachenegative", "cachestale")))
    if not size:
        return None
    if old is not None and (old.size, old.lifetimes) == (size, lifetimes):
        return old
    try:
        return AnswerCache(size, lifetimes)
    except OSError as why:
        raise ConfigError([Mistake(place("pproxy", "cache"), f"no memory for it: {why.strerror}")]) from why
