"""The plots of a run: bars of what a session costs, and lines of how cost and rate go with the concurrency."""

import math
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.report import number
from tests.bench.results import Run, Spread
from tests.bench.svg import Picture
from tests.bench.workloads import WORKLOADS

_OURS = "#1f77b4"
_RIVAL = "#9aa3ad"
_LINES = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf", "#bcbd22", "#7f7f7f",
          "#393b79", "#637939", "#8c6d31")
_WIDTH, _LEFT, _TOP, _BAR = 760, 190, 56, 22
_PLOT_HEIGHT, _LEGEND = 320, 180
_FEW_DECADES = 2
_ROUNDING = 1 + 1e-9
_UNITS = {"cost": "CPU s per 1,000", "rate": "per second"}


def plots(run: Run) -> Iterator[tuple[str, str]]:
    """Yield name and text of each SVG file."""
    for workload, concurrency in run.cells():
        if workload != "idle":
            figures = {name: spread for name in run.contenders(workload)
                       if (spread := run.figure(workload, concurrency, name, "cost")) is not None}
            if figures:
                title = f"{workload}: CPU seconds per 1,000 {WORKLOADS[workload].unit}s"
                at_once = f"-{concurrency}" if WORKLOADS[workload].has_concurrency else ""
                yield (f"benchmark-{workload}{at_once}.svg",
                       bars(title + (f", {concurrency} at once" if at_once else ""), figures))
    for workload in dict.fromkeys(turn.workload for turn in run.turns):
        steps = sorted({turn.concurrency for turn in run.turns if turn.workload == workload})
        if len(steps) > 1:
            for figure, unit in _UNITS.items():
                lines = {name: [(step, spread.median) for step in steps
                                if (spread := run.figure(workload, step, name, figure)) is not None]
                         for name in run.contenders(workload)}
                lines = {name: points for name, points in lines.items() if points}
                if lines:
                    title = f"{workload}: {unit}, by sessions at once"
                    yield f"benchmark-{workload}-{figure}.svg", curves(title, lines)


def bars(title: str, figures: Mapping[str, Spread]) -> str:
    """Return bars of the medians, with a thin line from minimum to maximum; the scale is linear from 0."""
    height = _TOP + _BAR * len(figures) + 30
    picture = Picture(_WIDTH, height, title)
    picture.text(16, 26, title, kind="title")
    top = max(spread.high for spread in figures.values()) or 1.0
    ticks = steps_to(top)
    room = (_WIDTH - _LEFT - 70) / ticks[-1]
    for tick in ticks:
        picture.line(_LEFT + tick * room, _TOP - 8, _LEFT + tick * room, height - 24, kind="grid")
        picture.text(_LEFT + tick * room, height - 10, number(tick) if tick else "0", anchor="middle", kind="small")
    for place, (name, spread) in enumerate(figures.items()):
        y = _TOP + place * _BAR
        picture.text(_LEFT - 8, y + 12, name, anchor="end")
        picture.rect(_LEFT, y, spread.median * room, _BAR - 6, _OURS if name.startswith("popular") else _RIVAL)
        picture.line(_LEFT + spread.low * room, y + 8, _LEFT + spread.high * room, y + 8, kind="axis")
        picture.text(_LEFT + spread.high * room + 6, y + 12, number(spread.median), kind="small")
    return picture.render()


def curves(title: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return lines over logarithmic axes, on which 0 has a place before the least that is more than 0."""
    picture = Picture(_WIDTH, _TOP + _PLOT_HEIGHT + 40, title)
    picture.text(16, 26, title, kind="title")
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = marks_around([y for points in lines.values() for _, y in points])
    left, right, bottom = 70, _WIDTH - _LEGEND - 20, _TOP + _PLOT_HEIGHT
    across, upwards = Logarithmic(xs, left, right), Logarithmic(ys, bottom, _TOP)
    for y in ys:
        picture.line(left, upwards.place(y), right, upwards.place(y), kind="grid")
        picture.text(left - 8, upwards.place(y) + 4, f"{y:,.9g}", anchor="end", kind="small")
    for x in xs:
        picture.line(across.place(x), _TOP, across.place(x), bottom, kind="grid")
        picture.text(across.place(x), bottom + 16, f"{x:,.9g}", anchor="middle", kind="small")
    for place, (name, points) in enumerate(lines.items()):
        colour = _LINES[place % len(_LINES)]
        spots = [(across.place(x), upwards.place(y)) for x, y in points]
        for (x1, y1), (x2, y2) in zip(spots, spots[1:]):
            picture.line(x1, y1, x2, y2, colour=colour)
        for spot in spots:
            picture.dot(*spot, colour)
        picture.rect(right + 16, _TOP + 18 * place, 12, 4, colour)
        picture.text(right + 34, _TOP + 18 * place + 6, name, kind="small")
    return picture.render()


class Logarithmic:
    """An axis from one end of a picture to the other; the marks are at even distances if their ratios are.

    A mark 0, which has no logarithm, lies a decade before the next one.
    """

    def __init__(self, marks: Sequence[float], first: float, last: float) -> None:
        """Put the least and the greatest mark, none below 0, at `first` and `last`; a lone one in the middle."""
        self._nought = math.log10(min((mark for mark in marks if mark > 0), default=1.0)) - 1
        self._first, self._last = first, last
        self._low, self._high = self._level(min(marks)), self._level(max(marks))

    def place(self, value: float) -> float:
        """Return where a value lies."""
        if self._low == self._high:
            return (self._first + self._last) / 2
        return self._first + (self._last - self._first) * (self._level(value) - self._low) / (self._high - self._low)

    def _level(self, value: float) -> float:
        return math.log10(value) if value > 0 else self._nought


def marks_around(values: Sequence[float]) -> list[float]:
    """Return round numbers around all values, two at least, and 0 before them if it is among the values.

    They are powers of ten, and between few of these also what is two and five times as much.
    """
    known = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)
    marks = [digit * 10.0 ** power for power in range(low, high + 1)
             for digit in ((1, 2, 5) if high - low <= _FEW_DECADES else (1,))]
    first = max(place for place, mark in enumerate(marks) if mark <= min(known) * _ROUNDING or place == 0)
    last = min(place for place, mark in enumerate(marks) if mark * _ROUNDING >= max(known) and place > first)
    return [0.0] * (min(values) <= 0) + marks[first:last + 1]


def steps_to(top: float) -> list[float]:
    """Return round numbers from 0 to `top` or a little above it, five to ten of them or so."""
    raw = top / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= raw)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]
