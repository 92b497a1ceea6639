"""The settings of pserv: one row per variable (spec 2.2, design 6.1).

Read by the starter (INI file, options, documents) and by the master (`show`, `set`).
"""

from popular.config.kinds import Bool, Choice, Dir, Int, Time
from popular.config.setting import Schema, Setting
from popular.daemon.settings import METRICS_ROWS, POOL_ROWS, process_rows
from popular.paths import CAPADIR, SPOOLDIR
from popular.pserv.objects import CLASSES

_OWN_ROWS = (
    Setting("mailboxdir", Dir(), SPOOLDIR, "Root of all mailboxes, which may lie at any depth below.",
            option=("-m", "--mailboxdir")),
    Setting("missing", Choice("empty", "create", "refuse"), "empty",
            "What becomes of a user whose mailbox is not there: empty serves an empty one, create makes it, refuse "
            "answers -ERR [SYS/PERM]; pcheckd does what this says in the INI file."),
    Setting("preambletimeout", Time(0.01, 300), 10.0,
            "Time a proxy has to name the mailbox, from the connection on."),
    Setting("idletimeout", Time(0.01, 86400), 600.0,
            "Time in which the client sends no byte and takes none, then the connection is closed and nothing is "
            "deleted; a slow reader is not idle; RFC 1939 asks for 10 minutes at least."),
    Setting("maxerrors", Int(1, 1000), 25,
            "Commands refused for the client's own fault after which the connection is closed; an empty line counts as "
            "one, a message that the server cannot read as none."),
    Setting("maxline", Int(64, 8192), 255, "Longest command line in octets; a longer one is refused whole."),
    Setting("last", Bool(), False,
            "The command LAST (RFC 1460), which reports the highest message that was read; off: it is unknown.  Some "
            "clients take all messages up to it for fetched."),
    Setting("seenflag", Bool(), False,
            "Read messages get the Maildir flag S also where pdeliver has named them, for other programs that use the "
            "mailboxes; such names are slower to list.  Messages of other programs always get it."),
    Setting("capadir", Dir(), CAPADIR, "Folder of the capability lists that servers name."),
)

SCHEMA = Schema("pserv", process_rows("pserv") + POOL_ROWS + METRICS_ROWS + _OWN_ROWS, CLASSES,
                purpose="Mail store server: serves the mailboxes of one host to the proxies.")
