"""Log messages of masters and children as processes (numbers 0133 and 0200 to 0207)."""

from popular.log.message import ADM, BUG, INF, SOS, Message

GOT_TERM_SIGNAL = Message(
    0x0133, INF, "got_term_signal", "signal",
    "A TERM or INT had already arrived when this process became a child; it ends at once.  Nothing to do.")
CHILD_FAILED = Message(
    0x0200, BUG, "child_failed", "type trace",
    "An unexpected error ended this child and its session.  Please report the type of the error and the places it "
    "came through to the developers.")
CHILD_SHORT = Message(
    0x0201, SOS, "child_short", "error",
    "The system refused this child a descriptor or memory. Raise the limits (ulimit -n, ulimit -v) or lower "
    "maxsession. Logged once a minute at most.")
CHILD_DIED = Message(
    0x0202, ADM, "child_died", "child how",
    "A child was ended by a signal that did not come from its master, exited with an error code, or exited in the "
    "middle of a session, which was cut off.  After KILL, check in the kernel's log whether memory ran out; after "
    "XCPU, it had used more processor time than maxcpu; after SEGV, ABRT, BUS or an exit code, suspect a database "
    "module or the library that it uses.")
CHILD_NOT_STARTED = Message(
    0x0203, SOS, "child_not_started", "child how delay",
    "A child ended before it was ready for work.  The next try comes after `delay` seconds.  Earlier lines may say "
    "why; check also whether memory or processes run out.  Logged once a minute at most.")
FORK_FAILED = Message(
    0x0204, SOS, "fork_failed", "error children delay",
    "The system refused a new process. Raise the limits (ulimit -u, memory) or lower maxsession; the daemon continues "
    "with the children it has and tries again after `delay` seconds. Logged once a minute at most.")
CHILD_OVERDUE = Message(
    0x0205, ADM, "child_overdue", "child client seconds",
    "A session had not logged in long after authtimeout, and its child did not answer the master.  It was ended by "
    "KILL; the client got no answer.  A database module, or the library that it uses, hangs or computes for ever, and "
    "ignores pdmtimeout.")
CHILD_COPIED = Message(
    0x0206, ADM, "child_copied", "child",
    "A database module, or the library that it uses, has copied the child by fork.  The copy, which wrote this "
    "line, ends at once, because it would answer the same client.  Fix the module; it may start programs with "
    "`subprocess`.")
OBJECTS_MORTAL = Message(
    0x0207, INF, "objects_mortal", "why",
    "The setting `immortal` has no effect with this Python, so children cost more.  The daemon works as it does with "
    "`immortal = off`, which ends this message.  Nothing to do.")
