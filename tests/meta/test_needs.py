"""What is installed for running, and what for tests only: `make run` gets no library and no compiler for tests."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.needs import need_program

ROOT = Path(__file__).resolve().parents[2]
# Names of the modules of what POPular requires (setup.cfg), and of what those require.
FOR_RUNNING = {"configobj", "validate", "daemon", "lockfile", "setproctitle"}

# Imports the modules that are named, and prints what came from site-packages, but for the machinery of installation.
_IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*sorted({name.partition(".")[0] for name, module in sys.modules.items()
               if not name.startswith("_") and "site-packages" in (getattr(module, "__file__", None) or "")}))
"""


def steps(target: str, venv: Path) -> list[str]:
    """Return how `make` would call venv.sh for a target where no virtual environment is: run, or run and tests."""
    told = subprocess.run([need_program("make"), "--dry-run", f"VENV={venv}", target], cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE, timeout=60).stdout
    calls = re.findall(r'^.*scripts/venv\.sh "[^"]+"(.*)$', told, re.MULTILINE)
    return [call.strip() or "run" for call in calls]


@pytest.mark.parametrize("target", ["run", "venv", "install", "man", "sample"])
def test_running_gets_what_running_needs(target, tmp_path):
    assert steps(target, tmp_path / "venv") == ["run"]


@pytest.mark.parametrize("target", ["test", "test-fast", "check", "bench", "bench-smoke", "dist"])
def test_tests_bring_their_own(target, tmp_path):
    assert steps(target, tmp_path / "venv") == ["run", "tests"]


def test_no_extra_is_installed_for_running():
    script = (ROOT / "scripts/venv.sh").read_text()
    [for_running] = re.findall(r"^make_venv\(\) \{\n(.+?)^\}", script, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^    get (.+)$", for_running, re.MULTILINE) == ["."]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    known = set(setup["options.extras_require"])
    script += (ROOT / "Makefile").read_text()    # of make fuzz
    assert {extra for extras in re.findall(r"\.\[([a-z0-9,]+)\]", script) for extra in extras.split(",")} == known


def test_the_demo_runs_with_what_running_needs():
    """Also the parts of the harness that it shares with the tests."""
    done = subprocess.run([sys.executable, "-c", _IMPORTED, "demo.__main__"], cwd=ROOT, check=True, text=True,
                          stdout=subprocess.PIPE, timeout=60)
    assert set(done.stdout.split()) <= FOR_RUNNING
