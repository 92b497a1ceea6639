"""A stand-in for systemd: runs a unit of `etc/systemd` as systemd would, as far as a daemon can tell.

It starts the unit's ExecStart with a notify socket, listening sockets and a watchdog, hears what it is told
(Type=notify, NotifyAccess=all), kills the main process when it is not fed in time, and stops it as
KillMode=mixed says.  Only processes that it has started, and their descendants, are ever signalled.
"""

import fcntl
import grp
import json
import os
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from popular.addresses import Endpoint
from popular.control.client import ControlClient, Reply, default_path
from popular.unix.rights import own_rights
from tests.harness.daemon import ROOT, Settings, ini_text
from tests.harness.system import descendants_of, end_process, is_alive, parent_of, wait_for

UNITS = ROOT / "etc" / "systemd"

BACKLOG = 7    # of the sockets that are handed over
MOMENT = 1.0   # seconds that a process on its way out may take

Handed = socket.socket | IO[str]

_SPARE = 100    # descriptors from here on collide with none that is handed over
_UCRED = struct.Struct("=iII")

# What systemd does between fork and exec: descriptors from 3 on, and the process id in the environment.
_LAUNCHER = """\
import json, os, sys
fds, variables, words = json.loads(sys.argv[1])
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
os.environ.update({name: text.replace("%PID", str(os.getpid())) for name, text in variables.items()})
os.execv(words[0], words)
"""


class Unit:
    """A unit file."""

    def __init__(self, name: str) -> None:
        """Read `etc/systemd/NAME`."""
        self.values: dict[tuple[str, str], list[str]] = {}
        section = ""
        for line in (UNITS / name).read_text().splitlines():
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                key, _, value = line.partition("=")
                self.values.setdefault((section, key), []).append(value)

    def get(self, key: str, section: str = "Service") -> str:
        """Return the value of a key that stands there once."""
        [value] = self.values[section, key]
        return value

    def words(self, key: str) -> list[str]:
        """Return the words of a command line, its program where it lies in the checkout."""
        first, *others = shlex.split(self.get(key))
        if first.startswith("/usr/bin/"):
            return [sys.executable, str(ROOT / "bin" / Path(first).name), *others]
        return [first, *others]


@dataclass(frozen=True, slots=True)
class Told:
    """One datagram from the service."""

    pid: int    # who sent it
    facts: tuple[str, ...]
    at: float   # monotonic

    @property
    def pairs(self) -> dict[str, str]:
        """The facts by their names."""
        return dict(fact.partition("=")[::2] for fact in self.facts)


