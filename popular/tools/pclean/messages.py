"""Log messages of pclean (02f0 to 02ff)."""

from popular.log.message import ADM, BUG, INF, Message

CLEAN_START = Message(
    0x02f0, INF, "clean_start", "mailboxdir after",
    "A run of pclean begins; after the named mailbox if it resumes an earlier run. Nothing to do.")
CLEAN_END = Message(
    0x02f1, INF, "clean_end", "mailboxes tmp read unread removed octets empty overquota errors seconds",
    "A run was completed: mailboxes seen, files removed from tmp/, read and unread mail expired, mailboxes removed, "
    "octets freed by all of these, mailboxes that are empty or over quota if these were to be reported, and mailboxes, "
    "folders and databases with errors, each of which has its own line. Without errors there is nothing to do.")
CLEAN_CUT = Message(
    0x02f2, INF, "clean_cut", "signal after mailboxes tmp read unread removed octets errors seconds",
    "A signal ended a run. With --resume the next one continues after the named mailbox.")
CLEAN_REFUSED = Message(
    0x02f3, ADM, "clean_refused", "why",
    "A run did not begin. If another one has the lock, two overlap: start them less often, or find out why the first "
    "takes so long.")
MAILBOX_CLEANED = Message(
    0x02f4, INF, "mailbox_cleaned", "mailbox tmp read unread octets",
    "Files were removed from a mailbox: from tmp/, read mail, unread mail; octets is their total size. Nothing to do.")
MAILBOX_REMOVED = Message(
    0x02f5, INF, "mailbox_removed", "mailbox mails octets",
    "A mailbox that was marked as removed is gone, with the mail that it held. Nothing to do.")
MAILBOX_KEPT = Message(
    0x02f6, ADM, "mailbox_kept", "mailbox why",
    "A mailbox is marked as removed but was not removed. If mail came after the mark, something still delivers there: "
    "stop that, then mark it again.")
CLEAN_FAILED = Message(
    0x02f7, ADM, "clean_failed", "mailbox failures why",
    "This number of steps failed in a mailbox; why tells the first error. Fix the cause; the next run tries again.")
FOLDER_UNREADABLE = Message(
    0x02f8, ADM, "folder_unreadable", "path why",
    "A folder of the spool could not be read; no mailbox in it was cleaned. Check its permissions and the "
    "disk; the next run tries again.")
ODD_NAME = Message(
    0x02f9, ADM, "odd_name", "path",
    "A folder of the spool has a name that no mailbox can have. It was skipped; move it away or remove it.")
LINK_LOOP = Message(
    0x02fa, ADM, "link_loop", "path",
    "A symbolic link in the spool leads to itself or back to a folder above it. It was not followed; remove it.")
STATE_LOST = Message(
    0x02fb, ADM, "state_lost", "path why",
    "The file that records how far a run has got could not be written or read; after an interrupted run the next one "
    "starts from the beginning. Check the permissions of its folder and the disk.")
CLEAN_BUG = Message(
    0x02fc, BUG, "clean_bug", "after type place",
    "An unexpected error ended the run after the named mailbox. Report the line.")
CLIENTS_EXPIRED = Message(
    0x02fd, INF, "clients_expired", "path records",
    "The time of this number of clients for SMTP after POP is over; their records were removed. Nothing to do.")
CLIENTS_NOT_EXPIRED = Message(
    0x02fe, ADM, "clients_not_expired", "path why",
    "The database of SMTP after POP could not be cleaned. Expired records have no effect, but take space. Check the "
    "disk, the permissions of the folder, and which process keeps the database locked.")
