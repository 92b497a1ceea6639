"""The keys of the live view: one row each, from which bindings, help and a test of the man page come.

Part of the tool pstatus --top; data and pure functions.  Names of keys are those of prompt_toolkit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from popular.tools.pstatus.top.columns import Column
from popular.tools.pstatus.top.filters import Filters
from popular.tools.pstatus.top.view import DETAIL, HELP, TABLE, Look, View, at_top, column_named

_Change = Callable[[View, Look], View]

FASTEST, SLOWEST = 0.1, 86400.0    # seconds from look to look


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One thing that keys do: a change of the view, or an action of the screen by its name."""

    names: tuple[str, ...]
    shown: str                     # as help and man page call them
    doc: str
    change: _Change | None = None
    action: str = ""


def moved(lines: int) -> _Change:
    """Return a change that moves the cursor, or a text, by lines."""
    def change(view: View, look: Look) -> View:
        if view.page != TABLE:
            return replace(view, page_first=max(0, view.page_first + lines))
        return replace(view, cursor=max(0, view.cursor + lines), is_holding=view.cursor + lines > 0, held=None)

    return change


def paged(pages: int) -> _Change:
    """Return a change that moves the cursor, or a text, by screens."""
    return lambda view, look: moved(pages * max(1, view.room - 1))(view, look)


def at_end(view: View, look: Look) -> View:
    """Go to the last session."""
    return moved(len(look.sessions))(view, look)


def at_start(view: View, look: Look) -> View:
    """Go to the first line and stay there."""
    return at_top(view) if view.page == TABLE else replace(view, page_first=0)


def sorted_by(column: Column, view: View) -> View:
    """Sort by a column in its natural order, or in reverse order if it is the present one."""
    if view.sort == column.name:
        return turned(view)
    return at_top(replace(view, sort=column.name, is_reversed=False))


def turned(view: View) -> View:
    """Reverse the order."""
    return at_top(replace(view, is_reversed=not view.is_reversed))


def beside(steps: int) -> _Change:
    """Return a change that sorts by the column so many columns to the right, wrapping around."""
    def change(view: View, look: Look) -> View:
        columns = look.columns
        index = columns.index(column_named(columns, view.sort))
        return at_top(replace(view, sort=columns[(index + steps) % len(columns)].name, is_reversed=False))

    return change


def paged_to(page: str) -> _Change:
    """Return a change that shows a page, or the table when that page is shown."""
    return lambda view, look: replace(view, page=TABLE if view.page == page else page, page_first=0)


def filtered(view: View, kind: str, text: str) -> View:
    """Return the view with a filter as typed, or with a message why it is invalid."""
    try:
        return at_top(replace(view, filters=view.filters.with_one(kind, text), needs={}))
    except ValueError as why:
        return replace(view, message=f"{why}.")


KEYS: Sequence[KeyRow] = (
    KeyRow(("q", "c-c"), "q, Ctrl-C", "End.", action="end"),
    KeyRow(("h", "?", "f1"), "h, ?, F1", "Show this help; the same key or Esc ends it.", paged_to(HELP)),
    KeyRow((" ", "p"), "Space, p", "Pause: look no more; once more, go on.", action="pause"),
    KeyRow(("i",), "i", "Type the time from look to look, such as 5s or 500ms.", action="interval"),
    KeyRow(("up",), "Up", "Move the cursor to the session above.", moved(-1)),
    KeyRow(("down",), "Down", "Move it to the session below; it stays with its session.", moved(1)),
    KeyRow(("pageup",), "Page Up", "Move it up by a screen.", paged(-1)),
    KeyRow(("pagedown",), "Page Down", "Move it down by a screen.", paged(1)),
    KeyRow(("home",), "Home", "Move it to the first line, where it stays.", at_start),
    KeyRow(("end",), "End", "Move it to the last session.", at_end),
    KeyRow(("enter",), "Enter", "Show all that is known of the session; Enter or Esc ends it.", paged_to(DETAIL)),
    KeyRow(("escape",), "Esc", "Go back to the table.", lambda view, look: replace(view, page=TABLE)),
    KeyRow(("left", "<"), "Left, <", "Sort by the column to the left.", beside(-1)),
    KeyRow(("right", ">"), "Right, >", "Sort by the column to the right.", beside(1)),
    KeyRow(("r",), "r", "Sort the other way round.", lambda view, look: turned(view)),
    KeyRow(("a",), "a", "Show all slots, idle and free ones too, or sessions only.",
           lambda view, look: at_top(replace(view, has_all=not view.has_all, needs={}))),
    KeyRow(("u", "m"), "u, m", "Filter by user or mailbox.", action="user"),
    KeyRow(("c",), "c", "Filter by the client's address.", action="client"),
    KeyRow(("v",), "v", "Filter by virtual server or server.", action="owner"),
    KeyRow(("b",), "b", "Filter by backend.", action="backend"),
    KeyRow(("x",), "x", "Drop all filters.", lambda view, look: at_top(replace(view, filters=Filters(), needs={}))),
    KeyRow(("k",), "k", "Kill the session under the cursor, after y for yes.", action="kill"),
    KeyRow(("c-l",), "Ctrl-L", "Draw the screen anew.", action="redraw"),
    KeyRow(("c-z",), "Ctrl-Z", "Leave it in the background; fg goes on.", action="suspend"),
)
