"""A master's view of its successor: starting it, standing aside for it, and standing by for a while.

`upgrade` and USR2 start what lies on disk as a process of its own, which begins with the listeners and
the configuration of the moment.  Between both there is a line:

* until the successor says that it has taken over, what it says is why it cannot: this master goes on as
  if nothing had been asked;
* from then on pid file, state file and control socket are the successor's; this master takes no more
  connections and lets its sessions end, as at `shutdown delayed`;
* when the line ends within the next `STANDBY_SECONDS`, the successor has died, and this master takes
  back what it had;
* when the successor is told to end, it passes the command on: what was begun here is to end, too.

Master only.  `begin` raises UsageError and OSError; nothing else raises.
"""

import os
import socket
import time
from collections.abc import Callable

from popular.config.store import dump
from popular.control.answer import ControlAnswer
from popular.daemon.master.loop import Master
from popular.daemon.master.statefile import aside_path
from popular.daemon.messages import UPGRADED, UPGRADE_BEGUN, UPGRADE_FAILED
from popular.daemon.start.handover import Handle
from popular.daemon.upgrade.estate import Estate, Heirloom
from popular.daemon.upgrade.heir import Heir
from popular.daemon.upgrade.rerun import Origin
from popular.errors import StartError, UsageError

UPGRADE_SECONDS = 30.0    # that a successor has until it must have taken over
STANDBY_SECONDS = 5.0     # in which this master can take back what a successor has taken over

_PASSED_ON = {"shutdown all": Master.shutdown_all, "shutdown children": Master.shutdown_all,
              "shutdown parent": Master.shutdown_parent, "shutdown delayed": Master.shutdown_delayed}


