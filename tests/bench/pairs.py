"""The paired run: what a changed POPular costs in proportion to this one, for changes of a few per cent.

Both chains run at the same time.  In each round sessions go to them one by one, in the order A B B A, so whatever the
machine does meanwhile happens to both; a round gives one ratio of their CPU time.  The table shows how far the ratios
lie apart: half of them are between the quartiles, and a change is one if nearly all rounds are on the same side of 1.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from statistics import median, quantiles
from typing import Any

from tests.bench.foreground import CannotStart
from tests.bench.interpreters import python_for
from tests.bench.machine import describe
from tests.bench.options import Options
from tests.bench.popular_chain import Shape
from tests.bench.report import machine_lines, number, table
from tests.bench.resting import open_session
from tests.bench.results import Record
from tests.bench.scripts import Script, scripts_of
from tests.bench.turns import Say, leave_out, mail_owner, make_folder, make_store, note_blind, shown
from tests.bench.ward import Ward, WardGone

WARM_UP = 50        # sessions of each before the first round
_QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Pair:
    """One round: CPU seconds per 1,000 sessions of both."""

    workload: str
    contender: str
    sessions: int       # of each
    first: float        # this POPular
    second: float       # the changed one

    @property
    def ratio(self) -> float:
        """The cost of the changed one in proportion to the other."""
        return self.second / self.first


@dataclass(slots=True)
class Pairs(Record):
    """One whole paired run."""

    pairs: list[Pair] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.pairs

    @property
    def has_failures(self) -> bool:
        """Tell whether something could not be measured."""
        return bool(self.notes or self.skipped)

    @classmethod
    def load(cls, raw: dict[str, Any]) -> "Pairs":
        """Make it of what `dump` wrote."""
        return cls(**{**raw, "pairs": [Pair(**pair) for pair in raw["pairs"]]})


def run_pairs(options: Options, result: Pairs, say: Say) -> None:
    """Do the whole run and put its figures into `result`; what is worth knowing meanwhile goes to `say`."""
    assert options.pair is not None
    result.machine = describe()
    result.options = {**shown(options), "pair": asdict(options.pair)}
    with ExitStack() as stack:
        folder, owner = make_folder(stack), mail_owner()
        store = make_store(folder, options.population, options.contenders, owner, say)
        for place, name in enumerate(options.contenders):
            with ExitStack() as both:
                try:
                    python = python_for(name, options.pythons)
                    wards = [both.enter_context(Ward.start(
                        name, folder / f"{place}{side}", store, owner, shape=replace(shape, python=python),
                        use_groups=options.use_groups)) for side, shape in (("a", Shape()), ("b", options.pair))]
                    note_blind(wards[0], result)
                    for workload in options.workloads:
                        say(f"{name}, {workload} …")
                        scripts = scripts_of(workload, options.population)
                        measure(workload, wards, scripts, options, result.pairs.append)
                except CannotStart as why:
                    leave_out(name, str(why), result, say)
                except (WardGone, OSError) as why:
                    result.notes.append(f"{name} failed: {why}")
                    say(result.notes[-1])


def measure(workload: str, wards: Sequence[Ward], scripts: Sequence[Script], options: Options,
            note: Callable[[Pair], object]) -> None:
    """Measure one workload in pairs; raises OSError when a session fails."""
    turns = cycle([(0, 1), (1, 0)])
    playing, places = [cycle(scripts), cycle(scripts)], [0, 0]

    def play(until: float, least: int) -> int:
        """Play the same number of sessions with both, an even one, and return it."""
        count = 0
        while count < least or count % 2 or time.monotonic() < until:
            for side in next(turns):
                open_session(wards[side], next(playing[side]), places[side]).close()
                places[side] += 1
            count += 1
        return count

    play(0.0, min(WARM_UP, len(scripts)))
    for _ in range(options.rounds):
        before = [ward.settled_cpu() for ward in wards]
        count = play(time.monotonic() + options.seconds, 1)
        costs = [1000 * (ward.settled_cpu() - begun) / count for ward, begun in zip(wards, before, strict=True)]
        note(Pair(workload, wards[0].name, count, *costs))


def report_pairs(result: Pairs) -> str:
    """Return the whole report."""
    pair = result.options["pair"]
    what = ", ".join([pair["tree"], *pair["settings"].splitlines()])
    rows = []
    for cell in dict.fromkeys((each.contender, each.workload) for each in result.pairs):
        rounds = [each for each in result.pairs if (each.contender, each.workload) == cell]
        ratios = [each.ratio for each in rounds]
        low, _, high = quantiles(ratios, n=_QUARTERS) if len(ratios) > 1 else 3 * ratios
        rows.append((*cell, str(sum(each.sessions for each in rounds)), number(median(each.first for each in rounds)),
                     number(median(each.second for each in rounds)), f"{median(ratios):.3f}", f"{low:.3f}-{high:.3f}",
                     f"{min(ratios):.3f}-{max(ratios):.3f}", f"{sum(ratio < 1 for ratio in ratios)} of {len(ratios)}"))
    lines = ["# What a change costs", "", *machine_lines(result.machine),
             f"The second is {what}; CPU seconds per 1,000 sessions, sessions in the order A B B A.", "",
             *table(("contender", "workload", "sessions", "first", "second", "ratio", "quartiles", "all rounds",
                     "second is cheaper in"), rows),
             "", *(f"Without {name}: {why}" for name, why in result.skipped.items()),
             *(f"* {note}" for note in result.notes)]
    return "\n".join(lines) + "\n"
