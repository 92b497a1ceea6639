"""What pclean, pmigrate and pmove show: lines on standard output, and their progress on a terminal.  Raises nothing."""

import os
import sys
import time

INTERVAL = 0.5    # seconds between two updates of the progress
_WIDTH = 79       # columns if the terminal does not tell


class Screen:
    """Standard output and error; errors in writing are ignored."""

    def __init__(self, out: int = 1, err: int = 2) -> None:
        """Write lines to the descriptor `out`; progress to `err`, if that is a terminal."""
        self._out = out
        self._err = err
        self._has_terminal = os.isatty(err)
        self._shown_at = 0.0
        self._is_dirty = False

    def line(self, text: str) -> None:
        """Write a line; what is not printable ASCII is escaped."""
        self.clear()
        printable = "".join(char if " " <= char <= "~" else char.encode("unicode_escape").decode() for char in text)
        _write(self._out, f"{printable}\n")

    def progress(self, count: int, mailbox: str) -> None:
        """Show from time to time how many mailboxes are done, and the last one."""
        self.show(f"{count} mailboxes, at {mailbox}")

    def show(self, text: str) -> None:
        """Show a text of printable ASCII as the progress, unless another one was shown a moment ago."""
        if not self._has_terminal:
            return
        now = time.monotonic()
        if now - self._shown_at >= INTERVAL:
            self._shown_at = now
            self._is_dirty = True
            _write(self._err, f"\r\x1b[K{text[:self._width() - 1]}")

    def clear(self) -> None:
        """Remove the progress."""
        if self._is_dirty:
            self._is_dirty = False
            _write(self._err, "\r\x1b[K")

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._err).columns or _WIDTH
        except OSError:
            return _WIDTH


def say(text: str) -> None:
    """Write a line to standard error, which cron(8) mails."""
    sys.stdout.flush()
    _write(2, f"pclean: {text}\n")


def _write(fd: int, text: str) -> None:
    """Write a text, or as much of it as is read."""
    rest = text.encode("ascii", "backslashreplace")
    try:
        while rest:
            rest = rest[os.write(fd, rest):]
    except OSError:
        pass
