"""The pages that replace the table: help, and all details of one session.

Part of the tool pstatus --top; pure functions; a line is a label and a text.
"""

import textwrap
import time
from collections.abc import Iterator, Sequence

from popular.tools.pstatus.table import size, span
from popular.tools.pstatus.top import keys
from popular.tools.pstatus.top.columns import TableRow
from popular.tools.pstatus.top.text import shown
from popular.tools.pstatus.top.view import HELP, Look

_LABEL = 14
_NO_BREAK = "\u00a0"

_FILTERS = ("A filter is a part of the text, in upper or lower case; =TEXT is the whole text.  Addresses may also be "
            "networks: 192.0.2.0/24.  An empty one lets everything through.")


def page(name: str, look: Look, session: TableRow | None, width: int) -> Sequence[tuple[str, str]]:
    """Return the lines of a page: label and text."""
    if name == HELP:
        return list(_help(look, width))
    return list(_detail(look, session, width))


def title(name: str, is_longer: bool) -> str:
    """Return the text above it."""
    text = "Help: Esc goes back" if name == HELP else "Session: Esc goes back"
    return text + (", Up and Down move the text" if is_longer else "")


def _help(look: Look, width: int) -> Iterator[tuple[str, str]]:
    for key in keys.KEYS:
        if key.action == "backend" and "backend" not in look.snapshot.head.kind.others:
            continue
        yield f"{key.shown:>{_LABEL}}  ", key.doc
    yield "", ""
    letters = ", ".join(f"{column.letter}{_NO_BREAK}{column.name}" for column in look.columns)
    yield from _wrapped("Shift, letter", f"Sort by the column that has it in its name: {letters}.", width)
    yield from _wrapped("Filters", _FILTERS, width)


def _detail(look: Look, session: TableRow | None, width: int) -> Iterator[tuple[str, str]]:
    if session is None:
        yield "", "  no session"
        return
    for label, text in _facts(look, session):
        yield from _wrapped(label, text or "-", width)


def _facts(look: Look, session: TableRow) -> Iterator[tuple[str, str]]:
    row, now = session.row, session.moment
    is_proxy = look.snapshot.program == "pproxy"
    yield "slot", str(row.slot)
    yield "pid", f"{row.pid}, session {row.sessions} of this child" if row.pid else ""
    yield "state", shown(row.state) + (f" for {span(now - row.entered)}" if row.entered else "")
    yield "session", shown(row.sid)
    yield "user" if is_proxy else "mailbox", shown(row.user)
    yield "client", shown(str(row.client)) if row.client else ""
    yield look.snapshot.head.kind.owner, shown(row.owner)
    if is_proxy:
        yield "backend", shown(row.backend)
    if row.has_session:
        yield "octets", (f"{row.bytes_in} ({size(row.bytes_in)}) in, {row.bytes_out} ({size(row.bytes_out)}) out, "
                         f"{size(session.speed)}/s")
        yield "begun", f"{_clock(row.started)}, {span(now - row.started)} ago"
        yield "last octet", f"{_clock(row.activity)}, {span(now - row.activity)} ago"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if moment else "never"


def _wrapped(label: str, text: str, width: int) -> Iterator[tuple[str, str]]:
    room = max(10, width - _LABEL - 3)
    for index, line in enumerate(textwrap.wrap(text, room, break_on_hyphens=False) or [""]):
        yield f"{label if index == 0 else '':>{_LABEL}}  ", line.replace(_NO_BREAK, " ")
