"""What can be chosen on the command line, and the presets full, quick and smoke."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tests.bench.contenders import CONTENDERS
from tests.bench.databases import MODULES
from tests.bench.interpreters import MARK, version_of
from tests.bench.popular_chain import Shape
from tests.bench.population import Population
from tests.bench.scripts import SERIAL
from tests.bench.workloads import WORKLOADS
from tests.harness.daemon import ROOT

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Options:
    """How a run is done."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    contenders: tuple[str, ...] = tuple(each.name for each in CONTENDERS)
    concurrency: tuple[int, ...] = (1, 16, 64, 256)
    rounds: int = 3
    seconds: float = 1.0
    processes: int = max(2, (os.cpu_count() or 2) // 2)
    resting: int = 1_000
    population: Population = Population()
    use_groups: bool = True
    growth: Mapping[str, tuple[int, ...]] = field(default_factory=dict)    # what grows → its steps, or nothing
    modules: tuple[str, ...] = MODULES                                     # that are measured with growing databases
    pythons: Mapping[str, str] = field(default_factory=dict)               # version → interpreter
    pair: Shape | None = None                                              # what the second of two is started with
    is_strict: bool = False                                                # a failed session makes the run a failure
    output: Path = ROOT / "build/bench"


FULL = Options()
QUICK = Options(rounds=1, seconds=1.0, concurrency=(16,), resting=200,
                population=Population(bulk=64, mail=300, empty=500, big=10_000))
SMOKE = Options(rounds=1, seconds=0.1, concurrency=(4,), resting=10, is_strict=True,
                contenders=("popular-classic", "popular-pooled-passwd"),
                population=Population(users=2_000, empty=40, mail=20, bulk=4, big=300))

PAIR = Options(rounds=20, seconds=0.5, workloads=("empty", "mail", "bulk"),
               contenders=("popular-classic", "popular-pooled"),
               population=Population(users=2_000, empty=500, mail=300, bulk=16, big=0))

# The same for growth runs; `concurrency` is that of the sessions where something else grows.
GROWTH = Options(rounds=2, seconds=1.5, concurrency=(16,), population=Population(bulk=0, big=0), growth={
    "concurrency": (1, 4, 16, 64, 256, 1_024), "users": (1_000, 10_000, 100_000, 1_000_000),
    "messages": (0, 10, 100, 1_000, 10_000, 100_000), "vservs": (1, 10, 100, 1_000), "backends": (1, 10, 100, 1_000)})
QUICK_GROWTH = replace(GROWTH, rounds=1, seconds=0.4, population=Population(users=10_000, bulk=0, big=0), growth={
    "concurrency": (1, 16, 128), "users": (1_000, 100_000), "messages": (0, 100, 10_000), "vservs": (1, 100),
    "backends": (1, 100)})
SMOKE_GROWTH = replace(
    GROWTH, rounds=1, seconds=0.1, concurrency=(4,), is_strict=True, contenders=("popular-pooled",), modules=("cdb",),
    population=Population(users=200, empty=40, mail=20, bulk=0, big=0), growth={
        "concurrency": (1, 4), "users": (50, 500), "messages": (0, 10), "vservs": (1, 5), "backends": (1, 5)})
NO_GROWTH = ("workloads", "users", "messages", "resting", "python")    # choices that mean nothing to a growth run
NO_PAIR = ("quick", "smoke", "growth", "concurrency", "processes", "messages", "resting")    # and to a paired run


def read_options(argv: Sequence[str]) -> tuple[Options, Path | None]:
    """Return the options, and the results to be shown again instead of a run; usage errors leave with 2."""
    parser = argparse.ArgumentParser(prog="make bench", description=(
        "Measure what POP3 sessions cost in POPular and in other servers.  On one machine, over loopback; "
        "nothing else should be running."))
    preset = parser.add_mutually_exclusive_group()
    preset.add_argument("--quick", action="store_true", help="all contenders, in a few minutes")
    preset.add_argument("--smoke", action="store_true", help="POPular alone, in a minute: does the benchmark work?")
    parser.add_argument("--growth", metavar="NAME,…", nargs="?", const=",".join(GROWTH.growth), help=(
        f"measure instead how cost grows with {', '.join(GROWTH.growth)}, or with some of them"))
    parser.add_argument("--pair", metavar="TREE", type=Path, help=(
        "measure instead what our daemons of another checkout cost in proportion to these, sessions in turns"))
    parser.add_argument("--pair-setting", metavar="'NAME = VALUE'", action="append", help=(
        "the same with a variable of pproxy; several are possible, also with --pair"))
    parser.add_argument("--python", metavar="PATH", action="append", help=(
        "also measure ours and the floors in Python under this one, as `NAME@VERSION`; both of a pair run under it"))
    parser.add_argument("--workloads", metavar="NAME,…", help=f"some of {', '.join(WORKLOADS)}")
    parser.add_argument("--contenders", metavar="NAME,…",
                        help=f"some of {', '.join(each.name for each in CONTENDERS)}; a name with * at its end is many")
    parser.add_argument("--concurrency", metavar="N,…", help="sessions at once; the steps of growth with them")
    parser.add_argument("--rounds", type=int, metavar="N", help="turns of each contender")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a turn")
    parser.add_argument("--processes", type=int, metavar="N", help="processes of the load generator")
    parser.add_argument("--users", type=int, metavar="N", help="users in the databases")
    parser.add_argument("--messages", type=int, metavar="N", help="messages in the mailbox of the workload big")
    parser.add_argument("--resting", type=int, metavar="N", help="sessions of the workload idle")
    parser.add_argument("--no-groups", action="store_true", help="count CPU time without control groups")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder for table, JSON and plots (build/bench)")
    parser.add_argument("--show", type=Path, metavar="JSON", help="make table and plots anew from an earlier run")
    chosen = parser.parse_args(argv)
    full, quick, smoke = (FULL, QUICK, SMOKE) if chosen.growth is None else (GROWTH, QUICK_GROWTH, SMOKE_GROWTH)
    options = smoke if chosen.smoke else quick if chosen.quick else full
    try:
        if chosen.pair or chosen.pair_setting:
            options = _paired(chosen)
        return _with_choices(options, chosen), chosen.show
    except ValueError as why:
        parser.error(str(why))


def _with_choices(options: Options, chosen: argparse.Namespace) -> Options:
    """Return the options with what was given; raises ValueError."""
    population = options.population
    if chosen.users is not None:
        population = replace(population, users=_positive(chosen.users, "--users"))
    if chosen.messages is not None:
        population = replace(population, big=chosen.messages)
    pythons = {version_of(path): path for path in chosen.python or ()}
    others = tuple(f"{each.name}{MARK}{version}" for version in pythons for each in CONTENDERS if each.is_python)
    changes: dict[str, object] = {"population": population, "pythons": pythons}
    if chosen.workloads:
        changes["workloads"] = _names(chosen.workloads, SERIAL if options.pair else list(WORKLOADS))
    if options.pair:
        changes["contenders"] = _pairs(chosen.contenders, options.contenders, pythons)
    elif chosen.contenders:
        changes["contenders"] = _names(chosen.contenders, [*(each.name for each in CONTENDERS), *others])
    elif pythons:
        changes["contenders"] = (*options.contenders, *others)
    if chosen.growth is not None:
        changes["growth"] = _growth(options.growth, chosen)
    elif chosen.concurrency:
        changes["concurrency"] = _numbers(chosen.concurrency, "--concurrency")
    for name in ("rounds", "seconds", "processes", "resting"):
        if getattr(chosen, name) is not None:
            changes[name] = _positive(getattr(chosen, name), f"--{name}")
    if chosen.no_groups:
        changes["use_groups"] = False
    if chosen.output:
        changes["output"] = chosen.output.absolute()
    return replace(options, **changes)  # type: ignore[arg-type]


def _paired(chosen: argparse.Namespace) -> Options:
    """Return the preset of a paired run with what the second of two has; raises ValueError."""
    for name in NO_PAIR:
        if getattr(chosen, name) not in (None, False):
            raise ValueError(f"--{name} means nothing to --pair")
    tree = chosen.pair.absolute() if chosen.pair else ROOT
    if not (tree / "bin/pproxy").exists():
        raise ValueError(f"{tree} is no checkout: it has no bin/pproxy")
    return replace(PAIR, pair=Shape(tree=str(tree), settings="\n".join(chosen.pair_setting or ())))


def _pairs(words: str | None, preset: Sequence[str], pythons: Mapping[str, str]) -> tuple[str, ...]:
    """Return which contenders are measured in pairs, under each of `pythons` if there are any; raises ValueError."""
    names = _names(words, [each.name for each in CONTENDERS if each.is_ours]) if words else tuple(preset)
    return tuple(f"{name}{MARK}{version}" for version in pythons for name in names) or names


def _growth(preset: Mapping[str, tuple[int, ...]], chosen: argparse.Namespace) -> Mapping[str, tuple[int, ...]]:
    """Return what grows in which steps; raises ValueError."""
    for name in NO_GROWTH:
        if getattr(chosen, name) is not None:
            raise ValueError(f"--{name} means nothing to --growth")
    growth = {name: preset[name] for name in _names(chosen.growth, list(preset))}
    if chosen.concurrency and "concurrency" in growth:
        growth["concurrency"] = _numbers(chosen.concurrency, "--concurrency")
    return growth


def _numbers(words: str, name: str) -> tuple[int, ...]:
    return tuple(_positive(int(word), name) for word in words.split(","))


def _names(words: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the known names that are meant by `words`; raises ValueError."""
    found: list[str] = []
    for word in words.split(","):
        meant = [name for name in known if name == word or (word.endswith("*") and name.startswith(word[:-1]))]
        if not meant:
            raise ValueError(f"{word} is none of {', '.join(known)}")
        found += [name for name in meant if name not in found]
    return tuple(found)


def _positive(value: Number, name: str) -> Number:
    if value <= 0:
        raise ValueError(f"{name} must be more than 0")
    return value
