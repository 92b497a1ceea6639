"""The master's side of relay processes: it keeps them, shows and ends their sessions, and sums up those of the dead.

An attendant of the master, imported where `relay` is shared.  Raises nothing once it is made.
"""

import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from popular.daemon.child.accept import own_sockets
from popular.daemon.master.loop import Master
from popular.log.once import OnceAMinute
from popular.pproxy.messages import RELAY_DIED
from popular.pproxy.relays.channel import RelayChannel, RelayChannels, sid_field
from popular.pproxy.relays.process import END_SESSION, NEW_LOG, MAX_ORDER, ORDER, RelayProcess, allow_sessions
from popular.proc.child import RETIRE, Inheritance
from popular.proc.helper import Helper, fork_helper
from popular.proc.messages import FORK_FAILED
from popular.proc.supervisor import manner, send
from popular.statefile.counters import CUT_OFF
from popular.statefile.reader import Row
from popular.unix.walls.walls import Policy

_AGAIN = 1.0    # seconds from the start of a process to the next try in its place


@dataclass(slots=True)
class _Relay:
    """The place of one process."""

    number: int
    channel: RelayChannel
    pid: int = 0
    ending: str = ""     # why the master ended it; empty: it did not
    due: float = 0.0     # monotonic: when one may be started
    log_number: int = 0    # of the log that was sent to it


