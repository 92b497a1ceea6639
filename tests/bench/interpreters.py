"""Other Pythons for ours and the floors: `popular-classic@3.13` is `popular-classic` under Python 3.13.

Each needs a virtual environment with what the daemons import, which is made once, below build/bench.
Raises CannotStart.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.bench.foreground import CannotStart
from tests.harness.daemon import ROOT

MARK = "@"      # between the name of a contender and the version

_SHOW_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_MAKE_SECONDS = 600.0


def version_of(python: str) -> str:
    """Return the version of an interpreter, for example 3.13; raises ValueError if it is none."""
    try:
        done = subprocess.run([python, "-c", _SHOW_VERSION], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        raise ValueError(f"{python} is no Python") from None
    return done.stdout.decode().strip()


def python_for(name: str, pythons: Mapping[str, str]) -> str:
    """Return what runs a contender: this interpreter, or that in the environment for one of `pythons`, by version."""
    version = name.partition(MARK)[2]
    return _environment(version, pythons[version]) if version else sys.executable


def _environment(version: str, python: str) -> str:
    """Return the interpreter of an environment, which is made if there is none."""
    folder = ROOT / f"build/bench/python{version}"
    if not (folder / ".ready").exists():
        done = subprocess.run(["sh", "scripts/venv.sh", str(folder)], cwd=ROOT, env={**os.environ, "PYTHON": python},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=_MAKE_SECONDS, check=False)
        if done.returncode:
            raise CannotStart(f"no environment for Python {version}: {done.stdout.decode(errors='replace')}")
    return str(folder / "bin/python")
