"""The content of the screen, line by line: the daemon as a whole, the sessions, and what keys do.

Part of the tool pstatus --top; pure functions.  A line is a list of pieces, each with the name of its
style; texts of the state file always pass through `shown` or `shown_line`.
"""

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from popular.statefile.counters import counters_of
from popular.statefile.layout import STATES
from popular.tools.pstatus import table as pstatus_table
from popular.tools.pstatus.snapshot import limit_state
from popular.tools.pstatus.table import size, span
from popular.tools.pstatus.top import pages
from popular.tools.pstatus.top.columns import Column, TableRow, column_widths, gap_in, longest
from popular.tools.pstatus.top.text import Marks, fit, shown, shown_line
from popular.tools.pstatus.top.view import HELP, TABLE, Look, View, column_named, settled

Piece = tuple[str, str]
Line = list[Piece]

LABEL = 11          # screen columns for a label and the space after it
SMALLEST = (20, 6)    # columns and lines
HINTS = (("h", "help"), ("q", "end"), ("< >", "sort"), ("r", "reverse"), ("u c v b", "filter"), ("k", "kill"),
         ("Enter", "more"), ("Space", "pause"), ("a", "all slots"), ("x", "no filters"))

_LIMIT_STYLES = {"OK": "good", "WARN": "warning"}


