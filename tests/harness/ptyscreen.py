"""A program on a pseudo-terminal, and the screen that it draws there, as a terminal emulator understands it.

    with Terminal([...], rows=24, columns=80) as terminal:
        terminal.wait_text("master")
        terminal.type("q")
        assert terminal.wait() == 0
"""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import pyte

from tests.harness.system import die_with_parent, end_process, is_alive, wait_for

_MODES = slice(0, 4)    # of the attributes of a terminal: flags of input, output, control and line

ENTER_SCREEN, LEAVE_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


class Terminal:
    """A terminal of our own with one program on it."""

    def __init__(self, command: Sequence[str], *, rows: int = 24, columns: int = 80,
                 env: Mapping[str, str | None] | None = None) -> None:
        """Start `command`; a variable that is None in `env` is not there."""
        self.written = bytearray()    # all that came
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._ours, self._theirs = pty.openpty()
        self._set_size(rows, columns)
        self.modes = self._modes_now()    # before the program
        wanted = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8", "NO_COLOR": None,
                  **(env or {})}
        full = {name: value for name, value in {**os.environ, **wanted}.items() if value is not None}
        self.process = subprocess.Popen(command, stdin=self._theirs, stdout=self._theirs, stderr=self._theirs, env=full,
                                        start_new_session=True, cwd="/", preexec_fn=self._prepare)
        os.set_blocking(self._ours, False)

    def _prepare(self) -> None:
        die_with_parent()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)    # so that a resize is told to the program

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if is_alive(self.process.pid):
            end_process(self.process.pid)
        self.process.wait()
        self.hang_up()
        os.close(self._theirs)

    def hang_up(self) -> None:
        """Take the terminal away from the program; twice is fine."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1

    def type(self, keys: str | bytes) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size; the kernel tells the program (WINCH)."""
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)

    @property
    def lines(self) -> list[str]:
        """What stands on the screen now."""
        self._read()
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(self.lines)

    def wait_text(self, *words: str, seconds: float = 15.0) -> list[str]:
        """Wait until all `words` stand on the screen; returns its lines."""
        return self.wait_screen(lambda text: all(word in text for word in words), f"{words}", seconds)

    def wait_screen(self, is_so: Callable[[str], bool], what: str, seconds: float = 15.0) -> list[str]:
        """Wait until the text of the screen is as it should be; returns its lines."""
        try:
            return wait_for(lambda: self.lines if is_so(self.text) else [], seconds, what)
        except AssertionError as why:
            raise AssertionError(f"{why}; the screen is\n{self.text}") from None

    def wait(self, seconds: float = 15.0) -> int:
        """Wait for the end of the program; returns its exit code."""
        def has_ended() -> bool:
            self._read()
            return self.process.poll() is not None

        wait_for(has_ended, seconds, "the end of the program")
        self._read()
        return self.process.wait()

    def is_as_before(self) -> bool:
        """Tell whether the program left the terminal as it was: modes, screen and cursor."""
        self._read()
        return (self._modes_now() == self.modes
                and self.written.rfind(LEAVE_SCREEN) >= self.written.rfind(ENTER_SCREEN)
                and self.written.rfind(SHOW_CURSOR) >= self.written.rfind(HIDE_CURSOR))

    def _read(self) -> None:
        while self._ours >= 0:
            try:
                block = os.read(self._ours, 65536)
            except OSError:    # nothing there
                return
            self.written += block
            self._stream.feed(block)

    def _modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)[_MODES]

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
