"""What an administrator configures in plmtpd besides variables: servers, and database modules.

`CLASSES` are the rows (starter and master).  `LmtpConfig` is the same in the form that children use; `lmtp_config`
builds it in the master, once for each configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from popular.config.kinds import Bool, Id, Listening
from popular.config.setting import ObjectClass, Setting
from popular.config.store import Config, Item
from popular.daemon.tls import IMPLICIT, STARTTLS, Tls, tls_rows
from popular.net.unixsocket import SocketAccess
from popular.networks import Networks
from popular.pdm.asking.configured import PDM
from popular.pdm.asking.userformat import NameForm, UserFormat
from popular.plmtpd.kinds import Mode
from popular.store.quota import Quota

_SERVER = ObjectClass("server", "Servers: addresses that mail servers (MTAs) connect to.", (
    Setting("address", Listening(), None,
            "Where it listens: HOST:PORT, [IPV6]:PORT or unix:/PATH, several separated by commas.  Anyone who can "
            "connect can deliver mail: allow only your mail servers.", required=True),
    Setting("namespace", Id(), "default", "Given to the database modules with every recipient."),
    Setting("userformat", UserFormat(), None,
            "How addresses of recipients are made uniform before the database modules see them, for example lower; see "
            "popular.conf(5).  When not set, they stay as they are."),
    Setting("enabled", Bool(), True, "off: it does not listen."),
    Setting("socketmode", Mode(), SocketAccess().mode,
            "Permissions of its Unix sockets: whoever may write to one may connect."),
    Setting("socketgroup", Id(), None,
            "Group that its Unix sockets get, such as that of the mail server; when not set, that of the service "
            "user.  While plmtpd runs, a change of it needs a group that the service user is a member of."),
    Setting("takeover", Bool(), False,
            "on: whoever may connect to its Unix sockets may also hand over mail of another server with its UIDL and "
            "time, as networks in the variable of this name may by TCP.", root_only=True),
    *tls_rows(STARTTLS, IMPLICIT,
              doc="TLS (RFC 3207): implicit, from the first octet on; starttls, when a client asks for it with "
                  "STARTTLS."),
))

CLASSES = (_SERVER, PDM)


@dataclass(frozen=True, slots=True)
class LmtpServer:
    """One server, in the form that a child uses."""

    ident: str
    namespace: str = "default"
    userformat: NameForm = NameForm()
    takeover: bool = False    # peers of its Unix sockets may take over mail
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class LmtpConfig:
    """Everything a child of plmtpd needs to know; times in seconds, sizes in octets."""

    mailboxdir: str
    missing: str                   # what happens to a recipient without mailbox: refuse or create
    backends: frozenset[str]       # ids of those whose mailboxes are here; empty: all that have mailboxes
    maxsize: int                   # of a message; 0: no limit
    maxrecipients: int             # of a message
    idletimeout: float
    datatimeout: float             # for the whole text of a message
    maxerrors: int
    overquota: str                 # what a recipient over quota gets: defer or refuse
    quota: Quota                   # of users whose record says nothing
    returnpath: bool
    deliveredto: bool
    quotawarning: tuple[int, ...]  # levels in percent, the lowest first
    quotamessage: str              # file with the warning; empty: a short English one
    takeover: Networks             # that may take over mail
    servers: Mapping[str, LmtpServer]


def lmtp_config(config: Config, tls: Mapping[str, Tls] = MappingProxyType({})) -> LmtpConfig:
    """Return `config` in the form that children use, with the TLS of servers."""
    values = config.variables
    return LmtpConfig(
        mailboxdir=values.text("mailboxdir"),
        missing=values.text("missing"),
        backends=frozenset(cast(tuple[str, ...], values["backends"] or ())),
        maxsize=values.integer("maxsize"),
        maxrecipients=values.integer("maxrecipients"),
        idletimeout=values.seconds("idletimeout"),
        datatimeout=values.seconds("datatimeout"),
        maxerrors=values.integer("maxerrors"),
        overquota=values.text("overquota"),
        quota=Quota.of_mebibytes(values.integer("quota"), values.integer("maxnum")),
        returnpath=values.flag("returnpath"),
        deliveredto=values.flag("deliveredto"),
        quotawarning=cast(tuple[int, ...], values["quotawarning"] or ()),
        quotamessage=values.optional_text("quotamessage") or "",
        takeover=cast(Networks, values["takeover"] or Networks()),
        servers={item.ident: _server(item, tls.get(item.ident)) for item in config.items("server")},
    )


def socket_access(item: Item) -> SocketAccess:
    """Return who may connect to the Unix sockets of a server."""
    return SocketAccess(item.values.integer("socketmode"), item.values.optional_text("socketgroup") or "")


def _server(item: Item, tls: Tls | None) -> LmtpServer:
    values = item.values
    return LmtpServer(item.ident, values.text("namespace"), cast(NameForm, values["userformat"] or NameForm()),
                      values.flag("takeover"), tls)
