"""What an administrator configures in pproxy beside variables: virtual servers, backends, database modules.

`CLASSES` are the rows (starter and master); `ProxyConfig` is the same made ready for use in the
children, built once per configuration in the master by `proxy_config`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from popular.addresses import Endpoint
from popular.config.kinds import Address, Addresses, Bool, Choice, Id, Int, String, Time
from popular.config.setting import ObjectClass, Setting
from popular.config.store import Config, Item, Values
from popular.daemon.capa import CAPA, list_of
from popular.pop3 import capability

PROTOCOLS = ("cxpop", "xpop", "pop3")

VSERV = ObjectClass("vserv", "Virtual servers: addresses that clients connect to, each with its own namespace.", (
    Setting("address", Addresses(), None, "Where it listens: HOST:PORT or [IPV6]:PORT, several parted by commas.",
            required=True),
    Setting("namespace", Id(), "default", "Given to the database modules with every login."),
    Setting("banner", String(200), "POPular ready", "Text of the greeting behind +OK."),
    Setting("capa", Id(), None, "Capability list with the answer to CAPA; when not set, what is really supported."),
    Setting("enabled", Bool(), True, "off: users log in and see an empty mailbox."),
))

BACKEND = ObjectClass("backend", "Backends: the servers that hold the mailboxes; database modules name them by id.", (
    Setting("protocol", Choice(*PROTOCOLS), None,
            "cxpop: pserv after a mail check; xpop: pserv without one; pop3: any POP3 server.", required=True),
    Setting("address", Address(), None, "Its HOST:PORT; a name is resolved when pproxy starts.", required=True),
    Setting("checkport", Int(1, 65535), 50110, "UDP port of pcheckd on the same host (cxpop)."),
    Setting("source", String(64), None, "Our own address for connections and mail checks to it."),
    Setting("enabled", Bool(), True, "off: its users see an empty mailbox."),
    Setting("drain", Bool(), False,
            "on: no new sessions are sent there, as if it were out of reach; running ones finish."),
    Setting("softfail", Bool(), None, "Overrides the variable of this name."),
    Setting("checktimeout", Time(0.01, 60), None, "Overrides the variable of this name."),
    Setting("checktries", Int(1, 10), None, "Overrides the variable of this name."),
    Setting("connecttimeout", Time(0.01, 300), None, "Overrides the variable of this name."),
    Setting("logintimeout", Time(0.01, 300), None, "Overrides the variable of this name."),
))

PDM = ObjectClass("pdm", "Database modules, asked in the order in which they stand.", (
    Setting("module", Id(), None, "Name of the module: pdm_NAME.py in pdmdir.", required=True),
    Setting("args", String(1024), "", "Its arguments, split as a shell would; popular-pdm(7) tells them."),
))

CLASSES = (VSERV, BACKEND, PDM, CAPA)


@dataclass(frozen=True, slots=True)
class Vserv:
    """One virtual server, as a child uses it."""

    ident: str
    namespace: str
    banner: str
    enabled: bool
    login_caps: tuple[str, ...]    # answer to CAPA before the login
    mail_caps: tuple[str, ...]     # and in the empty mailbox


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend, as a child uses it; times in seconds."""

    ident: str
    protocol: str
    address: Endpoint
    check: Endpoint
    source: str | None
    enabled: bool
    drain: bool
    softfail: bool
    checktimeout: float
    checktries: int
    connecttimeout: float
    logintimeout: float


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Everything a child of pproxy needs to know; times in seconds."""

    authtimeout: float
    authdelay: float
    maxauthtries: int
    maxerrors: int
    maxline: int
    idletimeout: float
    sidprefix: str
    vservs: Mapping[str, Vserv]
    backends: Mapping[str, Backend]


def proxy_config(config: Config) -> ProxyConfig:
    """Make `config` ready for the children; raises ConfigError for a capability list that is not loaded."""
    variables = config.variables
    return ProxyConfig(
        authtimeout=variables.seconds("authtimeout"),
        authdelay=variables.seconds("authdelay"),
        maxauthtries=variables.integer("maxauthtries"),
        maxerrors=variables.integer("maxerrors"),
        maxline=variables.integer("maxline"),
        idletimeout=variables.seconds("idletimeout"),
        sidprefix=sid_prefix(config),
        vservs={item.ident: _vserv(item, config) for item in config.items("vserv")},
        backends={item.ident: _backend(item, config) for item in config.items("backend")},
    )


def sid_prefix(config: Config) -> str:
    """Return the first part of session ids: the variable, else the host name without its domain."""
    return config.variables.optional_text("sidprefix") or os.uname().nodename.partition(".")[0]


def _vserv(item: Item, config: Config) -> Vserv:
    values = item.values
    return Vserv(item.ident, values.text("namespace"), values.text("banner"), values.flag("enabled"),
                 list_of(item, config, capability.AUTHORIZATION), list_of(item, config, capability.TRANSACTION))


def _backend(item: Item, config: Config) -> Backend:
    own = item.values
    # A key that the backend does not give is the variable of the same name.
    layered = Values({**config.variables, **{name: value for name, value in own.items() if value is not None}})
    address = own.endpoint("address")
    return Backend(
        ident=item.ident,
        protocol=own.text("protocol"),
        address=address,
        check=Endpoint(address.host, own.integer("checkport")),
        source=own.optional_text("source"),
        enabled=own.flag("enabled"),
        drain=own.flag("drain"),
        softfail=layered.flag("softfail"),
        checktimeout=layered.seconds("checktimeout"),
        checktries=layered.integer("checktries"),
        connecttimeout=layered.seconds("connecttimeout"),
        logintimeout=layered.seconds("logintimeout"),
    )
