"""Log messages of programs that deliver (02b7 to 02bf)."""

from popular.log.message import ADM, INF, Message

QUOTA_WARNED = Message(
    0x02b7, INF, "quota_warned", "mailbox percent",
    "A delivery took the mailbox to a level of its quota, so its user got a warning by mail. Nothing to do.")
QUOTA_NOT_WARNED = Message(
    0x02b8, ADM, "quota_not_warned", "mailbox why",
    "The mail was delivered, but the user got no warning that the mailbox fills up. Fix what the reason says.")
