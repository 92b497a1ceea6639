"""The log messages of pserv (spec 5.2): the originals 0005 to 0009, and ours, 0280 to 029f."""

from popular.log.message import ADM, INF, SOS, Message

SHUTDOWN_SERVER = Message(
    0x0005, INF, "shutdown_server", "command children",
    "pserv ends because of this command, with this number of children left.  Nothing to do.")
DIR_ACCESS_FAILED = Message(
    0x0006, ADM, "dir_access_failed", "mailbox path why",
    "A folder of a mailbox could not be opened, usually for lack of permissions; the client was told to try again "
    "later.  The whole mailbox must belong to the user that pserv runs as.")
OUT_OF_MEMORY = Message(
    0x0007, SOS, "out_of_memory", "mailbox",
    "There was no memory for the list of messages; the client was told to try again later.  Give the host more "
    "memory, or lower maxsession.")
NAME_TOO_LONG = Message(
    0x0008, ADM, "name_too_long", "mailbox path",
    "The path of a mailbox is too long for the system.  Correct the user's record.")
STAT_FAILED = Message(
    0x0009, ADM, "stat_failed", "mailbox name why",
    "The size of a message could not be determined, so it is not listed.  Find out what is wrong with the file.")
MAILBOX_OPENED = Message(
    0x0280, INF, "mailbox_opened", "peer server mailbox master messages octets",
    "A proxy opened a mailbox, which has this number of messages and octets.  Nothing to do.")
MAILBOX_CLOSED = Message(
    0x0281, INF, "mailbox_closed",
    "peer server mailbox outcome retrieved octets deleted failed bytes_in bytes_out seconds times",
    "A session is over.  octets counts those of the messages retrieved, as STAT counts them, failed the messages that "
    "could not be removed; times gives the seconds spent in each state.  If a child died within a session, or was "
    "ended by a command, its master writes this line: outcome is `cut off:` and the reason, bytes may be up to a "
    "second old, and what only the child knew is 'unknown'.  Nothing to do.")
NO_PREAMBLE = Message(
    0x0282, INF, "no_preamble", "peer server why",
    "A connection ended before it named a mailbox.  Health checks do that; many such lines hint at a network fault.")
PREAMBLE_REFUSED = Message(
    0x0283, ADM, "preamble_refused", "peer server why",
    "A client connected that does not speak XPOP.  Only proxies may reach this port: make sure that a firewall blocks "
    "all others, and that the backend's protocol is right in pproxy.")
MAILBOX_MISSING = Message(
    0x0284, INF, "mailbox_missing", "mailbox path why",
    "A user's mailbox does not exist, for example before their first mail.  The client saw an empty one or was "
    "refused, depending on `missing`.  Nothing to do, unless the user's record is wrong or the mailbox was lost.")
NOT_MOVED = Message(
    0x0285, ADM, "not_moved", "mailbox name why",
    "A message that was read could not be moved to cur/, so it stays new.  Check the permissions of the mailbox.")
NOT_REMOVED = Message(
    0x0286, ADM, "not_removed", "mailbox failed deleted why",
    "Messages that the client deleted could not be removed; the client was told so.  Check permissions and the disk.")
MAILBOX_MADE = Message(
    0x0290, INF, "mailbox_made", "mailbox path",
    "A user's mailbox did not exist and was made, because of `missing = create`.  Nothing to do.")
NOT_READ = Message(
    0x0287, ADM, "not_read", "mailbox times why",
    "Messages could not be read, or their files not closed.  times says how often in this session, why is the last "
    "reason.  The client was told to try again later, or was cut off within the message.  Check permissions and the "
    "disk.")
NOT_OPENED = Message(
    0x0294, ADM, "mailbox_not_opened", "peer server mailbox why",
    "A child ended while it was listing the mailbox, which was not changed.  If a command ended it: nothing to do.  "
    "Otherwise see the line about the child.")
NOT_A_FILE = Message(
    0x0288, ADM, "not_a_file", "mailbox name why",
    "Among the messages of a mailbox is something that is not a file, so it is neither listed nor counted; name is "
    "that of the first one.  Move it away: it cannot be a mail.")
WRONG_SIZE = Message(
    0x0289, ADM, "wrong_size", "mailbox name why",
    "A file is shorter or longer than its name says; the client was told the true size and got the whole file.  A "
    "shorter one has lost its end: check the disk, and the program that wrote it.")
NOT_REMEMBERED = Message(
    0x028A, ADM, "not_remembered", "mailbox name why",
    "The sizes of messages from other programs were counted but could not be written to the file .popular-sizes in "
    "the folder of the mailbox, so each session counts them again.  Check its permissions, tmp/, and the space on the "
    "disk.")
