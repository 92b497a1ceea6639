"""The settings of pserv: one row per variable (spec 2.2, design 6.1).

Read by the starter (INI file, options, documents) and by the master (`show`, `set`).
"""

from popular.config.kinds import Bool, Choice, Dir, Int, Time
from popular.config.setting import Schema, Setting
from popular.daemon.settings import CONFINEMENT_ROWS, METRICS_ROWS, POOL_ROWS, process_rows
from popular.paths import CAPADIR, SPOOLDIR
from popular.pop3.capability import Expiry
from popular.pserv.objects import CLASSES

_OWN_ROWS = (
    Setting("mailboxdir", Dir(), SPOOLDIR, "Root of all mailboxes, which may lie at any depth below.",
            root_only=True, option=("-m", "--mailboxdir")),
    Setting("missing", Choice("empty", "create", "refuse"), "empty",
            "What happens to a user whose mailbox does not exist: empty serves an empty one, create makes it, refuse "
            "answers -ERR [SYS/PERM]; pcheckd follows this setting as it is in the INI file."),
    Setting("preambletimeout", Time(0.01, 300), 10.0,
            "Time within which a proxy must name the mailbox after it has connected."),
    Setting("idletimeout", Time(0.01, 86400), 600.0,
            "If the client neither sends nor takes a byte for this time, the connection is closed and nothing is "
            "deleted; a slow reader is not idle; RFC 1939 requires at least 10 minutes."),
    Setting("maxerrors", Int(1, 1000), 25,
            "The connection is closed after this number of commands refused for the client's own errors; an empty line "
            "counts as one, a message that the server cannot read does not count."),
    Setting("maxline", Int(64, 8192), 255, "Longest command line in octets; a longer one is refused whole."),
    Setting("last", Bool(), False,
            "The command LAST (RFC 1460), which reports the highest message that was read; off: it is unknown.  Some "
            "clients assume that all messages up to it were fetched."),
    Setting("seenflag", Bool(), False,
            "Read messages get the Maildir flag S even if pdeliver has named them, for other programs that use the "
            "mailboxes; such names are slower to list.  Messages from other programs always get it."),
    Setting("expire", Expiry(), None,
            "After how many days mail may be removed, or never: what CAPA tells as EXPIRE.  Nothing is removed "
            "because of it; write the shortest time that pclean leaves to a message.  When not set, nothing is told."),
    Setting("capadir", Dir(), CAPADIR, "Folder of the capability lists that servers name.", root_only=True),
)

SCHEMA = Schema("pserv", (*process_rows("pserv"), *CONFINEMENT_ROWS, *POOL_ROWS, *METRICS_ROWS, *_OWN_ROWS), CLASSES,
                purpose="Mail store server: serves the mailboxes of one host to the proxies.")
