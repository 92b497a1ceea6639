"""The output of the demo: headings, dialogue and log lines, in colour on a terminal and plain elsewhere."""

import os
import shutil
import sys
import textwrap

_COLOURS = {"title": "1", "client": "36", "server": "32", "refusal": "31", "log": "2", "plain": "0"}


class Screen:
    """Standard output."""

    def __init__(self) -> None:
        self.is_colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = max(60, shutil.get_terminal_size((100, 24)).columns) if sys.stdout.isatty() else 120

    def say(self, text: str = "", style: str = "plain") -> None:
        """Print one line, cut to the width of the screen."""
        if len(text) > self.width:
            text = text[:self.width - 1] + "…"
        if self.is_colourful and style != "plain":
            text = f"\033[{_COLOURS[style]}m{text}\033[0m"
        print(text, flush=True)

    def title(self, text: str) -> None:
        """Print a heading followed by a rule."""
        self.say()
        self.say(f"── {text} ".ljust(min(self.width, 100), "─"), "title")

    def client(self, line: str) -> None:
        """Print what the client sent."""
        self.say(f"  C: {line}".rstrip(), "client")

    def server(self, line: str) -> None:
        """Print what the client was answered."""
        self.say(f"  S: {line}".rstrip(), "refusal" if line.startswith("-ERR") else "server")

    def log(self, line: str) -> None:
        """Print a line of a log file."""
        for part in textwrap.wrap(line, self.width - 6, initial_indent=" " * 5, subsequent_indent=" " * 9,
                                  break_on_hyphens=False):
            self.say(part, "log")
