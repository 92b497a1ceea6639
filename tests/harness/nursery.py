"""Programs start as forks of processes that have imported them: imports are most of what a start costs.

What is started does what `bin/PROGRAM` does from there on (tests.harness.cradle), and is the child of the test process,
by way of a process in between that ends at once.  Tests whose own circumstances differ from those in which the nursery
was started (a network of their own, other limits or rights) start programs as anybody else does.  `--long` has no
nursery: then all tests do.
"""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.harness import cradle

ROOT = Path(__file__).resolve().parents[2]

_NAMESPACES = ("net", "mnt", "pid", "user")
_STATUS = ("Uid", "Gid", "Groups", "Umask", "SigBlk", "SigIgn", "CapEff", "NoNewPrivs")
_PADDING = {"PADDING": "." * 1000}    # which is overwritten by titles of processes


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
        path = [each for each in sys.path if os.path.isabs(each)]
        while path[0] == str(ROOT):    # so far, it is pytest's; at the end, it is that of the virtual environment
            del path[0]
        path.insert(0, str(ROOT))
        stream = sys.__stdin__ or sys.__stdout__    # those from before pytest
        assert stream is not None and stream.errors is not None
        words = [str(theirs.fileno()), sys.prefix, stream.encoding, stream.errors, *path]
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-I", "-S", cradle.__file__, *words],
                                             pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL,
                                             env={**os.environ, **_PADDING})
        self._circumstances = _circumstances()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def fits(self) -> bool:
        """Tell whether what it starts is what we would start ourselves."""
        return self._circumstances == _circumstances()

    def bear(self, program: str, arguments: Sequence[str], ready_fd: int, errors: int) -> Born:
        """Start a daemon, with `--ready-fd` in addition to its arguments, and both outputs to `errors`."""
        with open(os.devnull, "rb") as null:
            return self._start(program, arguments, "/", (null.fileno(), errors, errors, ready_fd))

    def run(self, program: str, arguments: Sequence[str], stdin: bytes, folder: str,
            seconds: float) -> "subprocess.CompletedProcess[bytes]":
        """Run a program to its end; raises subprocess.TimeoutExpired."""
        with ExitStack() as files:
            streams = [files.enter_context(open(os.memfd_create(name), "w+b")) for name in ("in", "out", "errors")]
            streams[0].write(stdin)
            streams[0].seek(0)
            born = self._start(program, arguments, folder, [stream.fileno() for stream in streams])
            try:
                code = born.wait(seconds)
            finally:
                born.kill()
            for stream in streams[1:]:
                stream.seek(0)
            return subprocess.CompletedProcess([program, *arguments], code, *(stream.read() for stream in streams[1:]))

    def _start(self, program: str, arguments: Sequence[str], folder: str, fds: Sequence[int]) -> Born:
        request = {"script": str(ROOT / "bin" / program), "arguments": list(arguments), "environment": dict(os.environ),
                   "folder": folder, "parent": os.getpid()}
        socket.send_fds(self._line, [json.dumps(request).encode()], fds)
        return Born(int(self._line.recv(64)))

    def close(self) -> None:
        """End it."""
        self._line.close()
        self._process.wait()


def _circumstances() -> tuple[object, ...]:
    """Return what a process inherits; of its environment, what the interpreter heeds before any program."""
    status = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    heeded = {name: text for name, text in os.environ.items() if name.startswith(("LC_", "LANG", "PYTHON"))}
    return (heeded, *(os.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES),
            *(status.get(name) for name in _STATUS), Path("/proc/self/limits").read_text(), os.nice(0),
            os.readlink("/proc/self/root"))
