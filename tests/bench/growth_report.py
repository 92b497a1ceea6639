"""The tables and plots of a growth run: one of each for every figure, a row or line for each contender.

Cells are medians of the rounds.  `grows` is the last step's figure divided by the first one's; `apart` tells how
far the rounds of one step are from each other at worst: a growth that is not much more than that is none.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.growth_results import Grid, Growth, Point
from tests.bench.kinds import KINDS
from tests.bench.plots import curves
from tests.bench.report import BOTTLENECK, machine_lines, number, table, times

_FAILED = " *"          # behind a figure of a step at which sessions failed


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of `Point.figures` and how it is told."""

    name: str
    title: str
    scale: float = 1.0      # from the unit in which it is kept to that of the title


FIGURES = (
    Figure("cost", "CPU seconds per 1,000 sessions, whole process tree"),
    Figure("rate", "sessions a second"),
    Figure("p50", "a session, median, ms", 1000.0),
    Figure("p99", "a session, 99 of 100, ms", 1000.0),
    Figure("memory", "PSS of the whole process tree, MiB", 1 / (1 << 20)),
    Figure("master", "PSS of the master of pproxy, MiB", 1 / (1 << 20)),
    Figure("master_rss", "RSS of the master of pproxy, MiB", 1 / (1 << 20)),
    Figure("start", "start of pproxy until it listens, ms", 1000.0),
    Figure("rest", "CPU at rest, ms a second, whole process tree", 1000.0),
    Figure("reload", "reload after a change, until new sessions see it, ms", 1000.0),
    Figure("reload_cpu", "CPU of that, ms, whole process tree", 1000.0),
)

# What is added to the title of a section, where one thing grows in several of them.
_WHERE = {"empty": ", workload empty", "mix": ", workload mix", "rest": ", all open and silent",
          "box": "; login, STAT, UIDL, QUIT"}


def growth_report(growth: Growth) -> str:
    """Return all tables, in Markdown."""
    options = growth.options
    lines = ["# How the cost of POP3 sessions grows", "", *machine_lines(growth.machine),
             f"{options.get('rounds')} rounds of {options.get('seconds')} s, load generator of "
             f"{options.get('processes')} processes", ""]
    lines += [f"* {name}: {version}" for name, version in growth.machine.get("peers", {}).items()]
    lines += ["", *table(("contender", "what it is"), growth.about.items()), ""]
    lines += [f"Without {name}: {why}" for name, why in growth.skipped.items()]
    for kind, part in growth.sections():
        lines += _section(growth, kind, part)
    if growth.notes:
        lines += ["## Notes", "", *(f"* {note}" for note in growth.notes), ""]
    return "\n".join(lines)


def growth_plots(growth: Growth) -> Iterator[tuple[str, str]]:
    """Yield name and text of each SVG file; a figure of one step only has none."""
    for kind, part in growth.sections():
        points = growth.of(kind, part)
        for figure in FIGURES:
            grid = Grid.of(points, figure.name)
            lines = {series: [(float(step), row[step].median * figure.scale) for step in grid.steps if step in row]
                     for series, row in grid.rows.items() if row}
            if lines and len(grid.steps) > 1:
                name = f"growth-{kind}-{part}-{figure.name.replace('_', '-')}.svg"
                yield name, curves(f"{figure.title}, by {KINDS[kind].about}{_WHERE[part]}", lines)


def _section(growth: Growth, kind: str, part: str) -> list[str]:
    points = growth.of(kind, part)
    lines = [f"## {KINDS[kind].about}{_WHERE[part]}", ""]
    for figure in FIGURES:
        grid = Grid.of(points, figure.name)
        if grid.rows:
            lines += [f"### {figure.title}", "", *_grid_table(grid, figure, points), ""]
    for point in points:
        if point.failures:
            what = "; ".join(f"{why}: {count}" for why, count in list(point.failures.items())[:3])
            lines.append(f"* {point.series} at {point.step:,}, round {point.round + 1}: {what}")
    return [*lines, ""] if lines[-1] else lines


def _grid_table(grid: Grid, figure: Figure, points: list[Point]) -> list[str]:
    head = ("contender", *(f"{step:,}" for step in grid.steps), "grows", "apart")
    return table(head, ((series, *(_cell(grid, figure, points, series, step) for step in grid.steps),
                         times(grid.growth(series)), _percent(grid.width(series))) for series in grid.rows))


def _cell(grid: Grid, figure: Figure, points: list[Point], series: str, step: int) -> str:
    here = [point for point in points if (point.series, point.step) == (series, step) and figure.name in point.figures]
    spread = grid.rows[series].get(step)
    if spread is None:
        return BOTTLENECK if any(point.is_bottleneck for point in here) else "–"
    return number(spread.median * figure.scale) + _FAILED * any(point.failed for point in here)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
