"""The master's side of screening: it starts the process when the pool is nearly full, and makes room on demand.

An attendant of the master (see process.py for what the process does).  Raises nothing.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from popular.daemon.child.accept import own_sockets
from popular.daemon.child.door import Door
from popular.daemon.master.loop import Master
from popular.daemon.spec import METRICS, Listener
from popular.log.once import OnceAMinute
from popular.pproxy.messages import SCREEN_ENDED, SCREEN_FAILED, SCREEN_STARTED
from popular.pproxy.screen.process import DESCRIPTORS, ClientScreen, Terms
from popular.proc.child import RETIRE, Inheritance
from popular.proc.helper import Helper, end_process, fork_helper
from popular.proc.pipes import Doorbell
from popular.proc.supervisor import manner, send
from popular.statefile.layout import CountedBy, LimitState
from popular.unix.descriptors import allow_descriptors

_CALM = 60.0     # seconds for which clients are still screened after the pool was full last
_AGAIN = 1.0     # seconds from a death, or a refused fork, to the next try
_ROOM = 0      # on the doorbell: room is wanted; other numbers are an amount and the place of a counter
_PLACES = 256


class Reports:
    """What the process tells the master, at most once in each turn of its loop."""

    def __init__(self, doorbell: Doorbell, counters: tuple[str, ...]) -> None:
        """Report counters by their places in `counters`, which are fewer than 255."""
        self._doorbell = doorbell
        self._counters = counters
        self._pid = os.getpid()
        self._counted: Counter[str] = Counter()

    def count(self, counter: str) -> None:
        """Count an event."""
        self._counted[counter] += 1

    def want_room(self) -> None:
        """Ask for a place in the pool."""
        self._doorbell.ring(self._pid, _ROOM)

    def flush(self) -> None:
        """Report what was counted."""
        for counter, amount in self._counted.items():
            self._doorbell.ring(self._pid, amount * _PLACES + self._counters.index(counter))
        self._counted.clear()


class ScreenKeeper:
    """Keeps the process while the session state is not OK."""

    def __init__(self, master: Master, inheritance: Inheritance, door: Door,
                 terms: Callable[[Reports], Terms], stalled: Callable[[int], None]) -> None:
        """Begin without a process; raises OSError.

        `terms` returns what a process has to know of the present configuration; `stalled` is called with the network
        of each session that was ended to make room.
        """
        self._master = master
        self._door = door
        self._terms = terms
        self._stalled = stalled
        self._doorbell = Doorbell()
        self._statefile = inheritance.statefile
        self._counters = inheritance.statefile.kind.counters
        master.watch.register(self._doorbell.fileno(), lambda: None)    # `attend` reads it
        own = (self._doorbell.childrens_end, door.outer.fileno())
        master.watch.keep(*own)
        self._inheritance = replace(inheritance, masters_own=inheritance.masters_own.but(*own))
        self._pid = 0
        self._has: tuple[object, ...] = ()    # what the process was forked for
        self._leaving: set[int] = set()
        self._due = 0.0                       # monotonic: when one may be started
        self._is_screening = False
        self._full_until = 0.0                # monotonic: until when clients are screened
        self._trouble = OnceAMinute()

    def patience(self, now: float) -> float | None:
        """Return the seconds until a process is to start or to leave; None: neither is."""
        if self._is_right(now):
            return max(0.0, self._full_until - now) if self._pid and self._state is LimitState.OK else None
        return 0.0 if self._pid else max(0.0, self._due - now)

    def attend(self) -> None:
        """Note what the process reports, and start it or tell it to leave."""
        room = 0
        for _, number in self._doorbell.drain():
            amount, place = divmod(number, _PLACES)
            if number == _ROOM:
                room += 1
            elif place < len(self._counters):
                self._statefile.count(self._counters[place], amount)
        if room:
            for slot in self._master.supervisor.make_room(room):
                self._stalled(self._statefile.key(CountedBy.NETWORK, slot))
        now = time.monotonic()
        if self._state is LimitState.MAX:
            self._full_until = now + _CALM
        if self._pid and not self._is_right(now):
            self._leaving.add(self._pid)
            send(self._pid, RETIRE)
            self._pid = 0
        if not self._is_right(now) and now >= self._due:
            self._start()
        is_screening = bool(self._pid) and now < self._full_until
        if is_screening is not self._is_screening:
            self._is_screening = is_screening
            self._statefile.tell(is_screening=int(is_screening))

    def bury(self, pid: int, code: int) -> None:
        """Note a death, and log it unless the process was to leave."""
        self._leaving.discard(pid)
        if pid == self._pid:
            self._pid = 0
            self._fail(manner(code))

    def close(self) -> None:
        """End all processes; whoever waits there is disconnected."""
        for pid in {*self._leaving, self._pid} - {0}:
            end_process(pid)

    @property
    def _state(self) -> LimitState:
        return self._master.limits.session_state

    def _is_right(self, now: float) -> bool:
        """Tell whether there is a process for the present configuration, or none is wanted."""
        if self._master.is_ending or self._state is LimitState.OK and now >= self._full_until:
            return not self._pid
        return bool(self._pid) and self._has == self._wanted

    @property
    def _wanted(self) -> tuple[object, ...]:
        return self._master.job, self._master.log_number, *(id(each.sock) for each in self._master.listeners)

    def _start(self) -> None:
        listeners = [each for each in self._master.listeners if each.owner != METRICS]
        others = [each.sock for each in self._master.listeners if each.owner == METRICS]
        others += own_sockets(self._master.job)
        try:
            self._pid = fork_helper("screen", self._inheritance, others, lambda helper: self._screen(helper, listeners),
                                    lambda: allow_descriptors(DESCRIPTORS))
            self._has = self._wanted
        except (OSError, MemoryError) as why:
            self._fail(getattr(why, "strerror", None) or "no memory")

    def _screen(self, helper: Helper, listeners: list[Listener]) -> None:
        """Do the work of the process."""
        reports = Reports(self._doorbell, self._counters)
        screen = ClientScreen(helper, self._door, listeners, self._statefile.slot(0), self._terms(reports))
        helper.log.note(SCREEN_STARTED)
        began = time.monotonic()
        try:
            screen.run()
        finally:
            reports.flush()
            helper.log.note(SCREEN_ENDED, passed=screen.passed, closed=screen.closed, most=screen.most_held,
                            seconds=time.monotonic() - began)

    def _fail(self, why: str) -> None:
        self._due = time.monotonic() + _AGAIN
        if self._trouble.is_due():
            self._master.log.note(SCREEN_FAILED, why=why, delay=_AGAIN)
