"""Which children have a session that should have logged in by now, by the master's clock (master only).

A module or library may block a child for ever before the login, despite all limits inside the child.
Once a session is old enough, the master therefore asks by a signal, and ends a child that does not
report in time that it has logged in.  A shorter session costs only an entry in a table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """How long a session may last without a login, in seconds."""

    ask_after: float = 0.0        # from its beginning; 0: never ask
    answer_within: float = 0.0    # after the question
    may_wait: bool = False        # whether waiting for the client is a valid answer
    when_full: float = 0.0        # from its beginning, if new connections find no child; 0: as otherwise


class Newcomers:
    """Sessions that are not known to have logged in, in the order in which they are due."""

    def __init__(self, limit: LoginLimit) -> None:
        """Begin without any; a `limit` that is set later is for sessions that begin later."""
        self.limit = limit
        self._to_ask: dict[int, float] = {}    # process id to a monotonic time
        self._to_end: dict[int, float] = {}
        self._begun: dict[int, float] = {}     # all, by when they began

    @property
    def pids(self) -> list[int]:
        """The children that have such sessions."""
        return [*self._to_ask, *self._to_end]

    def begin(self, pid: int, now: float) -> None:
        """Note that a session begins in the child `pid`."""
        self.forget(pid)
        self._begun[pid] = now
        if self.limit.ask_after > 0:
            _note(self._to_ask, pid, now + self.limit.ask_after)

    def begun(self, pid: int) -> float:
        """Return when the session of a child began, or 0 if it has none or has logged in."""
        return self._begun.get(pid, 0.0)

    def forget(self, pid: int) -> None:
        """Note that a child no longer has a session, or that its session has logged in."""
        self._begun.pop(pid, None)
        self._to_ask.pop(pid, None)
        self._to_end.pop(pid, None)

    def wait_on(self, pid: int, now: float) -> None:
        """Note that a child's session waits for its client before the login."""
        if self.limit.may_wait and pid in self._to_end:
            self.begin(pid, now)

    def old(self, now: float) -> list[int]:
        """Return the children whose sessions may be ended for others when the pool is full, the oldest first.

        Some may have logged in.
        """
        if not self.limit.when_full:
            return []
        return [pid for pid, begun in self._begun.items() if begun <= now - self.limit.when_full]

    def take_due(self, now: float) -> tuple[list[int], list[int]]:
        """Return the children to ask now, and those that have not answered in time."""
        ask, end = _due(self._to_ask, now), _due(self._to_end, now)
        for pid in ask:
            _note(self._to_end, pid, now + self.limit.answer_within)
        return ask, end

    def wait(self, now: float) -> float | None:
        """Return the seconds until a child is due, or None if there is none."""
        dues = [next(iter(table.values())) for table in (self._to_ask, self._to_end) if table]
        return max(0.0, min(dues) - now) if dues else None


def _note(table: dict[int, float], pid: int, due: float) -> None:
    """Add a new child, ordered by time: it becomes the last one, unless limits have changed."""
    is_last = not table or due >= next(reversed(table.values()))
    table[pid] = due
    if not is_last:
        ordered = sorted(table.items(), key=lambda item: item[1])
        table.clear()
        table.update(ordered)


def _due(table: dict[int, float], now: float) -> list[int]:
    """Remove and return the children that are due; the table is ordered by time."""
    found = []
    for pid, due in table.items():
        if now < due:
            break
        found.append(pid)
    for pid in found:
        del table[pid]
    return found
