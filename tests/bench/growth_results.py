"""The figures of a growth run: one `Point` for each time that something was measured at a step of growth.

`Growth.dump` is the JSON that is kept; `Growth.load` reads it again, so that tables and plots can be made anew.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.bench.results import Record, Spread, Turn


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement; figures are named in `growth_report.FIGURES`."""

    kind: str                           # what grows
    part: str                           # what was done: a workload, or what else was looked at
    step: int                           # how much there was of it
    series: str                         # contender, and database module where there are several
    round: int
    figures: dict[str, float | None]
    failed: int = 0                     # sessions
    failures: dict[str, int] = field(default_factory=dict)
    is_bottleneck: bool = False         # the load generator was, so there is no rate


@dataclass(frozen=True, slots=True)
class Cell:
    """Where in a growth run something is measured."""

    kind: str
    step: int
    series: str
    round: int

    def point(self, part: str, figures: Mapping[str, float | None], failures: Mapping[str, int]) -> Point:
        """Return figures of this place."""
        return Point(self.kind, part, self.step, self.series, self.round, dict(figures), sum(failures.values()),
                     dict(failures))

    def of_turn(self, turn: Turn, more: Mapping[str, float | None]) -> Point:
        """Return the figures of a workload's turn, and more."""
        figures = {"cost": turn.cost, "rate": turn.rate, **more}
        return Point(self.kind, turn.workload, self.step, self.series, self.round, figures, turn.failed, turn.failures,
                     turn.is_bottleneck)


@dataclass(slots=True)
class Growth(Record):
    """One whole growth run."""

    points: list[Point] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.points

    @property
    def has_failures(self) -> bool:
        """Tell whether a session failed, or a contender."""
        return bool(self.notes) or any(point.failed for point in self.points)

    def sections(self) -> list[tuple[str, str]]:
        """Return what grew and what was done, in the order in which it was."""
        return list(dict.fromkeys((point.kind, point.part) for point in self.points))

    def of(self, kind: str, part: str) -> list[Point]:
        """Return all measurements of a section."""
        return [point for point in self.points if (point.kind, point.part) == (kind, part)]

    @classmethod
    def load(cls, text: str) -> "Growth":
        """Read what `dump` wrote."""
        raw = json.loads(text)
        points = [Point(**point) for point in raw.pop("points")]
        return cls(**raw, points=points)


@dataclass(frozen=True, slots=True)
class Grid:
    """One figure of a section: what it was at each step in each series; cells where it was not measured are missing."""

    steps: tuple[int, ...]                           # in ascending order
    rows: Mapping[str, Mapping[int, Spread]]         # series → step → the rounds

    @classmethod
    def of(cls, points: list[Point], figure: str) -> "Grid":
        """Put a figure together; series stay in the order in which they were measured."""
        rows: dict[str, dict[int, Spread]] = {}
        for series, step in dict.fromkeys((point.series, point.step) for point in points if figure in point.figures):
            spread = Spread.of(point.figures.get(figure) for point in points
                               if (point.series, point.step) == (series, step))
            rows.setdefault(series, {})
            if spread is not None:
                rows[series][step] = spread
        return cls(tuple(sorted({point.step for point in points if figure in point.figures})), rows)

    def growth(self, series: str) -> float | None:
        """Return the last step's figure divided by that of the first, if there are two and both were measured."""
        row = self.rows[series] if len(self.steps) > 1 else {}
        first, last = row.get(self.steps[0]), row.get(self.steps[-1])
        return last.median / first.median if first and last and first.median else None

    def width(self, series: str) -> float | None:
        """Return how far the rounds of one step are apart, in proportion to their median, where they are farthest.

        None when there is but one round.
        """
        return max(((spread.high - spread.low) / spread.median for spread in self.rows[series].values()
                    if spread.high > spread.low), default=None)
