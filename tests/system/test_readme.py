"""What the README says is true: its commands are typed, on two machines; what it names exists."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.machine import PATH, Machine, connect
from tests.harness.markdown import Code, code_blocks
from tests.harness.needs import lacking, need_program

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "README.md").read_text()
NOT_IN_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", "run", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
STORE, PROXY = "10.0.0.5", "10.0.0.2"

TWO_MACHINES = "Two machines in ten minutes"
PICTURE = "A session"
LAYOUT = "Layout"
MAKE = "Two commands"


def typed_at(part: str) -> str:
    """Return what is to be typed according to one part of the section about two machines."""
    return "\n".join(code.text for code in code_blocks(PAGE) if code.headings == (TWO_MACHINES, part))


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """What POPular needs, as the package index of machines that reach no other."""
    python = shutil.which("python3", path=PATH)
    is_able = "import sys, venv, ensurepip; assert sys.version_info > (3, 11)"
    if python is None or subprocess.run([python, "-c", is_able], stderr=subprocess.DEVNULL).returncode != 0:
        lacking("python3-venv")
    setup, project = configparser.ConfigParser(), (ROOT / "pyproject.toml").read_text()
    setup.read(ROOT / "setup.cfg")
    [build] = re.findall(r"^requires = \[(.+)\]$", project, re.MULTILINE)
    wanted = setup["options"]["install_requires"].strip().splitlines() + re.findall(r'"([^"]+)"', build)
    folder = tmp_path_factory.mktemp("wheels")
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "wheel",
                           "-q", "-w", str(folder), *wanted], stderr=subprocess.PIPE, text=True, timeout=100)
    if "Could not find a version" in done.stderr or "Failed to establish" in done.stderr:
        lacking("a package index")
    assert done.returncode == 0, done.stderr
    return folder


def install(one: Machine, other: Machine, wheels: Path) -> None:
    """Do what stands there for both machines, in a checkout; the other one gets a copy of what pip made of it."""
    shutil.copytree(ROOT, one.root / "root/popular", ignore=NOT_IN_SOURCES)
    shutil.copytree(wheels, one.root / "tmp/wheels")
    one.type("cd /root/popular\nexport PIP_NO_INDEX=1 PIP_FIND_LINKS=/tmp/wheels")
    one.type(typed_at("On both machines"), 100.0)
    shutil.copytree(one.root / "opt/popular", other.root / "opt/popular", symlinks=True)
    lines = typed_at("On both machines").splitlines()
    other.type("\n".join(line for line in lines if " venv " not in line and "/bin/pip " not in line))


@pytest.mark.limit(180)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make machines")
def test_mail_flows_between_two_machines(tmp_path, wheels) -> None:
    need_program("curl")
    with Machine.boot("store", tmp_path / "store") as store, Machine.boot("proxy", tmp_path / "proxy") as proxy:
        connect(store, f"{STORE}/24", proxy, f"{PROXY}/24")
        install(store, proxy, wheels)
        assert re.fullmatch(r"\+OK [0-9.]+\n", store.type(typed_at("On the storage host")))
        assert proxy.type(typed_at("On the proxy host")) == ""
        shown = proxy.type(typed_at("Mail flows"))
        proxy.wait("[ ! -e /var/run/popular/pproxy.pid ]")
        seen = (store.root / "var/log/popular/pserv").read_text()
    assert re.search(r"^1 [0-9]{2,}\r$", shown, re.MULTILINE), "no list of one message"
    assert "\r\nAt eight, as always?\r\n" in shown
    sids = re.findall(r" (\S+) INF 0242 login ", shown)
    assert len(sids) == 2, "two sessions"
    assert all(f" {sid} INF " in seen for sid in sids), "the server logged no session of the proxy"


def test_every_example_is_tried() -> None:
    tried = {"On both machines", "On the storage host", "On the proxy host", "Mail flows"}
    for code in code_blocks(PAGE):
        if code.headings[0] == TWO_MACHINES:
            assert code.language == "sh" and code.headings[1] in tried
        else:
            assert code.headings in ((PICTURE,), (LAYOUT,), (MAKE,)), f"nothing tries {code.text!r}"


def blocks_below(heading: str) -> list[Code]:
    """Return the blocks of one section; there must be some."""
    found = [code for code in code_blocks(PAGE) if code.headings == (heading,)]
    assert found
    return found


def test_commands_are_targets_of_make() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    wanted = [re.fullmatch(r"make ([a-z-]+)", code.text) for code in blocks_below(MAKE)]
    wanted += list(re.finditer(r"`make ([a-z-]+)", PAGE))
    assert {match[1] for match in wanted if match} <= set(phony.split())
    assert all(wanted), "something else than make"


def test_layout_names_every_folder() -> None:
    [layout] = blocks_below(LAYOUT)
    named = {line.split("/")[0] for line in layout.text.splitlines()}
    ignored = {"run", "build", "dist", "__pycache__"}
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")
             and not path.name.endswith(".egg-info")} - ignored
    assert named == there


def test_programs_are_all_in_the_table() -> None:
    named = re.findall(r"^\| `([a-z]+)` +\|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in (ROOT / "bin").iterdir())


def test_files_and_pages_exist() -> None:
    files = re.findall(r"`((?:bin|docs|etc|popular|tests|scripts|man)/[^`]*)`", PAGE)
    pages = re.findall(r"`([a-z-]+)\(([1-8])\)`", PAGE)
    assert len(files) > 5 and len(pages) > 5
    assert [name for name in files if not list(ROOT.glob(name))] == []
    assert [page for page in pages if not (ROOT / "man" / ".".join(page)).exists()] == []


def test_extras_exist() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = set(re.findall(r"extra `([a-z0-9]+)`", " ".join(PAGE.split())))
    named |= {extra for extras in re.findall(r"'\.\[([a-z0-9,]+)\]'", PAGE) for extra in extras.split(",")}
    assert len(named) >= 3
    assert named <= set(setup["options.extras_require"])


@pytest.mark.parametrize("page, found", [
    pytest.param("# T\ntext\n\n    one\n\n    two\n\nthree\n", [Code((), "indented", "one\n\ntwo")], id="indented"),
    pytest.param("## A\n### B\n```sh\n# no heading\n```\n", [Code(("A", "B"), "sh", "# no heading")], id="fenced"),
    pytest.param("## A\n### B\n## C\n```\nx\n```\n", [Code(("C",), "", "x")], id="heading ends part"),
])
def test_the_reader_of_pages(page: str, found: list[Code]) -> None:
    assert list(code_blocks(page)) == found
