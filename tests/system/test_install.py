"""`make install` below a DESTDIR: the original's places, and nothing of the administrator's is overwritten."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from popular.version import VERSION
from tests.harness.daemon import ROOT
from tests.harness.inithost import LSB
from tests.harness.needs import lacking, need_program

DAEMONS = ("pproxy", "pserv", "plmtpd", "pcheckd", "ringd")
PARTS = ("bin", "etc", "man", "pdm_modules", "popular", "scripts", "Makefile", "setup.cfg", "pyproject.toml", "LICENSE",
         "NEWS", "README.md")
FORMER = "popular_former.py"
MINE = "[pproxy]\nmaxsession = 7\n"

pytestmark = pytest.mark.limit(120)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with an administrator's files, into which a copy of the sources was installed for Debian.

    The interpreter has a POPular of its own, of which one file lies beside the root.
    """
    folder = tmp_path_factory.mktemp("install")
    sources, root = folder / "sources", folder / "root"
    sources.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, sources / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, sources)
    for name in ("etc/popular/pproxy.conf", "etc/default/popular", "etc/cron.d/popular-pclean"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(MINE)
    python = with_former_version(folder / "venv")
    words = [need_program("make"), "--old-file=venv", "install", f"VENV={sys.prefix}", f"PYTHON={python}",
             f"DESTDIR={root}", "PREFIX=/usr", "INIT=debian"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=sources, env=env, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
    if "Could not find a version" in done.stderr or "Failed to establish" in done.stderr:
        lacking("a package index")
    assert (done.returncode, done.stderr) == (0, "")
    return root


def with_former_version(folder: Path) -> Path:
    """Make an environment in which an older POPular seems to be installed; returns its interpreter."""
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python3*/site-packages")
    (packages / FORMER).write_text("in use\n")
    info = packages / "popular-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: popular\nVersion: 0.1\n")
    (info / "INSTALLER").write_text("pip\n")
    (info / "RECORD").write_text(f"{FORMER},,\npopular-0.1.dist-info/METADATA,,\npopular-0.1.dist-info/RECORD,,\n"
                                 "popular-0.1.dist-info/INSTALLER,,\n")
    return folder / "bin/python"


def names(folder: Path) -> set[str]:
    """Return the names in a folder."""
    return {path.name for path in folder.iterdir()}


def test_programs_and_modules_are_in_the_places_of_the_original(root):
    assert names(root / "usr/bin") == names(ROOT / "bin")
    assert names(root / "usr/sbin") == set(DAEMONS)
    assert names(root / "usr/lib/popular") >= {path.name for path in (ROOT / "pdm_modules").glob("*.py")}
    assert (root / "usr/share/man/man8/pproxy.8").exists()
    [package] = root.glob("usr/lib/python3*/*-packages")
    env = {**os.environ, "PYTHONPATH": f"{package}:{sysconfig.get_path('purelib')}"}
    told = subprocess.run([root / "usr/sbin/pproxy", "--version"], check=True, timeout=30, text=True, cwd="/", env=env,
                          stdout=subprocess.PIPE).stdout
    assert VERSION in told


def test_everything_is_below_prefix_and_etc(root):
    assert names(root) == {"usr", "etc"}
    assert names(root / "usr") == {"bin", "sbin", "lib", "share"}


def test_what_the_interpreter_had_installed_stays(root):
    assert list(root.parent.glob(f"venv/lib/python3*/site-packages/{FORMER}"))


def test_samples_are_offered(root):
    for sample in (ROOT / "etc").glob("*.conf"):
        if sample.name != "pproxy.conf":
            assert (root / "etc/popular" / sample.name).read_bytes() == sample.read_bytes()
    assert (root / "etc/popular/capa").is_dir()
    assert (root / "etc/logrotate.d/popular").read_bytes() == (ROOT / "etc/logrotate.d/popular").read_bytes()


@pytest.mark.parametrize("name", ["etc/popular/pproxy.conf", "etc/default/popular", "etc/cron.d/popular-pclean"])
def test_files_of_the_administrator_stay(root, name):
    assert (root / name).read_text() == MINE


def test_init_scripts_find_what_was_installed(root, tmp_path):
    if not LSB.exists():
        lacking(str(LSB))
    assert names(root / "etc/init.d") == set(DAEMONS)
    defaults = tmp_path / "default"
    defaults.write_text(f'PREFIX="{root}/usr"\nRUNDIR="{tmp_path}"\n')
    done = subprocess.run([root / "etc/init.d/pproxy", "status"], env={**os.environ, "POPULAR_DEFAULTS": str(defaults)},
                          timeout=30, text=True, check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "pproxy is not running\n", "")


@pytest.mark.parametrize("words", [("/usr", "solaris"), ("/usr", "Debian")])
def test_an_unknown_init_is_refused_before_anything_is_done(tmp_path, words):
    done = subprocess.run(["sh", ROOT / "scripts/install.sh", sys.prefix, tmp_path / "root", *words], cwd=ROOT,
                          env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, timeout=30,
                          check=False)
    assert done.returncode == 1
    assert words[1] in done.stderr
    assert not (tmp_path / "root").exists()
