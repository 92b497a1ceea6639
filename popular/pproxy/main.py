"""Starting pproxy: the starter's part of the program (`bin/pproxy`)."""

import sys

from popular.config.store import Config, with_item
from popular.daemon.starter import main as start
from popular.errors import ConfigError, Mistake, StartError
from popular.net.listen import resolve
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import SPEC


def main() -> int:
    """Run `pproxy`; returns the exit code of spec 1.1 and the design."""
    return start(SPEC, sys.argv[1:], prepare=resolve_backends)


def resolve_backends(config: Config) -> Config:
    """Return `config` with numeric backend addresses, so that no child ever asks the DNS; raises ConfigError."""
    mistakes = []
    for item in config.items("backend"):
        address = item.values.endpoint("address")
        if address.is_numeric:
            continue
        try:
            numeric = {"address": str(resolve(address))}
        except StartError as why:
            mistakes.append(Mistake(f"backend: {item.ident}: address", str(address), f"a name that resolves ({why})"))
        else:
            config = with_item(config, SCHEMA, "backend", item.ident, numeric, item.origin, keep=True)
    if mistakes:
        raise ConfigError(mistakes)
    return config