class RelayKeeper:
    """Keeps the processes until the last session."""

    def __init__(self, master: Master, inheritance: Inheritance, channels: RelayChannels) -> None:
        """Begin without processes; raises OSError."""
        self._master = master
        self._statefile = inheritance.statefile
        self._relays = [_Relay(number, channel, log_number=master.log_number)
                        for number, channel in enumerate(channels.each)]
        self._own = [sock.fileno() for each in channels.each for sock in (each.inner, each.masters, each.orders)]
        master.watch.keep(*self._own)
        walls = inheritance.walls.like()
        walls.prepare(Policy(readable=(), is_sealed=True, processes=inheritance.walls.policy.processes))
        self._inheritance = replace(inheritance, walls=walls)
        self._is_retired = False
        self._trouble = OnceAMinute()
        for relay in self._relays:
            self._show(relay, is_open=True)    # sessions that come before the processes wait for them
        master.holders.append(self)

    @property
    def count(self) -> int:
        """How many processes there are."""
        return sum(relay.pid != 0 for relay in self._relays)

    def status(self) -> str:
        """Describe how many sessions there are."""
        return f"relayed: {self._statefile.relayed_count} of {self._statefile.layout.relayed}"

    def sessions(self) -> list[Row]:
        """Return the sessions as the processes describe them; only the process ids are the master's own data."""
        pids = [relay.pid for relay in self._relays]
        rows = self._statefile.relayed()
        return [replace(row, pid=pid) for row in rows if (pid := pids[self._number(row)])]

    def end(self, row: Row, why: str) -> bool:
        """Have one session ended; return False if that is not possible."""
        relay = self._relays[self._number(row)]
        order = ORDER.pack(END_SESSION, row.slot, sid_field(row.sid)) + why.encode("utf-8")
        try:
            relay.channel.masters.send(order[:MAX_ORDER], socket.MSG_NOSIGNAL)
        except OSError:    # it does not read any more
            return False
        return relay.pid != 0

    def kill_all(self, number: signal.Signals, why: str) -> None:
        """End all processes, and with them all sessions, by a signal; `why` is for the log."""
        for relay in self._relays:
            if relay.pid:
                relay.ending = relay.ending or why
                send(relay.pid, number)

    def give_up(self) -> None:
        """Sum up the sessions of processes that no signal ends."""
        for relay in self._relays:
            if relay.pid:
                self._sum_up(relay, relay.ending)

    def patience(self, now: float) -> float | None:
        """Return the seconds until a process is to start or to hear of a new log; None: nothing is to be done."""
        waits = [_AGAIN for relay in self._relays if relay.log_number != self._master.log_number]
        if not self._master.is_ending:
            waits += [max(0.0, relay.due - now) for relay in self._relays if not relay.pid]
        return min(waits, default=None)

    def attend(self) -> None:
        """Start what is missing; tell of a new log; retire the processes when no child is left."""
        for relay in self._relays:
            if relay.log_number != self._master.log_number:
                self._tell_log(relay)
        if self._master.is_ending:
            if not self._is_retired and not self._master.supervisor.count:
                self._retire()
            return
        now = time.monotonic()
        for relay in self._relays:
            if not relay.pid and now >= relay.due:
                self._start(relay, now)

    def bury(self, pid: int, code: int) -> None:
        """Note a death, and sum up the sessions that died with it."""
        relay = next((relay for relay in self._relays if relay.pid == pid), None)
        if relay is None:
            return
        relay.pid = 0
        ending, relay.ending = relay.ending, ""
        lost = self._sum_up(relay, ending or manner(code))
        if not ending and (code or lost):
            self._master.log.note(RELAY_DIED, process=pid, how=manner(code), sessions=lost)

    def close(self) -> None:
        """Let the processes end with their last sessions."""
        self._retire()

    def _retire(self) -> None:
        self._is_retired = True
        for relay in self._relays:
            if relay.pid:
                send(relay.pid, RETIRE)

    def _start(self, relay: _Relay, now: float) -> None:
        relay.due = now + _AGAIN
        share = -(-self._statefile.layout.relayed // len(self._relays))
        others = [*(each.sock for each in self._master.listeners), *own_sockets(self._master.job),
                  *(each.channel.outer for each in self._relays)]
        own = (relay.channel.inner.fileno(), relay.channel.orders.fileno())
        inheritance = replace(self._inheritance, masters_own=self._inheritance.masters_own.but(*own))
        most: list[int] = []
        self._show(relay, is_open=True)
        try:
            relay.pid = fork_helper("relay", inheritance, others, self._work(relay, most),
                                    lambda: most.append(allow_sessions(share)))
        except (OSError, MemoryError) as why:
            self._show(relay, is_open=False)
            if self._trouble.is_due():
                self._master.log.note(FORK_FAILED, error=getattr(why, "strerror", None) or "no memory",
                                      children=self._master.supervisor.count, delay=_AGAIN)

    def _show(self, relay: _Relay, *, is_open: bool) -> None:
        """Tell children whether a place takes sessions."""
        slots = self._statefile.relay_slots(relay.number)
        (slots.open if is_open else slots.close)()
        slots.release()

    def _work(self, relay: _Relay, most: list[int]) -> Callable[[Helper], None]:
        def work(helper: Helper) -> None:
            RelayProcess(helper, self._statefile.relay_slots(relay.number), relay.channel, most[0]).run()
        return work

    def _tell_log(self, relay: _Relay) -> None:
        """Send the log; a process that takes the place of a dead one reads what was sent to that one."""
        try:
            socket.send_fds(relay.channel.masters, [NEW_LOG], [self._master.log.fileno()], socket.MSG_NOSIGNAL)
        except OSError:    # its queue is full, or it does not read any more
            return
        relay.log_number = self._master.log_number

    def _sum_up(self, relay: _Relay, how: str) -> int:
        """Sum up the sessions of a dead process, unless their children have them still; return their number."""
        slots = self._statefile.relay_slots(relay.number)
        slots.close()
        lost = 0
        for slot in slots.used():
            if slots.is_summed_up(slot):
                slots.clear(slot)
                continue
            row = self._statefile.last_words(slot)
            if row is not None:
                lost += 1
                self._statefile.count(CUT_OFF)
                with self._master.log.about(row.sid):
                    self._master.spec.sum_up(self._master.config, self._master.log, row, how)
            self._statefile.clear(slot)
        slots.release()
        return lost

    def _number(self, row: Row) -> int:
        return (row.slot - self._statefile.layout.slots) % len(self._relays)