def frame(look: Look, sessions: Sequence[TableRow], view: View, width: int, height: int, marks: Marks,
          *, has_footer: bool = True) -> tuple[list[Line], View]:
    """Return the lines of a screen of this size, and the view as it is seen there.

    `sessions` are those that `chosen` has chosen; without a footer the last line is left to the caller.
    """
    if width < SMALLEST[0] or height < SMALLEST[1]:
        return [[("", fit("too small", width, marks))]], view
    room = height - has_footer
    lines = header(look, sessions, view, width, max(4, (room + 1) // 4), marks)
    if view.page == HELP:
        lines = lines[:1]
    if view.page == TABLE:
        view = settled(view, sessions, max(1, room - len(lines) - 1))
        rows, view = _table(look, sessions, view, width, marks)
        lines += rows
    else:
        chosen = sessions[view.cursor] if view.cursor < len(sessions) else None
        texts = pages.page(view.page, look, chosen, width)
        space = max(1, room - len(lines) - 1)
        view = replace(view, page_first=max(0, min(view.page_first, len(texts) - space)), room=space)
        lines.append([("heading", fit(pages.title(view.page, len(texts) > space), width, marks))])
        seen = texts[view.page_first:view.page_first + space]
        lines += [clipped([("label", label), ("", text)], width, marks) for label, text in seen]
    lines = lines[:room] + [[]] * (room - len(lines))
    return lines + [_footer(view, width, marks)] * has_footer, view


def header(look: Look, sessions: Sequence[TableRow], view: View, width: int, most: int, marks: Marks) -> list[Line]:
    """Return the lines about the daemon and the view, at most about `most` lines."""
    lines = [_title(look, view, width, marks)]
    lines += [[("alarm", fit(line, width, marks))] for line in textwrap.wrap(shown_line(look.trouble), width)[:2]]
    lines += [_now(look, width, marks), _labelled("rates", _rates(look), width, marks)]
    details = [(label, text) for label, text in pstatus_table.about(look.snapshot, look.rates if width >= 120 else {})
               if text != "none"]
    lines += [_labelled(label, shown_line(text), width, marks) for label, text in details[2:max(3, most - 1)]]
    return [*lines, _about_view(look, sessions, view, width, marks)]


def _title(look: Look, view: View, width: int, marks: Marks) -> Line:
    head = look.snapshot.head
    clock = time.strftime("%H:%M:%S", time.localtime(look.snapshot.moment))
    right = f"{'PAUSED' if view.is_paused else f'every {view.interval:g}s'}  {clock} "
    text = (f" {look.snapshot.program} {shown(head.version)} on {shown(head.host)}, master {head.pid}, "
            f"up {span(look.snapshot.moment - head.started)}, configuration {head.generation}")
    if len(right) > width // 2:
        return [("title", fit(text, width, marks))]
    return [("title", fit(text, width - len(right) - 1, marks) + " "), ("paused" if view.is_paused else "title", right)]


def _now(look: Look, width: int, marks: Marks) -> Line:
    snapshot = look.snapshot
    head = snapshot.head
    pieces: Line = [("label", f"{'now':<{LABEL}} "), ("strong", str(snapshot.busy)),
                    ("", f" of {head.maxsession} sessions "), _limit(head.session_state),
                    *([("", f", {snapshot.relayed} of {head.relayed} relayed")] if head.relays else []),
                    ("", f", {snapshot.idle} idle children, load "), ("strong", f"{head.load:.2f}")]
    if head.maxlocalload:
        pieces += [("", f" of {head.maxlocalload:g} "), _limit(head.load_state)]
    return clipped(pieces, width, marks)


def _limit(state: int) -> Piece:
    name = limit_state(state)
    return _LIMIT_STYLES.get(name, "alarm"), name


def _rates(look: Look) -> str:
    if not look.rates:
        return "-"
    counted = [f"{look.rates[counter.name]:.1f} {counter.rate}/s" for counter in counters_of(look.snapshot.program)
               if counter.rate and (counter.is_main or look.rates[counter.name])]
    return ", ".join([*counted, *(f"{size(look.rates[f'bytes_{way}'])}/s {way}" for way in ("in", "out"))])


def _about_view(look: Look, sessions: Sequence[TableRow], view: View, width: int, marks: Marks) -> Line:
    """Return the line with filters and order."""
    columns = look.columns
    what = "slots" if view.has_all else "sessions"
    pieces: Line = [("label", f"{'shown':<{LABEL}} "), ("strong", str(len(sessions))),
                    ("", f" {what} by {column_named(columns, view.sort).name}"
                         f"{', reversed' if view.is_reversed else ''}")]
    told = view.filters.told(look.snapshot.head.kind.owner, "user" if look.snapshot.program == "pproxy" else "mailbox")
    for name, text in told:
        pieces += [("", ", "), ("filter", f"{name} {shown(text)}")]
    return clipped(pieces, width, marks)


def _table(look: Look, sessions: Sequence[TableRow], view: View, width: int, marks: Marks) -> tuple[list[Line], View]:
    """Return the heading and the sessions in sight."""
    visible = sessions[view.first:view.first + view.room]
    found = longest(look.columns, visible)
    needs = {name: max(need, view.needs.get(name, 0)) for name, need in found.items()}
    sort = column_named(look.columns, view.sort)
    widths = column_widths(look.columns, needs, width, sort.name)
    columns = [column for column in look.columns if column.name in widths]
    gap = " " * gap_in(width)
    mark = marks.down if sort.is_descending != view.is_reversed else marks.up
    lines = [_heading(columns, widths, sort, mark, gap, width, marks)]
    for index, session in enumerate(visible, view.first):
        cells = [(column, fit(column.cell(session) or "-", widths[column.name], marks, right=column.is_right))
                 for column in columns]
        if index == view.cursor:
            lines.append([("cursor", fit(gap.join(text for _, text in cells), width, marks))])
        else:
            lines.append(_row(session, cells, gap))
    if not sessions:
        lines += [[], [("faint", fit("  no session" + (" that passes the filters" if view.filters.tests() else ""),
                                     width, marks))]]
    return lines, replace(view, needs=needs)


def _heading(columns: Sequence[Column], widths: Mapping[str, int], sort: Column, mark: str, gap: str, width: int,
             marks: Marks) -> Line:
    pieces: Line = []
    for column in columns:
        style = "sorted" if column is sort else "heading"
        text = fit(column.name + (mark if column is sort else ""), widths[column.name], marks, right=column.is_right)
        before, letter, after = text.partition(column.letter.lower())    # underlined
        pieces += [("heading", gap)] * bool(pieces) + [(style, before), (f"{style}-letter", letter), (style, after)]
    return [*pieces, ("heading", " " * (width - sum(len(text) for _, text in pieces)))]


def _row(session: TableRow, cells: Sequence[tuple[Column, str]], gap: str) -> Line:
    """Return the pieces of one row: its state in colour, the rest of neighbours as one piece."""
    style = "" if session.row.has_session else "faint"
    pieces: Line = []
    for column, text in cells:
        if pieces:
            text = gap + text
        own = _state_style(session.row.state) if column.name == "state" else style
        if pieces and pieces[-1][0] == own:
            pieces[-1] = own, pieces[-1][1] + text
        else:
            pieces.append((own, text))
    return pieces


def _state_style(state: str) -> str:
    return STATES[state].style if state in STATES else "warning"


def _footer(view: View, width: int, marks: Marks) -> Line:
    if view.message:
        return [("question" if view.is_question else "message", fit(f" {shown_line(view.message)}", width, marks))]
    pieces: Line = []
    left = width
    for key, what in HINTS:
        left -= len(key) + len(what) + 3
        if left < 0:
            break
        pieces += [("hint", f" {key}"), ("", f" {what} ")]
    return pieces


def _labelled(label: str, text: str, width: int, marks: Marks) -> Line:
    return clipped([("label", f"{label:<{LABEL}} "), ("", text)], width, marks)


def clipped(pieces: Line, width: int, marks: Marks) -> Line:
    """Return the pieces that fit."""
    found: Line = []
    left = width
    for style, text in pieces:
        if len(text) > left:
            return [*found, (style, fit(text, left, marks))]
        found.append((style, text))
        left -= len(text)
    return found
