"""A host of a test's own for the init scripts of etc/init.d: folders, settings and programs below one folder.

The scripts are run as they lie in the checkout; the file that stands for /etc/default/popular leads them
to the host's folders.  Only processes that they started are ever signalled.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.harness.daemon import ROOT, Settings, ini_text
from tests.harness.needs import lacking, need_program
from tests.harness.system import descendants_of, end_process, is_alive, wait_for

PROGRAMS = ("pproxy", "pserv", "plmtpd", "pcheckd", "ringd", "pcontrol")
LSB = Path("/lib/lsb/init-functions")

# As in Red Hat's /etc/rc.d/init.d/functions, as far as its names go.
RED_HAT = """\
success() { printf '[  OK  ]'; }
failure() { printf '[FAILED]'; return 1; }
status() { echo "status of Red Hat"; return 99; }
daemon() { echo "daemon of Red Hat"; return 99; }
killproc() { echo "killproc of Red Hat"; return 99; }
pidofproc() { echo "pidofproc of Red Hat"; return 99; }
"""


@dataclass(frozen=True, slots=True)
class InitHost:
    """One host; `family` is debian or redhat, `shell` the one that runs the scripts."""

    folder: Path          # a short name: sockets lie below
    family: str = "debian"
    shell: str = "dash"

    def prepare(self, **variables: object) -> None:
        """Make folders, programs, and the settings of the scripts; variables are added to these."""
        if self.family == "debian" and not LSB.exists():
            lacking(str(LSB))
        need_program("flock")
        for name in ("conf", "prefix/sbin", "prefix/bin", "prefix/share/popular", "subsys"):
            (self.folder / name).mkdir(parents=True)
        for program in PROGRAMS:
            place = self.folder / "prefix" / ("bin" if program == "pcontrol" else "sbin") / program
            place.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/bin/{program}" "$@"\n')
            place.chmod(0o755)
        (self.folder / "prefix/share/popular/init.d").symlink_to(ROOT / "etc/init.d")
        settings = {
            "PREFIX": self.folder / "prefix", "CONFDIR": self.folder / "conf", "RUNDIR": self.rundir,
            "LOCKFILE": f"{self.folder}/subsys/$NAME", "RCFUNCTIONS": self.folder / "functions", **variables}
        if self.family == "debian":
            del settings["LOCKFILE"]
        self.defaults.write_text("".join(f'{name}="{value}"\n' for name, value in settings.items()))

    @property
    def defaults(self) -> Path:
        """The file with the settings of the scripts."""
        return self.folder / "default"

    @property
    def rundir(self) -> Path:
        """The run folder, which is not made by `prepare`."""
        return self.folder / "run"

    @property
    def logdir(self) -> Path:
        """The folder of the logs, which is not made by `prepare`."""
        return self.folder / "log"

    def configure(self, program: str, settings: Settings, rc: str = "") -> None:
        """Write the INI file and the rc file of a program; `logfile` and, for root, `user` are added."""
        text = settings if isinstance(settings, str) else ini_text(settings)
        common = f"logfile = {self.logdir}/{program}\n"
        if os.geteuid() == 0 and "user =" not in text:
            common += "user = root\ngroup = root\n"
        text = text.replace(f"[{program}]\n", f"[{program}]\n{common}", 1)
        (self.folder / "conf" / f"{program}.conf").write_text(text)
        if rc:
            (self.folder / "conf" / f"{program}.rc").write_text(rc)

    def run(self, program: str, action: str) -> "subprocess.CompletedProcess[str]":
        """Run an init script to its end."""
        env = {**os.environ, "POPULAR_DEFAULTS": str(self.defaults), "SYSTEMCTL_SKIP_REDIRECT": "1"}
        words = [need_program(self.shell), str(ROOT / "etc/init.d" / self.family / program), action]
        return subprocess.run(words, cwd="/", env=env, text=True, timeout=45, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ok(self, program: str, action: str) -> str:
        """Run an init script that must succeed and say nothing on standard error; returns what it said."""
        done = self.run(program, action)
        assert (done.returncode, done.stderr) == (0, ""), (action, done)
        return done.stdout

    def pid(self, program: str) -> int:
        """Return what stands in the pid file; 0 when there is none."""
        try:
            return int((self.rundir / f"{program}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def kill(self, program: str) -> None:
        """Kill a master, and wait for the end of its children, which notice it."""
        family = [self.pid(program), *descendants_of(self.pid(program))]
        end_process(family[0])
        wait_for(lambda: not any(map(is_alive, family)), 10.0, "the end of its children")

    def close(self) -> None:
        """End what still runs."""
        ours = set(descendants_of(os.getpid()))
        for program in PROGRAMS:
            if self.pid(program) in ours:
                for pid in (self.pid(program), *descendants_of(self.pid(program))):
                    end_process(pid)
        shutil.rmtree(self.folder, ignore_errors=True)
