"""The log rows of pproxy (spec 5.2): numbers 0240 to 027f."""

from popular.log.message import ADM, ERR, INF, Message

SHUTDOWN_PROXY = Message(
    0x0240, INF, "shutdown_proxy", "command children",
    "pproxy ends because of this command, with so many children left.  Nothing to do.")
SESSION_START = Message(
    0x0241, INF, "session_start", "client vserv",
    "A client connected to a virtual server.  Nothing to do.")
LOGIN = Message(
    0x0242, INF, "login", "user namespace pdm backend protocol mailbox master client",
    "A database module knows the user, and named their backend.  Nothing to do.")
LOGIN_REFUSED = Message(
    0x0243, ERR, "login_refused", "user namespace client pdm why",
    "A login was refused: user unknown or password wrong, as the database modules say, or the backend, where it is "
    "the one that checks passwords.  Nothing to do, but many of them from one client are an attack.")
LOGIN_FAILED = Message(
    0x0244, ADM, "login_failed", "user namespace client pdm why",
    "A login could not be decided because a database module failed; the client was told to come again "
    "later.  Look at the database that the module uses.")
ROUTE_UNUSABLE = Message(
    0x0245, ADM, "route_unusable", "user namespace pdm why client",
    "The user is authenticated, but their record names a backend or mailbox that cannot be used.  Mend the "
    "record, or configure the backend.")
MAILBOX_EMPTY = Message(
    0x0246, INF, "mailbox_empty", "backend mailbox client",
    "The mail check found no mail: the proxy plays the empty mailbox.  Nothing to do.")
STORE_OVERLOADED = Message(
    0x0247, ADM, "store_overloaded", "backend mailbox client",
    "pcheckd reported a load at or above its --emptyload: the proxy plays an empty mailbox.  When it lasts, "
    "the storage host needs help.")
VSERV_DISABLED = Message(
    0x0248, INF, "vserv_disabled", "vserv client",
    "The virtual server is disabled: its users see an empty mailbox, or are told to come again later where only the "
    "backend knows their passwords.  Enable it when the work is done.")
BACKEND_DISABLED = Message(
    0x0249, INF, "backend_disabled", "backend mailbox client",
    "The backend is disabled: its users see an empty mailbox, or are told to come again later where only the backend "
    "knows their passwords.  Enable it when the work is done.")
SOFT_FAILURE = Message(
    0x024A, ADM, "soft_failure", "backend mailbox why client",
    "The backend is out of reach; softfail is on, so the client sees an empty mailbox.  Mend the backend.")
MAILCHECK_FAILED = Message(
    0x024B, ADM, "mailcheck_failed", "backend mailbox why client",
    "The store did not answer the mail check.  The session goes on as if there were mail.  See whether "
    "pcheckd runs there and whether its UDP port is open.")
NO_MAILBOX = Message(
    0x0251, INF, "no_mailbox", "backend mailbox client",
    "The mail check found no such mailbox.  The backend is called, which makes one, shows an empty one, or refuses the "
    "user, as its variable `missing` says.  Nothing to do.")
BACKEND_FAILED = Message(
    0x024C, ADM, "backend_failed", "backend mailbox why client",
    "The backend is out of reach, and the client was told to come again later: softfail is off, or nobody else has "
    "checked the password, or a pop3 backend was given it and says neither yes nor no.  Mend the backend.  After a "
    "timeout while its answer to PASS was awaited, see logintimeout: it may only delay its refusals.")
BACKEND_REFUSED = Message(
    0x024D, ERR, "backend_refused", "backend mailbox answer client",
    "The backend itself refused the login; its answer went to the client, its text only if the password was not in "
    "it.  Nothing to do, unless the user's record names a wrong mailbox or login there.")
SESSION_END = Message(
    0x024E, INF, "session_end",
    "client vserv namespace user backend protocol outcome bytes_in bytes_out seconds times",
    "A session is over.  bytes_in came from the client, bytes_out went to it; times tells the seconds spent in "
    "each state.  When a child died within a session, or was ended by a command, its master writes this line: outcome "
    "is `cut off:` and the reason, bytes are those of up to a second before, times has the last state only, and "
    "protocol is empty.  Nothing to do.")
TOO_MANY_LOGINS = Message(
    0x024F, ERR, "too_many_logins", "client tries",
    "A client was disconnected after maxauthtries refused logins.  Nothing to do, but many of them from one address "
    "are an attack.")
SMTP_NOT_RECORDED = Message(
    0x0250, ADM, "smtp_not_recorded", "client path why",
    "The database of SMTP after POP could not be made (without client), or a client that logged in could not be "
    "written to it, and mail from them may be refused until their next login.  See to the disk, to the rights of the "
    "folder, and to who keeps the database locked.  Said once a minute at most.")
PDM_OUTPUT = Message(
    0x0260, ADM, "pdm_output", "module line of text",
    "A database module, or what it uses, wrote to standard output or standard error while it answered a login: this is "
    "one line of so many, the first ten of which are logged.  The password of the login is masked.  A module has "
    "nothing to say there: what is wrong belongs into its answer.")
