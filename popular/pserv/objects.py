"""What an administrator configures in pserv besides variables: servers, which are the addresses it listens on.

`CLASSES` are the rows (starter and master).  `ServConfig` is the same in the form that children use; `serv_config`
builds it in the master, once for each configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from popular.config.kinds import Addresses, Bool, File, Id
from popular.config.setting import ObjectClass, Setting
from popular.config.store import Config, Item
from popular.daemon.admin.capa import CAPA, list_of
from popular.daemon.tls import IMPLICIT, Tls, tls_rows
from popular.pop3 import capability

_SERVER = ObjectClass("server", "Servers: addresses that proxies connect to.", (
    Setting("address", Addresses(), None,
            "Where it listens: HOST:PORT or [IPV6]:PORT, several separated by commas.  Anyone who can connect can read "
            "all mail: allow only proxies.", required=True),
    Setting("capa", Id(), None, "Capability list for the answer to CAPA; when not set, what is really supported."),
    Setting("enabled", Bool(), True, "off: it does not listen."),
    *tls_rows(IMPLICIT),
    Setting("clientca", File(), None,
            "PEM file of authorities: only proxies with a certificate of one of them are accepted (with tls).",
            root_only=True),
))

CLASSES = (_SERVER, CAPA)


@dataclass(frozen=True, slots=True)
class Server:
    """One server, in the form that a child uses."""

    ident: str
    caps: tuple[str, ...]    # answer to CAPA
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class ServConfig:
    """Everything a child of pserv needs to know; times in seconds."""

    mailboxdir: str
    missing: str    # what happens to a user without mailbox: empty, create or refuse
    preambletimeout: float
    idletimeout: float
    maxerrors: int
    maxline: int
    last: bool
    seenflag: bool
    servers: Mapping[str, Server]


def serv_config(config: Config, tls: Mapping[str, Tls] = MappingProxyType({})) -> ServConfig:
    """Return `config` in the form that children use, with the TLS of servers.

    Raises ConfigError for a capability list that is not loaded.
    """
    variables = config.variables
    return ServConfig(
        mailboxdir=variables.text("mailboxdir"),
        missing=variables.text("missing"),
        preambletimeout=variables.seconds("preambletimeout"),
        idletimeout=variables.seconds("idletimeout"),
        maxerrors=variables.integer("maxerrors"),
        maxline=variables.integer("maxline"),
        last=variables.flag("last"),
        seenflag=variables.flag("seenflag"),
        servers={item.ident: _server(item, config, tls.get(item.ident)) for item in config.items("server")},
    )


def _server(item: Item, config: Config, tls: Tls | None) -> Server:
    told = capability.expire(config.variables.optional_text("expire"))
    return Server(item.ident, list_of(item, config, (*capability.TRANSACTION, *told)), tls)
