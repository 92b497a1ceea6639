"""Daemons start as forks of a process that has imported their starters: imports are half of what a start costs.

    python -m tests.harness.nursery FD      a Nursery's process; FD is its end of the line

A fork does what `bin/PROGRAM` does from there on, so it becomes the master by exec as always, and is the child of the
test process, by way of a process in between that ends at once.  Tests whose own circumstances differ from those in
which the process was started (a network of their own, other limits or rights) start programs as anybody else does.
`--long` has no nursery: then all tests do.
"""

import json
import os
import select
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from tests.harness.system import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("pproxy", "pserv", "pcheckd", "ringd")

_ROOM = 1 << 17    # octets of a request
_NAMESPACES = ("net", "mnt", "pid", "user")
_STATUS = ("Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "CapEff", "NoNewPrivs")


class Born:
    """A daemon that was started here, with what tests use of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:    # somebody else has waited for all children
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code; raises subprocess.TimeoutExpired."""
        if self.poll() is None:
            fd = os.pidfd_open(self.pid)
            try:
                if not select.select([fd], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            finally:
                os.close(fd)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(9)


class Nursery:
    """The process, as the tests see it."""

    def __init__(self) -> None:
        """Start it."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.harness.nursery", str(theirs.fileno())],
                                             pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL)
        self._circumstances = _circumstances()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fits(self) -> bool:
        """Tell whether what it starts is what we would start ourselves."""
        return self._circumstances == _circumstances()

    def bear(self, program: str, arguments: Sequence[str], ready_fd: int, errors: int) -> Born:
        """Start a program, with `--ready-fd` in addition to its arguments, and both outputs to `errors`."""
        request = {"program": program, "arguments": list(arguments), "environment": dict(os.environ),
                   "parent": os.getpid()}
        socket.send_fds(self._line, [json.dumps(request).encode()], [ready_fd, errors])
        return Born(int(self._line.recv(64)))

    def close(self) -> None:
        """End it."""
        self._line.close()
        self._process.wait()


def _circumstances() -> tuple[object, ...]:
    """Return what a process inherits, but for its environment."""
    status = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    return (*(os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES), *(status.get(name) for name in _STATUS),
            Path("/proc/self/limits").read_text(), os.nice(0), os.readlink("/proc/self/root"))


def serve(line: socket.socket) -> None:
    """Start programs until the other end is closed."""
    for program in PROGRAMS:
        import_module(f"popular.{program}.main")
    sys.path[0] = str(ROOT / "bin")    # as for a program there
    while True:
        request, fds, _, _ = socket.recv_fds(line, _ROOM, 2)
        if not request:
            return
        between = os.fork()
        if between == 0:
            _bear(line, json.loads(request), *fds)
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)


def _bear(line: socket.socket, request: dict[str, object], ready_fd: int, errors: int) -> NoReturn:
    """In between: fork the program, tell its pid, and end, so that it becomes a child of the test process."""
    pid = os.fork()
    if pid:
        line.send(str(pid).encode())
        os._exit(0)
    code = 1
    try:
        code = _run(request, ready_fd, errors)
    except SystemExit as why:
        code = why.code if isinstance(why.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, object], ready_fd: int, errors: int) -> int:
    """Be the program."""
    while os.getppid() != request["parent"]:    # soon
        time.sleep(0.0002)
    die_with_parent()
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.set_inheritable(ready_fd, True)
    os.chdir("/")
    environment, arguments = request["environment"], request["arguments"]
    assert isinstance(environment, dict) and isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(ROOT / "bin" / str(request["program"])), "--ready-fd", str(ready_fd), *arguments]
    code: int = import_module(f"popular.{request['program']}.main").main()
    return code


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        serve(ours)
