"""Log messages of pdeliver (02b0 to 02b6)."""

from popular.log.message import ADM, BUG, ERR, INF, Message

DELIVERED = Message(
    0x02b0, INF, "delivered", "mailbox size name",
    "A mail is on disk under this name in new/. Nothing to do.")
OVER_QUOTA = Message(
    0x02b1, ERR, "over_quota", "mailbox size number quota maxnum",
    "The mailbox is full; the mail was not accepted. Sizes are in octets, 0 means no limit. "
    "The user must delete mail, or get a higher limit.")
NOT_DELIVERED = Message(
    0x02b2, ADM, "not_delivered", "mailbox why",
    "The mail was not accepted and the MTA was told to try again. Fix what the reason says.")
NO_SUCH_MAILBOX = Message(
    0x02b3, ADM, "no_such_mailbox", "mailbox why",
    "The MTA named a mailbox that does not exist, or whose name is not allowed. Correct its map, or make the mailbox.")
DELIVERY_BUG = Message(
    0x02b4, BUG, "delivery_bug", "mailbox type place",
    "There was an unexpected error; the MTA was told to try again. Report the line.")
NO_USER_HERE = Message(
    0x02b5, ADM, "no_user_here", "user why",
    "The MTA named a user whom no database module knows, or whose mail is on another backend. Correct what the MTA "
    "knows of recipients and hosts, or add the user.")
USER_NOT_FOUND = Message(
    0x02b6, ADM, "user_not_found", "user why",
    "The mailbox of a user could not be found out; the MTA was told to try again. Fix what the reason says.")
