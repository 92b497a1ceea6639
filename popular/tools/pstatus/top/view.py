"""What the user has chosen to see, and the sessions of a look at the state file that this selects.

Part of the tool pstatus --top; frozen data and pure functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from popular.tools.pstatus.snapshot import Snapshot
from popular.tools.pstatus.top.columns import BEING_WRITTEN, Column, SortKey, TableRow, columns_of
from popular.tools.pstatus.top.filters import Filters

TABLE, HELP, DETAIL = "table", "help", "detail"    # pages

Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the state file, with other known facts."""

    snapshot: Snapshot
    sessions: Sequence[TableRow]              # all slots in the range that is shown, in their order
    rates: Mapping[str, float] = field(default_factory=dict)    # of the counters, in a second; empty: not known
    trouble: str = ""                        # why this is not the present state of a running daemon
    news: str = ""                           # what happened since the look before

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns for this program."""
        return columns_of(self.snapshot.program)


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, and how."""

    interval: float = 1.0             # seconds from look to look
    sort: str = "slot"                # the name of a column
    is_reversed: bool = False
    filters: Filters = Filters()
    has_all: bool = False             # also slots without a session
    is_paused: bool = False
    page: str = TABLE
    page_first: int = 0               # first line of a page other than the table
    cursor: int = 0                   # index of the chosen session
    held: Identity | None = None      # the chosen session, which keeps the cursor wherever it goes
    is_holding: bool = False          # False: the cursor stays in the first line, whatever session is there
    first: int = 0                    # index of the session in the first line
    room: int = 1                     # lines for sessions
    needs: Mapping[str, int] = field(default_factory=dict)    # the widths that were needed so far
    message: str = ""
    is_question: bool = False         # the message waits for yes or no


def identity(session: TableRow) -> Identity:
    """Return what distinguishes this session from those before and after it in the same slot."""
    return session.row.slot, session.row.pid, session.row.sessions


def chosen(look: Look, view: View) -> list[TableRow]:
    """Return the sessions that pass the filters, sorted; those without a sort key come last."""
    tests = view.filters.tests()
    found = [session for session in look.sessions if view.has_all or session.row.has_session]
    for test in tests:
        found = [session for session in found if test(session.row) and session.row.state != BEING_WRITTEN]
    column = column_named(look.columns, view.sort)
    keys: list[tuple[SortKey, TableRow]] = []
    without: list[TableRow] = []
    for session in found:
        key = column.key(session)
        if key is None:
            without.append(session)
        else:
            keys.append((key, session))
    keys.sort(key=lambda pair: pair[0], reverse=column.is_descending != view.is_reversed)
    return [session for _, session in keys] + without


def column_named(columns: Sequence[Column], name: str) -> Column:
    """Return a column by its name; the first one if this program has no column of that name."""
    return next((column for column in columns if column.name == name), columns[0])


def at_top(view: View) -> View:
    """Return the view with its cursor in the first line, where it stays."""
    return replace(view, cursor=0, first=0, is_holding=False, held=None)


def settled(view: View, sessions: Sequence[TableRow], room: int) -> View:
    """Return the view with its cursor on a session that is there, and in sight."""
    cursor = view.cursor
    if view.is_holding and view.held is not None:
        cursor = next((index for index, session in enumerate(sessions) if identity(session) == view.held), cursor)
    cursor = max(0, min(cursor, len(sessions) - 1))
    first = max(0, min(view.first, cursor, len(sessions) - room), cursor - room + 1)
    held = identity(sessions[cursor]) if sessions and view.is_holding else None
    return replace(view, cursor=cursor, first=first, held=held, room=room)
