"""Starting pcheckd: the starter's part of the program (`bin/pcheckd`)."""

import sys

from popular.addresses import Endpoint
from popular.config.store import Config, with_variable
from popular.daemon.starter import main as start
from popular.errors import Mistake, StartError
from popular.net.listen import resolve
from popular.pcheckd.settings import SCHEMA
from popular.pcheckd.spec import SPEC


def main() -> int:
    """Run `pcheckd`; returns its exit code."""
    return start(SPEC, sys.argv[1:], prepare=resolve_host)


def resolve_host(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with a numeric host, because the spec allows a name there (3.1); adds to `mistakes`."""
    host = config.variables.text("host")
    endpoint = Endpoint(host, config.variables.integer("port"))
    if endpoint.is_numeric:
        return config
    try:
        return with_variable(config, SCHEMA, "host", resolve(endpoint).host, starting=True)
    except StartError as why:
        wanted = f"an address, or a name that resolves ({why})"
        mistakes.append(Mistake("pcheckd: host", repr(host), wanted))
        return config
