"""Fuzz one target until the time is over: `python -m tests.fuzz.one NAME [OPTIONS OF LIBFUZZER] FOLDER…`.

A process of its own, because libFuzzer ends it.  What it finds is written to the folder, and a crash ends with 77.
"""

import sys

import atheris    # type: ignore[import-untyped]

with atheris.instrument_imports(include=["popular", "pdm_modules", "shlex", "configobj"]):
    from tests.fuzz.targets import TARGETS


def main(name: str, *options: str) -> None:
    """Fuzz the target `name`."""
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
