"""The table of what TLS adds to a session: the cost with it less that in clear at the same servers, round by round."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.results import Run, Spread

OFF = "tls-off"
WITH = ("tls-full", "tls-resumed")

HEAD = ("contender", "in clear", "whole handshake adds", "min", "max", "classic adds", "pooled adds",
        "a resumed one adds")


def added(run: Run, workload: str, concurrency: int, contender: str) -> Mapping[int, float]:
    """Return by round the CPU seconds per 1,000 sessions that TLS added."""
    clear = {turn.round: turn.cost for turn in run.select(OFF, concurrency, contender)}
    return {turn.round: turn.cost - base for turn in run.select(workload, concurrency, contender)
            if turn.cost is not None and (base := clear.get(turn.round)) is not None}


def proportion(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Return the median over the rounds of what ours add divided by what theirs add; None where that means nothing."""
    ratios = [ours[number] / much for number, much in theirs.items() if number in ours and much > 0]
    return median(ratios) if ratios else None


def added_rows(run: Run, concurrency: int, ours: Sequence[str]) -> list[
        tuple[str, Spread | None, Spread | None, list[float | None], Spread | None]]:
    """Return for each contender: cost in clear, what TLS adds, that of each of ours in proportion, and resumed."""
    rows = []
    for name in run.contenders(OFF):
        full = added(run, WITH[0], concurrency, name)
        rows.append((name, run.figure(OFF, concurrency, name, "cost"), Spread.of(full.values()),
                     [proportion(added(run, WITH[0], concurrency, mine), full) for mine in ours],
                     Spread.of(added(run, WITH[1], concurrency, name).values())))
    return rows
