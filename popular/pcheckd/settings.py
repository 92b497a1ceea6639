"""The settings of pcheckd: one row per variable (spec 3.1, design 6.1).

Read by the starter (INI file, options, documents) and by the master.
"""

from popular.config.kinds import Choice, Dir, Float, Int, String
from popular.config.setting import Schema, Setting
from popular.daemon.settings import CONFINEMENT_ROWS, process_rows
from popular.mailcheck.packet import DEFAULT_PORT
from popular.paths import SPOOLDIR

_OWN_ROWS = (
    Setting("mailboxdir", Dir(), SPOOLDIR, "Root of all mailboxes, which may lie at any depth below.",
            readonly=True, option=("-m", "--mailboxdir")),
    Setting("missing", Choice("empty", "create", "refuse"), None,
            "What happens to a user whose mailbox does not exist: with empty the answer is state 0 (no mail), else "
            "-ERR, and the proxy asks pserv, which makes the mailbox or refuses the user; when not set, the value in "
            "/etc/popular/pserv.conf, or empty if that has none.", readonly=True, at_start=True),
    Setting("host", String(255), "0.0.0.0",
            "Address or name to listen on; 0.0.0.0 is every IPv4 address of this host, :: every IPv6 address.",
            readonly=True, option=("-h", "--host")),
    Setting("port", Int(0, 65535), DEFAULT_PORT, "UDP port to listen on; 0 lets the system choose one.",
            readonly=True, option=("-p", "--port")),
    Setting("emptyload", Float(0, 1_000_000), None,
            "At a 1-minute load of this or more, every request for a mailbox is answered with state 3 (load too "
            "high), and the proxies show empty mailboxes; never when not set, and always at 0, unlike maxlocalload.",
            readonly=True, option=("-e", "--emptyload")),
    Setting("fork", Int(0, 256), 0, "Extra processes: this number plus one answer requests.",
            readonly=True, option=("-f", "--fork")),
)

SCHEMA = Schema("pcheckd", process_rows("pcheckd") + CONFINEMENT_ROWS + _OWN_ROWS,
                foreground=("--foreground", "--nodeamon"),
                purpose="Mail check daemon: tells the proxies, by UDP, whether a mailbox has mail.")
