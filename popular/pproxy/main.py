"""Starting pproxy: the starter's part of the program (`bin/pproxy`)."""

import os
import sys

from popular.config.setting import place
from popular.config.store import Config, Item, with_item
from popular.daemon.capa import read_lists
from popular.daemon.starter import main as start
from popular.daemon.tls import OFF, try_certificates
from popular.daemon.trial import why_not
from popular.errors import Findings, Mistake, PdmError, StartError
from popular.net.listen import resolve
from popular.pdm.chain import reason
from popular.pdm.timelimit import TimeUp, limited
from popular.pproxy.modules import load
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import SPEC, records_clients
from popular.proc.rights import own_rights


def main() -> int:
    """Run `pproxy`; returns the exit code of spec 1.1 and the design."""
    return start(SPEC, sys.argv[1:], prepare=prepare, attempt=attempt)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with the capability lists it names, and numeric addresses; adds to `mistakes`."""
    return resolve_backends(read_lists(config, SCHEMA, mistakes), mistakes)


def attempt(config: Config, findings: Findings) -> None:
    """Try certificates, and what the first login needs: the files of modules and for SMTP after POP."""
    try_certificates("vserv", config.items("vserv"), findings)
    for item in config.items("pdm"):
        why = why_not_asked(item, config)
        if why:
            findings.faults.append(Mistake(place("pdm", item.ident), f"module {item.values.text('module')}: {why}"))
    path = config.variables.text("smtpafterpopfile")
    if records_clients(config):
        needed = path if os.path.exists(path) else os.path.dirname(path)
        if why := why_not(needed, os.R_OK | os.W_OK):
            what = f"{needed}: user {own_rights().user!r} cannot write to it: {why}"
            findings.faults.append(Mistake(place("pproxy", "smtpafterpopfile"), what))
    for cls in ("backend", "pdm"):
        if config.items("vserv") and not config.items(cls):
            findings.warnings.append(Mistake(f"[{cls}]", "there is none, so nobody can log in"))


def why_not_asked(item: Item, config: Config) -> str:
    """Return why a module could not answer now; empty: it could, or it cannot even be loaded, which others tell."""
    seconds = config.variables.seconds("pdmtimeout")
    try:
        module = load(item, config)
    except PdmError:
        return ""
    try:
        limited(seconds, module.probe)
    except TimeUp:
        return f"no answer within {seconds:g} s"
    except PdmError as why:
        return str(why).removeprefix(f"{item.ident}: ")
    except (Exception, SystemExit) as why:    # a module is foreign code
        return reason(why)
    return ""


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
            mistakes.append(Mistake(place("backend", item.ident, "address"), str(why)))
        else:
            config = with_item(config, SCHEMA, "backend", item.ident, numeric, item.origin, keep=True)
    return config
