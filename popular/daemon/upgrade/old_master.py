"""The old master's part of an upgrade (popular.daemon.upgrade): starting the new one, and making room for it.

Master only.  `Upgrade.begin` raises UsageError and OSError; nothing else raises.
"""

import fcntl
import os
import socket
import time
from dataclasses import replace

from popular.config.store import dump
from popular.control.answer import ControlAnswer
from popular.daemon.master.loop import Master
from popular.daemon.master.statefile import aside_path
from popular.daemon.messages import UPGRADE_BEGUN, UPGRADE_FAILED, UPGRADED
from popular.daemon.start.handover import WORD, Handle, HandOver
from popular.daemon.upgrade.rerun import Origin, run_orphan
from popular.errors import StartError
from popular.unix.ready import FAILED
from popular.unix.signals import kill_and_wait
from popular.version import VERSION

UPGRADE_SECONDS = 30.0    # that a new master has until it must serve
STAY_SECONDS = 5.0        # that a replaced master stays at least: who gave the command may say more over the connection

SERVES = "serves"         # and its version: the word of a new master that has taken charge
END = "end"               # and a command: the word of one that was told to end

_MAX_WORD = 1000          # octets
_MAX_TEXT = 1 << 16       # octets of what a new master may write to its standard error
_MAX_LINES = 20           # of that, the last ones, as its reasons
_TRACEBACK = "Traceback (most recent call last):"

_COMMANDS = {"shutdown all": Master.shutdown_all, "shutdown children": Master.shutdown_all,
             "shutdown parent": Master.shutdown_parent, "shutdown delayed": Master.shutdown_delayed}


class NewMaster:
    """The process that is to be the next master, from its start on; also the late answer to `upgrade`."""

    def __init__(self, origin: Origin, hand: HandOver) -> None:
        """Start it with what `hand` says, `line` and `ready_fd` aside; raises OSError."""
        self.until = time.monotonic() + UPGRADE_SECONDS
        self.deadline = self.until + 1.0    # when there is an answer in any case
        self.answer: ControlAnswer | None = None
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = _limited_memory()
        try:
            with theirs:
                hand = replace(hand, line=theirs.fileno(), ready_fd=self._errors)
                record = hand.write()
                try:
                    self.pid, self._pidfd = run_orphan(
                        origin, [WORD, str(record)], {2: self._errors}, [record, *hand.descriptors])
                finally:
                    os.close(record)
        except OSError:
            self.line.close()
            os.close(self._errors)
            raise
        self.line.setblocking(False)

    def hear(self) -> tuple[list[tuple[str, str]], bool]:
        """Return what it has said since the last call, each time one word and the rest, and whether it is dead."""
        said: list[tuple[str, str]] = []
        while True:
            try:
                packet = self.line.recv(_MAX_WORD)
            except BlockingIOError:
                return said, False
            except OSError:
                packet = b""
            if not packet:    # it never closes its end of the line
                return said, True
            word, _, rest = packet.decode("utf-8", "replace").partition(" ")
            said.append((word, rest))

    def reason(self, otherwise: str) -> list[str]:
        """Return why it cannot, in its own words or in others; of a traceback the last line."""
        text = os.pread(self._errors, _MAX_TEXT, 0).rstrip(b"\0").decode("utf-8", "replace")
        first, _, rest = text.partition("\n")
        lines = (rest if first.startswith(FAILED) else text).splitlines()
        return lines[-1 if _TRACEBACK in lines else -_MAX_LINES:] or [f"the new process {otherwise}"]

    @property
    def descriptors(self) -> tuple[int, int]:
        """What children of this master are not to have, `line` aside."""
        return self._pidfd, self._errors

    def end(self) -> None:
        """Kill it, and wait until it has let go of everything."""
        kill_and_wait(self._pidfd)

    def close(self) -> None:
        """Let go of it."""
        self.line.close()
        os.close(self._pidfd)
        os.close(self._errors)

    def look(self) -> ControlAnswer | None:
        """Return the answer when there is one."""
        return self.answer

    def give_up(self) -> ControlAnswer:
        """Answer nevertheless."""
        return ControlAnswer.refusal("the upgrade takes longer than it may")

    def abandon(self) -> bool:
        """Nothing is to be stopped: an upgrade that was asked for goes on."""
        return False


