"""What one look-up costs in each database module: `python -m tests.bench.lookups [MODULE…] [--users N]`.

The databases are those of tests/harness/databases, servers on this machine, with N users, and rules of `route`.
One process asks for users in random order, one after the other, as a PDM worker does.  Printed for each module: the
time to load the users, hashes included, and their size on disk, and for users with the right password and for unknown
ones the look-ups a second, and the CPU time of one, ours and the server's.  Modules that wait are also asked by way of
a PDM worker, which counts among the servers then, and through the cache, when it has the answers.  Nothing here is a
timed test.
"""

import argparse
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.pdm.api import Outcome
from popular.pdm.asking.cache import AnswerCache, CachedModule, Lifetimes
from popular.pdm.asking.channel import Channel, RemoteModule
from popular.pdm.asking.runner import Asked
from popular.pproxy.modules.worker import WorkerJob
from tests.harness.databases import CROWD_PASSWORD, Database, Launch, crowd, kinds, launched, module_of, name_of
from tests.harness.databases.files import WRITERS, Write
from tests.harness.databases.promises import Promise
from tests.harness.pdm import make_module, make_request, working
from tests.harness.system import descendants_of

PORTION = 10_000    # users that are added at once
CACHED = 100        # users whose answers the cache gets
# The kinds without a server.
FILES: Mapping[str, Write] = {**WRITERS, "route": lambda path, rows: ["backends=store,other", "users=user*"]}
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What look-ups took, in seconds for each of them."""

    wall: float
    own: float       # CPU time of the process that asks
    server: float    # CPU time of the server

    def __str__(self) -> str:
        return f"{1 / self.wall:6.0f}/s {self.own * 1e6:5.0f} us {self.server * 1e6:5.0f} us"


_WIDTH = len(str(Cost(1.0, 0.0, 0.0)))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one module."""

    module: str
    load: float       # seconds to load all users
    octets: int       # on disk
    known: Cost
    unknown: Cost | None           # route knows everybody
    worker: Cost | None = None     # by way of a worker; None for a module that does not wait
    cached: Cost | None = None     # answers from the cache

    def __str__(self) -> str:
        costs = "  ".join(str(cost or " " * _WIDTH) for cost in (self.known, self.unknown, self.worker, self.cached))
        return f"{self.module:8} {self.load:7.1f} s {self.octets / 1e6:6.0f} MB  {costs}".rstrip()


HEAD = "module        load      size" + "".join(f"{what:>10}      own   server"
                                                for what in ("known", "unknown", "worker", "cache"))


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    launches = kinds()
    everything = [*launches, "route"]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.lookups", description=(__doc__ or "").split(":")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"all without any: {', '.join(everything)}")
    parser.add_argument("--users", type=int, default=10_000, metavar="N", help="users in each database (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, metavar="S", help="length of a measurement (%(default)s)")
    options = parser.parse_args(argv)
    if unknown := set(options.modules) - set(everything):
        parser.error(f"found {', '.join(unknown)}, wanted some of {', '.join(everything)}")
    print(HEAD)
    for name in options.modules or everything:
        if name in FILES:
            print(measure_file(name, options.users, options.seconds), flush=True)
        else:
            print(measure(launches[name], options.users, options.seconds), flush=True)


def measure(launch: Launch, users: int, seconds: float) -> Figures:
    """Return the figures of one module."""
    with launched(launch) as (database, folder):
        return _measured(database, folder, users, seconds)


def measure_file(name: str, users: int, seconds: float) -> Figures:
    """Return the figures of a module without a server."""
    with TemporaryDirectory(prefix="popular-") as made:
        folder, began = Path(made), time.monotonic()
        words = FILES[name](folder / "users", crowd(range(users)))
        load = time.monotonic() - began
        absent = None if name == "route" else Outcome.UNKNOWN
        return _asked(module_of(name), words, load, _size(folder), users, seconds, absent)


def _measured(database: Database, folder: Path, users: int, seconds: float) -> Figures:
    before, began = _size(folder), time.monotonic()
    for first in range(0, users, PORTION):
        database.add(*crowd(range(first, min(first + PORTION, users))))
    load, octets = time.monotonic() - began, _size(folder) - before
    absent = Outcome.DENIED if Promise.UNKNOWN in database.lacks else Outcome.UNKNOWN
    return _asked(database.module, database.words(), load, octets, users, seconds, absent)


def _asked(name: str, words: list[str], load: float, octets: int, users: int, seconds: float,
           absent: Outcome | None) -> Figures:
    """Ask one module; `absent` is its answer for unknown users, None if there are none."""
    module = make_module(name, *words)
    module.open()
    try:
        known = _cost(module, users, seconds, Outcome.OK)
        unknown = None if absent is None else _cost(module, users, seconds, absent)
    finally:
        module.close()
    if not module.blocking:
        return Figures(name, load, octets, known, unknown)
    cache = AnswerCache(CACHED * 4, Lifetimes(3600.0, 3600.0, 0.0))
    with working(WorkerJob([module], Channel(), 10.0, None, Log("lookups", FileSink(2)), cache)) as channel:
        worker = _cost(RemoteModule(module, channel), users, seconds, Outcome.OK)
        cached = _cost(CachedModule(module, channel, cache), min(users, CACHED), seconds, Outcome.OK)
    cache.close()
    return Figures(name, load, octets, known, unknown, worker, cached)


def _cost(module: Asked, users: int, seconds: float, outcome: Outcome) -> Cost:
    """Ask for users; raises AssertionError for another answer than `outcome`."""
    _ask(module, users, seconds / 10, outcome)    # until caches are warm
    wall, server, own = time.monotonic(), _servers(), time.process_time()
    count = _ask(module, users, seconds, outcome)
    own, server, wall = time.process_time() - own, _servers() - server, time.monotonic() - wall
    return Cost(wall / count, own / count, server / count)


def _ask(module: Asked, users: int, seconds: float, outcome: Outcome) -> int:
    """Ask for some time; return how often."""
    suffix = "" if outcome is Outcome.OK else ".invalid"
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        name = name_of(random.randrange(users)) + suffix
        answer = module.check(make_request(name, CROWD_PASSWORD, namespace="default"))
        assert answer.outcome is outcome, answer
        count += 1
    return count


def _servers() -> float:
    """Return the CPU seconds of all processes below this one."""
    ticks = 0
    for pid in descendants_of(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def _size(folder: Path) -> int:
    """Return the octets that the files of a folder take on disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


if __name__ == "__main__":
    main()
