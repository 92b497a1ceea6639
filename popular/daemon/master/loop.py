"""The master of a daemon: one loop around one poll, from the start to an orderly end.

It holds the Config, the children and the listeners.  It serves no client, queries no DNS and no database, and
has no threads.  Only the shutdown commands end it; any other end is logged as 0004.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from popular.config.mistakes import ConfigError
from popular.config.store import Config
from popular.control.answer import Later
from popular.daemon.admin.sessions import LiveSessions
from popular.daemon.child.accept import reads_files, tls_of
from popular.daemon.confinement import renew_walls
from popular.daemon.master.attendant import Attendant, OtherMaster, SessionHolder
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
from popular.errors import PdmError, StartError, UsageError
from popular.log.message import Message
from popular.log.trace import places
from popular.net.ring.client import RingClient
from popular.proc.child import Child, Inheritance
from popular.proc.immortal import make_immortal
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
    """How the master ends: when to take the next step against children that stay."""

    deadline: float | None            # monotonic; None: wait as long as it takes
    at_deadline: Callable[[], None]


def _wake_up() -> None:
    """Only end the wait: the doorbell is read in every turn, right before dead children are removed."""


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
        self.base = base      # the contents of the file when it was last read
        self.log = inheritance.log
        self.reserved, self.statefile, self.walls = inheritance.reserved, inheritance.statefile, inheritance.walls
        self.pidfile = pidfile
        self.is_in_charge = is_in_charge    # of two masters, this one serves and reports for the daemon
        self.notify = notify
        self.notify.may_speak = lambda: self.is_in_charge
        self.log_number = 0         # how often the log was reopened
        self.begin_upgrade: Callable[[], Later]    # set by daemon.upgrade; raises UsageError, OSError
        self.proof_seconds = 0.0    # for which children must work without failure before the announcement
        self.peers: list[OtherMaster] = []
        self.publish: list[Callable[[], None]] = [lambda: pidfile.write(os.getpid()), self.statefile.publish]
        self.listeners = list(listeners)
        self.watch = Watch(inheritance.masters_own)
        self.rings = MasterRings(self.watch, self.log, rings)
        self.ports: PortBinder = RingPorts(self.rings)
        self.attendants: list[Attendant] = []
        self.holders: list[SessionHolder] = []    # those of them that have sessions
        self.mourners: list[Callable[[int, int], None]] = []    # get pid and exit code of dead helpers
        self._inheritance = inheritance
        self._own = inheritance.masters_own
        self._user = inheritance.rights
        self._title = inheritance.title
        self._commands = {row.number: row for row in spec.signals}
        self._ending: _Ending | None = None
        self._is_over = False
        self._last_command = ""
        self.limits = Limits(self.statefile, self.log, spec.load)
        self.job = spec.make_job(config, self.log, None)
        self.supervisor = Supervisor(spec.pool(config), inheritance, self._work(self.job), self._fulfil,
                                     spec.login(config), lambda row, how: spec.sum_up(self.config, self.log, row, how))
        self.sessions = LiveSessions(self.supervisor, spec.statefile, self.holders)
        self.follow_config()
        self._signals = SignalPipe((*self._commands, *_WAKING))
        set_mask(signal.SIG_BLOCK, {signal.SIGXCPU})    # of a limit for children, which unblock all signals
        inheritance.masters_own.add(*self._signals.descriptors)
        self.watch.register(self._signals.fileno(), self._obey_signals)
        self.watch.register(inheritance.doorbell.fileno(), _wake_up)

    def run(self, ready: Ready) -> int:
        """Run the main loop and return the exit code; raises Stillborn if no child becomes ready for work."""
        ready.keep_from_children(self._own)
        self._share_program()
        self.attendants.insert(0, Birth(self, lambda: self._announce(ready)))
        try:
            while not self._is_over:
                self.watch.wait(self._soonest(self.limits.wait(self.supervisor.attend())))
                for pid, code in self.supervisor.look_after():
                    for mourn in self.mourners:
                        mourn(pid, code)
                self.limits.look(self.supervisor.busy)
                for attendant in (*self.peers, *self.attendants):
                    attendant.attend()
                self._look_at_end()
        finally:
            self._say_goodbye()
        return os.EX_OK

    def follow_config(self) -> None:
        """Apply `config` to state file and limits; call this after each change, before children see it."""
        renew_walls(self.walls, self.spec.policy(self.config, self.job), self.config)
        learn_names(self.statefile, self.spec, self.config)
        self.statefile.tell(generation=self.config.generation)
        self.limits.configure(self.spec.pool(self.config).limit, load_limit(self.config))
        if self.statefile.trouble:
            self.log.note(STATE_FILE_FAILED, why=self.statefile.trouble)

    @property
    def is_ending(self) -> bool:
        """Tell whether the end has begun."""
        return self._is_over or self._ending is not None

    def want_no_end(self) -> None:
        """Raise UsageError if a change would be lost, because this master ends or is being replaced."""
        for peer in self.peers:
            if peer.objection:
                raise UsageError(peer.objection)
        if self.is_ending:
            raise UsageError("the daemon is ending")

    def status(self) -> str:
        """Return one status line for administrators."""
        what = self.limits.status() if self.spec.statefile is not None else f"children: {self.supervisor.count}"
        what = ", ".join((what, *(holder.status() for holder in self.holders)))
        return f"ending, {what}" if self.is_ending else what

    def adopt(self, config: Config, job: Job, limits: PoolLimits, listeners: Sequence[Listener]) -> None:
        """Use a new Config and what was made from it; children follow when they are renewed."""
        self.config = config
        self.job = job
        self.listeners = list(listeners)
        self.log.debug_on = config.variables.flag("debug")
        self.supervisor.adopt(self._work(job), limits, self.spec.login(config))
        self.follow_config()

    def upgrade(self) -> None:
        """Have a new master started; the log shows the outcome."""
        try:
            self.begin_upgrade()
        except (UsageError, OSError) as why:
            self.log.note(UPGRADE_FAILED, why=str(why))

    def take_charge(self) -> None:
        """Make pid file, state file and control socket those of this master; raises StartError."""
        try:
            for publish in self.publish:
                publish()
        except (StartError, OSError) as why:
            raise Stillborn(f"cannot take over: {why}") from why
        self.is_in_charge = True
        self.notify.ready()

    def step_aside(self) -> None:
        """Leave new connections to a new master, and end with the last session."""
        self.is_in_charge = False
        self._own.remove(self.pidfile.fd)
        self.pidfile.close()
        self._title.set("master, replaced")
        self.shutdown_delayed("upgrade")

    def shutdown_all(self) -> None:
        """End all children by TERM, then those that stay by KILL; then end."""
        self._begin_to_end("shutdown all")
        self._kill_all(signal.SIGTERM, "shutdown all")
        self._ending = _Ending(time.monotonic() + GRACE, self._kill_the_rest)

    def shutdown_children(self) -> None:
        """End all children by TERM and go on."""
        for peer in self.peers:
            peer.end_begins("shutdown children")
        self._kill_all(signal.SIGTERM, "shutdown children")

    def shutdown_parent(self) -> None:
        """End now: idle children see this by the death pipe and leave, busy ones finish their session."""
        self._begin_to_end("shutdown parent")
        self._is_over = True

    def shutdown_delayed(self, command: str = "shutdown delayed") -> None:
        """Stop listening, wait for every child, then end; `command` asked for it."""
        self._begin_to_end(command if self._ending is None else self._last_command)
        self.supervisor.retire_all()
        if self._ending is None:    # never soften an ending that has begun
            self._ending = _Ending(None, self._give_up_waiting)

    def reopen(self) -> list[str]:
        """Reopen the log, reload certificates, and replace children without a session.

        Returns a line for each failure; the log has them, too.
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
            if reads_files(self.job):
                troubles += self._make_job_anew()
            self.supervisor.renew()
        self.notify.reload_ends()
        return troubles

    def _make_job_anew(self) -> list[str]:
        """Reload the files for new children; return a line for each that cannot be read, whose old content stays."""
        try:
            self.job = self.spec.make_job(self.config, self.log, self.job)
        except (ConfigError, PdmError, OSError) as why:
            self.log.note(FILES_NOT_READ, error=str(why))
            return str(why).splitlines()
        self.supervisor.adopt(self._work(self.job), self.spec.pool(self.config), self.spec.login(self.config))
        return kept(tls_of(self.job))

    def _announce(self, ready: Ready) -> bool:
        """Report that the daemon is ready; return False if the starter has given up waiting."""
        addresses = [(listener.owner, str(listener.endpoint)) for listener in self.listeners]
        if self._user.is_root:
            self.log.note(RUNS_AS_ROOT)
        self._note(self.spec.start_message, addresses=", ".join(address for _, address in addresses))
        if not self.is_in_charge:
            self.take_charge()
            ready.tell_ready(addresses)    # nobody reads it: this only closes the descriptor
        elif ready.tell_ready(addresses):
            self.notify.ready()
        else:
            return False
        return True

    def _die_at_birth(self, why: Stillborn) -> None:
        """End before the daemon has reported that it is ready."""
        if self.is_in_charge:
            self.log.note(START_FAILED, why=str(why))
            self.supervisor.kill_all(signal.SIGKILL, "start")
        else:    # its children may finish their sessions, beside the old master
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
        if not self._remaining:    # else pstatus still shows those that go on
            self.statefile.remove()
        self._leave_run_folder()

    def _leave_run_folder(self) -> None:
        """Remove the signs that this master runs; the pid file last, because it is the lock."""
        for attendant in (*self.peers, *self.attendants):
            attendant.close()
        if self.is_in_charge:
            self.pidfile.remove()

    def _note(self, message: Message, **more: object) -> None:
        """Log one of the program's messages with the facts that its row names."""
        facts = {"version": VERSION, "pid": os.getpid(), "user": self._user.user, "command": self._last_command,
                 "children": self.supervisor.count, **more}
        self.log.note(message, **{name: facts[name] for name in message.fields.split()})

    def _work(self, job: Job) -> Callable[[Child], int]:
        """Return a child's work: `job`, on the listeners that are open when it is forked."""
        is_debugging = bool(self.config.variables.get("debugsession"))

        def work(child: Child) -> int:
            self.log.debug_on = self.log.debug_on or is_debugging
            return job.run(child, self._served())
        return work

    def _served(self) -> list[Listener]:
        """Return, in a child, the listeners that it serves; close the one for metrics there."""
        served = []
        for listener in self.listeners:
            if listener.owner == METRICS:
                listener.sock.close()
            else:
                served.append(listener)
        return served

    def _fulfil(self, wish: int) -> None:
        """Get what a child wishes for future children."""
        if self.spec.fulfil is not None and self.spec.fulfil(wish):
            gc.collect()
            gc.freeze()    # as at the start: it is shared with all future children, and stays shared
            self._share_program()

    def _share_program(self) -> None:
        """Keep children from copying what is loaded, just by using it."""
        if self.config.variables.get("immortal"):
            make_immortal((*sys.modules.values(), self._inheritance), self.log)

    def _obey_signals(self) -> None:
        """Obey the signals that have arrived."""
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
        """Return how long to wait: as the supervisor says, or less if others have something to do."""
        now = time.monotonic()
        waits = [patience, *(attendant.patience(now) for attendant in (*self.peers, *self.attendants))]
        if self._ending is not None and self._ending.deadline is not None:
            waits.append(max(0.0, self._ending.deadline - now))
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_at_end(self) -> None:
        """End after the last child, and after a peer that also ends; else take the next step when it is due."""
        if self._ending is None:
            return
        if not self._remaining and not any(peer.is_awaited for peer in self.peers):
            self._is_over = True
        elif self._ending.deadline is not None and time.monotonic() >= self._ending.deadline:
            self._ending.at_deadline()

    @property
    def _remaining(self) -> int:
        """How many processes with sessions there are, or that wait for one."""
        return self.supervisor.count + sum(holder.count for holder in self.holders)

    def _kill_all(self, number: signal.Signals, why: str) -> None:
        self.supervisor.kill_all(number, why)
        for holder in self.holders:
            holder.kill_all(number, why)

    def _kill_the_rest(self) -> None:
        if self._remaining:    # else only an old master is left, which does the same
            self.log.note(CHILDREN_KILLED, count=self._remaining)
            self._kill_all(signal.SIGKILL, "shutdown")
        self._ending = _Ending(time.monotonic() + GRACE, self._give_up_waiting)

    def _give_up_waiting(self) -> None:
        """Stop waiting for children that not even KILL ends, because they hang in the kernel."""
        self.supervisor.give_up()
        for holder in self.holders:
            holder.give_up()
        self._is_over = True
