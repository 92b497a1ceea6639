"""The parser of every program's command line: argparse with our exit code and wording.

Used by the starters and the tools; never in a master.
"""

import argparse
import os

from popular.lean import NoReturn
from popular.stderr import complain


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors end with `USAGE_CODE`."""

    USAGE_CODE = os.EX_USAGE

    def format_help(self) -> str:
        """Return the help: the program's purpose, its usage and its options, with required ones marked."""
        about, self.description = self.description, None
        helps = [action.help for action in self._actions]
        for action in self._actions:
            if action.required and action.nargs != "*" and action.help and "required" not in action.help:
                action.help += " (required)"
        try:
            text = super().format_help()
        finally:
            self.description = about
            for action, former in zip(self._actions, helps, strict=True):
                action.help = former
        return f"{self.prog} - {about}\n\n{text}" if about else text

    def error(self, message: str) -> NoReturn:
        """Report what is wrong and end."""
        complain(f"{self.format_usage()}{self.prog}: {message}\nTry '{self.prog} --help'.")
        self.exit(self.USAGE_CODE)
