"""Starting pserv: the starter's part of the program (`bin/pserv`)."""

import sys

from popular.config.store import Config
from popular.daemon.capa import read_lists
from popular.daemon.starter import main as start
from popular.daemon.tls import certificate_mistakes
from popular.errors import Mistake
from popular.pserv.settings import SCHEMA
from popular.pserv.spec import SPEC


def main() -> int:
    """Run `pserv`; returns its exit code."""
    return start(SPEC, sys.argv[1:], prepare=prepare)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with the capability lists it names; adds to `mistakes`, those of certificates too."""
    mistakes.extend(certificate_mistakes("server", config.items("server")))
    return read_lists(config, SCHEMA, mistakes)
