"""The parser of every program's command line: argparse with the exit code and the words of ours.

Used by the starters and the tools; never in a master.
"""

import argparse
import os
from typing import ClassVar, NoReturn

from popular.stderr import complain


class Parser(argparse.ArgumentParser):
    """A parser whose usage errors end with `USAGE_CODE`."""

    USAGE_CODE: ClassVar[int] = os.EX_USAGE

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end."""
        complain(f"{self.format_usage()}{self.prog}: {message}\nTry '{self.prog} --help'.")
        self.exit(self.USAGE_CODE)
