"""The units of etc/systemd, as systemd itself reads them: verified, and how much they leave open."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from popular.paths import LOGDIR, RUNDIR, SMTPFILE, SPOOLDIR
from tests.harness.daemon import ROOT
from tests.harness.needs import lacking, need_program
from tests.harness.service_manager import UNITS, Unit

NAMES = sorted(path.name for path in UNITS.iterdir())
SERVICES = [name for name in NAMES if name.endswith(".service")]
# Of 10, by systemd's own reckoning; what is left: the network, and rights that are for the work itself.
EXPOSURE = {"pcheckd": 1.4, "pclean": 0.5, "plmtpd": 1.4, "pproxy": 1.7, "pserv": 1.4, "ringd": 1.7}

_SYSTEM_UNITS = Path("/usr/lib/systemd/system")
_LEVEL = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder in which the programs and units are installed as with PREFIX=/usr."""
    need_program("systemd-analyze")
    if not _SYSTEM_UNITS.is_dir():
        lacking("systemd")
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(_SYSTEM_UNITS, root / "usr/lib/systemd/system", symlinks=True)
    shutil.copytree(UNITS, root / "etc/systemd/system")
    shutil.copytree(ROOT / "bin", root / "usr/bin")
    (root / "bin").mkdir()
    (root / "bin/sh").touch(0o755)
    return root


def analyze(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run systemd-analyze over `root`."""
    return subprocess.run([need_program("systemd-analyze"), *words[:1], f"--root={root}", *words[1:]], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)


def test_systemd_has_nothing_to_say_against_them(root: Path) -> None:
    result = analyze(root, "verify", "--man=no", *(f"/etc/systemd/system/{name}" for name in NAMES))
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(("old", "new"), [("WatchdogSec", "WatchdogSecs"), ("bin/pserv", "bin/no-such-program")])
def test_it_would_say_so(root: Path, old: str, new: str) -> None:
    unit = root / "etc/systemd/system/pserv.service"
    text = unit.read_text()
    try:
        unit.write_text(text.replace(old, new))
        assert new in analyze(root, "verify", "--man=no", f"/etc/systemd/system/{unit.name}").stdout
    finally:
        unit.write_text(text)


@pytest.mark.parametrize("name", SERVICES)
def test_they_leave_little_open(root: Path, name: str) -> None:
    result = analyze(root, "security", "--offline=true", "--no-pager", name)
    [level] = _LEVEL.findall(result.stdout)
    assert 0.0 < float(level) <= EXPOSURE[name.removesuffix(".service")], result.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_documents_that_are_named_exist(name: str) -> None:
    for page in Unit(name).get("Documentation", "Unit").split():
        title, section = re.fullmatch(r"man:([a-z-]+)\(([1-8])\)", page).groups()    # type: ignore[union-attr]
        assert (ROOT / "man" / f"{title}.{section}").exists()


@pytest.mark.parametrize("program", ["pproxy", "pserv", "plmtpd"])
def test_sockets_are_those_of_the_sample(program: str) -> None:
    """An object of this name has these addresses in the sample configuration."""
    unit = Unit(f"{program}.socket")
    addresses = ", ".join(re.sub("^/", "unix:/", address) for address in unit.values["Socket", "ListenStream"])
    sample = (ROOT / "etc" / f"{program}.conf").read_text()
    assert f"#[[{unit.get('FileDescriptorName', 'Socket')}]]\n" in sample
    assert f"#address = {addresses}\n" in sample


@pytest.mark.parametrize(("name", "path"), [
    ("pproxy", SMTPFILE), ("pclean", SMTPFILE), ("pclean", SPOOLDIR), ("pserv", SPOOLDIR),
    ("plmtpd", SPOOLDIR),
])
def test_what_is_written_by_default_can_be_written(name: str, path: str) -> None:
    values = Unit(f"{name}.service").values["Service", "ReadWritePaths"]
    writable = [folder.removeprefix("-") for value in values for folder in value.split()]
    assert any(Path(path).is_relative_to(folder) for folder in writable)


@pytest.mark.parametrize("name", SERVICES)
def test_folders_are_those_of_the_programs(name: str) -> None:
    """They are made by tmpfiles.d, because systemd would give them to the user of the unit that starts last."""
    unit = Unit(name)
    assert {key for _, key in unit.values} & {"RuntimeDirectory", "LogsDirectory"} == set()
    made = re.findall(r"^d (\S+) ", (ROOT / "etc/tmpfiles.d/popular.conf").read_text(), re.MULTILINE)
    assert made == [RUNDIR.removeprefix("/var"), LOGDIR]
    writable = " ".join(unit.values["Service", "ReadWritePaths"]).split()
    assert {f"-{path}" for path in made[name == "pclean.service":]} <= set(writable)


@pytest.mark.parametrize("name", SERVICES)
def test_the_proxy_cannot_read_mail(name: str) -> None:
    unit = Unit(name)
    owner = "pproxy" if name in ("pproxy.service", "ringd.service") else "pop"
    assert (unit.get("User"), unit.values.get(("Service", "Group"), [owner])) == (owner, [owner])
    assert f"u {owner} " in (ROOT / "etc/sysusers.d/popular.conf").read_text()


@pytest.mark.parametrize("name", ["pproxy", "pserv", "plmtpd", "pcheckd"])
def test_daemons_with_walls_may_raise_them(name: str) -> None:
    lines = (UNITS / f"{name}.service").read_text().splitlines()
    calls = {"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
    assert f"SystemCallFilter={' '.join(sorted(calls))}" in [
        f"{key}={' '.join(sorted(words.split()))}" for key, _, words in (line.partition("=") for line in lines)]
    assert "LimitCORE=0" in lines
