"""Starting pserv: the starter's part of the program (`bin/pserv`)."""

import sys

from popular.daemon.starter import main as start
from popular.pserv.spec import SPEC


def main() -> int:
    """Run `pserv`; returns its exit code."""
    return start(SPEC, sys.argv[1:])
