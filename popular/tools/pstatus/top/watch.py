"""Following a state file: one look after the other, whatever happens to the daemon meanwhile.

Part of the tool pstatus --top.  It is not an error if a daemon ends, is killed or is upgraded: the look says so,
and the file of the next daemon is followed.
"""

import time
from collections.abc import Iterable
from dataclasses import replace

from popular.statefile.reader import NotAStateFile, Row
from popular.tools.pstatus.snapshot import Selection, Snapshot, take
from popular.tools.pstatus.top.columns import BEING_WRITTEN, TableRow
from popular.tools.pstatus.top.view import Look


class Follower:
    """Looks at one state file."""

    def __init__(self, first: Snapshot, selection: Selection) -> None:
        """Begin with the look `first`; the range of `selection` is shown."""
        self._selection = selection
        self._is_gone = False
        self.last = Look(first, sessions_of(first, None, selection), trouble=trouble_with(first))

    def look(self) -> Look:
        """Look again; if nothing can be read, return the last look, with the reason."""
        before = self.last
        path = before.snapshot.path
        try:
            now = take(path)
        except (NotAStateFile, OSError) as why:
            reason = getattr(why, "strerror", None) or str(why)
            seen = time.strftime("%H:%M:%S", time.localtime(before.snapshot.moment))
            self.last = replace(before, rates={}, news="",
                                trouble=f"{reason}; this was seen last, at {seen}: {path}")
            self._is_gone = True
            return self.last
        news = _news(before.snapshot, now, self._is_gone)
        self._is_gone = False
        rates = now.rates(before.snapshot)
        self.last = Look(now, sessions_of(now, before.snapshot if rates else None, self._selection), rates,
                         trouble_with(now), news)
        return self.last


def sessions_of(now: Snapshot, before: Snapshot | None, selection: Selection) -> list[TableRow]:
    """Return the rows of a look, with their speed since the look `before` at the same daemon."""
    seconds = now.moment - before.moment if before is not None else 0.0
    earlier = dict(_in_range(before, selection)) if before is not None else {}
    found: list[TableRow] = []
    for slot, row in _in_range(now, selection):
        if row is None:
            found.append(TableRow(Row(slot, state=BEING_WRITTEN), now.moment))
            continue
        speed = 0.0
        if seconds > 0 and row.has_session:
            speed = _moved(earlier.get(slot, Row(slot)), row) / seconds
        found.append(TableRow(row, now.moment, speed))
    return found


def trouble_with(snapshot: Snapshot) -> str:
    """Return what is wrong with the daemon, if anything."""
    if not snapshot.is_live:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.moment))
        return f"{snapshot.path} is a copy of a state file, made {made}."
    return "" if snapshot.is_running else f"The master {snapshot.head.pid} is gone and has left its state file behind."


def _in_range(snapshot: Snapshot, selection: Selection) -> Iterable[tuple[int, Row | None]]:
    return Selection(False, selection.first, selection.last).choose(snapshot)


def _moved(before: Row | None, now: Row) -> int:
    """Return the octets of a session since the look before, or since it began; 0 if unknown."""
    if before is None:
        return 0
    octets = now.bytes_in + now.bytes_out
    if (before.pid, before.sessions) == (now.pid, now.sessions) and before.has_session and before.sid in ("", now.sid):
        return max(0, octets - before.bytes_in - before.bytes_out)
    return octets


def _news(before: Snapshot, now: Snapshot, was_gone: bool) -> str:
    if (before.head.pid, before.head.started) != (now.head.pid, now.head.started):
        return f"Another {now.program} has taken over: master {now.head.pid}, before {before.head.pid}."
    return "The state file is back." if was_gone else ""
