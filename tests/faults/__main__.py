"""`make faults`: see docs/faults.md."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from tests.faults.inject import Fault, run
from tests.faults.scene import CODE, DOUBLED, LEFT, LOST, TORN, Scene
from tests.faults.scenes import SCENES

HUNG = "hung"
KINDS = (LOST, TORN, DOUBLED, CODE, LEFT, HUNG)


@dataclass(slots=True)
class Result:
    """What came of the faults of one scene."""

    name: str
    faults: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    left: int = 0
    twice: int = 0
    stories: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the counts as a row of a table."""
        codes = " ".join(f"{code}:{count}" for code, count in sorted(self.codes.items()))
        wrong = " | ".join(str(self.wrong[kind]) for kind in KINDS)
        return f"| {self.name} | {self.faults} | {wrong} | {codes} |"


def head() -> str:
    """Return the head of the table."""
    return f"| scene | faults | {' | '.join(KINDS)} | exit codes |\n|{'---|' * (len(KINDS) + 3)}"


def spread(faults: Sequence[Fault], number: int) -> list[Fault]:
    """Return `number` of the faults, evenly spread, or all if there are not so many."""
    if number >= len(faults):
        return list(faults)
    return [faults[turn * len(faults) // number] for turn in range(number)]


def attempt(scene: Scene, fault: Fault, result: Result) -> None:
    """Run a scene with one fault and note what came of it."""
    scene.prepare()
    result.faults += 1
    try:
        code, output = run(scene.command(fault.words), scene.stdin, scene.environment)
    except subprocess.TimeoutExpired:
        result.wrong[HUNG] += 1
        result.stories.append(f"{fault}: hung")
        return
    result.codes[code] += 1
    try:
        seen = scene.check(code, output, fault)
    except Exception as why:    # the spool cannot even be read
        result.wrong[LOST] += 1
        result.stories.append(f"{fault}: {code} {type(why).__name__}: {why}")
        return
    result.left += seen.left
    result.twice += seen.twice
    result.wrong.update(set(seen.wrong))
    if seen.wrong:
        result.stories.append(f"{fault}: {code} {set(seen.wrong)} {output[-200:]!r}")


class Stage:
    """A scene made `jobs` times, to run as many faults at once."""

    def __init__(self, kind: type[Scene], folder: Path, jobs: int) -> None:
        """Learn which faults there are, and see that all goes well without any."""
        self.name = kind.name
        self._jobs = jobs
        self._scenes: SimpleQueue[Scene] = SimpleQueue()
        for job in range(jobs):
            place = folder / f"{kind.__name__}{job}"
            place.mkdir()
            self._scenes.put(kind(place))
        first = self._scenes.get()
        self.faults = list(first.faults())
        first.prepare()
        code, output = run(first.program(), first.stdin, first.environment)
        if wrong := first.check(code, output, None).wrong:
            raise RuntimeError(f"{kind.name} without a fault: {wrong} {code} {output!r}")
        self._scenes.put(first)

    def play(self, number: int) -> Result:
        """Run so many of the faults."""
        result = Result(self.name)

        def one(fault: Fault) -> None:
            scene = self._scenes.get()
            try:
                attempt(scene, fault, result)
            finally:
                self._scenes.put(scene)

        with ThreadPoolExecutor(self._jobs) as pool:
            list(pool.map(one, spread(self.faults, number)))
        return result


def shares(available: Sequence[int], total: int) -> list[int]:
    """Return how many faults each scene gets: all of a small one, the large ones share what remains alike."""
    given = [0] * len(available)
    for count, place in sorted((count, place) for place, count in enumerate(available)):
        open_places = sum(not share for share in given)
        given[place] = min(count, (total - sum(given)) // open_places)
    return given


def play_all(kinds: Sequence[type[Scene]], folder: Path, number: int, jobs: int) -> list[Result]:
    """Run scenes with so many faults in all, and print what comes of them."""
    results: list[Result] = []
    stages = [Stage(kind, folder, jobs) for kind in kinds]
    for stage, share in zip(stages, shares([len(stage.faults) for stage in stages], number)):
        results.append(stage.play(share))
        print(results[-1].line(), flush=True)
        for story in results[-1].stories:
            print(f"    {story}", file=sys.stderr, flush=True)
    return results


def main() -> int:
    """Run all scenes; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="faults", description="Run programs whose system calls fail, and kill them.")
    parser.add_argument("-n", type=int, default=10_000, metavar="NUMBER", help="faults in all (default 10,000)")
    parser.add_argument("-j", type=int, default=2, metavar="JOBS", help="how many at once (default 2)")
    parser.add_argument("-k", default="", metavar="WORD", help="only scenes with this word in their name")
    arguments = parser.parse_args()
    started = time.monotonic()
    print(head(), flush=True)
    with tempfile.TemporaryDirectory(prefix="popular-faults-") as folder:
        kinds = [kind for kind in SCENES if arguments.k in kind.name]
        results = play_all(kinds, Path(folder), arguments.n, arguments.j)
    total = Result("all", sum(result.faults for result in results))
    for result in results:
        total.codes.update(result.codes)
        total.wrong.update(result.wrong)
    print(total.line())
    print(f"\n{sum(result.left for result in results)} files or folders were left for pclean or its next run, "
          f"{sum(result.twice for result in results)} messages will come twice, since their answer could not be given; "
          f"{time.monotonic() - started:.0f} seconds")
    return 1 if total.wrong.total() else 0


if __name__ == "__main__":
    sys.exit(main())
