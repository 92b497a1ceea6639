"""The figures of a run: one `Turn` for each time that a contender was measured, and what they come to.

`Run.dump` is the JSON that is kept; `Run.load` reads it again, so that tables and plots can be made anew.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One measurement of one contender; what does not apply is None."""

    workload: str
    contender: str
    concurrency: int
    round: int
    sessions: int                       # or answers, of the workload `check`
    cpu: float | None = None            # seconds, whole process tree
    cost: float | None = None           # CPU seconds per 1,000 sessions
    rate: float | None = None           # sessions a second; None when the load generator was the bottleneck
    p50: float | None = None            # seconds
    p99: float | None = None
    mb: float | None = None             # megabytes (10**6) a second; None as `rate`
    failed: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    generator: float | None = None      # CPU of the load generator, as a share of all cores
    is_bottleneck: bool = False         # the load generator was
    more: dict[str, float] = field(default_factory=dict)     # what only this workload has


@dataclass(frozen=True, slots=True)
class Spread:
    """Several rounds of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Return the spread of what is not None, or None for nothing."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


@dataclass(slots=True)
class Record:
    """What every kind of run keeps beside its figures."""

    machine: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)       # contender → what it is
    skipped: dict[str, str] = field(default_factory=dict)     # contender → why
    notes: list[str] = field(default_factory=list)

    def dump(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=1)


@dataclass(slots=True)
class Run(Record):
    """One whole run."""

    turns: list[Turn] = field(default_factory=list)

    def select(self, workload: str, concurrency: int, contender: str) -> list[Turn]:
        """Return the rounds of one cell."""
        return [turn for turn in self.turns if (turn.workload, turn.concurrency, turn.contender) ==
                (workload, concurrency, contender)]

    def cells(self) -> list[tuple[str, int]]:
        """Return workload and concurrency of everything measured, in the order in which it was."""
        return list(dict.fromkeys((turn.workload, turn.concurrency) for turn in self.turns))

    def contenders(self, workload: str) -> list[str]:
        """Return who was measured there, in the order of the list of contenders."""
        there = {turn.contender for turn in self.turns if turn.workload == workload}
        return [name for name in self.about if name in there]

    def figure(self, workload: str, concurrency: int, contender: str, name: str) -> Spread | None:
        """Return median, minimum and maximum of one figure, for example `cost`, or one of `more`."""
        return Spread.of(_value(turn, name) for turn in self.select(workload, concurrency, contender))

    def ratio(self, workload: str, concurrency: int, ours: str, rival: str, name: str = "cost") -> float | None:
        """Return the median over the rounds of ours divided by the rival's."""
        theirs = {turn.round: _value(turn, name) for turn in self.select(workload, concurrency, rival)}
        ratios = [mine / other for turn in self.select(workload, concurrency, ours)
                  if (mine := _value(turn, name)) is not None and (other := theirs.get(turn.round))]
        return median(ratios) if ratios else None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.turns

    @property
    def has_failures(self) -> bool:
        """Tell whether a session failed, or a contender."""
        return bool(self.notes) or any(turn.failed for turn in self.turns)

    @classmethod
    def load(cls, text: str) -> "Run":
        """Read what `dump` wrote."""
        raw = json.loads(text)
        turns = [Turn(**turn) for turn in raw.pop("turns")]
        return cls(**raw, turns=turns)


def _value(turn: Turn, name: str) -> float | None:
    value = turn.more[name] if name in turn.more else getattr(turn, name, None)
    return None if value is None else float(value)
