"""What code that got into a child would try.  Each attack returns if it succeeds, and raises OSError if it is refused.

    outcomes(Target.find(__file__))    {"signal the master": "EPERM", …}

Run in a child of a daemon by a test module of its database modules, or in a process that has entered the same walls.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from popular.unix.walls.seccomp import NUMBERS

DONE = "done"
MANY_FILES = 2000


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked: the parent of this process, and these files."""

    log: str
    log_fd: int
    rundir: str
    secret: str     # a file that this process need not read

    @classmethod
    def find(cls, secret: str) -> "Target":
        """Find the log among the open files; the run folder is the same in tests."""
        for name in os.listdir("/proc/self/fd"):
            path = os.path.realpath(f"/proc/self/fd/{name}")
            if path.endswith(".log"):
                return cls(path, int(name), os.path.dirname(path), secret)
        raise LookupError("no log")


def call(name: str, *arguments: int) -> int:
    """Make a system call; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    column = 0 if os.uname().machine == "x86_64" else 1
    result = int(libc.syscall(NUMBERS[name][column], *map(ctypes.c_long, arguments)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _listen(port: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
        sock.listen()


def _fork() -> None:
    pid = call("clone", signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _open_many() -> None:
    """Open more files than a child can need, as many as the limit can be raised to."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    opened: list[int] = []
    try:
        while len(opened) < MANY_FILES:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for fd in opened:
            os.close(fd)


def _pwrite() -> None:
    """Call pwritev2, which can write into the middle of the log (RWF_NOAPPEND)."""
    call("pwritev2", 1, 0, 0, 0, 0, 0)


ATTACKS: dict[str, Callable[[Target], object]] = {
    "signal the master": lambda target: os.kill(os.getppid(), 0),
    "signal all processes": lambda target: os.kill(-1, 0),
    "queue a signal": lambda target: call("rt_sigqueueinfo", os.getppid(), 0, 0),
    "have the master signalled": lambda target: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    "trace the master": lambda target: call("ptrace", 16, os.getppid(), 0, 0),    # PTRACE_ATTACH
    "write the master's memory": lambda target: call("process_vm_writev", os.getppid(), 0, 0, 0, 0, 0),
    "open the master's memory": lambda target: open(f"/proc/{os.getppid()}/mem", "r+b").close(),
    "limit the master": lambda target: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (16, 16)),
    "slow the master down": lambda target: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    "start a shell": lambda target: subprocess.run(["/bin/sh", "-c", "exit 0"], check=True),
    "become a shell": lambda target: os.execv("/bin/sh", ["sh", "-c", "exit 0"]),
    "fork": lambda target: _fork(),
    "truncate the log": lambda target: os.ftruncate(target.log_fd, 0),
    "truncate the log by name": lambda target: os.truncate(target.log, 0),
    "overwrite the log": lambda target: fcntl.fcntl(target.log_fd, fcntl.F_SETFL, 0),
    "overwrite the log without append": lambda target: _pwrite(),
    "punch a hole into the log": lambda target: call("fallocate", target.log_fd, 3, 0, 1),
    "open the log": lambda target: open(target.log, "r+b").close(),
    "remove the log": lambda target: os.unlink(target.log),
    "rename the log": lambda target: os.rename(target.log, f"{target.log}.old"),
    "let all read the log": lambda target: os.chmod(target.log, 0o644),
    "make a file in the run folder": lambda target: open(f"{target.rundir}/attack", "xb").close(),
    "make a file in /tmp": lambda target: open(f"/tmp/attack.{os.getpid()}", "xb").close(),
    "take a port": lambda target: _listen(45_999),
    "take any port": lambda target: _listen(0),
    "raise the limit of memory": lambda target: resource.setrlimit(
        resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[1],) * 2),
    "open many files": lambda target: _open_many(),
    "eat shared memory": lambda target: mmap.mmap(-1, 1 << 20).close(),
    "eat memory in a file": lambda target: os.close(os.memfd_create("attack")),
    "be dumped": lambda target: call("prctl", 4, 1, 0, 0, 0),    # PR_SET_DUMPABLE
    "make a namespace": lambda target: call("unshare", 0x10000000),
    "load a program into the kernel": lambda target: call("bpf", 0, 0, 0),
    "use a ring of the kernel": lambda target: call("io_uring_setup", 1, 0),
    "talk to the kernel's network": lambda target: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "read a secret": lambda target: open(target.secret, "rb").close(),
}


def outcomes(target: Target, names: "list[str] | None" = None) -> dict[str, str]:
    """Try all attacks, or those with these names; return what happened: `done`, or the name of the error."""
    return {name: _outcome(attack, target) for name, attack in ATTACKS.items() if names is None or name in names}


def _outcome(attack: Callable[[Target], object], target: Target) -> str:
    try:
        attack(target)
    except OSError as why:
        return errno.errorcode.get(why.errno or 0, "?")
    except ValueError:    # setrlimit: of more than root may have
        return "EPERM"
    return DONE
