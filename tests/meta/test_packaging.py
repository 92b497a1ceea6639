"""`pip install .` into a fresh environment brings programs, package, modules, samples and man pages."""

import configparser
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from popular.version import VERSION
from tests.harness.needs import lacking

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name for path in (ROOT / "bin").iterdir())
NOT_IN_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", "run", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")

pytestmark = pytest.mark.limit(300)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A fresh environment into which POPular was installed from a copy of the sources."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "popular", ignore=NOT_IN_SOURCES)
    venv.create(folder / "venv", with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q",
           "--python", str(folder / "venv/bin/python")]
    result = subprocess.run([*pip, "install", str(folder / "popular")], stderr=subprocess.PIPE, text=True, timeout=280)
    if "Could not find a version" in result.stderr or "Failed to establish" in result.stderr:
        lacking("a package index")
    assert result.returncode == 0, result.stderr
    return folder / "venv"


def run(installed: Path, *words: str) -> str:
    """Run a program of the environment, away from the checkout; returns what it prints."""
    return subprocess.run([installed / "bin" / words[0], *words[1:]], cwd="/", check=True, timeout=30, text=True,
                          stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}).stdout


def test_every_program_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert [Path(line).name for line in setup["options"]["scripts"].split()] == PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_tells_its_version(installed, program):
    assert VERSION in run(installed, program, "--version")


def test_modules_are_found(installed):
    folder = run(installed, "python", "-c", "from popular.paths import pdm_dir; print(pdm_dir())").strip()
    assert folder == str(installed / "lib/popular")
    found, wanted = ({path.name for path in where.glob("*.py")} for where in (Path(folder), ROOT / "pdm_modules"))
    assert found == wanted


def test_the_whole_package_is_there(installed):
    [package] = installed.glob("lib/python3*/site-packages/popular")
    ours = {path.relative_to(ROOT / "popular") for path in (ROOT / "popular").rglob("*.py")}
    assert {path.relative_to(package) for path in package.rglob("*.py")} == ours


def modes(folder: Path) -> dict[str, bool]:
    """Return every file below a folder, and whether it can be executed."""
    return {str(path.relative_to(folder)): os.access(path, os.X_OK) for path in folder.rglob("*") if path.is_file()}


def test_samples_are_installed_as_they_lie_in_etc(installed):
    assert modes(installed / "share/popular") == modes(ROOT / "etc")


def test_man_pages_are_installed(installed):
    wanted = {path.name for path in (ROOT / "man").glob("*") if path.is_file()}
    assert wanted
    assert wanted == {path.name for path in (installed / "share/man").rglob("*") if path.is_file()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_has_a_man_page(program):
    assert list((ROOT / "man").glob(f"{program}.[18]"))


def test_nothing_is_missing_for_the_programs(installed):
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--python",
                    installed / "bin/python", "check"], check=True, timeout=60, stdout=subprocess.DEVNULL)
