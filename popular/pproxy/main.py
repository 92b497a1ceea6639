"""Starting pproxy: the starter's part of the program (`bin/pproxy`)."""

import os
import sys
from contextlib import closing
from functools import partial
from typing import cast

from popular.config.mistakes import ConfigError, Findings, Mistake
from popular.config.setting import place
from popular.config.store import Config, Item, WrongValue, gather, sound, with_item
from popular.daemon.admin.capa import read_lists
from popular.daemon.start.starter import main as start
from popular.daemon.start.trial import why_not
from popular.daemon.tls import OFF, try_certificates
from popular.errors import PdmError, StartError
from popular.net.listen import resolve
from popular.pdm.api import CHALLENGES, PROVEN
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.configured import configured_module, why_not_asked
from popular.pproxy.limits.configured import shared_values
from popular.pproxy.objects import TOKEN_LOGINS, records_clients
from popular.pproxy.policy.configured import policies_of
from popular.pproxy.policy.terms import PolicyTerms
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import SPEC
from popular.pproxy.vserv.offer import DEFAULT_MECHANISMS, MECHANISMS
from popular.unix.rights import own_rights


def main() -> int:
    """Run `pproxy`; return its exit code (design 2.1)."""
    return start(SPEC, sys.argv[1:], prepare=prepare, attempt=attempt)


def prepare(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with the capability lists that it names, and numeric addresses; adds to `mistakes`."""
    return resolve_backends(sound(lambda: read_lists(config, SCHEMA, mistakes), config), mistakes)


def attempt(config: Config, findings: Findings, deep: bool) -> None:
    """Test certificates and, if `deep`, the files of modules and of SMTP after POP as a login would use them."""
    try_certificates("vserv", config.items("vserv"), findings)
    if not deep:
        return
    backends = [item.ident for item in config.items("backend")]    # without any, that is told
    for item in config.items("pdm"):
        why = sound(partial(why_not_asked, item, config, backends), "")
        if why:
            findings.faults.append(Mistake(place("pdm", item.ident), f"module {item.values.text('module')}: {why}"))
    if why := sound(lambda: why_not_recorded(config), ""):
        findings.faults.append(Mistake(place("pproxy", "smtpafterpopfile"), why))
    findings.faults.extend(gather(partial(why_no_policy, terms) for terms in set(policies_of(config).values())
                                  if terms.noncefile))    # else that is told
    sound(partial(try_sharing, config, findings), None)
    findings.faults.extend(gather(partial(shut_out, item) for item in config.items("vserv")))
    findings.warnings.extend(gather(partial(not_offered, item, config) for item in config.items("vserv")))
    findings.warnings.extend(gather(partial(without_tokens, item, config) for item in config.items("backend")))
    for cls in ("backend", "pdm"):
        if config.items("vserv") and not config.items(cls):
            path = config.source.path if config.source else ""
            findings.warnings.append(Mistake(path, f"there is no [{cls}]: nobody can log in before a command adds one"))


def shut_out(item: Item) -> list[Mistake]:
    """Return why nobody can log in at a virtual server, whoever they are."""
    rows = [MECHANISMS[name] for name in cast(tuple[str, ...], item.values["saslmechanisms"])]
    if (item.values.text("plaintextauth") != "off" or item.values.text("tls") != OFF
            or any(row.checks in CHALLENGES for row in rows)):
        return []
    return [Mistake(place("vserv", item.ident, "plaintextauth"),
                    "plaintextauth = off takes passwords under TLS only, and tls is off: nobody can log in")]


def not_offered(item: Item, config: Config) -> list[Mistake]:
    """Return which mechanisms an administrator has named in vain."""
    names = cast(tuple[str, ...], item.values["saslmechanisms"])
    if names == DEFAULT_MECHANISMS:
        return []
    namespace = item.values.text("namespace")
    try:
        modules = [configured_module(each, config) for each in config.items("pdm")]
    except PdmError:    # reported by `check`
        return []
    verifiable = Chain(modules, 0, lambda message, **fields: None).mechanisms(namespace)
    where = place("vserv", item.ident, "saslmechanisms")
    vain = [name for name in names if (checks := MECHANISMS[name].checks) and checks not in verifiable]
    found = []
    if vain:
        found.append(Mistake(where, f"no database module for namespace {namespace} can check {', '.join(vain)}"))
    if PROVEN in names and PROVEN not in vain and not (
            item.values.optional_text("clientca") and item.values.text("tls") != OFF):
        found.append(Mistake(where, f"{PROVEN} needs 'clientca' and 'tls'"))
    return found


def without_tokens(item: Item, config: Config) -> list[Mistake]:
    """Return whether a backend wants tokens that no module gives."""
    if item.values.text("auth") not in TOKEN_LOGINS:
        return []
    try:
        modules = [configured_module(each, config) for each in config.items("pdm")]
    except PdmError:    # reported by `check`
        return []
    if any(module.gives_tokens and (not module.backends or item.ident in module.backends) for module in modules):
        return []
    return [Mistake(place("backend", item.ident, "auth"),
                    "no database module gives tokens for it: only clients that show one can log in")]


def why_no_policy(terms: PolicyTerms) -> list[Mistake]:
    """Return why a policy server could not be asked, apart from the server itself."""
    from popular.pproxy.policy.server import want_askable

    try:
        want_askable(terms)
    except PdmError as why:
        return [Mistake(place("pproxy", "policyurl"), str(why))]
    return []


def why_not_recorded(config: Config) -> str:
    """Return why clients cannot be recorded for SMTP after POP; empty: they can be, or need not be."""
    path = config.variables.text("smtpafterpopfile")
    folder = os.path.dirname(path)
    needed = path if os.path.exists(path) else folder
    is_told = not os.path.isdir(folder)    # by the check, as a mistake
    why = why_not(needed, os.R_OK | os.W_OK) if records_clients(config) and not is_told else ""
    return f"{needed}: user {own_rights().user!r} cannot write to it: {why}" if why else ""


def try_sharing(config: Config, findings: Findings) -> None:
    """Ask the server of `sharewith`; one that does not answer is no fault, as limits then hold for this proxy alone."""
    where = place("pproxy", "sharewith")
    try:
        values = shared_values(config.variables)
        if values is None:
            return
        from popular.pproxy.limits.sharing.exchange import ProxyExchange    # here, as most do not need it

        exchange = ProxyExchange(values)
        exchange.open()
    except PdmError as why:
        findings.faults.append(Mistake(where, str(why)))
        return
    except ConfigError:    # which `check` reports
        return
    with closing(exchange):
        try:
            exchange.probe()
        except PdmError as why:
            findings.warnings.append(Mistake(where, f"the server does not answer: {why}"))


def resolve_backends(config: Config, mistakes: list[Mistake]) -> Config:
    """Return `config` with numeric backend addresses, so that no child ever asks the DNS; adds to `mistakes`."""
    for item in config.items("backend"):
        try:
            address = item.values.endpoint("address")
            if address.is_numeric:
                continue
            numeric = {"address": str(resolve(address))}
            if item.values.text("tls") != OFF and item.values.optional_text("tlsname") is None:
                numeric["tlsname"] = address.host
        except WrongValue:
            continue
        except StartError as why:
            mistakes.append(Mistake(place("backend", item.ident, "address"), str(why)))
        else:
            config = with_item(config, SCHEMA, "backend", item.ident, numeric, item.origin, keep=True)
    return config
