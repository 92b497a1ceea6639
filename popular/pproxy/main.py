"""Starting pproxy: the starter's part of the program (`bin/pproxy`)."""

import sys

from popular.config.store import Config, with_item
from popular.daemon.capa import read_lists
from popular.daemon.starter import main as start
from popular.daemon.tls import OFF, certificate_mistakes
from popular.errors import Mistake, StartError
from popular.net.listen import resolve
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import SPEC


def main() -> int:
    """Run `pproxy`; returns the exit code of spec 1.1 and the design."""
    return start(SPEC, sys.argv[1:], prepare=prepare)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with the capability lists it names, and numeric addresses; adds to `mistakes`.

    Certificates that cannot be used are mistakes, too.
    """
    mistakes.extend(certificate_mistakes("vserv", config.items("vserv")))
    return resolve_backends(read_lists(config, SCHEMA, mistakes), mistakes)


def resolve_backends(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with numeric backend addresses, so that no child ever asks the DNS; adds to `mistakes`."""
    for item in config.items("backend"):
        address = item.values.endpoint("address")
        if address.is_numeric:
            continue
        try:
            numeric = {"address": str(resolve(address))}
            if item.values.text("tls") != OFF and item.values.optional_text("tlsname") is None:
                numeric["tlsname"] = address.host
        except StartError as why:
            mistakes.append(Mistake(f"backend: {item.ident}: address", str(address), f"a name that resolves ({why})"))
        else:
            config = with_item(config, SCHEMA, "backend", item.ident, numeric, item.origin, keep=True)
    return config
