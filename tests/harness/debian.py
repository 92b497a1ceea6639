"""A Debian system of a test's own in a folder: made once a machine with debootstrap, copied for each test.

Programs run in it with chroot, each in a mount namespace of its own, which has the folder's /proc: nothing is
mounted that others see, or that would have to be unmounted.  Ports are those of whoever calls (network.py).
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT
from tests.harness.needs import lacking, need_program
from tests.harness.system import all_pids

# What POPular's package depends on, so that installing it needs no network.
PACKAGES = ("adduser", "python3", "python3-configobj", "python3-daemon", "python3-setproctitle")
CLEAN = ("var/cache/apt/archives", "var/lib/apt/lists")    # folders of which nothing is needed
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class DebianRoot:
    """A system that is the test's alone."""

    def __init__(self, path: Path) -> None:
        """Use the system in the folder `path`, and let packages start their services in it."""
        self.path = path
        policy = path / "usr/sbin/policy-rc.d"    # without one, and without an init, nothing is started
        policy.write_text("#!/bin/sh\nexit 0\n")
        policy.chmod(0o755)

    def run(self, *words: str, data: bytes = b"", code: int = 0) -> str:
        """Run a program of the system as root; returns all it says.  Another exit code than `code` fails."""
        command = ["unshare", f"--root={self.path}", "--wd=/", "--mount-proc", "env", "-i", f"PATH={PATH}",
                   "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *words]
        with tempfile.TemporaryFile() as said:    # no pipe: a daemon that is left behind would hold it
            done = subprocess.run(command, input=data, stdout=said, stderr=subprocess.STDOUT, cwd="/", timeout=120)
            said.seek(0)
            text = said.read().decode(errors="replace")
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{text}"
        return text

    def install(self, package: Path) -> str:
        """Install a package file; returns what is said."""
        shutil.copy(package, self.path / "tmp")
        try:
            return self.run("dpkg", "--install", f"/tmp/{package.name}")
        finally:
            (self.path / "tmp" / package.name).unlink()

    def files(self) -> set[str]:
        """Return the paths of everything that there is."""
        found = {os.path.join(where, name) for where, folders, names in os.walk(self.path) for name in folders + names}
        return {name.removeprefix(str(self.path)) for name in found}

    def processes(self) -> list[int]:
        """Return the processes that live in it."""
        return [pid for pid in all_pids() if _root_of(pid) == str(self.path)]


@contextmanager
def debian_root() -> Iterator[DebianRoot]:
    """A fresh copy of the system, for a while; ends the test where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("only root makes a Debian system")
    need_program("unshare")
    cached = _cached()
    folder = Path(tempfile.mkdtemp(prefix="copy-", dir=cached.parent))
    try:
        _copy(cached, folder)
        yield DebianRoot(folder)
    finally:
        shutil.rmtree(folder)


def _copy(system: Path, folder: Path) -> None:
    """Copy a system, but for the files of /usr: these get another name, because dpkg and Python replace files there."""
    for part in system.iterdir():
        how = "--link" if part.name == "usr" else "--reflink=auto"
        subprocess.run(["cp", "-a", how, str(part), str(folder)], check=True, timeout=120)
    shutil.copystat(system, folder)


def build_package(folder: Path) -> Path:
    """Build POPular's package, with `make deb`, into a folder; ends the test where it cannot be built."""
    for program in ("make", "dpkg-buildpackage"):
        need_program(program)
    found = subprocess.run(["dpkg-checkbuilddeps", "-I", "debian/control"], cwd=ROOT, stderr=subprocess.PIPE,
                           timeout=60)
    if found.returncode != 0:
        lacking("what the package is built with, see debian/control,")
    subprocess.run(["make", "-s", "deb", f"DIST={folder}"], cwd=ROOT, check=True, timeout=240)
    [package] = folder.glob("popular_*_all.deb")
    return package


def _root_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/root")
    except OSError:
        return ""


def _cached() -> Path:
    """Return the folder of the system that others are copied from; it is made if it is missing."""
    debootstrap = need_program("debootstrap")
    release = platform.freedesktop_os_release()
    suite = release.get("VERSION_CODENAME", "")
    if release["ID"] != "debian" or not suite:
        lacking("a release of Debian on this machine")
    name = hashlib.sha256(repr((suite, PACKAGES)).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "popular-tests"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder / f"{suite}-{name}"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(debootstrap, suite, made)
    return made


def _make(debootstrap: str, suite: str, target: Path) -> None:
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)    # a run that was ended left it
    done = subprocess.run(
        [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(part), _mirror(suite)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400, text=True)
    if done.returncode != 0:
        lacking(f"a Debian system from debootstrap ({done.stdout.strip().splitlines()[-1:]})")
    for name in CLEAN:
        shutil.rmtree(part / name)
        (part / name).mkdir()
    part.rename(target)


def _mirror(suite: str) -> str:
    """Return the address that this machine's apt has `suite` from."""
    form = "$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)"
    listed = subprocess.run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
                            stdout=subprocess.PIPE, check=True, timeout=60, text=True).stdout
    for words in map(str.split, listed.splitlines()):
        if suite in words[1:-1] and words[-1] == "main":
            return words[0]
    lacking(f"a mirror of Debian's {suite} in the settings of apt")
