"""The rows of pcheckd in the message catalogue (spec 5.2; numbers 02a0 to 02af and the original's 0078)."""

from popular.log.message import ADM, INF, Message

SHUTDOWN_PCHECKD = Message(
    0x0078, INF, "shutdown", "",
    "pcheckd ends, because a signal told it to.  Nothing to do.")

MAILBOX_UNREADABLE = Message(
    0x02A0, ADM, "mailbox_unreadable", "mailbox why",
    "The folders of a mailbox cannot be read; the proxy was told so, and connects to the server.  "
    "Look at the rights of the mailbox, and at the user that pcheckd runs as.  "
    "Each process logs this once a minute at most, whatever the number of mailboxes.")
