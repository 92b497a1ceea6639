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
from tests.bench.options import read_options
from tests.bench.plots import plots
from tests.bench.report import report
from tests.bench.results import Run
from tests.bench.turns import run


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options, shown = read_options(sys.argv[1:])
    if shown is not None:
        publish(load(shown.read_text()), options.output)
        return 0
    signal.signal(signal.SIGTERM, _end)
    result: Run | Growth = Growth() if options.growth else Run()
    code = 0
    try:
        grow(options, result, say) if isinstance(result, Growth) else run(options, result, say)
    except KeyboardInterrupt:
        say("interrupted: the table holds what was measured so far")
        code = 130
    if result.is_empty:
        say("nothing was measured")
        return code or 1
    publish(result, options.output)
    return code or int(options.is_strict and result.has_failures)


def load(text: str) -> Run | Growth:
    """Read the JSON of either kind of run."""
    return Growth.load(text) if "points" in json.loads(text) else Run.load(text)


def publish(result: Run | Growth, folder: Path) -> None:
    """Print the tables, and write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(result, Growth):
        name, text, pictures = "growth", growth_report(result), growth_plots(result)
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
