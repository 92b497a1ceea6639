"""The log messages of pproxy (spec 5.2): numbers 0240 to 027f, and 0320 to 032f."""

from popular.log.message import ADM, ERR, INF, Message

SHUTDOWN_PROXY = Message(
    0x0240, INF, "shutdown_proxy", "command children",
    "pproxy ends because of this command, with this number of children left.  Nothing to do.")
SESSION_START = Message(
    0x0241, INF, "session_start", "client vserv",
    "A client connected to a virtual server.  Nothing to do.")
LOGIN = Message(
    0x0242, INF, "login", "user namespace pdm backend protocol mailbox master client mechanism",
    "A database module knows the user and named their backend; mechanism is USER, or the name after AUTH.  Nothing to "
    "do.")
LOGIN_REFUSED = Message(
    0x0243, ERR, "login_refused", "user namespace client pdm why",
    "A login was refused: user unknown or password wrong, according to the database modules, or to the backend if that "
    "checks passwords.  Nothing to do, but many such lines for one client are an attack.")
LOGIN_FAILED = Message(
    0x0244, ADM, "login_failed", "user namespace client pdm why",
    "A login could not be decided because a database module failed; the client was told to try again "
    "later.  Check the database that the module uses.")
ROUTE_UNUSABLE = Message(
    0x0245, ADM, "route_unusable", "user namespace pdm why client",
    "The user is authenticated, but their record names a backend or mailbox that cannot be used.  Fix the "
    "record, or configure the backend.")
MAILBOX_HELD = Message(
    0x025E, INF, "mailbox_held", "user namespace pdm client",
    "The user is authenticated, but `from` of their record is none, because their mailbox is being moved.  Nothing to "
    "do, unless that lasts.")
MAILBOX_EMPTY = Message(
    0x0246, INF, "mailbox_empty", "backend mailbox client",
    "The mail check found no mail: the proxy shows an empty mailbox.  Nothing to do.")
STORE_OVERLOADED = Message(
    0x0247, ADM, "store_overloaded", "backend mailbox client",
    "pcheckd reported a load at or above its --emptyload: the proxy shows an empty mailbox.  If this lasts, "
    "relieve the storage host.")
VSERV_DISABLED = Message(
    0x0248, INF, "vserv_disabled", "vserv client",
    "The virtual server is disabled: its users see an empty mailbox, or are told to try again later if only the "
    "backend knows their passwords.  Enable it when the work is done.")
BACKEND_DISABLED = Message(
    0x0249, INF, "backend_disabled", "backend mailbox client",
    "The backend is disabled: its users see an empty mailbox, or are told to try again later if only the backend "
    "knows their passwords.  Enable it when the work is done.")
SOFT_FAILURE = Message(
    0x024A, ADM, "soft_failure", "backend mailbox why client",
    "The backend is unreachable; softfail is on, so the client sees an empty mailbox.  Repair the backend.")
MAILCHECK_FAILED = Message(
    0x024B, ADM, "mailcheck_failed", "backend mailbox why client",
    "The store did not answer the mail check.  The session continues as if there were mail.  Check whether "
    "pcheckd runs there and whether its UDP port is open.")
NO_MAILBOX = Message(
    0x0251, INF, "no_mailbox", "backend mailbox client",
    "The mail check found no such mailbox.  The proxy connects to the backend, which makes one, shows an empty one, or "
    "refuses the user, depending on its variable `missing`.  Nothing to do.")
BACKEND_FAILED = Message(
    0x024C, ADM, "backend_failed", "backend mailbox why client",
    "The backend is unreachable, and the client was told to try again later: softfail is off, or nothing else has "
    "checked the password, or a pop3 backend got it and neither accepted nor refused it.  Repair the backend.  After a "
    "timeout while its answer to PASS was awaited, check logintimeout: perhaps it only delays its refusals.")
