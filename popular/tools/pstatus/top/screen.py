"""The screen and the keyboard of pstatus --top: the only module that imports prompt_toolkit.

Part of the tool pstatus --top, in its process, which has one thread: looks, keys and drawing take turns in
one event loop.  The terminal is always left as it was.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, UIContent, UIControl, VSplit, Window)
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from popular.config.kinds import Time
from popular.tools.pstatus.snapshot import Selection, Snapshot
from popular.tools.pstatus.top import frame, keys
from popular.tools.pstatus.top.columns import Column, TableRow
from popular.tools.pstatus.top.filters import FILTERED
from popular.tools.pstatus.top.kill import kill, why_not_killed
from popular.tools.pstatus.top.text import marks_for, shown
from popular.tools.pstatus.top.view import Look, View, chosen
from popular.tools.pstatus.top.watch import Follower

ESCAPE = 0.1      # seconds to wait in case Esc begins another key
BREATH = 2.0      # the pause after a look, in times of its duration: keys are handled in it
ROOM_TO_EXPLAIN = 70    # columns of the screen
_ENDS = {signal.SIGINT: 0, signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP}

STYLE = Style.from_dict({
    "title": "reverse bold", "paused": "reverse bold ansiyellow", "label": "ansicyan", "strong": "bold",
    "good": "ansigreen", "warning": "bold ansiyellow", "alarm": "bold ansired", "filter": "bold ansiyellow",
    "heading": "reverse", "heading-letter": "reverse underline",
    "sorted": "reverse bold ansigreen", "sorted-letter": "reverse bold underline ansigreen",
    "cursor": "reverse ansicyan", "new": "ansicyan", "busy": "ansigreen", "waiting": "ansiyellow", "calm": "",
    "faint": "ansibrightblack", "message": "bold ansiyellow", "question": "reverse bold ansired",
    "hint": "bold ansicyan",
})


def run(first: Snapshot, selection: Selection, interval: float, has_colors: bool) -> int:
    """Show the state file of the look `first` until the user ends it; returns the exit code."""
    return asyncio.run(_Screen(Follower(first, selection), interval, has_colors).run())


class _Canvas(UIControl):
    """All lines except the input line."""

    def __init__(self, draw: Callable[[int, int], Sequence[frame.Line]]) -> None:
        self._draw = draw

    def is_focusable(self) -> bool:
        return True

    def create_content(self, width: int, height: int) -> UIContent:
        lines = [[(f"class:{style}" if style else "", text) for style, text in line]
                 for line in self._draw(width, height)]
        return UIContent(lambda number: list(lines[number]), len(lines), show_cursor=False)


class _Screen:
    """What is seen, and what keys do to it."""

    def __init__(self, follower: Follower, interval: float, has_colors: bool) -> None:
        """Begin with the last look of `follower`, look again after `interval` seconds."""
        self._follower = follower
        self._view = View(interval=interval)
        self._marks = marks_for(sys.stdout.encoding)
        self._asked: Callable[[str], None] | None = None      # what to do with the typed text
        self._victim: TableRow | None = None                   # the session to kill, if the answer is yes
        self._timer: asyncio.TimerHandle | None = None
        self._known: tuple[Look, View, list[TableRow]] | None = None
        self._size = (0, 0)
        self._question = ""
        self._buffer = Buffer(multiline=False)
        self._canvas = Window(_Canvas(self._draw))
        self._line = Window(BufferControl(self._buffer), height=1, style="class:message")
        depth = ColorDepth.DEPTH_4_BIT if has_colors else ColorDepth.DEPTH_1_BIT
        self._app: Application[int] = Application(
            Layout(self._windows(), self._canvas), STYLE, key_bindings=self._bindings(), full_screen=True,
            color_depth=depth, terminal_size_polling_interval=None)
        self._app.ttimeoutlen = ESCAPE

    async def run(self) -> int:
        """Draw and obey until the end; returns the exit code.  Raises what goes wrong in it."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fail)
        for number, code in _ENDS.items():
            loop.add_signal_handler(number, self._end, code)
        try:
            self._wait(self._view.interval)
            return await self._app.run_async(set_exception_handler=False, handle_sigint=False)
        finally:
            self._app.renderer.reset()    # prompt_toolkit does not do so if the first drawing fails
            if self._timer is not None:
                self._timer.cancel()
            for number in _ENDS:
                loop.remove_signal_handler(number)

    # What is drawn

    def _windows(self) -> HSplit:
        label = Window(FormattedTextControl(self._label), height=1, dont_extend_width=True)
        return HSplit([self._canvas,
                       ConditionalContainer(VSplit([label, self._line]), Condition(lambda: self._asked is not None))])

    def _label(self) -> StyleAndTextTuples:
        """Return the prompt before the typed text, with an explanation if there is room for it."""
        name, _, more = self._question.partition(" ")
        return [("class:label", f" {name} {more}: " if more and self._size[0] >= ROOM_TO_EXPLAIN else f" {name}: ")]

    def _draw(self, width: int, height: int) -> Sequence[frame.Line]:
        if (width, height) != self._size:
            self._size = (width, height)
            self._view = replace(self._view, needs={})
        look = self._follower.last
        lines, self._view = frame.frame(look, self._sessions(), self._view, width, height, self._marks,
                                        has_footer=self._asked is None)
        return lines

    def _sessions(self) -> list[TableRow]:
        """Return the chosen sessions; sorted again only after a change."""
        look, view = self._follower.last, self._view
        wanted = View(sort=view.sort, is_reversed=view.is_reversed, filters=view.filters, has_all=view.has_all)
        if self._known is None or self._known[0] is not look or self._known[1] != wanted:
            self._known = look, wanted, chosen(look, wanted)
        return self._known[2]

    # Looks

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        began = time.monotonic()
        if not self._view.is_paused:
            look = self._follower.look()
            if look.news:
                self._view = replace(self._view, message=look.news)
            self._app.invalidate()
        self._wait(max(self._view.interval, BREATH * (time.monotonic() - began)))

    # Keys

    def _bindings(self) -> KeyBindings:
        """Return what keys do: in the table, while something is typed, and while yes or no is awaited."""
        found = KeyBindings()
        is_typing = Condition(lambda: self._asked is not None)
        is_asking = Condition(lambda: self._victim is not None)
        is_free = ~is_typing & ~is_asking
        for key in keys.KEYS:
            for name in key.names:
                found.add(name, filter=is_free)(self._does(key))
        for column in self._follower.last.columns:
            found.add(column.letter, filter=is_free)(self._sorts(column))
        found.add("enter", filter=is_typing)(lambda event: self._typed())
        for name in ("escape", "c-g"):
            found.add(name, filter=is_typing, eager=True)(lambda event: self._close_line())
        found.add(Keys.Any, filter=is_asking)(self._answered)
        found.add("c-c", filter=~is_free)(lambda event: self._end(0))
        return found

    def _does(self, key: keys.KeyRow) -> Callable[[KeyPressEvent], None]:
        actions: Mapping[str, Callable[[], None]] = {
            "end": lambda: self._end(0), "pause": self._pause, "interval": self._ask_interval, "kill": self._ask_kill,
            "redraw": self._redraw, "suspend": self._app_suspend,
            **{kind: lambda kind=kind: self._ask_filter(kind) for kind in FILTERED}}    # type: ignore[misc]
        change = key.change

        def do(event: KeyPressEvent) -> None:
            self._view = replace(self._view, message="")
            if change is not None:
                self._view = change(self._view, self._follower.last)
            else:
                actions[key.action]()

        return do

    def _sorts(self, column: Column) -> Callable[[KeyPressEvent], None]:
        def do(event: KeyPressEvent) -> None:
            self._view = replace(keys.sorted_by(column, self._view), message="")

        return do

    def _end(self, code: int) -> None:
        if self._app.future is not None and not self._app.future.done():
            self._app.exit(result=code)

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End with an error that occurred where nothing awaits it."""
        if self._app.future is not None and not self._app.future.done():
            self._app.exit(exception=context.get("exception") or RuntimeError(context["message"]))

    def _pause(self) -> None:
        self._view = replace(self._view, is_paused=not self._view.is_paused)
        if not self._view.is_paused:
            self._look()

    def _redraw(self) -> None:
        self._size = (0, 0)
        self._app.renderer.clear()

    def _app_suspend(self) -> None:
        self._app.suspend_to_background()

    # What is typed

    def _ask(self, question: str, before: str, then: Callable[[str], None]) -> None:
        self._question, self._asked = question, then
        self._buffer.text = before
        self._buffer.cursor_position = len(before)
        self._app.layout.focus(self._line)

    def _typed(self) -> None:
        then, text = self._asked, self._buffer.text
        self._close_line()
        if then is not None:
            then(text)

    def _close_line(self) -> None:
        self._asked = None
        self._buffer.reset()
        self._app.layout.focus(self._canvas)

    def _ask_filter(self, kind: str) -> None:
        head = self._follower.last.snapshot.head.kind
        if kind == "backend" and "backend" not in head.others:
            self._view = replace(self._view, message=f"{head.program} has no backends.")
            return
        name = {"owner": head.owner, "user": "user" if head.others else "mailbox"}.get(kind, kind)
        before: str = getattr(self._view.filters, kind)

        def then(text: str) -> None:
            self._view = keys.filtered(self._view, kind, text)

        self._ask(f"{name} (a part, or =all of it{', or ADDRESS/BITS' if kind == 'client' else ''})", before, then)

    def _ask_interval(self) -> None:
        def then(text: str) -> None:
            try:
                self._view = replace(self._view, interval=Time(keys.FASTEST, keys.SLOWEST).parse(text))
                self._wait(self._view.interval)
            except ValueError as why:
                self._view = replace(self._view, message=f"{shown(text)} is not {why}.")

        self._ask("interval (5s, 500ms)", "", then)

    def _ask_kill(self) -> None:
        sessions = self._sessions()
        if self._view.cursor >= len(sessions) or not sessions[self._view.cursor].row.has_session:
            self._view = replace(self._view, message="There is no session under the cursor.")
            return
        victim = sessions[self._view.cursor]
        why = why_not_killed(self._follower.last.snapshot, victim.row.sid)
        if why:
            self._view = replace(self._view, message=f"Not killed: {why}.")
            return
        self._victim = victim
        row = victim.row
        whose = f" of {shown(row.user)}" if row.user else ""
        where = f" from {shown(str(row.client))}" if row.client else ""
        self._view = replace(self._view, is_question=True, message=f"Kill, y or n?  {shown(row.sid)}{whose}{where}")

    def _answered(self, event: KeyPressEvent) -> None:
        victim, self._victim = self._victim, None
        message = "Not killed."
        if victim is not None and event.data in ("y", "Y"):
            message = kill(self._follower.last.snapshot, victim.row.sid)
            self._wait(0)
        self._view = replace(self._view, message=message, is_question=False)
