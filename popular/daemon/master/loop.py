"""The master of a daemon: one loop around one poll, from the start to an orderly end.

Holds the Config, the children and the listeners; serves nobody itself, asks no DNS and no database,
has no threads.  It ends by the shutdown commands only; whatever else ends it is logged as 0004.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from popular.config.store import Config
from popular.control.answer import Later
from popular.daemon.admin.sessions import LiveSessions
from popular.daemon.child.accept import tls_of
from popular.daemon.master.birth import Birth, Stillborn
from popular.daemon.master.limits import Limits
from popular.daemon.master.listeners import PortBinder, RingPorts, borrowed, close_all
from popular.daemon.master.rings import MasterRings
from popular.daemon.master.statefile import learn_names
from popular.daemon.messages import (
    CHILDREN_KILLED, COMMAND, FILES_NOT_READ, LEFT_MAIN_LOOP, LOG_NOT_REOPENED, LOG_REOPENED, RUNS_AS_ROOT,
    START_FAILED, STATE_FILE_FAILED, UPGRADE_FAILED)
from popular.daemon.settings import load_limit
from popular.daemon.spec import METRICS, DaemonSpec, Job, Listener
from popular.daemon.tls import kept
from popular.errors import ConfigError, PdmError, StartError, UsageError
from popular.log.message import Message
from popular.log.trace import places
from popular.net.ringclient import RingClient
from popular.proc.child import Child, Inheritance
from popular.proc.pool import PoolLimits
from popular.proc.supervisor import Supervisor
from popular.proc.watch import Watch
from popular.unix.notify import Notify
from popular.unix.pidfile import PidFile
from popular.unix.ready import Ready
from popular.unix.signals import SignalPipe, set_mask
from popular.version import VERSION

GRACE = 5.0    # seconds that children have for TERM before KILL, and then for KILL

_WAKING = (signal.SIGCHLD, signal.SIGUSR1)    # handled, but no commands (spec 1.4)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How the master ends: when to do the next thing about children that stay."""

    deadline: float | None            # monotonic; None: wait as long as it takes
    at_deadline: Callable[[], None]


def _wake_up() -> None:
    """Do nothing but end the wait: the doorbell is read in every turn, right before the dead are collected."""


class _Attendant(Protocol):
    """What has its turn in the master's loop beside the children."""

    def patience(self, now: float) -> float | None:
        """Return the seconds after which `attend` is due although nothing comes; None: never."""

    def attend(self) -> None:
        """Do what is due; must not block."""

    def close(self) -> None:
        """End everything."""


class _Peer(_Attendant, Protocol):
    """The master before or after this one, while there are both (daemon.upgrade)."""

    @property
    def objection(self) -> str:
        """Why a change would be lost that is made now; empty: it would not."""

    def end_begins(self, command: str) -> None:
        """Do what is due when this master begins to end by `command`."""

    @property
    def is_awaited(self) -> bool:
        """Tell whether it, too, is to end before this master may."""


