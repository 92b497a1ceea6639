"""Keeping the right number of children alive; independent of the protocol (master only).

Raises nothing: if the system refuses processes or memory, the supervisor logs this, waits, and tries again.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from popular.log.message import Message
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.proc.child import (
    ASK, FAILURES_FROM, LOGGED_IN, NOT_LOGGED_IN, RETIRE, WISHES, Child, ChildState, Inheritance, become_child)
from popular.proc.childtable import ChildRecord, ChildTable, Slots
from popular.proc.messages import CHILD_DIED, CHILD_NOT_STARTED, CHILD_OVERDUE, FORK_FAILED
from popular.proc.overdue import LoginLimit, Newcomers
from popular.proc.pool import PoolLimits, decide
from popular.proc.throttle import Throttle
from popular.statefile.counters import CUT_OFF
from popular.statefile.reader import Row
from popular.unix.signals import HANDLED, set_mask

MAX_FORKS = 16      # in one turn, so that signals never wait long
RUSH = 0.05         # seconds: if there are again too few idle children within this time,
RUSH_TIMES = 4      # this often in a row, several are forked at once
SHORTEST_WAIT = 0.01    # seconds, against a busy loop

MADE_WAY = "made way for new connections"    # why a session was ended

_ASKED_TO_END = (os.EX_OK, -signal.SIGTERM, -signal.SIGINT)    # exit codes of a new child after a signal
_REPORTED = {int(state): state for state in (ChildState.IDLE, ChildState.BUSY)}    # by its number on the doorbell
_LOGGED_ITSELF = (os.EX_OK, os.EX_SOFTWARE)    # exit codes for which the master logs nothing


class Supervisor:
    """Starts, counts and ends the master's children."""

    def __init__(self, limits: PoolLimits, inheritance: Inheritance, work: Callable[[Child], int],
                 fulfil: Callable[[int], None] = lambda wish: None, login: LoginLimit = LoginLimit(),
                 sum_up: Callable[[Row, str], None] = lambda row, how: None,
                 overdue: Message = CHILD_OVERDUE) -> None:
        """Begin without children; each new one does `work`; `fulfil` is called with each wish of a child.

        Sessions have to log in within `login`.  `sum_up` is called with each session that its child could not sum
        up in the log, because it died, and with the cause of death.  `overdue` is logged when a child is ended because
        its session has not logged in.
        """
        self._limits = limits
        self._inheritance = inheritance
        self._work = work
        self._fulfil: Callable[[int], None] = fulfil
        self._log: Log = inheritance.log
        self._statefile = inheritance.statefile
        self._room = self._statefile.make_room(limits.limit)
        self._generation = 0
        self._is_holding = False
        self._filled_at = 0.0     # monotonic: when there were enough idle children again
        self._times = 0           # how often in a row they were used up within RUSH
        self.losses = 0           # children that failed
        self.has_proved = False   # a child has become ready for work
        self.trouble = ""         # why the last child that failed to start did so
        self._sum_up = sum_up
        self._overdue = overdue
        self._newcomers = Newcomers(login)
        self._table = ChildTable()
        self._slots = Slots()
        self._throttle = Throttle()
        self._fork_trouble = OnceAMinute()
        self._start_trouble = OnceAMinute()

    @property
    def count(self) -> int:
        """How many children there are."""
        return len(self._table)

    @property
    def busy(self) -> int:
        """How many children have a session."""
        return self._table.census().busy

    @property
    def awaits_logins(self) -> bool:
        """Tell whether any session, now or of a child that still accepts one, may have to log in."""
        return bool(self._newcomers.pids) or self.busy < self.count

    def ask_newcomers(self) -> None:
        """Have all children report at once whether their sessions have logged in."""
        for pid in self._newcomers.pids:
            send(pid, ASK)

    def pids(self) -> list[int]:
        """Return the process ids of all children."""
        return [record.pid for record in self._table]

    def sessions(self) -> list[Row]:
        """Return the sessions as their children describe them; only the process ids are the master's own data."""
        rows = [(record, self._statefile.row(record.slot)) for record in self._table
                if record.state is ChildState.BUSY]
        return [replace(row, pid=record.pid) for record, row in rows if row is not None and row.has_session]

    def attend(self) -> float | None:
        """Fork missing children, retire surplus ones, end overdue ones; call this in every turn of the loop.

        Returns the seconds after which to call it again if nothing wakes the master; None: not needed.
        """
        overdue, fill = self._end_overdue(), self._fill()
        return fill if overdue is None else overdue if fill is None else min(overdue, fill)

    def _fill(self) -> float | None:
        """Adjust the number of children; returns the same as `attend`."""
        if self._is_holding:
            return None
        census = self._table.census()
        now = time.monotonic()
        decision = decide(self._limits, census, self._times >= RUSH_TIMES and now < self._filled_at + RUSH)
        self._retire_idle(decision.retire)
        if not decision.fork:
            return None
        allowed = self._throttle.allowance(decision.fork, census.booting, now)
        for _ in range(min(allowed, MAX_FORKS)):
            if not self._spawn():
                break
        if self._throttle.is_troubled:
            is_trying = self._table.census().booting > 0    # its report or its death wakes us
            return None if is_trying else max(SHORTEST_WAIT, self._throttle.wait(time.monotonic()))
        if allowed > MAX_FORKS:
            return 0.0
        self._times = self._times + 1 if now < self._filled_at + RUSH else 0
        self._filled_at = now
        return None

    def make_room(self, wanted: int) -> list[int]:
        """End sessions that have not logged in until up to `wanted` children are idle; return their slots."""
        census = self._table.census()
        old = [record for record in map(self._table.get, self._newcomers.old(time.monotonic())) if record is not None]
        ending = sum(record.ending == MADE_WAY for record in old)
        unused = max(0, self._limits.limit - census.total) + census.booting + census.idle + census.leaving + ending
        slots = {record.slot: record for record in old if not record.ending}
        found = self._statefile.most_alike(list(slots), max(0, min(wanted, MAX_FORKS) - unused))
        for slot in found:
            self._statefile.count("made_way")
            _end(slots[slot], signal.SIGTERM, MADE_WAY)
        return found

    def look_after(self) -> list[tuple[int, int]]:
        """Note what children report, and remove dead ones, whose last reports are read first.

        Returns pids and exit codes of other dead processes: helpers, and children from before the exec of this
        process.
        """
        dead = list(self._collect())
        self.hear()
        return [(pid, code) for pid, code in dead if not self.bury(pid, code)]

    def hear(self) -> None:
        """Note what children report."""
        now = time.monotonic()
        for pid, number in self._inheritance.doorbell.drain():
            record = self._table.get(pid)
            if record is None:
                continue
            state = _REPORTED.get(number)
            if state is not None:
                if record.state is ChildState.BOOTING:
                    self.has_proved = True
                    self._throttle.succeeded()
                self._table.note_state(record, state)
                if state is ChildState.BUSY:
                    self._newcomers.begin(pid, now)
                else:
                    self._newcomers.forget(pid)
            elif number == LOGGED_IN:
                self._newcomers.forget(pid)
            elif number == NOT_LOGGED_IN:
                self._newcomers.wait_on(pid, now)
            elif number >= FAILURES_FROM:
                self._statefile.count_failure(number - FAILURES_FROM)
            elif number >= WISHES:
                self._fulfil(number - WISHES)

    def look(self, begun: Sequence[float]) -> None:
        """Note which children are busy, instead of their reports: by slot, since when (monotonic), or 0."""
        for record in self._table:
            moment = begun[record.slot] if record.slot < len(begun) else 0.0
            if record.state is ChildState.BOOTING or moment == self._newcomers.begun(record.pid):
                continue
            if moment:
                self._table.note_state(record, ChildState.BUSY)
                self._newcomers.begin(record.pid, moment)
            else:
                self._table.note_state(record, ChildState.IDLE)
                self._newcomers.forget(record.pid)

    @staticmethod
    def _collect() -> Iterator[tuple[int, int]]:
        """Yield pids and exit codes of all dead children."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            yield pid, os.waitstatus_to_exitcode(status)

    def renew(self) -> None:
        """Begin a new generation: children without a session leave at once, the others after it."""
        self.adopt(self._work, self._limits, self._newcomers.limit)
        self.retire_old()

    def adopt(self, work: Callable[[Child], int], limits: PoolLimits, login: LoginLimit = LoginLimit()) -> None:
        """Begin a new generation: children forked from now on do `work`; the older ones stay until `retire_old`.

        `login` is for sessions that begin from now on.
        """
        self._work = work
        self._limits = limits
        self._newcomers.limit = login
        self._room = self._statefile.make_room(limits.limit)
        self._generation += 1

    def retire_old(self) -> None:
        """Tell children of older generations to leave, at once or after their session."""
        for record in self._table:
            if record.generation < self._generation:
                self._retire(record)

    @property
    def has_old_spares(self) -> bool:
        """Tell whether a child of an older generation may still accept a connection."""
        return any(record.generation < self._generation and record.state is not ChildState.BUSY
                   for record in self._table)

    def hold(self) -> None:
        """Fork no more children."""
        self._is_holding = True

    def retire_all(self) -> None:
        """Tell all children to leave, at once or after their session."""
        for record in self._table:
            self._retire(record)

    def kill_all(self, number: signal.Signals, why: str) -> None:
        """End all children by a signal; `why` is for the log."""
        for record in self._table:
            _end(record, number, why)

    def end(self, pid: int, why: str) -> bool:
        """End one child by TERM, whatever it is doing; return False if `pid` is not a child."""
        record = self._table.get(pid)
        if record is None:
            return False
        _end(record, signal.SIGTERM, why)
        return True

    def give_up(self) -> None:
        """Sum up the sessions of children that no signal ends, because the master will not wait for them."""
        for record in self._table:
            self._sum_up_session(record, record.ending)

    def _end_overdue(self) -> float | None:
        """Ask children with overdue logins, end those that did not answer; returns the same as `attend`."""
        now = time.monotonic()
        ask, end = self._newcomers.take_due(now)
        for pid in ask:
            send(pid, ASK)
        for pid in end:
            record = self._table.get(pid)
            if record is not None:    # it may have been sent TERM before, and have blocked it
                if not record.ending:
                    self.losses += 1
                    self._note_overdue(record)
                _end(record, signal.SIGKILL, "overdue")
        return self._newcomers.wait(now)

    def _note_overdue(self, record: ChildRecord) -> None:
        row = self._statefile.row(record.slot)
        facts = {"child": record.pid, "client": str(row.client) if row and row.client else "",
                 "seconds": time.time() - row.started if row else 0.0}
        with self._log.about(row.sid if row else ""):
            self._log.note(self._overdue, **{name: facts[name] for name in self._overdue.fields.split()})

    def _spawn(self) -> bool:
        """Fork one child; return False if there is no room or the system refuses."""
        slot = self._slots.claim(min(self._limits.limit, self._room))
        if slot is None:
            return False
        self._statefile.use(slot)
        before = set_mask(signal.SIG_BLOCK, HANDLED)
        try:
            pid = os.fork()
            if pid == 0:
                become_child(slot, self._generation, self._inheritance, self._work)
            self._table.add(ChildRecord(pid, slot, self._generation))
            self._statefile.count("forks")
        except (OSError, MemoryError) as error:
            self._slots.release(slot)
            self._note_no_fork(error)
            return False
        finally:
            set_mask(signal.SIG_SETMASK, before)
        return True

    def _note_no_fork(self, error: OSError | MemoryError) -> None:
        self.trouble = getattr(error, "strerror", None) or "no memory"
        self._statefile.count("forks_failed")
        self._slow_down()
        if self._fork_trouble.is_due():
            self._log.note(FORK_FAILED, error=self.trouble, children=self.count, delay=self._throttle.delay)

    def _slow_down(self) -> None:
        """Note a failure to start a child."""
        self._statefile.count("throttles")
        self._throttle.failed(time.monotonic())

    def _retire_idle(self, wanted: int) -> None:
        """Retire some idle children, highest slots first, so that low slots stay in use."""
        if wanted <= 0:
            return
        idle = [record for record in self._table if record.group == "idle"]
        for record in sorted(idle, key=lambda record: record.slot)[-wanted:]:
            self._retire(record)

    def _retire(self, record: ChildRecord) -> None:
        if not record.is_leaving:
            self._table.note_leaving(record)
            send(record.pid, RETIRE)

    def bury(self, pid: int, code: int) -> bool:
        """Remove a dead child, and log its death if it was not a normal one; return False if it is not a child.

        Call `hear` before, for its last reports.
        """
        record = self._table.get(pid)
        if record is not None:
            self._bury(record, code)
        return record is not None

    def _bury(self, record: ChildRecord, code: int) -> None:
        self._table.remove(record)
        self._slots.release(record.slot)
        self._newcomers.forget(record.pid)
        was_cut_off = self._sum_up_session(record, record.ending or manner(code))
        self._statefile.clear(record.slot)
        if record.ending:
            return
        if code != os.EX_OK or was_cut_off:
            self.losses += 1
            self._statefile.count("children_died")
        is_newborn = record.state is ChildState.BOOTING and not record.is_leaving
        if is_newborn and code not in _ASKED_TO_END:
            self._slow_down()
            self.trouble = manner(code)
            if self._start_trouble.is_due():
                self._log.note(CHILD_NOT_STARTED, child=record.pid, how=manner(code), delay=self._throttle.delay)
        elif code not in _LOGGED_ITSELF or was_cut_off and code == os.EX_OK:
            self._log.note(CHILD_DIED, child=record.pid, how=manner(code))

    def _sum_up_session(self, record: ChildRecord, how: str) -> bool:
        """Have a session summed up if its child has not done so; tell whether there was one."""
        row = self._statefile.last_words(record.slot) if record.state is ChildState.BUSY else None
        if row is None or row.pid != record.pid:
            return False
        self._statefile.count(CUT_OFF)
        with self._log.about(row.sid):
            self._sum_up(row, how)
        return True


def _end(record: ChildRecord, number: signal.Signals, why: str) -> None:
    """End a child by a signal, and note `why` unless it was to end already."""
    record.ending = record.ending or why
    send(record.pid, number)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child; its pid stays its own until it is reaped."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def manner(code: int) -> str:
    """Describe how a process ended, from its exit code as returned by os.waitstatus_to_exitcode."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
