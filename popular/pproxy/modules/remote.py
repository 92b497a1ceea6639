"""What the master makes for database modules that wait: the work of PDM workers, and stand-ins in the chain.

Imported in the master once such a module is configured.
"""

from collections.abc import Sequence

from popular.config.setting import place
from popular.config.store import Config
from popular.errors import ConfigError, Mistake
from popular.log.writer import Log
from popular.pdm.api import PdmModule
from popular.pdm.cache import AnswerCache, CachedModule, Lifetimes
from popular.pdm.channel import Channel, RemoteModule
from popular.pdm.runner import Asked
from popular.pproxy.modules.worker import WorkerJob


def work_of_workers(modules: Sequence[PdmModule], config: Config, log: Log, former: WorkerJob | None,
                    linger: float | None) -> WorkerJob:
    """Return the work of PDM workers, over the same channel as the `former` work; raises ConfigError and OSError.

    `linger` is how many seconds they stay after the master's death; None: as long as anybody could ask.
    """
    return WorkerJob([module for module in modules if module.blocking], former.channel if former else Channel(),
                     config.variables.seconds("pdmtimeout"), linger, log,
                     _find_cache(config, former.cache if former else None))


def stand_ins(modules: Sequence[PdmModule], workers: WorkerJob) -> list[Asked]:
    """Return the modules as the chain asks them: for those that wait, what has a worker ask."""
    return [_stand_in(module, workers) if module.blocking else module for module in modules]


def _stand_in(module: PdmModule, workers: WorkerJob) -> RemoteModule:
    if workers.cache is None:
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
