"""Fuzz all targets, or some, and print what was run: `python -m tests.fuzz [--seconds T] [--keep] [NAME…]`.

Begins with the committed inputs.  With --keep those that reach more code replace them.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

MAX_LENGTH = 8192     # octets of an input that is tried
SLACK = 120           # seconds that a target may take beyond its time, for its start

_UNCAUGHT = re.compile(r".*(?==== Uncaught)", re.DOTALL)    # what libFuzzer says before


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one target."""

    name: str
    inputs: int       # that were run
    covered: int      # edges of the code
    kept: int         # inputs in the corpus
    crash: str        # what libFuzzer says of it, empty for none


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz; returns 0, or 1 when something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Fuzz every parser that meets foreign octets.")
    parser.add_argument("--seconds", type=int, default=60, help="time for each target (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="let inputs that reach more code replace the old ones")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(TARGETS)}; all if left out")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in TARGETS:
            parser.error(f"there is no target {name!r}")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        runs = pool.map(lambda name: fuzz(name, options.seconds, options.keep), options.names or TARGETS)
        print("| target | inputs run | edges covered | inputs kept | crashes |\n|---|--:|--:|--:|--:|")
        crashes, inputs = [], 0
        for run in runs:
            print(f"| {run.name} | {run.inputs:,} | {run.covered} | {run.kept} | {int(bool(run.crash))} |", flush=True)
            crashes += [run] if run.crash else []
            inputs += run.inputs
    print(f"\n{inputs:,} inputs, {len(crashes)} crashes")
    for run in crashes:
        print(f"\n{run.name}\n{run.crash}")
    return 1 if crashes else 0


def fuzz(name: str, seconds: int, keep: bool) -> Run:
    """Fuzz one target."""
    with tempfile.TemporaryDirectory(prefix="popular-fuzz-") as folder:
        found = Path(folder, "found")
        found.mkdir()
        for data in corpus.read(name):
            (found / sha256(data).hexdigest()).write_bytes(data)
        told = _libfuzzer(name, seconds, f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}",
                          f"-artifact_prefix={folder}/", "-print_final_stats=1", "-timeout=20", str(found))
        crash = _UNCAUGHT.sub("", told.stdout)[-6000:] if told.returncode else ""
        if keep and not crash:
            corpus.write(name, [path.read_bytes() for path in found.iterdir()])
        if crash:
            crash += "".join(f"\ninput {path.read_bytes()!r}" for path in Path(folder).glob("*-*"))
    return Run(name, _number(r"number_of_executed_units:\s*(\d+)", told.stdout), _number(r"cov: (\d+)", told.stdout),
               len(corpus.read(name)), crash)


def _libfuzzer(name: str, seconds: int, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "tests.fuzz.one", name, *options], stderr=subprocess.STDOUT,
                          stdout=subprocess.PIPE, text=True, errors="replace", timeout=seconds + SLACK)


def _number(pattern: str, text: str) -> int:
    """Return the last number that the pattern finds, 0 for none."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
