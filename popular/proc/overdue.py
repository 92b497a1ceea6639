"""Which children have a session that should have logged in by now: times of the master's own clock (master only).

A module or library may keep a child for ever before the login, whatever limits it has in its own process.
So the master asks by a signal, once a session is old enough, and ends a child that does not say within a
while that it has logged in.  What sessions that are shorter cost for it is a note in a table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoginLimit:
    """How long a session may be one without a login; seconds."""

    ask_after: float = 0.0        # from its beginning on; 0: nobody is ever asked
    answer_within: float = 0.0    # from then on
    may_wait: bool = False        # whether waiting for the client is a good answer


class Newcomers:
    """The sessions of which nobody knows yet that they have logged in, in the order in which they are due."""

    def __init__(self, limit: LoginLimit) -> None:
        """Begin without any; another `limit` may be set later, for sessions that begin then."""
        self.limit = limit
        self._to_ask: dict[int, float] = {}    # process id to a monotonic time
        self._to_end: dict[int, float] = {}

    def begin(self, pid: int, now: float) -> None:
        """Note that a session begins in the child `pid`."""
        self.forget(pid)
        if self.limit.ask_after > 0:
            _note(self._to_ask, pid, now + self.limit.ask_after)

    def forget(self, pid: int) -> None:
        """Note that a child has no session any more, or one that has logged in."""
        self._to_ask.pop(pid, None)
        self._to_end.pop(pid, None)

    def wait_on(self, pid: int, now: float) -> None:
        """Note that the session of a child waits for its client, before the login."""
        if self.limit.may_wait and pid in self._to_end:
            self.begin(pid, now)

    def take_due(self, now: float) -> tuple[list[int], list[int]]:
        """Return the children that are to be asked now, and those that have not answered in time."""
        ask, end = _due(self._to_ask, now), _due(self._to_end, now)
        for pid in ask:
            _note(self._to_end, pid, now + self.limit.answer_within)
        return ask, end

    def wait(self, now: float) -> float | None:
        """Return the seconds until somebody is due; None: nobody."""
        dues = [next(iter(table.values())) for table in (self._to_ask, self._to_end) if table]
        return max(0.0, min(dues) - now) if dues else None


def _note(table: dict[int, float], pid: int, due: float) -> None:
    """Put in a child that is not there so that the first ones are due first: it is the last, unless limits change."""
    is_last = not table or due >= next(reversed(table.values()))
    table[pid] = due
    if not is_last:
        ordered = sorted(table.items(), key=lambda item: item[1])
        table.clear()
        table.update(ordered)


def _due(table: dict[int, float], now: float) -> list[int]:
    """Take out what is due; the first ones are due first."""
    found = []
    for pid, due in table.items():
        if now < due:
            break
        found.append(pid)
    for pid in found:
        del table[pid]
    return found
