"""The log messages of plmtpd: numbers 0300 to 033f."""

from popular.log.message import ADM, BUG, ERR, INF, Message

SHUTDOWN_DELIVERY = Message(
    0x0300, INF, "shutdown_delivery", "command children",
    "plmtpd ends because of this command, with this number of children left.  Nothing to do.")
DELIVERY_CLOSED = Message(
    0x0301, INF, "delivery_closed",
    "peer server outcome accepted recipients delivered bytes_in bytes_out seconds times",
    "A session is over.  accepted counts the messages that at least one recipient has got, recipients those that the "
    "client has named for all its messages, delivered those who have got one; times gives the seconds spent in each "
    "state.  If a child died within a session, or was ended by a command, its master writes this line: outcome is "
    "`cut off:` and the reason, bytes may be up to a second old, and what only the child knew is 'unknown'.  Nothing "
    "to do.")
MESSAGE_DELIVERED = Message(
    0x0310, INF, "message_delivered", "peer server recipient mailbox size name message",
    "A mail is on disk under this name in new/, or in cur/ if it was taken over as read.  message is its Message-ID.  "
    "Nothing to do.")
RECIPIENT_UNKNOWN = Message(
    0x0311, INF, "recipient_unknown", "peer server recipient why",
    "The client named a recipient who has no mailbox here; it was told to return the mail.  If they should have one, "
    "correct the user's record, or `backends`; otherwise have the mail server refuse such recipients itself.")
RECIPIENT_DEFERRED = Message(
    0x0312, ADM, "recipient_deferred", "peer server recipient why",
    "The mailbox of a recipient could not be found out or opened; the client was told to try again later.  Fix what "
    "the reason says.")
RECIPIENT_FULL = Message(
    0x0313, ERR, "recipient_full", "peer server mailbox size number quota maxnum",
    "A mailbox is full; the client was told so.  Sizes are in octets, 0 means no limit.  The user must delete mail, or "
    "get a higher limit.")
RECIPIENT_MADE = Message(
    0x0314, INF, "recipient_made", "mailbox recipient",
    "The mailbox of a recipient did not exist and was made, because of `missing = create`, or because mail is taken "
    "over.  Nothing to do.")
MESSAGE_FAILED = Message(
    0x0315, ADM, "message_failed", "peer server recipient mailbox why",
    "A mail could not be written into this mailbox; the client was told to try again later.  Fix what the reason says.")
MESSAGE_REFUSED = Message(
    0x0316, INF, "message_refused", "peer server recipients why",
    "The text of a message was refused for all its recipients.  A larger one needs a higher `maxsize`.")
MESSAGE_CUT = Message(
    0x0317, INF, "message_cut", "peer server recipients octets why",
    "The connection ended within a message, of which this number of octets had come.  Nobody got it, and the client "
    "will send it again.")
MESSAGE_BUG = Message(
    0x0318, BUG, "message_bug", "peer server mailbox type trace",
    "There was an unexpected error while a mail was written; the client was told to try again later.  Report the line.")
