"""The settings of pproxy: one row per variable (spec 1.2, design 6.1).

Read by the starter (INI file, options, documents) and by the master (`show`, `set`).
"""

from popular.config.kinds import MAX_TEXT, Bool, Choice, Dir, File, Id, Int, Off, String, Time
from popular.config.netkinds import NetworkList, Prefixes
from popular.config.setting import Schema, Setting
from popular.daemon.settings import CONFINEMENT_ROWS, METRICS_ROWS, POOL_ROWS, SESSIONLIMIT, process_rows
from popular.networks import Networks, PrefixLengths
from popular.paths import CAPADIR, SMTPFILE
from popular.pdm.asking.configured import PDM_ROWS
from popular.pproxy.objects import CLASSES
from popular.pproxy.policy.terms import POLICY_ROWS
from popular.statefile.layout import MAX_RELAYS

_LOGIN_ROWS = (
    Setting("authtimeout", Time(0, 3600), 120.0,
            "Time within which a client must log in, from the greeting on; 0 is no limit."),
    Setting("authdelay", Time(0, 15), 1.0,
            "Time between PASS and the first refusal; it doubles with each refusal, up to 15s."),
    Setting("maxauthtries", Int(1, 100), 3,
            "The connection is closed after this number of refused logins."),
    Setting("maxerrors", Int(1, 1000), 25,
            "The connection is closed after this number of commands refused for the client's own errors; an empty line "
            "counts as one."),
    Setting("maxline", Int(64, 8192), 255,
            "Longest command line in octets; a longer one is refused whole."),
    Setting("idletimeout", Time(0, 86400), 600.0,
            "If neither side sends or takes a byte for this time after the login, the connection is closed; a slow "
            "reader is not idle; RFC 1939 requires at least 10 minutes."),
    Setting("last", Bool(), False,
            "The command LAST (RFC 1460) in the empty mailbox that pproxy shows; see the same setting of pserv."),
    Setting("sidprefix", Id(), None,
            "First part of every session id, up to 32 characters; the host name without its domain when not set."),
    Setting("allowsslv2", Off(), False, "Always off, because SSL 2 no longer exists; for old rc files."),
    Setting("capadir", Dir(), CAPADIR, "Folder of the capability lists that virtual servers name.", root_only=True),
)

_CLIENT_ROWS = (
    Setting("exempt", NetworkList(), Networks.read(("127.0.0.0/8", "::1"), "127.0.0.0/8, ::1"),
            "Networks whose clients have none of the limits below: load balancers, webmail, monitoring; none: no such "
            "network.  A balancer that is missing here shares one address's limits among all its clients."),
    Setting("addressprefix", Prefixes(), PrefixLengths(32, 64),
            "How many bits of an IPv4 and of an IPv6 address count as one address."),
    Setting("networkprefix", Prefixes(), PrefixLengths(24, 48),
            "How many bits of an IPv4 and of an IPv6 address count as one network."),
    Setting("addresssessions", Int(0, SESSIONLIMIT), None,
            "Open connections of one address; further ones are closed at once.  When not set, a tenth of maxsession, "
            "but at least 10; 0 is no limit."),
    Setting("networksessions", Int(0, SESSIONLIMIT), None,
            "The same for a network; when not set, a quarter of maxsession, but at least 20."),
    Setting("addressrate", Int(0, 1_000_000), 300,
            "New connections of one address in a minute; 0 is no limit.  So many may come at once, if none came "
            "before."),
    Setting("networkrate", Int(0, 1_000_000), 1200, "The same for a network."),
    Setting("usersessions", Int(0, SESSIONLIMIT), 20,
            "Sessions with the same mailbox, unless the user's record says otherwise; a further one is refused as "
            "[IN-USE].  0 is no limit."),
    Setting("maxfailures", Int(0, 10_000), 10,
            "Failed logins of an address, also over several connections; then further ones are refused without asking "
            "a database.  A user who has logged in from the address before is judged only by failures for their own "
            "name.  If a network or a user has ten times as many, the limit of each address is one.  0 is no limit."),
    Setting("failuretime", Time(1, 86400), 60.0, "Time after which one failed login is forgotten."),
    Setting("sharewith", String(MAX_TEXT), None,
            "Server with which several proxies count clients together, Redis or Valkey, as words KEY=VALUE; see "
            "Several proxies. A change takes effect at a start or an upgrade.", readonly=True, at_start=True),
    Setting("denyfile", File(), None,
            "File of networks that may not connect, in addition to `deny`: separated by blanks, commas or line ends; # "
            "begins a comment.  Read at the start, by reload and with each other change.", root_only=True),
)

