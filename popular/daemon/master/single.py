"""A daemon of one process, without children: its description and its loop.

It is started, handed over and ended like any daemon (see daemon/start), but becomes a
`SingleProcess` instead of a Master.  A service answers requests in its loop.  This is for daemons with little
work that must hold state, such as ringd.  Lean.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from popular.config.mistakes import Mistake
from popular.config.setting import Schema
from popular.config.store import Config
from popular.daemon.master.heartbeat import Heartbeat
from popular.daemon.messages import COMMAND, LEFT_MAIN_LOOP, LOG_NOT_REOPENED, LOG_REOPENED
from popular.daemon.signals import SignalRow
from popular.daemon.spec import Listen
from popular.errors import StartError
from popular.log.message import Message
from popular.log.trace import places
from popular.log.writer import Log
from popular.proc.watch import Watch
from popular.unix.descriptors import MastersOwn
from popular.unix.notify import Notify
from popular.unix.pidfile import PidFile
from popular.unix.ready import Ready
from popular.unix.rights import Rights
from popular.unix.signals import SignalPipe
from popular.version import VERSION

_SIGNALS = (
    SignalRow(signal.SIGTERM, "shutdown", "shutdown", "End."),
    SignalRow(signal.SIGINT, "shutdown", "shutdown", "The same."),
    SignalRow(signal.SIGQUIT, "shutdown", "shutdown", "The same."),
    SignalRow(signal.SIGHUP, "reopen", "reopen", "Reopen the log file."),
)


class _Service(Protocol):
    """The work of a daemon of one process, which registers its descriptors with the Watch."""

    address: str    # where it listens, for the log

    def close(self) -> None:
        """End everything."""
        ...


@dataclass(frozen=True, slots=True)
class SingleProcessSpec:
    """One daemon without children; fields that DaemonSpec has too mean the same there."""

    name: str
    schema: Schema
    check: Callable[[Config], list[Mistake]]
    make_service: Callable[[Config, Log, Watch], _Service]    # with the final rights; StartError
    start_message: Message    # fields: any of version, pid, user, addresses
    end_message: Message      # fields: any of command, version, pid, user
    capabilities: tuple[int, ...] = ()
    signals: tuple[SignalRow, ...] = _SIGNALS
    module: str = ""

    @property
    def import_name(self) -> str:
        """The module from which the daemon imports `SPEC`."""
        return self.module or f"popular.{self.name}.spec"

    def listens(self, config: Config) -> list[Listen]:
        """Return no addresses: the service opens what it needs."""
        return []


class SingleProcess:
    """The running daemon."""

    def __init__(self, spec: SingleProcessSpec, config: Config, log: Log, rights: Rights, pidfile: PidFile,
                 notify: Notify) -> None:
        """Open the service; raises StartError, OSError."""
        self._spec = spec
        self._log = log
        self._rights = rights
        self._pidfile = pidfile
        self._notify = notify
        self._heartbeat = Heartbeat(notify, str)    # without a status
        self._commands = {row.number: row for row in spec.signals}
        self._watch = Watch(MastersOwn())
        self._signals = SignalPipe(self._commands)
        self._watch.register(self._signals.fileno(), self._obey_signals)
        self._service = spec.make_service(config, log, self._watch)
        self._last_command = ""

    def run(self, ready: Ready) -> int:
        """Serve until told to end; returns the exit code."""
        self._note(self._spec.start_message, addresses=self._service.address)
        if not ready.tell_ready(()):    # the starter has given up waiting
            self._service.close()
            self._pidfile.remove()
            return os.EX_UNAVAILABLE
        self._notify.ready()
        try:
            while not self._last_command:
                self._watch.wait(self._heartbeat.patience(time.monotonic()))
                self._heartbeat.attend()
        finally:
            self._say_goodbye()
        return os.EX_OK

    def shutdown(self) -> None:
        """End."""
        self._last_command = "shutdown"
        self._notify.stopping()

    def reopen(self) -> None:
        """Reopen the log."""
        self._notify.reload_begins()
        try:
            self._log.reopen()
        except StartError as why:
            self._log.note(LOG_NOT_REOPENED, error=str(why))
        else:
            self._log.note(LOG_REOPENED)
        self._notify.reload_ends()

    def _obey_signals(self) -> None:
        """Obey the signals that have arrived."""
        for number in self._signals.take():
            row = self._commands.get(signal.Signals(number))
            if row is not None:
                self._log.note(COMMAND, source=row.number.name, words=row.command)
                getattr(self, row.method)()

    def _say_goodbye(self) -> None:
        if not self._last_command:
            error = sys.exception()
            self._log.note(LEFT_MAIN_LOOP, type=type(error).__name__, trace=places(error))
        self._service.close()
        self._note(self._spec.end_message)
        self._pidfile.remove()

    def _note(self, message: Message, **more: object) -> None:
        """Log one of the program's messages with the facts that its row names."""
        facts = {"version": VERSION, "pid": os.getpid(), "user": self._rights.user, "command": self._last_command,
                 **more}
        self._log.note(message, **{name: facts[name] for name in message.fields.split()})
