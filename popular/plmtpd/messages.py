"""The log messages of plmtpd: numbers 0300 to 033f."""

from popular.log.message import INF, Message

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
