"""`make dist` packs everything, and what is installed from it has programs, package, modules and papers, and serves."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from popular.version import VERSION
from tests.harness.needs import lacking

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name for path in (ROOT / "bin").iterdir())
NOT_IN_SOURCES = shutil.ignore_patterns(
    ".git", ".gitignore", ".venv", ".hypothesis", "run", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")

pytestmark = pytest.mark.limit(300)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of the sources."""
    folder = tmp_path_factory.mktemp("packaging") / "popular"
    shutil.copytree(ROOT, folder, ignore=NOT_IN_SOURCES)
    return folder


@pytest.fixture(scope="module")
def dist(sources) -> Path:
    """The folder that `make dist` fills: a source archive, and a wheel that was built from it."""
    pip_or_lack(sys.executable, "-m", "build", "--outdir", str(sources.parent / "dist"), str(sources))
    return sources.parent / "dist"


@pytest.fixture(scope="module")
def installed(dist) -> Path:
    """A fresh environment into which the wheel was installed."""
    folder = dist.parent / "venv"
    venv.create(folder, with_pip=False)
    [wheel] = dist.glob("*.whl")
    pip_or_lack(sys.executable, "-m", "pip", "--disable-pip-version-check", "-q",
                "--python", str(folder / "bin/python"), "install", str(wheel))
    return folder


def pip_or_lack(*words: str) -> None:
    """Run what takes packages from an index; without an index the test ends."""
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
    if "Could not find a version" in result.stdout or "Failed to establish" in result.stdout:
        lacking("a package index")
    assert result.returncode == 0, result.stdout


def run(installed: Path, *words: str) -> str:
    """Run a program of the environment, away from the checkout; returns what it prints."""
    return subprocess.run([installed / "bin" / words[0], *words[1:]], cwd="/", check=True, timeout=30, text=True,
                          stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}).stdout


def test_every_program_is_listed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert [Path(line).name for line in setup["options"]["scripts"].split()] == PROGRAMS


def test_the_source_archive_holds_everything(sources, dist):
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {member.name.partition("/")[2] for member in tar if member.isfile()}
    wanted = {str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()}
    made = {name for name in packed if name == "PKG-INFO" or name.partition("/")[0].endswith(".egg-info")}
    assert packed - made == {name for name in wanted if ".egg-info/" not in name}


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


def test_what_is_installed_serves_a_session(installed, start, spool, make_mailbox, rundir, pop):
    place = {"root": installed, "python": str(installed / "bin/python"), "env": {"PYTHONPATH": ""}}
    make_mailbox("m/joe", [b"Subject: one\r\n\r\nfor joe\r\n"])
    users = rundir / "users"
    users.write_text("joe:{PLAIN}geheim:store::m/joe\n")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}}, **place)
    pcheckd = start("pcheckd", {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}}, **place)
    pproxy = start("pproxy", {
        "vserv": {"main": {"address": "127.0.0.1:0"}}, "pdm": {"users": {"module": "passwd", "args": users}},
        "backend": {"store": {"protocol": "cxpop", "address": pserv.endpoint(), "checkport": pcheckd.endpoint().port}},
    }, **place)
    client = pop(pproxy.endpoint())
    assert client.login("joe", "geheim").startswith(b"+OK")
    assert client.message(1).endswith(b"for joe\r\n")
    client.ok("QUIT")