_BACKEND_ROWS = (
    Setting("checktimeout", Time(0.01, 60), 0.5, "Time to wait for the answer to one mail check."),
    Setting("checktries", Int(1, 10), 3, "Mail checks sent without an answer before pproxy connects to the backend."),
    Setting("connecttimeout", Time(0.01, 300), 5.0, "Time to wait for the connection to a backend."),
    Setting("logintimeout", Time(0.01, 300), 30.0,
            "Time to wait for a backend to finish the login; must be longer than it delays refusals (Dovecot: up to "
            "17s)."),
    Setting("softfail", Bool(), True,
            "If a backend is unreachable: on shows the client an empty mailbox, provided that a database module has "
            "checked the password and no pop3 backend got one; off answers -ERR [SYS/TEMP]."),
    Setting("backendlogins", Int(0, SESSIONLIMIT), None,
            "Logins that may be under way at one backend; for further ones it counts as unreachable.  When not set, a "
            "quarter of maxsession, but at least 20; 0 is no limit."),
    Setting("backendsessions", Int(0, SESSIONLIMIT), 0,
            "The same for sessions that are connected to it; 0 is no limit."),
    Setting("slowtime", Time(0.1, 300), 1.5,
            "A backend is slow when nobody has had an answer for this time, although somebody waits: a greeting (pop3) "
            "or an answer to the preamble.  Then it counts as unreachable, except for one login now and then, the "
            "probe, which waits no longer than this."),
    Setting("downtries", Int(0, 100), 3,
            "Failures in a row after which a backend is down, which means the same; 0: it is never slow or down."),
    Setting("probetime", Time(0.1, 3600), 4.0,
            "The longest time between two probes; the first are a second apart."),
)

_PORT_ROWS = (
    Setting("ringd", File(), None,
            "Socket of the ringd(8) that opens ports below 1024; when not set, pproxy opens them itself, and asks the "
            "ringd whose socket is in the run folder for those that it may not open.", root_only=True),
)

_WORKER_ROWS = (
    Setting("pdmworkers", Int(1, 255), 8,
            "Processes that ask database modules which wait for a server, such as ldap or pgsql, and the policy "
            "server; each has one connection to each."),
    Setting("cache", Int(0, 1_000_000), 0,
            "Answers of such modules that are kept, 512 octets for each; 0 keeps none. A change of this or of the "
            "following empties the cache. See popular-pdm(7)."),
    Setting("cachetime", Time(1, 86400), 300.0,
            "Time for which a granted login is kept: for so long an old password remains valid, and a user who was "
            "removed is let in."),
    Setting("cachenegative", Time(0, 3600), 30.0,
            "Time for which it is kept that a user is unknown, or that a password of theirs is wrong; 0 does not keep "
            "it."),
    Setting("cachestale", Time(0, 604800), 3600.0,
            "Time after cachetime for which a granted login is still kept, but used only while the database fails."),
)

_SMTP_ROWS = (
    Setting("smtpafterpopfile", File(), SMTPFILE,
            "SQLite database, for Postfix, with the addresses of clients that logged in at a virtual server with "
            "`smtpafterpop`; its folder must exist.", root_only=True),
    Setting("smtpafterpoptime", Time(1, 86400), 1800.0,
            "The least time after a login for which its client may send mail; it may be up to a quarter longer."),
)

_RELAY_ROWS = (
    Setting("relay", Choice("child", "shared"), "child",
            "Who relays between client and backend after the login.  child: the child, until the session ends, which "
            "costs some MiB for each session.  shared: a relay process with thousands of sessions, some KiB for each, "
            "but 1.6 times the CPU for large mail; take it when more sessions rest than there is memory for children.  "
            "Sessions under TLS stay with their child.  See Relays.", readonly=True, at_start=True),
    Setting("relays", Int(1, MAX_RELAYS), 2, "With `relay = shared`: relay processes.", readonly=True, at_start=True),
    Setting("maxrelayed", Int(1, 1_000_000), 10_000,
            "With `relay = shared`: sessions that all relay processes together may have, beside the `maxsession` of "
            "children; further ones stay with their children.", readonly=True, at_start=True),
)

SCHEMA = Schema("pproxy", (
    *process_rows("pproxy"), *CONFINEMENT_ROWS, *POOL_ROWS, *_RELAY_ROWS, *METRICS_ROWS, *_PORT_ROWS, *_LOGIN_ROWS,
    *_CLIENT_ROWS, *POLICY_ROWS, *_BACKEND_ROWS, *PDM_ROWS, *_WORKER_ROWS, *_SMTP_ROWS),
    CLASSES, purpose="POP3 proxy: finds out who a client is and where their mail is, and connects them to it.")
