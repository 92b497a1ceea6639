"""Starting the daemons in the foreground, as a supervisor would, and ending them for sure.

    with Daemon.start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}},
                      rundir) as pserv:
        ... pserv.endpoint() ...

Every port is chosen by the kernel and read back from the ready descriptor.  Only processes started
here, and their descendants, are ever signalled.

With IMMORTAL=off in the environment, the daemons run with `immortal = off`.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from popular.addresses import Endpoint, parse_listening
from tests.harness.cradle import SPECS
from tests.harness.nursery import Born, Nursery
from tests.harness.system import children_of, descendants_of, die_with_parent, end_process, is_alive, wait_for

ROOT = Path(__file__).resolve().parents[2]

_FORKING = ("pproxy", "pserv", "plmtpd", "toy")    # daemons with the setting `immortal`

Section = Mapping[str, object]
Settings = str | Mapping[str, Mapping[str, object]]


class StartFailed(AssertionError):
    """The daemon did not get as far as listening; tells exit code, stderr and log."""

    def __init__(self, text: str, code: int | None, stderr: str) -> None:
        super().__init__(text)
        self.code = code
        self.stderr = stderr


@dataclass(slots=True)
class Daemon:
    """One daemon in the foreground: the process started is the master."""

    nursery: ClassVar[Nursery | None] = None    # of the test process, if it has one

    program: str
    process: "Born | subprocess.Popen[bytes]"
    rundir: Path
    logfile: Path
    errfile: Path
    config: Path
    addresses: dict[str, list[Endpoint]] = field(default_factory=dict)

    @classmethod
    def start(cls, program: str, settings: Settings, rundir: Path, *, options: Iterable[str] = (),
              seconds: float = 40.0, name: str = "", env: Mapping[str, str] | None = None,
              root: Path = ROOT, python: str = sys.executable) -> "Daemon":
        """Start `program`, wait until it listens, and return it; raises StartFailed.

        `settings` is an INI text, or {"pserv": {variable: value}, "server": {id: {key: value}}}.
        Run folder and log file are given by options; root runs it as root unless `user` is set.
        `name` tells two daemons of one program in one folder apart.
        """
        name = name or program
        config = rundir / f"{name}.conf"
        text = _as_wanted(program, settings if isinstance(settings, str) else ini_text(settings))
        config.write_text(text)
        daemon_rundir = rundir if name == program else rundir / name
        daemon_rundir.mkdir(exist_ok=True)
        logfile = rundir / f"{name}.log"
        arguments = ["-r", str(daemon_rundir), "-l", str(logfile), *_as_whoever_runs(text), *options]
        return cls.launch(program, config, daemon_rundir, logfile, arguments, seconds=seconds, env=env, root=root,
                          python=python)

    @classmethod
    def launch(cls, program: str, config: Path, rundir: Path, logfile: Path, options: Iterable[str] = (), *,
               seconds: float = 40.0, env: Mapping[str, str] | None = None, root: Path = ROOT,
               python: str = sys.executable) -> "Daemon":
        """Start `program`, which lies below `root`, with an INI file that lies there already; raises StartFailed.

        `python` is the interpreter.
        """
        errfile = config.with_suffix(".err")
        read_end, write_end = os.pipe()
        try:
            arguments = ["-c", str(config), "--foreground", *options]
            is_usual = (root, python, env) == (ROOT, sys.executable, None) and Path(program).stem in SPECS
            process: Born | subprocess.Popen[bytes]
            with errfile.open("ab") as stderr:
                if is_usual and cls.nursery is not None and cls.nursery.fits():
                    process = cls.nursery.bear(program, arguments, write_end, stderr.fileno())
                else:
                    process = subprocess.Popen(
                        [python, str(root / "bin" / program), "--ready-fd", str(write_end), *arguments],
                        pass_fds=(write_end,), cwd="/", stderr=stderr, stdout=stderr, stdin=subprocess.DEVNULL,
                        env=None if env is None else {**os.environ, **env}, preexec_fn=die_with_parent)
            os.close(write_end)
            write_end = -1
            daemon = cls(program, process, rundir, logfile, errfile, config)
            daemon._wait_ready(read_end, seconds)
        finally:
            os.close(read_end)
            if write_end >= 0:
                os.close(write_end)
        return daemon

    def _wait_ready(self, fd: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        told = b""
        while True:
            left = max(0.0, deadline - time.monotonic())
            data = os.read(fd, 65536) if select.select([fd], [], [], left)[0] else None
            if data:
                told += data
                continue
            if data is None or not told.startswith(b"ready\n"):
                self._give_up("in time" if data is None else "at all")
            break
        for line in told.decode("ascii").splitlines()[1:]:
            owner, _, address = line.partition(" ")
            self.addresses.setdefault(owner, []).append(parse_listening(address))

    def _give_up(self, how: str) -> None:
        try:
            code: int | None = self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            code = None
            self.kill()
        stderr = self.stderr()
        log = "\n".join(self.log_lines())
        raise StartFailed(f"{self.program} did not start {how}, exit code {code}\n{stderr}\n{log}", code, stderr)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self.process.pid

    def endpoint(self, owner: str = "") -> Endpoint:
        """Return the first address that belongs to `owner`, or the first of all."""
        owners = [owner] if owner else list(self.addresses)
        return self.addresses[owners[0]][0]

    @property
    def master(self) -> int:
        """The master that runs now, which is another process after an upgrade."""
        try:
            return int((self.rundir / f"{Path(self.program).stem}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return self.pid

    def children(self) -> list[int]:
        """Return the pids of the master's children, in ascending order."""
        return children_of(self.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the master."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 40.0) -> int:
        """Wait for the master's end and return its exit code; raises AssertionError when it stays."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.program} is still there after {seconds} s") from None

    def stop(self, seconds: float = 40.0) -> int:
        """End the daemon as an administrator does (TERM); returns the exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self) -> None:
        """Kill the master with KILL, as a power cut would; its children are left alone."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End master and children whatever state they are in; twice is fine."""
        family = descendants_of(self.pid) if self.process.poll() is None else []
        if (master := self.master) != self.pid and master in descendants_of(os.getpid()):
            family += [master, *descendants_of(master)]
            os.kill(master, signal.SIGTERM)    # a predecessor that is still there ends with it
            wait_for(lambda: not is_alive(master), 15.0, "the end of the new master")
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            if self.process.poll() is None:
                self.kill()
            for pid in family:
                if is_alive(pid):
                    end_process(pid)

    def stderr(self) -> str:
        """Return what it wrote to its terminal."""
        return self.errfile.read_text(errors="replace") if self.errfile.exists() else ""

    def log_lines(self, word: str = "") -> list[str]:
        """Return the lines of the log file, or those that hold `word`."""
        if not self.logfile.exists():
            return []
        lines = self.logfile.read_text("ascii", errors="replace").splitlines()
        return [line for line in lines if word in line]

    def wait_log(self, word: str, seconds: float = 10.0, count: int = 1) -> list[str]:
        """Wait until `count` lines of the log hold `word`; returns them."""
        return wait_for(lambda: lines if len(lines := self.log_lines(word)) >= count else [],
                        seconds, f"{word!r} in the log of {self.program}")

    def bugs(self) -> list[str]:
        """Return the log lines that tell of a fault of ours."""
        return [line for line in self.log_lines() if line.split(" ")[6:7] == ["BUG"]]

    def report(self) -> str:
        """Return log and terminal output, for the report of a failed test."""
        return "\n".join([*self.log_lines()[-200:], self.stderr()[-4000:]])


def ini_text(settings: Mapping[str, Mapping[str, object]]) -> str:
    """Write an INI text: a value that is a mapping is an object `[[id]]` of its section."""
    lines: list[str] = []
    for section, content in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in content.items() if not isinstance(value, Mapping)]
        for ident, values in content.items():
            if isinstance(values, Mapping):
                lines.append(f"    [[{ident}]]")
                lines += [f"    {key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _as_wanted(program: str, text: str) -> str:
    """Add what the environment says about immortal objects."""
    if program not in _FORKING or "IMMORTAL" not in os.environ or "immortal =" in text:
        return text
    section = f"[{program}]\n"
    setting = f"{section}immortal = {os.environ['IMMORTAL']}\n"
    return text.replace(section, setting, 1) if section in text else f"{setting}{text}"


def _as_whoever_runs(text: str) -> list[str]:
    """Root need not have the service user on a test machine: stay root unless the settings say whom."""
    named = any(line.split("=")[0].strip() == "user" for line in text.splitlines())
    return [] if named or os.geteuid() != 0 else ["--user", "root", "--group", "root"]
