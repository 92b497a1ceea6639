"""Starting a rival in the foreground on a free port, with its configuration from configs/, and ending it.

Runs in the warden; the rival ends with it at the latest.  Raises CannotStart.
"""

import contextlib
import grp
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from tests.harness.ports import free_port
from tests.harness.system import die_with_parent, end_process, is_alive, wait_for

CONFIGS = Path(__file__).with_name("configs")
HOST = "127.0.0.1"
_SBIN = ":/usr/sbin:/usr/local/sbin:/sbin"
_TRIES = 5          # another process may take a free port before it is bound


class CannotStart(Exception):
    """A contender does not start; says why."""


@dataclass(slots=True)
class Foreground:
    """One program of a rival that answers with a POP3 greeting, in clear or under TLS."""

    process: "subprocess.Popen[bytes]"
    endpoint: Endpoint
    output: Path
    is_secured: bool = False

    def close(self) -> None:
        """End it as its administrator would; twice is fine."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10.0)
            except subprocess.TimeoutExpired:
                end_process(self.process.pid)
                self.process.wait()

    def is_up(self) -> bool:
        """Wait for the greeting, or for a port with TLS to be there; False when the program ended instead."""
        answers = listens if self.is_secured else greets
        wait_for(lambda: not is_alive(self.process.pid) or answers(self.endpoint), 30.0, "a greeting")
        return is_alive(self.process.pid)


def launch(folder: Path, name: str, make: Callable[[int], Sequence[str | Path]], *,
           files: int | None = None, is_secured: bool = False) -> Foreground:
    """Start what `make(port)` says and wait for its greeting; `files` is its RLIMIT_NOFILE, else the hard limit.

    Of one that `is_secured`, which speaks nothing but TLS, no greeting is waited for.
    """
    output = folder / f"{name}.out"

    def prepare() -> None:
        die_with_parent()
        soft = files or resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))

    for _ in range(_TRIES):
        port = free_port()
        command = [str(word) for word in make(port)]
        with output.open("wb") as file:
            process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       preexec_fn=prepare)
        running = Foreground(process, Endpoint(HOST, port), output, is_secured)
        try:
            if running.is_up():
                return running
        except AssertionError:
            pass
        running.close()
    raise CannotStart(f"{name} does not start: {output.read_text(errors='replace')[-500:].strip()}")


def fill(name: str, path: Path, **words: object) -> Path:
    """Write the configuration `name` with its {words} filled in to `path`; returns `path`."""
    path.write_text((CONFIGS / name).read_text().format_map(words))
    path.chmod(0o644)
    return path


def find_program(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name, path=os.environ.get("PATH", "") + _SBIN)


def need(name: str) -> str:
    """Return the path of a program; raises CannotStart."""
    path = find_program(name)
    if path is None:
        raise CannotStart(f"{name} is not installed")
    return path


def greets(endpoint: Endpoint) -> bool:
    """Tell whether a POP3 server answers there."""
    with contextlib.suppress(OSError), socket.create_connection((endpoint.host, endpoint.port), 5.0) as sock:
        return sock.recv(3) == b"+OK"
    return False


def listens(endpoint: Endpoint) -> bool:
    """Tell whether connections are taken there."""
    with contextlib.suppress(OSError), socket.create_connection((endpoint.host, endpoint.port), 5.0):
        return True
    return False


def names_of(owner: tuple[int, int]) -> tuple[str, str]:
    """Return the names of a user and a group."""
    return pwd.getpwuid(owner[0]).pw_name, grp.getgrgid(owner[1]).gr_name