BACKEND_REFUSED = Message(
    0x024D, ERR, "backend_refused", "backend mailbox answer client",
    "The backend itself refused the login; the client got its answer, but not its text if that had the password in "
    "it.  Nothing to do, unless the user's record names a wrong mailbox or login there.  With masteruser, clients get "
    "[SYS/TEMP] instead, for their password is not the reason: check whether the backend has this user, and "
    "masterpasswordfile.")
SESSION_END = Message(
    0x024E, INF, "session_end",
    "client vserv namespace user backend protocol outcome bytes_in bytes_out seconds times",
    "A session is over.  bytes_in came from the client, bytes_out went to it; times gives the seconds spent in "
    "each state.  If a child died within a session, or was ended by a command, its master writes this line: outcome "
    "is `cut off:` and the reason, bytes may be up to a second old, times has only the last state, and protocol is "
    "empty.  Nothing to do.")
TOO_MANY_LOGINS = Message(
    0x024F, ERR, "too_many_logins", "client tries",
    "A client was disconnected after maxauthtries refused logins.  Nothing to do, but many such lines for one address "
    "are an attack.")
RELAY_DIED = Message(
    0x0320, ADM, "relay_died", "process how sessions",
    "A relay process has died, and its sessions with it; their last lines say so.  Another one starts, and meanwhile "
    "sessions stay with their children.  If it happens again, the lines before may say why; SIGKILL may come from the "
    "kernel when memory is short.")
SMTP_NOT_RECORDED = Message(
    0x0250, ADM, "smtp_not_recorded", "client path why",
    "The database of SMTP after POP could not be made (then client is empty), or a client that logged in could not be "
    "added to it, and mail from them may be refused until their next login.  Check the disk, the permissions of the "
    "folder, and which process keeps the database locked.  Logged at most once a minute.")
SHARING_LOST = Message(
    0x0252, ADM, "sharing_lost", "why",
    "The server of `sharewith` has not answered for some seconds, or the process that asks it has died.  Until "
    "`sharing` follows, this proxy counts its own clients only.  Repair what `why` names.")
SHARING = Message(
    0x0253, INF, "sharing", "server",
    "The server of `sharewith` answers: clients are counted together with those of the other proxies.  Nothing to do.")
POLICY_FAILED = Message(
    0x0254, ADM, "policy_failed", "url why",
    "The policy server was not heard, or not understood: logins go on without it, or are not reported to it.  Logged "
    "at most once a minute; the counter policy_failed counts such logins.  Repair the server, or fix what `why` names.")
POLICY_REFUSED = Message(
    0x0255, ERR, "policy_refused", "user namespace client why",
    "The policy server refused a login, whose password was not checked; `why` is its message.  Nothing to do, if it is "
    "right.  Limited by `peerlines`.")
LOGIN_TOO_SOON = Message(
    0x025D, ERR, "login_too_soon", "user namespace client",
    "A login came sooner than `logindelay` allows after the one before to the same mailbox, and the client was told "
    "so.  Nothing to do, unless the user has several clients: then logindelay is too long.  Limited by `peerlines`.")
WORKER_OVERDUE = Message(
    0x0261, ADM, "pdm_worker_overdue", "child",
    "A PDM worker did not answer a question long after pdmtimeout; it was ended by KILL and is replaced.  The client "
    "got [SYS/TEMP].  A database module, or the library that it uses, hangs and ignores the time limit.")
CHANNEL_BROKEN = Message(
    0x0265, ADM, "pdm_channel_broken", "",
    "A child has shut down the sockets by which all children ask PDM workers; it may have been taken over by a client "
    "or a database module.  Workers and idle children were replaced; clients about to log in got [SYS/TEMP].  Look at "
    "the sessions that the log shows before this line.")
STALE_ANSWER = Message(
    0x0263, ADM, "stale_answer", "module user client why",
    "A database module failed, and the user was let in by an answer that was kept for this case; see cachestale.  Fix "
    "what `why` names.")
TOO_MANY_SESSIONS = Message(
    0x0264, ERR, "too_many_sessions", "user namespace sessions client",
    "The user has as many sessions as their record allows, and was told so.  Nothing to do, unless a client of theirs "
    "leaves connections open.")
