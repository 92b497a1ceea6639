"""Session state and load state (spec 5.3): how near a daemon is to its limits (master only).

Both can be OK, WARN or MAX.  Every change is logged and shown in the state file.  The session state itself
refuses no connection: they are accepted while a slot is free.  At load state MAX, the children, which read it
in the state file, refuse new connections.  Raises nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from popular.daemon.messages import LOAD_STATE, SESSION_STATE
from popular.log.writer import Log
from popular.statefile.layout import LimitState
from popular.statefile.writer import StateFile
from popular.unix.load import PATH, read_load


@dataclass(frozen=True, slots=True)
class LoadSource:
    """Where the system load is read, and how often."""

    path: str = PATH
    interval: float = 5.0    # seconds; the kernel updates the load every five


def following_states(state: LimitState, value: float, limit: float) -> Iterator[LimitState]:
    """Yield the states that follow `state` for `value`, one after the other; none if it stays (spec 5.3).

    OK to WARN at 90 % of the limit, WARN to MAX at 100 %, MAX to WARN below 90 %, WARN to OK below 80 %.
    A limit of 0 means no limit.
    """
    while (following := _following(state, value, limit)) is not state:
        state = following
        yield state


def _following(state: LimitState, value: float, limit: float) -> LimitState:
    if limit <= 0:
        return LimitState(max(state - 1, LimitState.OK))
    match state:
        case LimitState.OK if value * 10 >= limit * 9:
            return LimitState.WARN
        case LimitState.WARN if value >= limit:
            return LimitState.MAX
        case LimitState.WARN if value * 10 < limit * 8:
            return LimitState.OK
        case LimitState.MAX if value * 10 < limit * 9:
            return LimitState.WARN
    return state


class Limits:
    """The two states of a running daemon."""

    def __init__(self, statefile: StateFile, log: Log, source: LoadSource) -> None:
        """Begin with both OK and without limits."""
        self.session_state = LimitState.OK
        self.load_state = LimitState.OK
        self._statefile = statefile
        self._log = log
        self._source = source
        self._maxsession = 0
        self._maxload = 0.0
        self._busy = 0
        self._load_at: float | None = None    # monotonic: when the load is read next

    def configure(self, maxsession: int, maxload: float) -> None:
        """Take the limits of a new configuration; 0 means no limit."""
        self._maxsession, self._maxload = maxsession, maxload
        self._statefile.tell(maxsession=maxsession, maxlocalload=maxload)
        self._judge_sessions()
        self._load_at = None
        if maxload > 0:
            self._read_load()
        else:
            self._judge_load(0.0)

    def status(self) -> str:
        """Describe the number of sessions, its limit, and each state that is not OK."""
        sessions = f"sessions: {self._busy} of {self._maxsession}"
        if self.session_state is not LimitState.OK:
            sessions += f" ({self.session_state.name})"
        return sessions if self.load_state is LimitState.OK else f"{sessions}, load: {self.load_state.name}"

    def look(self, busy: int) -> None:
        """Update the state for `busy` sessions, and that of the load if due; call this in every turn of the loop."""
        if busy != self._busy:
            self._busy = busy
            self._judge_sessions()
        if self._load_at is not None and time.monotonic() >= self._load_at:
            self._read_load()

    def wait(self, seconds: float | None) -> float | None:
        """Return `seconds` (None: for ever), or less if the load must be read earlier."""
        if self._load_at is None:
            return seconds
        left = max(0.0, self._load_at - time.monotonic())
        return left if seconds is None else min(left, seconds)

    def _judge_sessions(self) -> None:
        for state in following_states(self.session_state, self._busy, self._maxsession):
            self.session_state = state
            self._statefile.tell(session_state=int(state))
            self._log.note(SESSION_STATE, state=state.name, sessions=self._busy, limit=self._maxsession)

    def _read_load(self) -> None:
        self._load_at = time.monotonic() + self._source.interval
        load = read_load(self._source.path)
        self._statefile.tell(load=load)
        self._judge_load(load)

    def _judge_load(self, load: float) -> None:
        for state in following_states(self.load_state, load, self._maxload):
            self.load_state = state
            self._statefile.tell(load_state=int(state))
            self._log.note(LOAD_STATE, state=state.name, load=load, limit=self._maxload)
