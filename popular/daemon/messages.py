"""Log messages of every daemon's master (known originals 0001 and 0004; ours 0208 to 023f)."""

from popular.log.message import ADM, BUG, ERR, INF, SOS, Message

START = Message(
    0x0001, INF, "start", "version user addresses",
    "The daemon listens on all its addresses.  Nothing to do.")
LEFT_MAIN_LOOP = Message(
    0x0004, BUG, "left_main_loop", "type trace",
    "The master ended without a command. Running sessions go on; start the daemon again and report the line.")
NULL_BYTE_IN_INPUT = Message(
    0x0035, ADM, "null_byte_in_input", "ctx len data",
    "A NUL byte, which POP3 does not allow, came from the network; the connection was dropped at once.  With "
    "ctx='backend', check what runs there; with ctx='client', there is nothing to do, but many of them from one "
    "client are an attack.")
SESSION_STATE = Message(
    0x0170, ADM, "session_state", "state sessions limit",
    "The number of sessions is near maxsession (WARN), has reached it (MAX) or is well below it again (OK).  At MAX "
    "further clients wait until a session ends.  If this happens often, raise maxsession.")
LOAD_STATE = Message(
    0x0172, ADM, "load_state", "state load limit",
    "The system load came near maxlocalload (WARN), reached it (MAX) or is well below it again (OK).  From MAX until "
    "WARN new connections are refused with -ERR [SYS/TEMP].  If this happens often, find out what loads the host, or "
    "raise maxlocalload.")
STATE_FILE_FAILED = Message(
    0x020d, ADM, "state_file_failed", "why",
    "The state file, which pstatus shows, could not be made; the daemon works without it.  Or, after maxsession was "
    "raised, there is no room for all slots, and fewer sessions than maxsession run.  Check the run folder and its "
    "file system, and start the daemon again.")
COMMAND = Message(
    0x0208, INF, "command", "source words",
    "A command was given, by a signal or by pcontrol.  Nothing to do, unless nobody should have given it.")
LOG_REOPENED = Message(
    0x0209, INF, "log_reopened", "",
    "The log file was reopened.  Nothing to do.")
LOG_NOT_REOPENED = Message(
    0x020a, SOS, "log_not_reopened", "error",
    "The log file could not be reopened; the old one stays in use.  Check the folder and its rights, then send HUP "
    "again.")
RUNS_AS_ROOT = Message(
    0x020b, ADM, "runs_as_root", "",
    "The setting `user` is root.  Mail and passwords are handled with all rights; use a separate user.")
CHILDREN_KILLED = Message(
    0x020c, ADM, "children_killed", "count",
    "Children did not end at TERM within some seconds and were ended by KILL.  Check what they may have waited for: a "
    "file system that hangs, or a database module.")
RINGD_GONE = Message(
    0x020f, ADM, "ringd_gone", "path",
    "ringd ended, or dropped this daemon.  Its open ports stay open; start it again before ports are added.")
COMMAND_REFUSED = Message(
    0x0210, INF, "command_refused", "source words why",
    "A control command was wrong or could not be carried out; `why` gives the reason.  Nothing of it was done.  "
    "Nothing to do, unless an init script gave it.")
RELOADED = Message(
    0x0211, INF, "reloaded", "changes",
    "The INI file was read again and is in force, with this number of changes.  Nothing to do.")
CONTROL_STRANGER = Message(
    0x0212, ADM, "control_stranger", "uid process",
    "A user other than root or the user of the daemon tried to connect to the control socket.  Check the rights of "
    "the run folder.  Logged once a minute at most.")
CONTROL_CHILD = Message(
    0x0236, ADM, "control_child", "child client",
    "A child of the daemon, or a program that it runs, tried to connect to the control socket, and was refused.  A "
    "database module does this by mistake, or whoever has broken into the child; `client` is whom it serves, if "
    "anybody.  Find out which.  Logged once a minute at most; pstatus and the metrics count every try.")
CONTROL_FAILED = Message(
    0x0213, BUG, "control_failed", "words type trace",
    "An unexpected error in a control command; the configuration stays in force.  Please report the type of the error "
    "and the places it came through to the developers.")
CERTIFICATE_KEPT = Message(
    0x0214, ADM, "certificate_kept", "owner why",
    "The certificate of a virtual server or server, or its key, can no longer be used; the one that was read before "
    "stays in use.  Fix the files, then send HUP.")
