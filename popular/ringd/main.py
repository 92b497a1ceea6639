"""Starting ringd: the starter's part of the program (`bin/ringd`)."""

import sys

from popular.daemon.start.starter import main as start
from popular.ringd.spec import SPEC


def main() -> int:
    """Run `ringd`; returns its exit code."""
    return start(SPEC, sys.argv[1:])