class Master:
    """One running daemon."""

    def __init__(self, spec: DaemonSpec, config: Config, base: Config, listeners: Sequence[Listener],
                 inheritance: Inheritance, pidfile: PidFile, rings: Sequence[RingClient], notify: Notify, *,
                 is_in_charge: bool) -> None:
        """Make the job and everything else that can fail; raises ConfigError, PdmError, OSError.

        A new master of an upgrade is not in charge yet.
        """
        self.spec = spec
        self.config = config
        self.base = base      # what the file said when it was read last
        self.log = inheritance.log
        self.reserved = inheritance.reserved
        self.statefile = inheritance.statefile
        self.pidfile = pidfile
        self.is_in_charge = is_in_charge    # of two masters, it is this one that serves and speaks for the daemon
        self.notify = notify
        self.notify.may_speak = lambda: self.is_in_charge
        self.log_number = 0         # how often the log was opened anew
        self.begin_upgrade: Callable[[], Later]    # given by daemon.upgrade; raises UsageError, OSError
        self.proof_seconds = 0.0    # that children must work for without a failure before the start is announced
        self.peers: list[_Peer] = []
        self.publish: list[Callable[[], None]] = [lambda: pidfile.write(os.getpid()), self.statefile.publish]
        self.listeners = list(listeners)
        self.watch = Watch(inheritance.masters_own)
        self.rings = MasterRings(self.watch, self.log, rings)
        self.ports: PortBinder = RingPorts(self.rings)
        self.attendants: list[_Attendant] = []
        self.mourners: list[Callable[[int, int], None]] = []    # told pid and exit code of the dead who are no children
        self._own = inheritance.masters_own
        self._user = inheritance.rights
        self._title = inheritance.title
        self._commands = {row.number: row for row in spec.signals}
        self._ending: _Ending | None = None
        self._is_over = False
        self._last_command = ""
        self._limits = Limits(self.statefile, self.log, spec.load)
        self.job = spec.make_job(config, self.log, None)
        self.supervisor = Supervisor(spec.pool(config), inheritance, self._work(self.job), self._fulfil,
                                     spec.login(config), lambda row, how: spec.sum_up(self.config, self.log, row, how))
        self.sessions = LiveSessions(self.supervisor, spec.statefile)
        self.follow_config()
        self._signals = SignalPipe((*self._commands, *_WAKING))
        set_mask(signal.SIG_BLOCK, {signal.SIGXCPU})    # of a limit that is for children, who unblock all signals
        inheritance.masters_own.add(*self._signals.descriptors)
        self.watch.register(self._signals.fileno(), self._obey_signals)
        self.watch.register(inheritance.doorbell.fileno(), _wake_up)

    def run(self, ready: Ready) -> int:
        """Main loop of the master.  Returns the exit code; raises Stillborn when no child is ever ready for work."""
        ready.keep_from_children(self._own)
        self.attendants.insert(0, Birth(self, lambda: self._announce(ready)))
        try:
            while not self._is_over:
                self.watch.wait(self._soonest(self._limits.wait(self.supervisor.attend())))
                for pid, code in self.supervisor.look_after():
                    for mourn in self.mourners:
                        mourn(pid, code)
                self._limits.look(self.supervisor.busy)
                for attendant in (*self.peers, *self.attendants):
                    attendant.attend()
                self._look_at_end()
        finally:
            self._say_goodbye()
        return os.EX_OK

    def follow_config(self) -> None:
        """Let state file and limits follow `config`; call it when that has changed, before children see it."""
        learn_names(self.statefile, self.spec, self.config)
        self.statefile.tell(generation=self.config.generation)
        self._limits.configure(self.spec.pool(self.config).limit, load_limit(self.config))
        if self.statefile.trouble:
            self.log.note(STATE_FILE_FAILED, why=self.statefile.trouble)

    @property
    def is_ending(self) -> bool:
        """Tell whether the end has begun."""
        return self._is_over or self._ending is not None

    def want_no_end(self) -> None:
        """Raise UsageError when a change would be lost: this master ends, or makes room for another."""
        for peer in self.peers:
            if peer.objection:
                raise UsageError(peer.objection)
        if self.is_ending:
            raise UsageError("the daemon is ending")

    def status(self) -> str:
        """Return what is going on, for the eyes of an administrator, in one line."""
        what = self._limits.status() if self.spec.statefile is not None else f"children: {self.supervisor.count}"
        return f"ending, {what}" if self.is_ending else what

    def adopt(self, config: Config, job: Job, limits: PoolLimits, listeners: Sequence[Listener]) -> None:
        """Go on with a new Config and what was made of it; children follow when they are renewed."""
        self.config = config
        self.job = job
        self.listeners = list(listeners)
        self.log.debug_on = config.variables.flag("debug")
        self.supervisor.adopt(self._work(job), limits, self.spec.login(config))
        self.follow_config()

    def upgrade(self) -> None:
        """Have a new master started; what becomes of it is in the log."""
        try:
            self.begin_upgrade()
        except (UsageError, OSError) as why:
            self.log.note(UPGRADE_FAILED, why=str(why))

    def take_charge(self) -> None:
        """Let pid file, state file and control socket lead here, wherever they led; raises StartError."""
        try:
            for publish in self.publish:
                publish()
        except (StartError, OSError) as why:
            raise Stillborn(f"cannot take over: {why}") from why
        self.is_in_charge = True
        self.notify.ready()

    def step_aside(self) -> None:
        """Take no more connections, because a new master does, and end with the last session."""
        self.is_in_charge = False
        self._own.remove(self.pidfile.fd)
        self.pidfile.close()
        self._title.set("master, replaced")
        self.shutdown_delayed("upgrade")

    def shutdown_all(self) -> None:
        """End all children by TERM, those that stay by KILL; then end."""
        self._begin_to_end("shutdown all")
        self.supervisor.kill_all(signal.SIGTERM, "shutdown all")
        self._ending = _Ending(time.monotonic() + GRACE, self._kill_the_rest)

    def shutdown_children(self) -> None:
        """End all children by TERM and go on."""
        for peer in self.peers:
            peer.end_begins("shutdown children")
        self.supervisor.kill_all(signal.SIGTERM, "shutdown children")

    def shutdown_parent(self) -> None:
        """End now: idle children see the death pipe and leave, busy ones finish."""
        self._begin_to_end("shutdown parent")
        self._is_over = True

    def shutdown_delayed(self, command: str = "shutdown delayed") -> None:
        """Stop listening, wait for every child, then end; `command` asked for it."""
        self._begin_to_end(command if self._ending is None else self._last_command)
        self.supervisor.retire_all()
        if self._ending is None:    # never soften an ending that has begun
            self._ending = _Ending(None, self._give_up_waiting)

    def reopen(self) -> list[str]:
        """Reopen the log, read certificates anew; children without a session are replaced by new ones.

        Returns what could not be done, a line each; it is in the log, too.
        """
        troubles: list[str] = []
        self.notify.reload_begins()
        try:
            self.log.reopen()
        except StartError as why:
            self.log.note(LOG_NOT_REOPENED, error=str(why))
            troubles.append(str(why))
        else:
            self.log_number += 1
            self.log.note(LOG_REOPENED)
        if self._ending is None:
            if tls_of(self.job):
                troubles += self._make_job_anew()
            self.supervisor.renew()
        self.notify.reload_ends()
        return troubles

    def _make_job_anew(self) -> list[str]:
        """Let new children have what stands in the files now; returns what cannot be read and is as it was."""
        try:
            self.job = self.spec.make_job(self.config, self.log, self.job)
        except (ConfigError, PdmError, OSError) as why:
            self.log.note(FILES_NOT_READ, error=str(why))
            return str(why).splitlines()
        self.supervisor.adopt(self._work(self.job), self.spec.pool(self.config), self.spec.login(self.config))
        return kept(tls_of(self.job))

    def _announce(self, ready: Ready) -> bool:
        """Say that the daemon is there; False when whoever started it has given up waiting."""
        addresses = [(listener.owner, str(listener.endpoint)) for listener in self.listeners]
        if self._user.is_root:
            self.log.note(RUNS_AS_ROOT)
        self._note(self.spec.start_message, addresses=", ".join(address for _, address in addresses))
        if not self.is_in_charge:
            self.take_charge()
        elif ready.tell_ready(addresses):
            self.notify.ready()
        else:
            return False
        ready.tell_ready(addresses)    # the old master waits for a word and not for this, which only lets go
        return True

    def _die_at_birth(self, why: Stillborn) -> None:
        """End before anybody was told that there is a daemon."""
        if self.is_in_charge:
            self.log.note(START_FAILED, why=str(why))
            self.supervisor.kill_all(signal.SIGKILL, "start")
        else:    # whom a child serves beside the old master shall be served
            self.log.note(UPGRADE_FAILED, why=str(why))
        self._stop_listening()
        self.statefile.remove()
        self._leave_run_folder()

    def _say_goodbye(self) -> None:
        error = sys.exception()
        if isinstance(error, Stillborn):
            self._die_at_birth(error)
            return
        if not self._is_over:
            self.log.note(LEFT_MAIN_LOOP, type=type(error).__name__, trace=places(error))
        self._note(self.spec.end_message)
        if self.supervisor.count == 0:    # else those that go on are still to be seen
            self.statefile.remove()
        self._leave_run_folder()

    def _leave_run_folder(self) -> None:
        """Take away what tells others that we run; the pid file last, for it is the lock."""
        for attendant in (*self.peers, *self.attendants):
            attendant.close()
        if self.is_in_charge:
            self.pidfile.remove()

    def _note(self, message: Message, **more: object) -> None:
        """Log a message of the program's own with those facts that its row names."""
        facts = {"version": VERSION, "pid": os.getpid(), "user": self._user.user, "command": self._last_command,
                 "children": self.supervisor.count, **more}
        self.log.note(message, **{name: facts[name] for name in message.fields.split()})

    def _work(self, job: Job) -> Callable[[Child], int]:
        """Return what a child does: `job`, on the listeners that there are when it is forked."""
        def work(child: Child) -> int:
            self.log.debug_on = self.log.debug_on or bool(self.config.variables.get("debugsession"))
            return job.run(child, self._served())
        return work

    def _served(self) -> list[Listener]:
        """Return, in a child, the listeners that it serves; what is for metrics is closed there."""
        served = []
        for listener in self.listeners:
            if listener.owner == METRICS:
                listener.sock.close()
            else:
                served.append(listener)
        return served

    def _fulfil(self, wish: int) -> None:
        """Get what a child wishes that those to come had."""
        if self.spec.fulfil is not None and self.spec.fulfil(wish):
            gc.collect()
            gc.freeze()    # as at the start: it is shared with all children to come, and stays shared

    def _obey_signals(self) -> None:
        """Do what the signals that arrived ask for."""
        for number in self._signals.take():
            row = self._commands.get(signal.Signals(number))
            if row is not None:
                self.log.note(COMMAND, source=row.number.name, words=row.command)
                getattr(self, row.method)()

    def _begin_to_end(self, command: str) -> None:
        self._last_command = command
        for peer in self.peers:
            peer.end_begins(command)
        self.notify.stopping()
        self._stop_listening()
        self.supervisor.hold()

    def _stop_listening(self) -> None:
        listeners, self.listeners = self.listeners, []
        close_all(listeners if self.is_in_charge else borrowed(listeners), self.ports)
        self.rings.leave()

    def _soonest(self, patience: float | None) -> float | None:
        """Return how long to wait: what the supervisor says, but not beyond what others have to do."""
        now = time.monotonic()
        waits = [patience, *(attendant.patience(now) for attendant in (*self.peers, *self.attendants))]
        if self._ending is not None and self._ending.deadline is not None:
            waits.append(max(0.0, self._ending.deadline - now))
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_at_end(self) -> None:
        """End when the last child is gone, and an old master that ends too; do the next thing when it is time."""
        if self._ending is None:
            return
        if self.supervisor.count == 0 and not any(peer.is_awaited for peer in self.peers):
            self._is_over = True
        elif self._ending.deadline is not None and time.monotonic() >= self._ending.deadline:
            self._ending.at_deadline()

    def _kill_the_rest(self) -> None:
        if self.supervisor.count:    # else only an old master is still there, which does the same
            self.log.note(CHILDREN_KILLED, count=self.supervisor.count)
            self.supervisor.kill_all(signal.SIGKILL, "shutdown")
        self._ending = _Ending(time.monotonic() + GRACE, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        """Leave children that not even KILL ends (they hang in the kernel) to their fate."""
        self.supervisor.give_up()
        self._is_over = True