class ServiceManager:
    """One service, from its start to its end."""

    def __init__(self, program: str, folder: Path, *, watchdog: float | None = None) -> None:
        """Read the unit of `program`; all its files are in the short `folder`.

        `watchdog` replaces WatchdogSec, in seconds.
        """
        self.program = program
        self.unit = Unit(f"{program}.service")
        self.folder = folder
        self.watchdog = watchdog if watchdog is not None else float(self.unit.get("WatchdogSec").rstrip("s"))
        self.options: list[str] = []
        self.told: list[Told] = []
        self.main = 0
        self.was_barked_at = False          # the watchdog ended it
        self.killed: list[int] = []         # what was left when the main process had ended
        self.process: "subprocess.Popen[bytes] | None" = None
        self._is_ours = True                # the main process is a child of the manager's
        self._fed_at = 0.0                  # monotonic; 0: it has not started yet
        self._sockets: list[tuple[str, Handed]] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._notify.bind(str(folder / "notify"))

    def __enter__(self) -> "ServiceManager":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def open(self, name: str, host: str = "127.0.0.1", *, udp: bool = False, dual: bool = False) -> Endpoint:
        """Open a socket on a free port, to be handed over as `name`; `dual`: one of IPv6 takes IPv4 too."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                             socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
        self.hand(name, sock)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        sock.bind((host, 0))
        if not udp:
            sock.listen(BACKLOG)
        return Endpoint(host, sock.getsockname()[1])

    def hand(self, name: str, sock: Handed) -> None:
        """Hand over a socket, or another open file, as `name`; it is closed with the manager."""
        self._sockets.append((name, sock))

    def backlog(self, name: str) -> int:
        """Return how many connections may wait at a socket that was handed over; 0: it does not listen any more."""
        sock = dict(self._sockets)[name]
        assert isinstance(sock, socket.socket)
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return 0
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
        return int(struct.unpack_from("=I", info, 28)[0])    # tcpi_sacked, which has this meaning for a listener

    def configure(self, settings: Settings) -> None:
        """Write the INI file that the unit's program is to read, and have its files in the folder."""
        text = settings if isinstance(settings, str) else ini_text(settings)
        (self.folder / f"{self.program}.conf").write_text(text)
        own = own_rights()
        self.options = ["-c", str(self.folder / f"{self.program}.conf"), "-r", str(self.folder),
                        "-l", str(self.folder / f"{self.program}.log"), "--user", own.user,
                        "--group", grp.getgrgid(own.gid).gr_name]

    def start(self, variables: Mapping[str, str] | None = None) -> None:
        """Start ExecStart; `variables` replace those of the environment, in which %PID is the process id."""
        spares = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, _SPARE) for _, sock in self._sockets]
        environment = {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_PID": "%PID",
                       "WATCHDOG_USEC": str(int(self.watchdog * 1_000_000))}
        if spares:
            environment |= {"LISTEN_PID": "%PID", "LISTEN_FDS": str(len(spares)),
                            "LISTEN_FDNAMES": ":".join(name for name, _ in self._sockets)}
        words = [*self.unit.words("ExecStart"), *self.options]
        launch = json.dumps([spares, {**environment, **(variables or {})}, words])
        try:
            with (self.folder / "stderr").open("ab") as stderr:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, launch], pass_fds=spares, cwd="/", stderr=stderr,
                    stdout=stderr, stdin=subprocess.DEVNULL)
        finally:
            for fd in spares:
                os.close(fd)
        self.main = self.process.pid
        self._fed_at = 0.0

    def wait_ready(self) -> None:
        """Wait until it has started; raises AssertionError with what it said when it ends instead."""
        def is_ready() -> bool:
            assert self.exit_code() is None, self.stderr()
            return any("READY=1" in told.facts for told in self.told)

        self.wait(is_ready, what="READY=1")

    def wait(self, condition: Callable[[], object], seconds: float = 40.0, what: str = "") -> None:
        """Do one's work until `condition` holds."""
        deadline = time.monotonic() + seconds
        while True:
            self._hear()
            self._look_at_watchdog()
            if condition():
                return
            assert time.monotonic() < deadline, f"waited in vain for {what or condition}: {self.told}"

    def wait_fact(self, fact: str, count: int = 1) -> Told:
        """Wait until a fact has been told `count` times; returns the last."""
        self.wait(lambda: len(self.those(fact)) >= count, what=f"{count} {fact}")
        return self.those(fact)[count - 1]

    def those(self, fact: str) -> list[Told]:
        """Return what was told that has this fact."""
        return [told for told in self.told if fact in told.facts]

    def names(self) -> list[str]:
        """Return the names of what was told, in order, without the watchdog and the status."""
        facts = [fact for told in self.told for fact in told.facts]
        return [name for name in (fact.partition("=")[0] for fact in facts) if name not in ("WATCHDOG", "STATUS")]

    def status(self) -> str:
        """Return the line of status told last."""
        lines = [told.pairs["STATUS"] for told in self.told if "STATUS" in told.pairs]
        return lines[-1] if lines else ""

    def reload(self) -> tuple[int, str]:
        """Run ExecReload, and hear what the service tells meanwhile; returns exit code and output."""
        words = [word.replace("$MAINPID", str(self.main)) for word in self.unit.words("ExecReload")]
        if "pcontrol" in words[1]:
            words += ["-r", str(self.folder)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            self.wait(lambda: process.poll() is not None, what="ExecReload")
            assert process.stdout is not None
            return process.returncode, process.stdout.read()

    def ask(self, line: str) -> Reply:
        """Give a control command, and wait until new connections see what it did; hear the service meanwhile.

        Its socket has room for few messages, and an upgrade takes longer than some signs of life.
        """
        with (ControlClient(default_path(str(self.folder), self.program), patience=30.0) as client,
              ThreadPoolExecutor(1) as pool):
            answer = pool.submit(client.ask, line)
            self.wait(answer.done, what=f"the answer to {line}")
            reply = answer.result()
            if line != "upgrade":
                client.ask("sync")
            return reply

    def family(self) -> list[int]:
        """Return the processes of the service, as its control group would have them."""
        if self.process is None:
            return []
        ours = [self.main, self.process.pid, *descendants_of(self.process.pid), *descendants_of(self.main)]
        return [pid for pid in dict.fromkeys(ours) if is_alive(pid)]

    def stop(self) -> None:
        """Stop the service as KillMode=mixed says."""
        assert self.unit.get("KillMode") == "mixed"
        family = self.family()
        os.kill(self.main, signal.SIGTERM)
        if self._is_ours:    # for the end of another's child systemd does not wait
            self.wait(lambda: not is_alive(self.main), float(self.unit.get("TimeoutStopSec").rstrip("s")))
            # Whom the main process has waited for may still be on the way out: descriptors are closed before the end.
            until = time.monotonic() + MOMENT
            self.wait(lambda: not any(map(is_alive, family)) or time.monotonic() > until)
        self.killed = [pid for pid in family if is_alive(pid)]
        for pid in self.killed:
            end_process(pid)
        wait_for(lambda: self.exit_code() is not None, 10.0, "the end of the process that was started")

    def exit_code(self) -> int | None:
        """Return how the process that was started has ended; None: it has not."""
        return None if self.process is None else self.process.poll()

    def stderr(self) -> str:
        """Return what it wrote to its standard error, which would be in the journal."""
        return (self.folder / "stderr").read_text()

    def close(self) -> None:
        """End everything; twice is fine."""
        try:
            if self.process is not None and self.family():
                os.kill(self.main, signal.SIGTERM)
                wait_for(lambda: not is_alive(self.main), 15.0, "the end of the service")
        finally:
            for pid in self.family():
                end_process(pid)
            if self.process is not None:
                wait_for(lambda: self.exit_code() is not None, 10.0, "the end of the process that was started")
            self._notify.close()
            (self.folder / "notify").unlink(missing_ok=True)
            for _, sock in self._sockets:
                sock.close()

    def _hear(self, seconds: float = 0.02) -> None:
        """Take one datagram, if one comes."""
        if not select.select([self._notify], [], [], seconds)[0]:
            return
        data, extras, _, _ = self._notify.recvmsg(4096, socket.CMSG_SPACE(_UCRED.size))
        [(_, _, credentials)] = extras
        told = Told(_UCRED.unpack(credentials)[0], tuple(data.decode().split("\n")), time.monotonic())
        self.told.append(told)
        if "WATCHDOG=1" in told.facts or "READY=1" in told.facts and not self._fed_at:
            self._fed_at = told.at
        if "MAINPID" in told.pairs and self.main != int(told.pairs["MAINPID"]):
            self.main = int(told.pairs["MAINPID"])
            self._is_ours = parent_of(self.main) == os.getpid()

    def _look_at_watchdog(self) -> None:
        """End a service that is not fed, as systemd does: ABRT, which a stopped process gets when it goes on."""
        is_fed = not self._fed_at or time.monotonic() < self._fed_at + self.watchdog
        if self.was_barked_at or is_fed or not is_alive(self.main):
            return
        self.was_barked_at = True
        for number in (signal.SIGABRT, signal.SIGCONT):
            os.kill(self.main, number)
