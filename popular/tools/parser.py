"""The parser of a tool's command line: its help begins with a line that says what the tool is for.

Used by tools; raises what argparse raises.
"""

import argparse
import shutil
import textwrap

from popular.config.parser import Parser


class ToolParser(Parser):
    """A parser whose help has the description before the usage."""

    def format_help(self) -> str:
        """Return the text of --help."""
        width = max(40, shutil.get_terminal_size().columns - 2)
        purpose, self.description = self.description, None
        try:
            rest = argparse.ArgumentParser.format_help(self)
        finally:
            self.description = purpose
        return f"{textwrap.fill(f'{self.prog}: {purpose}', width)}\n\n{rest}"
