"""The committed inputs: one file for each target, one line for each input, written as bytes are in Python."""

import ast
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")
MAX_INPUT = 2048    # octets of an input that is kept
MAX_INPUTS = 150    # of one target


def read(name: str) -> list[bytes]:
    """Return the inputs of a target."""
    return [ast.literal_eval(line) for line in (FOLDER / f"{name}.txt").read_text("ascii").splitlines()]


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Keep the short ones of these inputs, sorted by length."""
    kept = sorted({data for data in inputs if len(data) <= MAX_INPUT}, key=lambda data: (len(data), data))
    (FOLDER / f"{name}.txt").write_text("".join(f"{data!r}\n" for data in kept[:MAX_INPUTS]), "ascii")
