"""Starting pserv: the starter's part of the program (`bin/pserv`)."""

import sys

from popular.config.mistakes import Findings, Mistake
from popular.config.store import Config, sound
from popular.daemon.admin.capa import read_lists
from popular.daemon.start.starter import main as start
from popular.daemon.start.trial import try_spool
from popular.daemon.tls import try_certificates
from popular.pserv.settings import SCHEMA
from popular.pserv.spec import SPEC


def main() -> int:
    """Run `pserv`; returns its exit code."""
    return start(SPEC, sys.argv[1:], prepare=prepare, attempt=attempt)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with the capability lists that it names; adds to `mistakes`."""
    return sound(lambda: read_lists(config, SCHEMA, mistakes), config)


def attempt(config: Config, findings: Findings, deep: bool) -> None:
    """Test certificates, and whether mailboxes can be accessed."""
    try_certificates("server", config.items("server"), findings)
    if deep:
        sound(lambda: try_spool("pserv", config.variables, findings), None)
