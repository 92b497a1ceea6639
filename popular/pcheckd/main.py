"""Starting pcheckd: the starter's part of the program (`bin/pcheckd`)."""

import sys

from popular.addresses import Endpoint
from popular.config.cmdline import conf_path
from popular.config.ini.file import value_in
from popular.config.mistakes import Findings, Mistake
from popular.config.setting import place
from popular.config.store import Config, WrongValue, sound, with_variable
from popular.daemon.start.starter import main as start
from popular.daemon.start.trial import try_spool
from popular.errors import StartError, UsageError
from popular.net.listen import resolve
from popular.pcheckd.settings import SCHEMA
from popular.pcheckd.spec import SPEC


def main() -> int:
    """Run `pcheckd`; returns its exit code."""
    return start(SPEC, sys.argv[1:], prepare=prepare, attempt=attempt)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with a numeric host, and with `missing` as in pserv; adds to `mistakes`."""
    return follow_pserv(resolve_host(config, mistakes), mistakes)


def follow_pserv(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with `missing` from pserv's INI file if its own has none; adds to `mistakes`.

    So the administrator of a storage host sets it only once.
    """
    path = conf_path("pserv")
    text = value_in(path, "pserv", "missing") if config.variables.optional_text("missing") is None else None
    if text is None:
        return config
    try:
        return with_variable(config, SCHEMA, "missing", text, starting=True)
    except UsageError:
        mistakes.append(Mistake(f"{path}: [pserv] missing", f"{text!r} is not one of empty, create, refuse"))
        return config


def resolve_host(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with a numeric host, since the spec allows a name there (3.1); adds to `mistakes`."""
    try:
        endpoint = Endpoint(config.variables.text("host"), config.variables.integer("port"))
        if endpoint.is_numeric:
            return config
        return with_variable(config, SCHEMA, "host", resolve(endpoint).host, starting=True)
    except WrongValue:
        return config
    except StartError as why:
        mistakes.append(Mistake(place("pcheckd", "host"), str(why)))
        return config


def attempt(config: Config, findings: Findings, deep: bool) -> None:
    """Test whether mailboxes can be accessed."""
    if deep:
        sound(lambda: try_spool("pcheckd", config.variables, findings), None)
