"""The growth run: how cost, rate and memory go with what there is more and more of.

At each step and in each round the contenders take turns; each is started anew for its turn, with the configuration and
the databases of the step, and ended behind it.  Who breaks at a step is noted, and tried again at the next one.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.big import BigFailed
from tests.bench.contenders import contender
from tests.bench.foreground import CannotStart
from tests.bench.growth_results import Cell, Growth
from tests.bench.kinds import KINDS, Ground, Kind
from tests.bench.machine import describe
from tests.bench.options import Options
from tests.bench.resting import allow_files
from tests.bench.turns import Say, is_possible, mail_owner, make_folder, make_store, note_blind, one_line, shown
from tests.bench.ward import Ward, WardGone

SPARE_FILES = 200       # descriptors of any process beside sessions or listeners


@dataclass(frozen=True, slots=True)
class Entrant:
    """A contender with one of the database modules."""

    series: str
    name: str
    module: str


def grow(options: Options, result: Growth, say: Say) -> None:
    """Do the whole run and put its figures into `result`; what is worth knowing meanwhile goes to `say`."""
    result.machine, result.options = describe(), {**shown(options), "growth": dict(options.growth)}
    options = replace(options, population=replace(options.population, boxes=options.growth.get("messages", ())))
    kinds = [KINDS[name] for name in options.growth]
    wanted = {name for kind in kinds for name in kind.contenders}
    names = [name for name in options.contenders if name in wanted and is_possible(name, result, say)]
    allow_files(max((step for kind in kinds if kind.needs_files for step in options.growth[kind.name]), default=0)
                + SPARE_FILES)
    with ExitStack() as stack:
        folder, owner = make_folder(stack), mail_owner()
        ground = Ground(make_store(folder, options.population, names, owner, say), options)
        for kind in kinds:
            stage = Stage(kind, ground, folder / "c", owner, result, say)
            for step in options.growth[kind.name]:
                stage.take_step(step, entrants(kind, names, options.modules))


def entrants(kind: Kind, names: Sequence[str], modules: Sequence[str]) -> list[Entrant]:
    """Return who of `names` takes part where something grows; with some of the modules where several are measured."""
    if len(kind.modules) == 1:
        return [Entrant(name, name, kind.modules[0]) for name in kind.contenders if name in names]
    return [Entrant(f"{name}, {module}", name, module)
            for module in kind.modules if module in modules for name in kind.contenders if name in names]


class Stage:
    """Where contenders are measured while one thing grows."""

    def __init__(self, kind: Kind, ground: Ground, folder: Path, owner: tuple[int, int], result: Growth,
                 say: Say) -> None:
        """Use `folder`, which does not exist yet, for one contender after the other."""
        self._kind, self._ground, self._folder, self._owner = kind, ground, folder, owner
        self._result, self._say = result, say

    def take_step(self, step: int, those: Sequence[Entrant]) -> None:
        """Measure everyone at one step, in all rounds."""
        if not those:
            return
        self._say(f"{step:,} {self._kind.about} …")
        self._kind.prepare(self._ground, step)
        broken: set[str] = set()
        for number in range(self._ground.options.rounds):
            # Another one begins each time, so that nobody always follows the same one.
            for each in [*those[number % len(those):], *those[:number % len(those)]]:
                cell = Cell(self._kind.name, step, each.series, number)
                if each.series not in broken and not self._measure(each, cell):
                    broken.add(each.series)

    def _measure(self, entrant: Entrant, cell: Cell) -> bool:
        """Measure one entrant once; tells whether it went through with it."""
        try:
            with Ward.start(entrant.name, self._folder, self._ground.store, self._owner,
                            shape=self._kind.shape(cell.step, entrant.module),
                            use_groups=self._ground.options.use_groups) as ward:
                if entrant.name not in self._result.about:
                    self._result.about[entrant.name] = contender(entrant.name).about
                    note_blind(ward, self._result)
                for point in self._kind.measure(ward, self._ground, cell):
                    self._result.points.append(point)
        except (CannotStart, WardGone, BigFailed, OSError) as why:
            note = f"{entrant.series} breaks at {cell.step:,} {self._kind.about}: {one_line(str(why))}"
            self._result.notes.append(note)
            self._say(note)
            return False
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        return True
