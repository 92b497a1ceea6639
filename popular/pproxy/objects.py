"""What an administrator configures in pproxy besides variables: virtual servers, backends, database modules.

`CLASSES` are the rows (starter and master).  `ProxyConfig` is the same in the form that children use;
`proxy_config` builds it in the master, once for each configuration.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

from popular.addresses import Endpoint
from popular.config.kinds import Address, Addresses, Bool, Choice, File, Id, Int, String, Time
from popular.config.mistakes import ConfigError, Mistake
from popular.config.netkinds import NetworkList
from popular.config.setting import ObjectClass, Setting, place
from popular.config.store import Config, Item, Values
from popular.daemon.admin.capa import CAPA, list_of
from popular.daemon.settings import SESSIONLIMIT
from popular.daemon.tls import IMPLICIT, OFF, STARTTLS, Tls, tls_rows, want_readable
from popular.errors import PdmError, StartError
from popular.net.wire import Wire
from popular.networks import Networks
from popular.pdm.asking.configured import PDM
from popular.pdm.asking.userformat import NameForm, UserFormat
from popular.pproxy.backends.health import HealthTerms
from popular.pproxy.limits.clients import ClientLimits
from popular.pproxy.limits.configured import client_limits
from popular.pproxy.limits.levels import Levels
from popular.pproxy.policy.terms import PolicyUrl
from popular.pproxy.vserv.extensions import EXTENSION_ROWS, Extensions, extensions_of, promised
from popular.pproxy.vserv.offer import DEFAULT_MECHANISMS, MechanismList, Offer, Separator

if TYPE_CHECKING:
    from popular.net.tls.stream import TlsStream
    from popular.pproxy.backends.announce import Announcement
    from popular.pproxy.backends.backendlogin import BackendLogin
    from popular.pproxy.vserv.proxied import Proxies

_LEAST_LOGINS, _PART_OF_LOGINS = 20, 4    # of maxsession, where backendlogins is not set

PROTOCOLS = ("cxpop", "xpop", "pop3")
TOKEN_LOGINS = ("xoauth2", "oauthbearer")    # values of a backend's `auth`
_LOGINS = ("user", "plain", "scram", *TOKEN_LOGINS, "external", "apop")
UNTOLD, BY_HEADER, BY_XCLIENT = "none", "proxy", "xclient"    # how backends learn the client's address

VSERV = ObjectClass("vserv", "Virtual servers: addresses that clients connect to, each with its own namespace.", (
    Setting("address", Addresses(), None, "Where it listens: HOST:PORT or [IPV6]:PORT, several separated by commas.",
            required=True),
    Setting("namespace", Id(), "default", "Given to the database modules with every login."),
    Setting("banner", String(200), "POPular ready", "Text of the greeting after +OK."),
    Setting("capa", Id(), None, "Capability list for the answer to CAPA; when not set, what is really supported."),
    Setting("enabled", Bool(), True, "off: users log in and see an empty mailbox."),
    *tls_rows(STARTTLS, IMPLICIT),
    Setting("clientca", File(), None,
            "PEM file of authorities: clients may show a certificate of one of them, and log in with AUTH EXTERNAL.",
            root_only=True),
    Setting("certificateuser", Choice("email", "cn"), "email",
            "What names the user in such a certificate: its only e-mail address in subjectAltName, or its common name; "
            "`userformat` is applied."),
    Setting("plaintextauth", Choice("on", "off", "local"), "on",
            "Whether USER and PASS are accepted without TLS; local: only from this host."),
    Setting("saslmechanisms", MechanismList(), DEFAULT_MECHANISMS,
            "Mechanisms of AUTH and APOP that may be offered, separated by commas, or none; see AUTH in pproxy(8)."),
    Setting("masterseparator", Separator(), None,
            "A sign such as *: then USER admin*joe is the master user admin, who wants the mailbox of joe; see AUTH in "
            "pproxy(8)."),
    *EXTENSION_ROWS,
    Setting("smtpafterpop", Bool(), False,
            "on: the address of a client that logs in is recorded, so that they may send mail for a while."),
    Setting("userformat", UserFormat(), None,
            "How names of users are made uniform before the database modules see them, for example lower; see "
            "popular.conf(5).  When not set, they stay as they are."),
    Setting("proxyprotocol", Bool(), False,
            "on: each connection begins with a header of the PROXY protocol, version 1 or 2, which names the client, "
            "and comes from `trusted`."),
    Setting("trusted", NetworkList(), None,
            "Networks of the load balancers that send PROXY headers; without proxyprotocol, of proxies that may name "
            "the client by XCLIENT.  They can pretend to be anybody."),
    Setting("allow", NetworkList(), None, "Networks that may connect; when not set, all."),
    Setting("deny", NetworkList(), None, "Networks that may not connect, even if `allow` names them."),
    *(Setting(name, Int(0, 1_000_000), None, "Overrides the variable of this name; what is counted are the connections "
              "to all virtual servers.")
      for name in ("addresssessions", "networksessions", "addressrate", "networkrate")),
    *(Setting(name, Int(0, 10_000), None, "Overrides the variable of this name.")
      for name in ("usersessions", "maxfailures")),
    Setting("policyurl", PolicyUrl(), None, "Overrides the variable of this name; none: nobody is asked.",
            root_only=True),
))

BACKEND = ObjectClass("backend", "Backends: the servers that hold the mailboxes; database modules name them by id.", (
    Setting("protocol", Choice(*PROTOCOLS), None,
            "cxpop: pserv after a mail check; xpop: pserv without one; pop3: any POP3 server.", required=True),
    Setting("address", Address(), None, "Its HOST:PORT; a name is resolved when pproxy starts.", required=True),
    Setting("checkport", Int(1, 65535), 50110, "UDP port of pcheckd on the same host (cxpop)."),
    Setting("capa", Id(), None,
            "Capability list of what it can do: TOP, UIDL, RESP-CODES and PIPELINING, with cxpop and xpop also UTF8 "
            "and LANG.  CAPA tells them before the login only if all backends have them.  When not set: all."),
    Setting("source", String(64), None, "Our own address for connections and mail checks to it."),
    Setting("enabled", Bool(), True, "off: its users see an empty mailbox."),
    Setting("drain", Bool(), False,
            "on: no new sessions are sent there, as if it were unreachable; running ones finish."),
    Setting("replica", Id(), None,
            "Backend with the same protocol and mailboxes, to which sessions go when this one is drained, busy, slow, "
            "down or out of reach, unless a password was already sent there."),
    Setting("clientaddress", Choice(UNTOLD, BY_HEADER, BY_XCLIENT), UNTOLD,
            "How it learns the client's address (pop3 only): proxy: by a header of the PROXY protocol, version 2, "
            "which it must expect; xclient: by XCLIENT, if it offers that, as Dovecot does."),
    Setting("tls", Choice(OFF, STARTTLS, IMPLICIT), OFF,
            "TLS to it: implicit: from the first octet; starttls: after STLS (pop3 only)."),
    Setting("verify", Bool(), True, "off: any certificate that it shows is accepted."),
    Setting("cafile", File(), None, "PEM file of the authorities that may have issued its certificate; when not set, "
            "the system's.", root_only=True),
    Setting("tlsname", String(255), None,
            "Name that its certificate must have; the host of `address` when not set."),
    Setting("certificate", File(), None, "PEM file of the certificate that we show when it asks for one.",
            root_only=True),
    Setting("key", File(), None, "PEM file of the key for that; when not set, the key is in the certificate's file.",
            root_only=True),
    Setting("auth", Choice(*_LOGINS), "user",
            "How pproxy logs in there (pop3): user: USER and PASS; plain, scram (the strongest that it offers), "
            "external (by `certificate`) or apop; xoauth2 or oauthbearer: by an access token, the client's own or one "
            "of the database modules."),
    Setting("masteruser", String(250), None,
            "Account there that opens all mailboxes: pproxy logs in by it (auth user, plain or scram), and passwords "
            "of users are not sent there.  A database module must have checked them, and name the user there (buser)."),
    Setting("masterpasswordfile", File(), None, "File with its password as the only line.", root_only=True),
    Setting("mastersign", Separator(), "*",
            "What stands between the names of the user and of masteruser in USER (Dovecot: "
            "auth_master_user_separator)."),
    Setting("softfail", Bool(), None, "Overrides the variable of this name."),
    Setting("checktimeout", Time(0.01, 60), None, "Overrides the variable of this name."),
    Setting("checktries", Int(1, 10), None, "Overrides the variable of this name."),
    Setting("connecttimeout", Time(0.01, 300), None, "Overrides the variable of this name."),
    Setting("logintimeout", Time(0.01, 300), None, "Overrides the variable of this name."),
    Setting("backendlogins", Int(0, SESSIONLIMIT), None, "Overrides the variable of this name."),
    Setting("backendsessions", Int(0, SESSIONLIMIT), None, "Overrides the variable of this name."),
    Setting("slowtime", Time(0.1, 300), None, "Overrides the variable of this name."),
    Setting("downtries", Int(0, 100), None, "Overrides the variable of this name."),
    Setting("probetime", Time(0.1, 3600), None, "Overrides the variable of this name."),
))

CLASSES = (VSERV, BACKEND, PDM, CAPA)


@dataclass(frozen=True, slots=True)
class Vserv:
    """One virtual server, in the form that a child uses."""

    ident: str
    namespace: str
    banner: str
    enabled: bool
    login_caps: tuple[str, ...]    # answer to CAPA before the login; empty: what is supported then
    mail_caps: tuple[str, ...]     # and in the empty mailbox
    extensions: Extensions = Extensions()
    plaintextauth: str = "on"      # whether a password needs no TLS: on, off or local
    tls: Tls | None = None
    smtpafterpop: bool = False
    userformat: NameForm = NameForm()
    limits: ClientLimits = ClientLimits()
    offer: Offer | None = None     # of SASL mechanisms; None: there is no AUTH
    masterseparator: str = ""      # between the names of a master user and a user
    certificateuser: str = ""      # what names the user in a client's certificate; empty: clients have none
    proxies: "Proxies | None" = None    # those that may say whom they serve; None: nobody may

    def knows_xclient(self, peer: Endpoint) -> bool:
        """Tell whether a peer may say by XCLIENT whom it serves."""
        return self.proxies is not None and self.proxies.trusts(peer)

    def banner_for(self, *, knows_xclient: bool) -> str:
        """Return the text of the greeting; proxies of Dovecot's make see there that they may say XCLIENT."""
        return f"[XCLIENT] {self.banner}" if knows_xclient else self.banner


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend, in the form that a child uses; times in seconds."""

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
    tls: str = OFF                                            # off, starttls or implicit
    secure: "Callable[[Wire], TlsStream] | None" = None       # starts TLS on a wire to it; raises NoTls and Gone
    login: "BackendLogin | None" = None                       # other than by USER and PASS of the user (pop3)
    replica: str = ""                                         # the id of another backend, used in its place
    backendlogins: int = 0                                    # logins under way at once; 0: any number
    backendsessions: int = 0                                  # sessions at once; 0: any number
    logins: HealthTerms = HealthTerms()                                   # when it is not asked for logins
    checks: HealthTerms = HealthTerms()                                   # and for mail checks
    announce: "Callable[..., Announcement] | None" = None    # how it learns whom we serve; None: it does not


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """Everything a child of pproxy needs to know; times in seconds."""

    authtimeout: float
    authdelay: float
    maxauthtries: int
    maxerrors: int
    maxline: int
    idletimeout: float
    last: bool
    sidprefix: str
    vservs: Mapping[str, Vserv]
    backends: Mapping[str, Backend]


def proxy_config(config: Config, tls: Mapping[str, Tls] = MappingProxyType({}),
                 verifiable: Callable[[str], frozenset[str]] = lambda namespace: frozenset(),
                 find_delays: Callable[[], Levels | None] = lambda: None) -> ProxyConfig:
    """Return `config` in the form that children use, with the TLS of virtual servers.

    `verifiable` returns what the database modules of a namespace can check besides passwords; `find_delays`, called
    only if it is needed, where logins are counted.

    Raises ConfigError for a capability list that is not loaded, and for files of a backend's TLS.
    """
    variables = config.variables
    common = promised(config)
    return ProxyConfig(
        authtimeout=variables.seconds("authtimeout"),
        authdelay=variables.seconds("authdelay"),
        maxauthtries=variables.integer("maxauthtries"),
        maxerrors=variables.integer("maxerrors"),
        maxline=variables.integer("maxline"),
        idletimeout=variables.seconds("idletimeout"),
        last=variables.flag("last"),
        sidprefix=sid_prefix(config),
        vservs={item.ident: _vserv(item, config, tls.get(item.ident), verifiable, find_delays, common)
                for item in config.items("vserv")},
        backends={item.ident: _backend(item, config) for item in config.items("backend")},
    )


def unusable(item: Item, config: Config) -> list[Mistake]:
    """Return mistakes that make a virtual server or backend unusable: capability list, files, what goes together."""
    try:
        list_of(item, config, ())
        if "protocol" not in item.values:
            if item.values.flag("proxyprotocol") and not item.values["trusted"]:
                return [Mistake(place("vserv", item.ident, "proxyprotocol"),
                                "needs 'trusted', the networks of the load balancers: whoever sends such a header can "
                                "pretend to be anybody")]
        else:
            if item.values.text("clientaddress") != UNTOLD and item.values.text("protocol") != "pop3":
                return [Mistake(place("backend", item.ident, "clientaddress"),
                                "needs protocol = pop3: pserv is told the session id, by which its log has the client")]
            _login(item)
            if item.values.text("tls") != OFF:
                _secure(item)
    except ConfigError as why:
        return [*why.mistakes]
    return []


def name_asked(config: Config, user: str, namespace: str) -> str:
    """Return the name for which the first virtual server of a namespace would ask the modules."""
    form = next((item.values["userformat"] for item in config.items("vserv")
                 if item.values.text("namespace") == namespace), None)
    return cast(NameForm, form or NameForm()).applied(user)


def sid_prefix(config: Config) -> str:
    """Return the first part of session ids: the variable, else the host name without its domain."""
    return config.variables.optional_text("sidprefix") or os.uname().nodename.partition(".")[0]


def records_clients(config: Config) -> bool:
    """Tell whether clients of any virtual server are recorded for SMTP after POP."""
    return any(item.values.flag("smtpafterpop") for item in config.items("vserv"))


def _vserv(item: Item, config: Config, tls: Tls | None, verifiable: Callable[[str], frozenset[str]],
           find_delays: Callable[[], Levels | None], common: Sequence[str]) -> Vserv:
    values = item.values
    proxies = _proxies(item)
    limits = client_limits(layered(values, config))
    if proxies is not None and not proxies.has_header:    # they speak for many, and are judged by whom they name
        limits = replace(limits, exempt=limits.exempt | proxies.trusted)
    extensions = extensions_of(values, common, find_delays)
    mechanisms = cast(tuple[str, ...], values["saslmechanisms"])
    return Vserv(item.ident, values.text("namespace"), values.text("banner"), values.flag("enabled"),
                 list_of(item, config, ()), list_of(item, config, extensions.mail_caps), extensions,
                 values.text("plaintextauth"), tls, values.flag("smtpafterpop"),
                 cast(NameForm, values["userformat"] or NameForm()), limits,
                 Offer(mechanisms, verifiable(values.text("namespace"))) if mechanisms else None,
                 values.optional_text("masterseparator") or "",
                 values.text("certificateuser") if values.optional_text("clientca") else "", proxies)


def _proxies(item: Item) -> "Proxies | None":
    trusted = cast(Networks, item.values["trusted"] or Networks())
    if not trusted:
        return None
    from popular.pproxy.vserv.proxied import Proxies    # here, so that children without them do not load it

    return Proxies(item.ident, trusted, item.values.flag("proxyprotocol"))


def layered(own: Values, config: Config) -> Values:
    """Return the values of an object; where it does not give a key, the variable of the same name counts."""
    return Values({**own, **config.variables, **{name: value for name, value in own.items() if value is not None}})


def _backend(item: Item, config: Config) -> Backend:
    own = item.values
    values = layered(own, config)
    address = own.endpoint("address")
    terms = HealthTerms(values.seconds("slowtime"), values.integer("downtries"), values.seconds("probetime"))
    return Backend(
        ident=item.ident,
        protocol=own.text("protocol"),
        address=address,
        check=Endpoint(address.host, own.integer("checkport")),
        source=own.optional_text("source"),
        enabled=own.flag("enabled"),
        drain=own.flag("drain"),
        softfail=values.flag("softfail"),
        checktimeout=values.seconds("checktimeout"),
        checktries=values.integer("checktries"),
        connecttimeout=values.seconds("connecttimeout"),
        logintimeout=values.seconds("logintimeout"),
        tls=own.text("tls"),
        secure=_secure(item) if own.text("tls") != OFF else None,
        login=_login(item),
        replica=own.optional_text("replica") or "",
        backendlogins=max(_LEAST_LOGINS, values.integer("maxsession") // _PART_OF_LOGINS)
        if values["backendlogins"] is None else values.integer("backendlogins"),
        backendsessions=values.integer("backendsessions"),
        logins=terms,
        checks=replace(terms, slowtime=values.seconds("checktimeout")),
        announce=_announce(own.text("clientaddress")),
    )


def _login(item: Item) -> "BackendLogin | None":
    """Return how pproxy logs in at a backend; None: by USER and PASS of the user.  Raises ConfigError."""
    how, master = item.values.text("auth"), item.values.optional_text("masteruser") or ""
    if how == "user" and not master:
        return None
    # Imported here, because few sites need it.
    from popular.pdm.options import read_secret
    from popular.pproxy.backends.backendlogin import Account, BackendLogin

    path = item.values.optional_text("masterpasswordfile")
    try:
        password = read_secret(path).encode() if path else b""
    except PdmError as why:
        raise ConfigError([Mistake(place("backend", item.ident, "masterpasswordfile"), str(why))]) from None
    return BackendLogin.loaded(how, Account(master, password, item.values.text("mastersign")))


def _announce(how: str) -> "Callable[..., Announcement] | None":
    if how == UNTOLD:
        return None
    from popular.pproxy.backends.announce import Announcement    # here, as above

    return partial(Announcement, how)


def _secure(item: Item) -> "Callable[[Wire], TlsStream]":
    """Return a function that starts TLS on a wire to a backend; raises ConfigError."""
    # Imported here, because both need ssl, which children without TLS should not load.
    from popular.net.tls import context as tlscontext
    from popular.net.tls import stream as tlsstream

    values = item.values
    certificate, key = values.optional_text("certificate"), values.optional_text("key")
    pair = tlscontext.KeyPair(certificate, key or certificate) if certificate else None
    cafile = values.optional_text("cafile") or ""
    name = values.optional_text("tlsname") or values.endpoint("address").host
    try:
        want_readable("certificate", *filter(None, (certificate,)))
        want_readable("key", *filter(None, (key,)))
        want_readable("authorities", *filter(None, (cafile,)))
        context = tlscontext.client_context("1.2", cafile, verify=values.flag("verify"),
                                            pair=pair)
    except StartError as why:
        raise ConfigError([Mistake(place("backend", item.ident, "tls"), str(why))]) from why
    return lambda wire: tlsstream.secure(wire, context, server_side=False, server_hostname=name)
