"""The CPU time of a contender: every process it has, and every process it had.

Runs in the warden, which is an ancestor of all of them.  Two ways:

* A control group of its own (version 2, or `cpuacct` of version 1): the kernel counts to the microsecond
  whatever was started inside, also what has ended and whose parent ended before it.  The group needs no
  controller, only the right to make a folder; root has it nearly everywhere.
* Otherwise the process tree.  The warden is the reaper of orphans (PR_SET_CHILD_SUBREAPER), so a
  daemon that forks twice is still below it.  The sum is: the own time of each living process, what it knows
  of the children that it waited for, and what the warden waited for itself.  One thing cannot be
  seen: children of a process that ignores SIGCHLD, as nobody is told their time; `blind` names such processes.

The warden's own time is taken off.  Raises OSError only where /proc itself is missing.
"""

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tests.harness.system import descendants_of

_TICK = os.sysconf("SC_CLK_TCK")
_SIGCHLD_BIT = 1 << 16
_CLOCK_OF_PROCESS = 2       # CPUCLOCK_SCHED in the clock id that Linux makes of a pid
_ATTEMPTS = 50


class Meter(Protocol):
    """Something that tells how much CPU a contender has used."""

    how: str                # how it is counted, for the report

    def seconds(self) -> float:
        """Return the CPU seconds since the meter was made."""
    def blind(self) -> list[str]:
        """Return the programs whose ended children cannot be counted."""
    def close(self) -> None:
        """Undo what the meter needed; the contender must have ended."""


def make_meter(*, use_groups: bool = True) -> Meter:
    """Return the best meter there is for what this process starts from now on."""
    for place in _groups() if use_groups else ():
        try:
            return GroupMeter(place)
        except OSError:
            continue
    return TreeMeter()


class GroupMeter:
    """Counts by a control group that this process enters, and with it whatever it starts."""

    def __init__(self, parent: Path) -> None:
        """Make the group below `parent`, the group this process is in; raises OSError."""
        self._parent = parent
        self._folder = parent / f"popular-bench-{os.getpid()}"
        self._folder.mkdir()
        try:
            self._read()
            (self._folder / "cgroup.procs").write_text(str(os.getpid()))
        except (OSError, ValueError, IndexError):
            self._folder.rmdir()
            raise OSError(f"{self._folder} does not count CPU time") from None
        self._own = time.process_time()
        self.how = "control group"

    def seconds(self) -> float:
        """Return what the group used, but for this process."""
        return self._read() - (time.process_time() - self._own)

    def blind(self) -> list[str]:
        """Return nothing: the kernel sees them all."""
        return []

    def close(self) -> None:
        """Leave the group and remove it."""
        with contextlib.suppress(OSError):
            (self._parent / "cgroup.procs").write_text(str(os.getpid()))
            self._folder.rmdir()

    def _read(self) -> float:
        usage = self._folder / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        for line in (self._folder / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) / 1e6
        raise OSError("no usage_usec")


class TreeMeter:
    """Counts by walking over the processes below this one, which must be the reaper of orphans."""

    def __init__(self) -> None:
        self.how = "process tree"
        self._start = 0.0
        self._start = self.seconds()

    def seconds(self) -> float:
        """Return the sum over the tree; counted again while processes come and go."""
        total = 0.0
        for _ in range(_ATTEMPTS):
            before = self._reaped(), descendants_of(os.getpid())
            total = before[0]
            with contextlib.suppress(OSError, IndexError):
                total += sum(_used_by(pid) for pid in before[1])
                if (self._reaped(), descendants_of(os.getpid())) == before:
                    break
        return total - self._start

    def blind(self) -> list[str]:
        """Return the names of the processes that ignore SIGCHLD."""
        found: set[str] = set()
        for pid in descendants_of(os.getpid()):
            with contextlib.suppress(OSError, KeyError, ValueError):
                status = dict(line.split(":\t", 1) for line in
                              Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines() if ":\t" in line)
                if int(status["SigIgn"], 16) & _SIGCHLD_BIT:
                    found.add(status["Name"])
        return sorted(found)

    def close(self) -> None:
        """Nothing to undo."""

    @staticmethod
    def _reaped() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


def _used_by(pid: int) -> float:
    """Return the CPU seconds of a process and of the children it waited for; raises OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    utime, stime, cutime, cstime = (int(field) / _TICK for field in fields[11:15])
    try:
        own = time.clock_gettime((~pid << 3) | _CLOCK_OF_PROCESS)    # to the nanosecond
    except OSError:
        own = utime + stime                                          # a zombie has no clock any more
    return own + cutime + cstime


def _groups() -> Iterator[Path]:
    """Yield the groups that this process is in, where CPU time is counted."""
    mounts = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2":
            mounts[""] = where
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            mounts["cpuacct"] = where
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            name = "cpuacct" if "cpuacct" in controllers.split(",") else controllers
            if name in mounts:
                yield Path(mounts[name] + path)