CERTIFICATE_ENDS = Message(
    0x0215, ADM, "certificate_ends", "owner file days names",
    "A certificate expires in this number of days; if it is negative, it has expired.  Renew it, then send HUP.  "
    "Logged at start, reload and HUP, and each day.")
TLS_STARTED = Message(
    0x0216, INF, "tls_started", "peer version cipher resumed",
    "The connection is under TLS from now on.  Nothing to do.")
TLS_FAILED = Message(
    0x0217, ERR, "tls_failed", "peer why",
    "The TLS handshake failed, and the connection was closed.  Nothing to do; many of them may come from clients that "
    "support only old versions, or do not know the authority of the certificate.")
FILES_NOT_READ = Message(
    0x0218, ADM, "files_not_read", "error",
    "At HUP, files other than the INI file could not be read again; their old contents stay in use.  Fix them, then "
    "send HUP again.")
UPGRADE_BEGUN = Message(
    0x0219, INF, "upgrade_begun", "process",
    "A new master is being started from the files on disk.  Nothing to do.")
UPGRADED = Message(
    0x021a, INF, "upgraded", "process version",
    "The new master has taken over.  The old one takes no more connections and ends with its last session.  Nothing to "
    "do.")
UPGRADE_FAILED = Message(
    0x021b, ADM, "upgrade_failed", "why",
    "There is no new master, and the old one goes on unchanged.  Fix the cause, which may be in earlier lines of the "
    "new one, then upgrade again.")
TOOK_OVER = Message(
    0x021c, INF, "took_over", "version process",
    "This master has replaced a process of that version, which ends with its last session.  Nothing to do.")
PROXY_HEADER = Message(
    0x021d, ADM, "proxy_header", "peer owner",
    "A load balancer sent a header of the PROXY protocol to this virtual server or server, which does not expect it, "
    "or not a second one; the connection was closed.  Set proxyprotocol, if pproxy got it, or configure the balancer "
    "to connect without it (HAProxy: without send-proxy).")
LINES_LEFT_OUT = Message(
    0x021f, ADM, "lines_left_out", "line peer seconds",
    "A peer, or with peer='*' all of them together, has caused many lines of this name; further ones are left out for "
    "`seconds` seconds.  Find out who it is; a port scan causes this.")
WALLS_RAISED = Message(
    0x0233, INF, "walls_raised", "walls off",
    "What code that got into a child cannot do, and what it can because of settings or of whoever starts the daemon; "
    "security.md explains each wall.  Nothing to do.")
WALLS_MISSING = Message(
    0x0234, ADM, "walls_missing", "walls",
    "The kernel, or the container that the daemon runs in, does not have these walls; the daemon works without them, "
    "and code that gets into a child can do more harm.  Landlock needs Linux 5.19 and `landlock` in the kernel's "
    "list of security modules (lsm=), seccomp a container that allows it.  See security.md.")
START_DOUBTFUL = Message(
    0x0230, ADM, "start_doubtful", "what",
    "The daemon starts, but something that it will need is wrong or missing: a file of a database module that its "
    "user cannot read, no backend, a value that is not used, or nothing that listens.  --check-config reports the "
    "same.  Fix what the line names.")
METRICS_FAILED = Message(
    0x021e, ADM, "metrics_failed", "why delay",
    "The process that serves metrics ended by itself, or could not be started; mail is not affected.  The next try "
    "comes after `delay` seconds.  Check whether memory or processes run out.  Logged once a minute at most.")
FILE_VALUES_UNUSED = Message(
    0x0220, ADM, "file_values_unused", "count values",
    "`count` values of the INI file are not in force after a reload: commands have set others, or they are fixed until "
    "the next start.  The answer to reload says for each how to use it; unset restores the value of the file.")
COMMAND_FAILED = Message(
    0x0221, ADM, "command_failed", "source words why",
    "A control command was given (see the earlier line `command`) and has failed, wholly or in part; `why` gives the "
    "reason.  Fix that and repeat the command.")
START_FAILED = Message(
    0x023c, SOS, "start_failed", "why",
    "The daemon has ended at its start, because no child was ready for work; its starter has reported that.  See the "
    "earlier lines, and check whether memory or processes run out.")
