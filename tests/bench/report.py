"""The tables of a run, in Markdown that can be read as it is: one for each workload and concurrency.

CPU seconds per 1,000 sessions are the figure; beside each rival stands what our two ways of working cost in
proportion to it, the median over the rounds of the same run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.bench.results import Run, Spread
from tests.bench.tls_report import HEAD, OFF, WITH, added_rows
from tests.bench.workloads import WORKLOADS

CLASSIC = "popular-classic"
POOLED = "popular-pooled"
BOTTLENECK = "(generator)"      # in place of a rate that would be the load generator's
_SESSION_HEAD = ("contender", "CPU s/1,000", "min", "max", "sessions/s", "p50 ms", "p99 ms", "MB/s", "generator",
                 "failed", "classic is", "pooled is")

Row = Sequence[str]


def report(run: Run) -> str:
    """Return the whole report."""
    parts = [_head(run)]
    for workload, concurrency in run.cells():
        parts.append(_section(run, workload, concurrency))
    parts += [_tls(run, concurrency) for workload, concurrency in run.cells()
              if workload == OFF and (WITH[0], concurrency) in run.cells()]
    if run.notes:
        parts.append("## Notes\n\n" + "\n".join(f"* {note}" for note in run.notes) + "\n")
    return "\n".join(parts)


def _head(run: Run) -> str:
    lines = ["# What a POP3 session costs", "", *machine_lines(run.machine),
             f"{run.options.get('rounds')} rounds of {run.options.get('seconds')} s, "
             f"{run.options.get('users'):,} users, load generator of {run.options.get('processes')} processes", ""]
    lines += [f"* {name}: {version}" for name, version in run.machine.get("peers", {}).items()]
    lines.append("")
    lines += table(("contender", "what it is"), run.about.items())
    lines += ["", *(f"Without {name}: {why}" for name, why in run.skipped.items())]
    return "\n".join(lines) + "\n"


def machine_lines(machine: Mapping[str, Any]) -> list[str]:
    """Return what a run was made on, as lines of Markdown; what an older run did not note is left out."""
    threads, usable, tcp = (machine.get(name) for name in ("threads_per_core", "usable_cores", "congestion"))
    processors = f"{machine.get('cores')} processors" + (f", {threads} to a core" if threads else "")
    if usable not in (None, machine.get("cores")):
        processors += f", {usable} of them for us"
    return [f"{machine.get('date', '')}, commit {machine.get('commit') or 'unknown'}, POPular "
            f"{machine.get('popular')}, Python {machine.get('python')}", "",
            f"{machine.get('cpu')}, {processors}, {machine.get('memory_mib')} MiB; "
            f"{machine.get('system')}, Linux {machine.get('kernel')}" + (f", TCP {tcp}" if tcp else "") +
            f"; load before the run {number(machine.get('load_before'))}", ""]


def _section(run: Run, workload: str, concurrency: int) -> str:
    row = WORKLOADS[workload]
    title = f"## {workload}: {row.about}" + (f"; {concurrency} at once" if row.has_concurrency else "")
    match workload:
        case "idle":
            lines = _idle(run, concurrency)
        case "big":
            lines = _big(run, concurrency)
        case "check":
            lines = _check(run, concurrency)
        case _:
            lines = table(_SESSION_HEAD, (_session_row(run, workload, concurrency, name)
                                          for name in run.contenders(workload)))
    return "\n".join([title, "", *lines, "", *_failures(run, workload, concurrency)])


def _tls(run: Run, concurrency: int) -> str:
    rows = ((name, middle(clear), *(number(value) for value in
             ((full.median, full.low, full.high) if full else (None, None, None))),
             *map(times, ratios), middle(resumed))
            for name, clear, full, ratios, resumed in added_rows(run, concurrency, (CLASSIC, POOLED)))
    return "\n".join([f"## What TLS adds to `empty`, CPU s/1,000; {concurrency} at once", "", *table(HEAD, rows), ""])


def _session_row(run: Run, workload: str, concurrency: int, name: str) -> Row:
    def get(figure: str) -> Spread | None:
        return run.figure(workload, concurrency, name, figure)

    cost = get("cost")
    failed = sum(turn.failed for turn in run.select(workload, concurrency, name))
    spread = (cost.median, cost.low, cost.high) if cost else (None, None, None)
    return (name, *(number(value) for value in spread), _rate(run, workload, concurrency, name), millis(get("p50")),
            millis(get("p99")), middle(get("mb")), percent(get("generator")), str(failed or ""),
            *(times(run.ratio(workload, concurrency, ours, name)) for ours in (CLASSIC, POOLED)))


def _idle(run: Run, wanted: int) -> list[str]:
    rows = []
    for name in run.contenders("idle"):
        cells = run.select("idle", wanted, name)
        parts = {key.removeprefix("KiB "): spread for turn in cells for key in turn.more if key.startswith("KiB ")
                 if (spread := Spread.of(turn.more.get(key) for turn in cells)) is not None}
        whole = parts.pop("in all", None)
        inner = ", ".join(f"{program} {middle(spread)}" for program, spread in parts.items()
                          if abs(spread.median) >= 1)
        at_rest = Spread.of(turn.more.get("idle cpu") for turn in cells)
        rows.append((name, str(max((turn.sessions for turn in cells), default=0)), middle(whole), inner,
                     percent(at_rest)))
    return table(("contender", "sessions", "KiB each, in all", "KiB each, by program", "CPU at rest"), rows)


def _big(run: Run, concurrency: int) -> list[str]:
    rows = []
    for name in run.contenders("big"):
        def get(figure: str, name: str = name) -> Spread | None:
            return run.figure("big", concurrency, name, figure)

        rows.append((name, millis(get("stat")), times(_median(get("stat_per_scandir"))), millis(get("uidl")),
                     millis(get("retr")), middle(get("cost")),
                     *(times(run.ratio("big", concurrency, ours, name)) for ours in (CLASSIC, POOLED))))
    return table(("contender", "to STAT ms", "per scandir", "UIDL ms", "RETR ms", "CPU s/1,000", "classic is",
                  "pooled is"), rows)


def _check(run: Run, concurrency: int) -> list[str]:
    rows = []
    for name in run.contenders("check"):
        def get(figure: str, name: str = name) -> Spread | None:
            return run.figure("check", concurrency, name, figure)

        rows.append((name, middle(get("cost")), middle(get("answers per core")),
                     _rate(run, "check", concurrency, name), millis(get("p50")), millis(get("p99"))))
    return table(("contender", "CPU s/1,000", "answers/CPU s", "answers/s", "p50 ms at 10,000/s", "p99 ms at 10,000/s"),
                 rows)


def _rate(run: Run, workload: str, concurrency: int, name: str) -> str:
    """Return the rate, or why there is none."""
    rate = run.figure(workload, concurrency, name, "rate")
    if rate is not None:
        return number(rate.median)
    return BOTTLENECK if any(turn.is_bottleneck for turn in run.select(workload, concurrency, name)) else "–"


def _failures(run: Run, workload: str, concurrency: int) -> list[str]:
    lines = []
    for turn in run.turns:
        if (turn.workload, turn.concurrency) == (workload, concurrency) and turn.failures:
            what = "; ".join(f"{why}: {count}" for why, count in list(turn.failures.items())[:3])
            lines.append(f"* {turn.contender}, round {turn.round + 1}: {what}")
    return [*lines, ""] if lines else []


def table(head: Row, rows: Iterable[Row]) -> list[str]:
    """Return the lines of a Markdown table with straight columns, the first to the left."""
    cells = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    is_text = [all(not _is_figure(row[column]) for row in cells[1:]) or column == 0 for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) if left else cell.rjust(width)
                               for cell, width, left in zip(row, widths, is_text)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) if left else "-" * (width + 1) + ":"
                          for width, left in zip(widths, is_text)) + "|"
    return [lines[0], rule, *lines[1:]]


def _is_figure(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in ("", "–", "(", "-")


def number(value: float | None) -> str:
    """Return a figure with three digits that count."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _median(spread: Spread | None) -> float | None:
    return spread.median if spread else None


def middle(spread: Spread | None) -> str:
    """Return the median."""
    return number(_median(spread))


def millis(spread: Spread | None) -> str:
    """Return the median of seconds as milliseconds."""
    return number(spread.median * 1000) if spread else "–"


def percent(spread: Spread | None) -> str:
    """Return the median of a share in percent."""
    return f"{spread.median:.0%}" if spread else "–"


def times(ratio: float | None) -> str:
    """Return a ratio."""
    return "–" if ratio is None else f"{number(ratio)} ×"
