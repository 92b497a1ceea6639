"""What a virtual server tells in CAPA, and the extensions that its settings give it (RFC 2449, RFC 6856).

Built in the master for each configuration, used in its children.  After the login the backend answers, so nothing is
told before that not all backends can do: nobody knows yet where the mail of the client is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from popular.config.kinds import Bool, Time
from popular.config.setting import Setting
from popular.config.store import Config, Values
from popular.daemon.admin.capa import list_of
from popular.pop3 import capability
from popular.pproxy.limits.delay import LoginDelay
from popular.pproxy.limits.levels import Levels

EXTENSION_ROWS = (
    Setting("utf8user", Bool(), False,
            "on: what USER, PASS and APOP say must be UTF-8 and is made uniform by SASLprep; databases must have it "
            "so.  CAPA tells UTF8 USER.  off: names and passwords are taken as they come."),
    Setting("implementation", Bool(), False, "on: CAPA names POPular already before the login."),
    Setting("expire", capability.Expiry(), None,
            "After how many days mail may be removed, at the earliest, or never: what CAPA tells as EXPIRE before the "
            "login.  When not set, nothing is told.  After the login, pserv tells its own `expire`."),
    Setting("logindelay", Time(0, 86400), 0.0,
            "The shortest time between two logins to a mailbox; an earlier one is refused as [LOGIN-DELAY], except for "
            "`exempt` clients.  CAPA tells it.  0 is no limit."),
)


@dataclass(frozen=True, slots=True)
class Extensions:
    """The extensions of one virtual server."""

    caps: tuple[str, ...] = capability.AUTHORIZATION        # told before the login, whoever the client is
    mail_caps: tuple[str, ...] = capability.TRANSACTION     # and in the empty mailbox
    prepare: Callable[[bytes], bytes] | None = None         # makes UTF-8 in USER and PASS uniform; raises ValueError
    delay: LoginDelay | None = None                         # between logins to a mailbox


def promised(config: Config) -> tuple[str, ...]:
    """Return what is supported wherever the mail of a user is; raises ConfigError.

    A disabled backend shows an empty mailbox, which can do everything.
    """
    able = set(capability.OF_BACKENDS)
    for item in config.items("backend"):
        if item.values.flag("enabled"):
            able &= {cap.partition(" ")[0] for cap in list_of(item, config, capability.AUTHORIZATION)}
            if item.values.text("protocol") == "pop3":
                able &= capability.OF_POP3_BACKENDS
    return capability.leaving_out(capability.AUTHORIZATION, capability.OF_BACKENDS - able)


def extensions_of(values: Values, common: Sequence[str], find_delays: Callable[[], Levels | None]) -> Extensions:
    """Return the extensions of a virtual server with these `values`; `common` is what `promised` has returned.

    `find_delays`, called only if it is needed, returns where logins are counted.
    """
    expiry, seconds = values.optional_text("expire"), values.seconds("logindelay")
    levels = find_delays() if seconds else None
    prepare: Callable[[bytes], bytes] | None = None
    if values.flag("utf8user"):
        from popular.sasl.utf8user import prepared_strictly    # here, because few sites need it

        prepare = prepared_strictly
        common = ["UTF8 USER" if cap == "UTF8" else cap for cap in common]
    named = (capability.IMPLEMENTATION,) if values.flag("implementation") else ()
    return Extensions(
        (*common, *capability.expire(expiry, may_differ=True), *named),
        (*common, *capability.expire(expiry), capability.IMPLEMENTATION),
        prepare, LoginDelay(seconds, levels) if levels is not None else None)
