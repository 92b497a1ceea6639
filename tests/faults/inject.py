"""Faults: one system call of one process fails, or the process is killed there.  strace(1) does it.

A run without a fault tells which calls there are; then each is made to fail in each way that it can, one a run.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.needs import need_program

LIMIT_SECONDS = 60    # for one run
KILL = "KILL"

_CALL = re.compile(r"(?:[0-9]+ +)?([a-z][a-z0-9_]*)\(")

_FILE = ("EIO", "EACCES", "ENOMEM")
_CHANGE = ("EIO", "EACCES", "ENOSPC", "EROFS", "EDQUOT")
_NO_FILE = ("EMFILE", "ENFILE", "ENOMEM")

ERRORS = {
    **dict.fromkeys(("fstat", "newfstatat", "lstat", "stat", "readlink", "access"), _FILE),
    **dict.fromkeys(("rename", "renameat2", "mkdir", "unlink", "rmdir", "utimensat", "fchmod", "fchown"), _CHANGE),
    **dict.fromkeys(("write", "writev", "pwrite64", "fsync", "fdatasync"), ("EIO", "ENOSPC", "EDQUOT")),
    **dict.fromkeys(("pipe2", "fcntl", "dup2", "socketpair"), _NO_FILE),
    **dict.fromkeys(("mmap", "brk", "mprotect", "poll", "getcwd"), ("ENOMEM",)),
    **dict.fromkeys(("close", "lseek", "pread64"), ("EIO",)),
    **dict.fromkeys(("open", "openat"), (*_FILE, *_NO_FILE)),
    **dict.fromkeys(("read", "getdents64"), ("EIO", "ENOMEM")),
    "link": (*_CHANGE, "EPERM", "EMLINK", "EOPNOTSUPP"), "flock": ("EINTR", "ENOLCK"),
    "clone": ("EAGAIN", "ENOMEM"), "vfork": ("EAGAIN", "ENOMEM"), "execve": ("ENOMEM", "EACCES", "EMFILE"),
    "sendto": ("EPIPE",), "recvfrom": ("ECONNRESET",), "rt_sigaction": ("EFAULT",), "getrandom": ("ENOSYS",),
    "ioctl": ("ENOTTY",), "uname": ("EFAULT",), "wait4": ("ECHILD",),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a process: its call number `ordinal` of this name fails with `what`, or it is killed there."""

    call: str
    ordinal: int
    what: str

    @property
    def is_kill(self) -> bool:
        """Tell whether the process is killed, which it cannot report."""
        return self.what == KILL

    @property
    def words(self) -> list[str]:
        """The options of strace that do it."""
        effect = "signal=KILL" if self.is_kill else f"error={self.what}"
        return ["-e", f"trace={self.call}", "-e", f"inject={self.call}:{effect}:when={self.ordinal}"]

    def __str__(self) -> str:
        return f"{self.call} {self.ordinal} {self.what}"


def strace(*words: str, output: str = "/dev/null") -> list[str]:
    """Return the start of a command line that is run with options of strace."""
    return [need_program("strace"), "-qq", "-o", output, *words]


def with_children(words: list[str]) -> list[str]:
    """Return options of strace that also follow children, quickly where that works: not with signals in strace 6.1."""
    return ["-f", *(["--seccomp-bpf"] if any("error=" in word for word in words) else []), *words]


def faults_of(trace: str, marker: str = "") -> Iterator[Fault]:
    """Yield all faults for the calls of a trace, from behind the first line that holds `marker`."""
    counts: Counter[str] = Counter()
    begun = not marker
    for line in trace.splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        call = found[1]
        counts[call] += 1
        if begun and call in ERRORS:
            for error in (*ERRORS[call], KILL):
                yield Fault(call, counts[call], error)
        elif begun and call != "execve":
            yield Fault(call, counts[call], KILL)
        begun = begun or marker in line


def run(command: list[str], octets: bytes, environment: dict[str, str]) -> tuple[int, bytes]:
    """Run a command; return its exit code, negative after a signal, and what it printed.  TimeoutExpired: it hung."""
    done = subprocess.run(command, input=octets, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**os.environ, **environment}, timeout=LIMIT_SECONDS, check=False)
    return done.returncode, done.stdout


def traced(command: list[str], octets: bytes, environment: dict[str, str], trace: Path) -> str:
    """Run a command without a fault and return its trace, which it writes to a file."""
    code, output = run(command, octets, environment)
    if not trace.exists():
        raise RuntimeError(f"no trace: {code} {output!r}")
    return trace.read_text(errors="replace")
