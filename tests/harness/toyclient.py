"""The test's side of the toy daemon: starting it, and talking to it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from popular.addresses import Endpoint, parse_endpoint
from tests.harness.daemon import Daemon, ini_text
from tests.harness.system import children_of, is_alive, title_of, wait_for

TOY = Path(__file__).with_name("toy.py")
TRIES = 100    # to find out whether somebody listens


def start_toy(start: Callable[..., Daemon], *, options: Iterable[str] = (), **settings: object) -> Daemon:
    """Start the toy in the foreground with `settings`, and wait until its first children are all idle."""
    daemon: Daemon = start(str(TOY), {"toy": {"address": "127.0.0.1:0", **settings}}, name="toy", options=options)
    daemon.program = "toy"
    wanted = min(int(str(settings.get("minspare", 4))), int(str(settings.get("maxsession", 1000))))
    wait_for(lambda: len(idle_children(daemon.pid)) == wanted, 10.0, "the first idle children")
    return daemon


def idle_children(master: int) -> list[int]:
    """Return the children that say they are idle."""
    return [pid for pid in children_of(master) if title_of(pid) == "toy: idle"]


class Client:
    """One connection to the toy."""

    def __init__(self, endpoint: Endpoint, timeout: float = 40.0) -> None:
        """Connect; the greeting is read when `pid` is asked for."""
        self.sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
        self._pid = 0

    @property
    def pid(self) -> int:
        """The child that serves."""
        if not self._pid:
            word, _, pid = self.read_line().partition(b" ")
            assert word == b"pid"
            self._pid = int(pid)
        return self._pid

    def say(self, words: bytes) -> None:
        """Send a line."""
        self.sock.sendall(words + b"\n")

    def ask(self, words: bytes) -> bytes:
        """Send a line and return the answer."""
        self.pid    # the greeting comes first
        self.say(words)
        return self.read_line()

    def read_line(self) -> bytes:
        """Return what comes until a line end, or until the connection ends."""
        line = b""
        while not line.endswith(b"\n"):
            try:
                block = self.sock.recv(65536)
            except ConnectionResetError:
                break
            if not block:
                break
            line += block
        return line.rstrip(b"\n")

    def is_closed(self) -> bool:
        """Wait for the end of the connection; False when something else comes."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """End the connection."""
        self.sock.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


def is_refused(endpoint: Endpoint) -> bool:
    """Tell whether nobody listens there.

    Who connects while the listener is being closed may be reset, which does not tell whether there is another one: so
    the question is asked again.  No answer at all comes from a listener whose backlog is full.
    """
    for _ in range(TRIES):
        try:
            socket.create_connection((endpoint.host, endpoint.port), 5.0).close()
        except ConnectionRefusedError:
            return True
        except (ConnectionResetError, ConnectionAbortedError):
            continue
        except TimeoutError:
            pass
        return False
    raise AssertionError(f"{endpoint} resets every connection")


class Background:
    """The toy as an administrator starts it: a command that returns while the daemon goes on."""

    def __init__(self, rundir: Path, *options: str, **settings: object) -> None:
        """Write the configuration; nothing runs yet."""
        self.rundir = rundir
        self.logfile = rundir / "toy.log"
        self.pidfile = rundir / "toy.pid"
        self.endpoints: list[Endpoint] = []
        config = rundir / "toy.conf"
        config.write_text(ini_text({"toy": {"address": "127.0.0.1:0", **settings}}))
        user = ["--user", "root", "--group", "root"] if os.geteuid() == 0 and "user" not in settings else []
        self.command = [sys.executable, str(TOY), "-c", str(config), "-r", str(rundir), "-l", str(self.logfile),
                        *user, *options]

    def run(self, *options: str, shell_words: str = "", folder: Path = Path("/"),
            ready_fd: int | None = None) -> "subprocess.CompletedProcess[str]":
        """Run the starter to its end; what it was told by --ready-fd is in `endpoints`."""
        read_end, write_end = os.pipe()
        command = [*self.command, "--ready-fd", str(ready_fd or write_end), *options]
        if shell_words:
            command = ["/bin/sh", "-c", f'exec "$@" {shell_words}', "sh", *command]
        try:
            done = subprocess.run(command, pass_fds=(write_end,), cwd=folder, text=True, timeout=40, check=False,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            os.close(write_end)
            write_end = -1
            with open(read_end, encoding="ascii", closefd=False) as told:
                lines = told.read().splitlines()
        finally:
            os.close(read_end)
            if write_end >= 0:
                os.close(write_end)
        if lines[:1] == ["ready"]:
            self.endpoints = [parse_endpoint(line.partition(" ")[2]) for line in lines[1:]]
        return done

    @property
    def pid(self) -> int:
        """The master's pid as its file says."""
        return int(self.pidfile.read_text())

    def stop(self) -> None:
        """End the daemon and wait for its end."""
        pid = self.pid
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_alive(pid), 10.0, "the end of the master")