APP_PASSWORD = Message(
    0x0262, INF, "app_password", "user label client",
    "The user who has just logged in used one of several passwords of theirs, that with this label.  Nothing to do.")
CLIENT_LIMITED = Message(
    0x0266, ERR, "client_limited", "client vserv why",
    "A connection was closed at once because of a limit for clients; why: denied (a list of networks), failed_logins, "
    "address_rate or network_rate (too many new connections), address or network (too many open ones).  If the client "
    "is a load balancer, or many people share its address, add it to `exempt`; else nothing to do.  Like the next, "
    "limited by `peerlines`.")
LOGIN_UNCHECKED = Message(
    0x0267, ERR, "login_unchecked", "user namespace client",
    "A login was refused without a check of the password, because of failed logins before (`maxfailures`).  Nothing to "
    "do, but many such lines for one client are an attack.")
SCREEN_STARTED = Message(
    0x0268, INF, "screen_started", "",
    "The pool is nearly full.  As soon as it is full, new connections are accepted by a process that gives a child "
    "only to clients that talk.  If it was full of sessions that had logged in, raise maxsession; else nothing to do.")
SCREEN_ENDED = Message(
    0x0269, INF, "screen_ended", "passed closed most seconds",
    "The process has ended, as the pool has room again, or the configuration has changed: how many connections it "
    "passed to children, how many ended before, and how many it held at once.  Nothing to do.")
SCREEN_FAILED = Message(
    0x026A, ADM, "screen_failed", "why delay",
    "The process that screens clients died or could not be started; the next try follows in `delay` seconds.  Look at "
    "the lines before, and at memory and the number of processes that the user may have.")
BACKEND_TROUBLE = Message(
    0x026B, ADM, "backend_trouble", "backend what state was why",
    "A backend is now slow or down for logins or, if `what` says so, for mail checks: it is asked only by a probe now "
    "and then (slowtime, downtries, probetime).  Repair the backend; backend_up follows by itself.")
BACKEND_UP = Message(
    0x026C, INF, "backend_up", "backend what was",
    "A backend that was slow or down has answered and is used again.  Nothing to do.")
REPLICA_USED = Message(
    0x026D, ADM, "replica_used", "backend replica mailbox why client",
    "A session was sent to the replica of its backend.  If the backend is not drained, repair it.")
CERTIFICATE_UNNAMED = Message(
    0x026E, ERR, "certificate_unnamed", "client vserv wanted",
    "A client has shown a certificate of an authority in `clientca`, but it does not have exactly one name of the kind "
    "in `certificateuser`, so EXTERNAL is not offered to it.  Give it another certificate, or check certificateuser.  "
    "Limited by `peerlines`.")
TOKEN_REFUSED = Message(
    0x026F, INF, "token_refused", "backend mailbox client answer",
    "A backend refused an access token that was valid by its age, and the login is tried once more with a fresh one: "
    "the provider may have revoked it.  Nothing to do; if that is refused, too, backend_refused follows.")
CLIENT_NAMED = Message(
    0x0256, INF, "client_named", "client proxy id tls certificate authority",
    "A proxy that is trusted has told whom it serves: by a PROXY header, or by XCLIENT.  `id` is its own id of the "
    "connection, `tls` the version of the client's TLS that it has ended, `certificate` the name in the client's "
    "certificate if it has verified that, `authority` the name that the client has asked for.  Nothing to do.")
PROXY_REFUSED = Message(
    0x0257, ERR, "proxy_refused", "peer vserv why",
    "A connection to a virtual server with proxyprotocol was closed, since its peer is not in `trusted` or did not "
    "begin with a good PROXY header in time.  If the peer is your load balancer, see what `why` says; else nothing to "
    "do.  Like the next, limited by `peerlines`.")
CLIENT_NOT_PASSED = Message(
    0x0258, ADM, "client_not_passed", "backend client why",
    "A backend did not take the client's address by XCLIENT (clientaddress); the login went on without it, and the "
    "backend's log and limits have our address.  Add that to what it trusts (Dovecot: login_trusted_networks).")
