"""Log messages of every daemon's master (known originals 0001 and 0004; ours 0208 to 023f)."""

from popular.log.message import ADM, BUG, ERR, INF, SOS, Message

START = Message(
    0x0001, INF, "start", "version user addresses",
    "The daemon listens on all its addresses.  Nothing to do.")
LEFT_MAIN_LOOP = Message(
    0x0004, BUG, "left_main_loop", "type trace",
    "The master ended although nobody told it to. Sessions that run go on; start the daemon again and report the line.")
NULL_BYTE_IN_INPUT = Message(
    0x0035, ADM, "null_byte_in_input", "ctx len data",
    "A NUL byte came from the network, where POP3 has no use for it; the connection was dropped at once.  With "
    "ctx='backend' see what runs there; with ctx='client' there is nothing to do, but many of them from one client "
    "are an attack.")
SESSION_STATE = Message(
    0x0170, ADM, "session_state", "state sessions limit",
    "So many sessions run now, which is near maxsession (WARN), at it (MAX) or well below it again (OK).  At MAX "
    "further clients wait until a session ends.  When it happens often, raise maxsession.")
LOAD_STATE = Message(
    0x0172, ADM, "load_state", "state load limit",
    "The system load came near maxlocalload (WARN), reached it (MAX) or is well below it again (OK).  From MAX until "
    "WARN new connections are refused with -ERR [SYS/TEMP].  When it happens often, find out what loads the host, or "
    "raise maxlocalload.")
STATE_FILE_FAILED = Message(
    0x020d, ADM, "state_file_failed", "why",
    "The state file, which pstatus shows, could not be made; all is served without it.  Or, after maxsession was "
    "raised, there is no room for all slots, and fewer sessions than maxsession run.  See to the run folder and its "
    "file system, and start the daemon again.")
COMMAND = Message(
    0x0208, INF, "command", "source words",
    "A command was given, by a signal or by pcontrol.  Nothing to do, unless nobody was to give it.")
LOG_REOPENED = Message(
    0x0209, INF, "log_reopened", "",
    "The log file was opened anew.  Nothing to do.")
LOG_NOT_REOPENED = Message(
    0x020a, SOS, "log_not_reopened", "error",
    "The log file could not be opened anew; the old one stays in use.  Check the folder and its rights, then send HUP "
    "once more.")
RUNS_AS_ROOT = Message(
    0x020b, ADM, "runs_as_root", "",
    "The setting `user` is root.  Mail and passwords are handled with all rights; give a user of its own.")
CHILDREN_KILLED = Message(
    0x020c, ADM, "children_killed", "count",
    "Children did not end at TERM within some seconds and were ended by KILL.  See what they may have waited for: a "
    "file system that hangs, or a database module.")
RINGD_GONE = Message(
    0x020f, ADM, "ringd_gone", "path",
    "ringd ended, or dropped this daemon.  Ports from it that are open stay so; start it again before ports are added.")
COMMAND_REFUSED = Message(
    0x0210, INF, "command_refused", "source words why",
    "A control command was wrong or could not be carried out, as `why` tells; nothing of it was done.  Nothing to do, "
    "unless an init script gave it.")
RELOADED = Message(
    0x0211, INF, "reloaded", "changes",
    "The INI file was read again and is in force, with so many changes.  Nothing to do.")
CONTROL_STRANGER = Message(
    0x0212, ADM, "control_stranger", "uid process",
    "Somebody other than root or the user of the daemon tried to connect to the control socket.  See to the rights of "
    "the run folder.  Said once a minute at most.")
CONTROL_FAILED = Message(
    0x0213, BUG, "control_failed", "words type trace",
    "An error that nobody expected in a control command; what was configured stays in force.  The type of the error "
    "and the places it came through are for whoever mends the program; please report them.")
CERTIFICATE_KEPT = Message(
    0x0214, ADM, "certificate_kept", "owner why",
    "The certificate of a virtual server or server, or its key, can no longer be used; the one that was read before "
    "stays in use.  Mend the files, then send HUP.")
CERTIFICATE_ENDS = Message(
    0x0215, ADM, "certificate_ends", "owner file days names",
    "A certificate ends in so many days; it is over when the number is negative.  Renew it, then send HUP.  Said at "
    "start, reload and HUP, and each day.")
TLS_STARTED = Message(
    0x0216, INF, "tls_started", "peer version cipher resumed",
    "The connection is under TLS from here on.  Nothing to do.")
TLS_FAILED = Message(
    0x0217, ERR, "tls_failed", "peer why",
    "The handshake of TLS failed, and the connection was closed.  Nothing to do; many of them may be clients that know "
    "only old versions, or do not know the authority of the certificate.")
FILES_NOT_READ = Message(
    0x0218, ADM, "files_not_read", "error",
    "At HUP, what is read from files beside the configuration could not be read anew; what was read before stays in "
    "use.  Mend it, then send HUP once more.")
UPGRADE_BEGUN = Message(
    0x0219, INF, "upgrade_begun", "process",
    "A new master is being started from the files on disk.  Nothing to do.")
UPGRADED = Message(
    0x021a, INF, "upgraded", "process version",
    "The new master has taken over.  The old one takes no more connections and ends with its last session.  Nothing to "
    "do.")
UPGRADE_FAILED = Message(
    0x021b, ADM, "upgrade_failed", "why",
    "There is no new master, and the old one goes on as if nothing had been asked.  See to the reason, which may be in "
    "lines of the new one above, then upgrade again.")
TOOK_OVER = Message(
    0x021c, INF, "took_over", "version process",
    "This master has taken the place of a process of that version, which ends with its last session.  Nothing to do.")
PROXY_HEADER = Message(
    0x021d, ADM, "proxy_header", "peer owner",
    "A load balancer sent a header of the PROXY protocol to this virtual server or server, which does not speak it; "
    "the connection was closed.  Let the balancer connect without it (HAProxy: without send-proxy).")
LINES_LEFT_OUT = Message(
    0x021f, ADM, "lines_left_out", "line peer seconds",
    "A peer, or with peer='*' all of them together, has caused many lines of this name; further ones are left out for "
    "so many seconds.  See who it is; a scan of ports does this.")
START_DOUBTFUL = Message(
    0x0230, ADM, "start_doubtful", "what",
    "The daemon starts, but not everything that it will need is as it should be: a file of a database module that its "
    "user cannot read, no backend, a value that is not used, or nothing that listens.  --check-config says the same.  "
    "See to what the line names.")
METRICS_FAILED = Message(
    0x021e, ADM, "metrics_failed", "why delay",
    "The process that serves metrics ended by itself, or could not be started; mail is served all the same.  The next "
    "try comes after `delay` seconds.  See whether memory or processes run out.  Said once a minute at most.")
FILE_VALUES_UNUSED = Message(
    0x0220, ADM, "file_values_unused", "count values",
    "So many values of the INI file are not in force after a reload: commands have set others, or they are fixed until "
    "the next start.  The answer to reload tells for each how it would be used; unset gives them back to the file.")
COMMAND_FAILED = Message(
    0x0221, ADM, "command_failed", "source words why",
    "A control command was given (see the line `command` before) and has failed, wholly or in part, as `why` tells.  "
    "Mend that and give it again.")
START_FAILED = Message(
    0x023c, SOS, "start_failed", "why",
    "The daemon has ended at its start, because no child was ready for work; whoever started it was told so.  See the "
    "lines above, and whether memory or processes run out.")
