"""The log rows of pserv (spec 5.2): the originals 0005 to 0009, and ours, 0280 to 029f."""

from popular.log.message import ADM, INF, SOS, Message

SHUTDOWN_SERVER = Message(
    0x0005, INF, "shutdown_server", "command children",
    "pserv ends because of this command, with so many children left.  Nothing to do.")
DIR_ACCESS_FAILED = Message(
    0x0006, ADM, "dir_access_failed", "mailbox path why",
    "A folder of a mailbox could not be opened, usually for lack of permissions; the client was told to come again "
    "later.  All of the mailbox must belong to the user that pserv runs as.")
OUT_OF_MEMORY = Message(
    0x0007, SOS, "out_of_memory", "mailbox",
    "There was no memory for the list of messages; the client was told to come again later.  Give the host more "
    "memory, or lower maxsession.")
NAME_TOO_LONG = Message(
    0x0008, ADM, "name_too_long", "mailbox path",
    "The path of a mailbox is too long for the system.  Correct the user's record.")
STAT_FAILED = Message(
    0x0009, ADM, "stat_failed", "mailbox name why",
    "The size of a message could not be told, so it is not listed.  See what is wrong with the file.")
MAILBOX_OPENED = Message(
    0x0280, INF, "mailbox_opened", "peer server mailbox master messages octets",
    "A proxy opened a mailbox; it holds so many messages.  Nothing to do.")
MAILBOX_CLOSED = Message(
    0x0281, INF, "mailbox_closed",
    "peer server mailbox outcome retrieved octets deleted failed bytes_in bytes_out seconds times",
    "A session is over.  octets are those of the messages retrieved, as STAT counts them, failed are messages that "
    "could not be removed, times tells the seconds spent in each state.  When a child died within a session, or was "
    "ended by a command, its master writes this line: outcome is `cut off:` and the reason, bytes are those of up to a "
    "second before, and what only the child knew is 'unknown'.  Nothing to do.")
NO_PREAMBLE = Message(
    0x0282, INF, "no_preamble", "peer server why",
    "A connection ended before it named a mailbox.  Health checks do that; many of them hint at a network fault.")
PREAMBLE_REFUSED = Message(
    0x0283, ADM, "preamble_refused", "peer server why",
    "Somebody connected who does not speak XPOP.  Only proxies may reach this port: see that a firewall keeps all "
    "others away, and that the backend's protocol is right in pproxy.")
MAILBOX_MISSING = Message(
    0x0284, INF, "mailbox_missing", "mailbox path why",
    "A user's mailbox is not there, as before a user's first mail; the client saw an empty one or was refused, as "
    "`missing` says.  Nothing to do, unless the user's record is wrong or the mailbox was lost.")
NOT_MOVED = Message(
    0x0285, ADM, "not_moved", "mailbox name why",
    "A message that was read could not be moved to cur/, so it stays new.  See to the permissions of the mailbox.")
NOT_REMOVED = Message(
    0x0286, ADM, "not_removed", "mailbox failed deleted why",
    "Messages that the client deleted are still there, and it was told so.  See to permissions and the disk.")
MAILBOX_MADE = Message(
    0x0290, INF, "mailbox_made", "mailbox path",
    "A user's mailbox was not there, and was made, as `missing = create` says.  Nothing to do.")
NOT_READ = Message(
    0x0287, ADM, "not_read", "mailbox times why",
    "Messages could not be read, so many times in this session, or their files not closed; why is of the last "
    "time.  The client was told to come again later, or was cut off within the message.  See to permissions and the "
    "disk.")
NOT_OPENED = Message(
    0x0294, ADM, "mailbox_not_opened", "peer server mailbox why",
    "A child ended while it was listing the mailbox; nothing was done to it.  After a command nothing is to be done; "
    "else see the line about the child.")
NOT_A_FILE = Message(
    0x0288, ADM, "not_a_file", "mailbox name why",
    "Among the messages of a mailbox lies something that is no file, so it is neither listed nor counted; name is of "
    "the first one.  Move it away: it can hold no mail.")
WRONG_SIZE = Message(
    0x0289, ADM, "wrong_size", "mailbox name why",
    "A file is shorter or longer than its name says; the client was told the true size and got what is there.  A "
    "shorter one has lost its end: see to the disk, and to the program that wrote it.")
NOT_REMEMBERED = Message(
    0x028A, ADM, "not_remembered", "mailbox name why",
    "The sizes of messages of other programs were counted and could not be written to the file .popular-sizes in "
    "the folder of the mailbox, so each session counts them again.  See to its permissions, to tmp/, and to room "
    "on the disk.")
