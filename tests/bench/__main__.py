"""`make bench`: measure, print the tables, and write them with JSON and plots into a folder.

Leaves with 0; with 1 when nothing was measured, or, with --smoke, when a session failed; with 130 after Ctrl-C, the
table then holds what was measured so far.
"""

import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.bench.growth import grow
from tests.bench.growth_report import growth_plots, growth_report
from tests.bench.growth_results import Growth
from tests.bench.options import Options, read_options
from tests.bench.pairs import Pairs, report_pairs, run_pairs
from tests.bench.plots import plots
from tests.bench.report import report
from tests.bench.results import Run
from tests.bench.turns import run

Result = Run | Growth | Pairs


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options, shown = read_options(sys.argv[1:])
    if shown is not None:
        publish(load(shown.read_text()), options.output)
        return 0
    signal.signal(signal.SIGTERM, _end)
    result: Result = Growth() if options.growth else Pairs() if options.pair else Run()
    code = 0
    try:
        _measure(options, result)
    except KeyboardInterrupt:
        say("interrupted: the table holds what was measured so far")
        code = 130
    if result.is_empty:
        say("nothing was measured")
        return code or 1
    publish(result, options.output)
    return code or int(options.is_strict and result.has_failures)


def _measure(options: Options, result: Result) -> None:
    """Do the run of the kind of `result`, which gets the figures."""
    match result:
        case Growth():
            grow(options, result, say)
        case Pairs():
            run_pairs(options, result, say)
        case Run():
            run(options, result, say)


def load(text: str) -> Result:
    """Read the JSON of any kind of run."""
    raw = json.loads(text)
    return Growth.load(text) if "points" in raw else Pairs.load(raw) if "pairs" in raw else Run.load(text)


def publish(result: Result, folder: Path) -> None:
    """Print the tables, and write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(result, Growth):
        name, text, pictures = "growth", growth_report(result), growth_plots(result)
    elif isinstance(result, Pairs):
        name, text, pictures = "pairs", report_pairs(result), iter(())
    else:
        name, text, pictures = "benchmark", report(result), plots(result)
    print(text)
    (folder / f"{name}.json").write_text(result.dump())
    (folder / f"{name}.md").write_text(text)
    for picture, svg in pictures:
        (folder / picture).write_text(svg)
    say(f"tables, JSON and plots are in {folder}")


def say(words: str) -> None:
    """Tell what is going on."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
