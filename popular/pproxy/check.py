"""What can be wrong with a configuration of pproxy beside single rows.

Runs in the starter, and in the master for each change.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from popular.addresses import is_ip
from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config, Item, Values, gather
from popular.daemon.settings import pool_mistakes
from popular.daemon.tls import OFF, STARTTLS
from popular.pdm.asking.configured import module_mistakes
from popular.pproxy.limits.configured import denied_by_file, shared_values
from popular.pproxy.objects import TOKEN_LOGINS, records_clients, sid_prefix, unusable
from popular.pproxy.policy.configured import policy_mistakes

_MAX_SIDPREFIX = 32    # characters, so that a whole id stays below names.MAX_SID


def check(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows: capability lists, addresses, folders, modules that do not load."""
    return gather([
        partial(pool_mistakes, config),
        partial(_variable_mistakes, config),
        partial(policy_mistakes, config),
        *(partial(_limit_mistakes, config, read) for read in (denied_by_file, shared_values)),
        *(partial(_backend_mistakes, item, config) for item in config.items("backend")),
        *(partial(unusable, item, config) for cls in ("vserv", "backend") for item in config.items(cls)),
        *(partial(module_mistakes, item, config) for item in config.items("pdm")),
    ])


def _limit_mistakes(config: Config, read: Callable[[Values], object]) -> Sequence[Mistake]:
    try:
        read(config.variables)
    except ConfigError as why:
        return why.mistakes
    return []


def _variable_mistakes(config: Config) -> list[Mistake]:
    found = []
    if len(sid_prefix(config)) > _MAX_SIDPREFIX:
        found.append(Mistake(place("pproxy", "sidprefix"),
                             f"{quoted(sid_prefix(config))} has more than {_MAX_SIDPREFIX} characters"))
    folder = os.path.dirname(config.variables.text("smtpafterpopfile"))
    if records_clients(config) and not os.path.isdir(folder):
        found.append(Mistake(place("pproxy", "smtpafterpopfile"), f"no such folder: {folder}"))
    return found


def _backend_mistakes(item: Item, config: Config) -> list[Mistake]:
    found = [*_replica_mistakes(item, config)]
    source = item.values.optional_text("source")
    if source is not None and not is_ip(source):
        found.append(Mistake(place("backend", item.ident, "source"),
                             f"{quoted(source)} is not a numeric address of this host"))
    if item.values.text("tls") == STARTTLS and item.values.text("protocol") != "pop3":
        found.append(Mistake(place("backend", item.ident, "tls"),
                             "tls = starttls needs protocol = pop3, since no other has STLS; write implicit"))
    found += [Mistake(place("backend", item.ident, key), why) for key, why in _login_mistakes(item.values)]
    return found


def _login_mistakes(values: Values) -> Iterator[tuple[str, str]]:
    """Yield the keys that do not go with a backend's `auth`, and why."""
    how, has_master = values.text("auth"), values.optional_text("masteruser") is not None
    if values.text("protocol") != "pop3" and (how != "user" or has_master):
        yield "auth" if how != "user" else "masteruser", "needs protocol = pop3, since no other has logins"
    if has_master and how not in ("user", "plain", "scram"):
        yield "masteruser", f"does not go with auth = {how}; write user, plain or scram"
    if has_master is not (values.optional_text("masterpasswordfile") is not None):
        yield "masteruser", "needs masterpasswordfile, and that needs masteruser"
    if how in (*TOKEN_LOGINS, "external") and values.text("tls") == OFF:
        yield "auth", f"auth = {how} needs TLS; set tls"
    if how == "external" and values.optional_text("certificate") is None:
        yield "auth", "auth = external needs a certificate, by which the backend knows pproxy"


def _replica_mistakes(item: Item, config: Config) -> Iterator[Mistake]:
    """Yield why the replica of a backend cannot take its place."""
    name = item.values.optional_text("replica")
    if name is None:
        return
    other = config.item("backend", name)
    own, others = (each.values.text("protocol") if each else "" for each in (item, other))
    if other is None:
        yield Mistake(place("backend", item.ident, "replica"), f"no backend {quoted(name)} is configured")
    elif name == item.ident:
        yield Mistake(place("backend", item.ident, "replica"), "a backend is not its own replica")
    elif own != others:
        yield Mistake(place("backend", item.ident, "replica"),
                      f"backend {quoted(name)} has protocol = {others}, and this one {own}; they must be the same")
    elif any(other.values[key] != item.values[key] for key in ("auth", "masteruser")):
        yield Mistake(place("backend", item.ident, "replica"),
                      f"backend {quoted(name)} has another auth or masteruser; they must be the same")
