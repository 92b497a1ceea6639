"""`make bench`: measure, print the table, and write it with JSON and plots into a folder.

Leaves with 0; with 1 when nothing was measured, or, with --smoke, when a session failed; with 130 after Ctrl-C, the
table then holds what was measured so far.
"""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.bench.options import SMOKE, read_options
from tests.bench.plots import plots
from tests.bench.report import report
from tests.bench.results import Run
from tests.bench.turns import run


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options, shown = read_options(sys.argv[1:])
    if shown is not None:
        publish(Run.load(shown.read_text()), options.output)
        return 0
    signal.signal(signal.SIGTERM, _end)
    result = Run()
    code = 0
    try:
        run(options, result, say)
    except KeyboardInterrupt:
        say("interrupted: the table holds what was measured so far")
        code = 130
    if not result.turns:
        say("nothing was measured")
        return code or 1
    publish(result, options.output)
    failed = result.notes or any(turn.failed for turn in result.turns)
    if options.contenders == SMOKE.contenders and failed:
        return code or 1
    return code


def publish(result: Run, folder: Path) -> None:
    """Print the table, and write everything into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = report(result)
    print(text)
    (folder / "benchmark.json").write_text(result.dump())
    (folder / "benchmark.md").write_text(text)
    for name, picture in plots(result):
        (folder / name).write_text(picture)
    say(f"table, JSON and plots are in {folder}")


def say(words: str) -> None:
    """Tell what is going on."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