class Succession:
    """The successor of one master, once there is one."""

    def __init__(self, master: Master, origin: Origin, retake_socket: Callable[[], None]) -> None:
        """Start successors as `origin` says; `retake_socket` lets the control socket be found again (OSError)."""
        self._master = master
        self._origin = origin
        self._retake_socket = retake_socket
        self._heir: Heir | None = None
        self._until = 0.0             # monotonic: what is awaited now must have come by then
        self._is_aside = False        # the successor has taken over
        self._attempt: Attempt | None = None

    def begin(self) -> "Attempt":
        """Start a successor; raises UsageError when there is one, or the daemon is ending, and OSError."""
        master = self._master
        if master.is_ending:
            raise UsageError("the daemon is ending")
        self.want_none()
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._heir = Heir.start(self._origin, self._estate(theirs.fileno()), ours, theirs)
            except OSError:
                ours.close()
                raise
        master.watch.register(ours.fileno(), self._heir.hear)
        master.statefile.set_aside(aside_path(master.spec.name, master.config.variables.text("rundir")))
        self._until = time.monotonic() + UPGRADE_SECONDS
        self._attempt = Attempt(self._until)
        master.log.note(UPGRADE_BEGUN, process=self._heir.pid)
        return self._attempt

    def want_none(self) -> None:
        """Raise UsageError when another process has taken over, or is about to: changes would be lost."""
        if self._is_aside:
            raise UsageError("another process has taken over")
        if self._heir is not None:
            raise UsageError("an upgrade is under way")

    def patience(self, now: float) -> float | None:
        """Return the seconds until the successor's time is over; None: nothing is awaited."""
        return None if self._heir is None or self._master.is_ending else max(0.0, self._until - now)

    def attend(self) -> None:
        """Follow what the successor says, and what it does not say in time."""
        heir = self._heir
        if heir is None:
            return
        if not self._is_aside and heir.has_taken_over:
            self._step_aside(heir)
        for command in heir.take_commands():
            _PASSED_ON.get(command, Master.shutdown_delayed)(self._master)
        if self._master.is_ending:
            if heir.is_silent:    # it may end as it likes
                self._part()
        elif self._is_aside:
            self._stand_by(heir)
        elif heir.is_silent:
            self._fail(heir.reason("ended before it was ready"))
        elif time.monotonic() >= self._until:
            self._fail(heir.reason(f"was not ready after {UPGRADE_SECONDS:g} s"))

    def end_begins(self, command: str) -> None:
        """Begin to end with the master: a successor that has not taken over is not wanted any more."""
        if self._heir is not None and not self._is_aside:
            self._fail([f"the daemon was told: {command}"])

    @property
    def is_awaited(self) -> bool:
        """A successor is not to end before this master."""
        return False

    def close(self) -> None:
        """Let go of the successor, who lives on."""
        self._part()

    def _estate(self, channel: int) -> Estate:
        master = self._master
        schema = master.spec.schema
        return Estate(
            program=master.spec.name, channel=channel, config=dump(master.config, schema),
            base=dump(master.base, schema), log_fd=master.log.fileno(), pid_path=master.pidfile.path,
            reserved=master.reserved, heirlooms=tuple(map(Heirloom.of, master.listeners)),
            rings=tuple(Handle(ring.path, ring.fileno()) for ring in master.rings.clients),
            argv=self._origin.argv, folder=self._origin.folder, notify=master.notify.address,
            watchdog=master.notify.watchdog)

    def _step_aside(self, heir: Heir) -> None:
        """Leave the field to a successor that has taken over."""
        self._is_aside = True
        self._until = time.monotonic() + STANDBY_SECONDS
        self._master.step_aside()
        self._master.notify.tell(f"MAINPID={heir.pid}")    # from the one that it listens to
        self._master.notify.speaks = False
        self._master.log.note(UPGRADED, process=heir.pid, version=heir.version)
        self._conclude(ControlAnswer(True, f"process {heir.pid}, version {heir.version}, has taken over"))

    def _stand_by(self, heir: Heir) -> None:
        """Come back when the successor dies soon, else leave when it has not."""
        if heir.is_silent:
            self._fail(heir.reason(f"ended within {STANDBY_SECONDS:g} s"))
        elif time.monotonic() >= self._until:
            self._master.shutdown_delayed("upgrade")

    def _fail(self, why: list[str]) -> None:
        """Go on without the successor."""
        master = self._master
        if self._heir is not None:
            self._heir.end()
        self._part()
        is_back = self._take_back()    # this first: whoever hears of the failure finds us in place
        if self._is_aside and is_back:
            self._is_aside = False
            master.notify.speaks = True
            master.notify.tell(f"MAINPID={os.getpid()}")
            master.come_back()
        master.log.note(UPGRADE_FAILED, why=why[-1])
        self._conclude(ControlAnswer(False, "the upgrade failed, this process goes on", tuple(why)))
        if self._is_aside:    # somebody else was quicker, and serves
            master.shutdown_delayed("upgrade")

    def _take_back(self) -> bool:
        """Take back what the successor may have taken; tells whether this master is the one that runs again."""
        master = self._master
        try:
            master.statefile.put_back()
            master.pidfile.retake()
            self._retake_socket()
        except (StartError, OSError) as why:
            master.log.note(UPGRADE_FAILED, why=f"taking back: {why}")
            return False
        return True

    def _part(self) -> None:
        heir, self._heir = self._heir, None
        if heir is not None:
            self._master.watch.unregister(heir.fileno())
            heir.close()

    def _conclude(self, answer: ControlAnswer) -> None:
        if self._attempt is not None:
            self._attempt.answer = answer
            self._attempt = None


class Attempt:
    """The late answer to `upgrade`."""

    def __init__(self, until: float) -> None:
        """Wait until somewhat after `until`, a time of time.monotonic(), when there is an answer in any case."""
        self.deadline = until + 1.0
        self.answer: ControlAnswer | None = None

    def look(self) -> ControlAnswer | None:
        """Return the answer when there is one."""
        return self.answer

    def give_up(self) -> ControlAnswer:
        """Answer nevertheless."""
        return ControlAnswer.refusal("the upgrade takes longer than it may")

    def abandon(self) -> bool:
        """Nothing is to be stopped: an upgrade that was asked for goes on."""
        return False