class Upgrade:
    """The master after this one, once there is one; a `Peer` of it."""

    def __init__(self, master: Master, hand: HandOver, origin: Origin) -> None:
        """Start new masters as `origin` says, which begin with what this one did (`hand`) and has become."""
        self._master = master
        self._hand = hand
        self._origin = origin
        self._new: NewMaster | None = None
        self._is_replaced = False
        self._stays_until = 0.0    # monotonic, once it is replaced

    def begin(self) -> NewMaster:
        """Start a new master; raises UsageError when there is one, or the daemon is ending, and OSError."""
        master = self._master
        master.want_no_end()
        self._new = new = NewMaster(self._origin, self._hand_over())
        master.watch.register(new.line.fileno(), lambda: None)    # `attend` listens
        master.watch.keep(*new.descriptors)
        master.statefile.set_aside(aside_path(master.spec.name, master.config.variables.text("rundir")))
        master.log.note(UPGRADE_BEGUN, process=new.pid)
        return new

    def patience(self, now: float) -> float | None:
        """Return the seconds until the new master's time is over, or this one may end; None: nothing is awaited."""
        if self._is_replaced:
            return self._stays_until - now if now < self._stays_until else None
        return None if self._new is None else max(0.0, self._new.until - now)

    def attend(self) -> None:
        """Follow what the new master says, and what it does not say in time."""
        new, master = self._new, self._master
        if new is None:
            return
        said, is_dead = new.hear()
        versions = [rest for word, rest in said if word == SERVES]
        commands = [rest for word, rest in said if word == END]
        if versions and (commands or not is_dead):
            self._step_aside(new, versions[0])
        elif is_dead and not self._is_replaced:
            self._fail(new, new.reason("ended before it was ready"))
        elif not self._is_replaced and time.monotonic() >= new.until:
            self._fail(new, new.reason(f"was not ready after {UPGRADE_SECONDS:g} s"))
        for command in commands:
            self._stays_until = 0.0
            _COMMANDS.get(command, Master.shutdown_delayed)(master)
        if is_dead:    # it may end as it likes
            self.close()

    @property
    def pid(self) -> int:
        """The process id of the new master; 0: there is none."""
        return 0 if self._new is None else self._new.pid

    @property
    def objection(self) -> str:
        """Why a change would be lost now; empty: it would not."""
        if self._is_replaced:
            return "another process has taken over"
        return "an upgrade is under way" if self._new is not None else ""

    def end_begins(self, command: str) -> None:
        """Begin to end with the master: one that does not serve yet is not wanted any more."""
        if self._new is not None and not self._is_replaced:
            self._fail(self._new, [f"the daemon was told: {command}"])

    @property
    def is_awaited(self) -> bool:
        """Tell whether this one is to stay; the new master is not to end before it."""
        return time.monotonic() < self._stays_until

    def close(self) -> None:
        """Let go of the new master, which lives on."""
        new, self._new = self._new, None
        if new is not None:
            self._master.watch.unregister(new.line.fileno())
            self._master.watch.forget(*new.descriptors)
            new.close()

    def _hand_over(self) -> HandOver:
        """Return what this master began with, as it is now."""
        master = self._master
        schema = master.spec.schema
        return replace(
            self._hand, version=VERSION, config=dump(master.config, schema), base=dump(master.base, schema),
            drops=False, capabilities=(), detached=True, log_fd=master.log.fileno(),
            handles=tuple(map(Handle.of, master.listeners)),
            rings=tuple(map(Handle.of_ring, master.rings.clients)))

    def _step_aside(self, new: NewMaster, version: str) -> None:
        """Leave the field to a new master that serves."""
        self._is_replaced = True
        self._stays_until = time.monotonic() + STAY_SECONDS
        self._master.notify.tell(f"MAINPID={new.pid}")    # from the one that it listens to
        self._master.log.note(UPGRADED, process=new.pid, version=version)
        new.answer = ControlAnswer(True, f"process {new.pid}, version {version}, has taken over")
        self._master.step_aside()

    def _fail(self, new: NewMaster, why: list[str]) -> None:
        """Go on without the new master, and take back what it may have taken."""
        new.end()
        self.close()
        try:    # this first: whoever hears of the failure finds us in place
            self._master.take_charge()
        except StartError as error:
            why = [*why, str(error)]
        self._master.log.note(UPGRADE_FAILED, why=why[-1])
        new.answer = ControlAnswer(False, "the upgrade failed, this process goes on", tuple(why))


def _limited_memory() -> int:
    """Return a descriptor for standard error: a file in memory that cannot grow, for who hangs may say much."""
    fd = os.memfd_create("popular-errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _MAX_TEXT)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return fd
