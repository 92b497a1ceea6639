"""The rows of pcheckd in the message catalogue (spec 5.2; numbers 02a0 to 02af and the original's 0078)."""

from popular.log.message import ADM, INF, Message

SHUTDOWN_PCHECKD = Message(
    0x0078, INF, "shutdown", "",
    "pcheckd ends because of a signal.  Nothing to do.")

MAILBOX_UNREADABLE = Message(
    0x02A0, ADM, "mailbox_unreadable", "mailbox why",
    "The folders of a mailbox cannot be read.  This was reported to the proxy, which connects to the server.  "
    "Check the permissions of the mailbox, and the user that pcheckd runs as.  "
    "Each process logs this at most once a minute, whatever the number of mailboxes.")
