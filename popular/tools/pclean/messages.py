"""Log messages of pclean (02f0 to 02ff)."""

from popular.log.message import ADM, BUG, INF, Message

CLEAN_START = Message(
    0x02f0, INF, "clean_start", "mailboxdir after",
    "A run of pclean begins, behind the mailbox named if it goes on where another one ended. "
    "Nothing to do.")
CLEAN_END = Message(
    0x02f1, INF, "clean_end", "mailboxes tmp read unread removed octets empty overquota errors seconds",
    "A run is through: mailboxes seen, files removed from tmp/, read and unread mail expired, mailboxes removed, "
    "octets freed by all of these, mailboxes that are empty or over quota as far as that was asked for, and mailboxes, "
    "folders and databases with errors, each of which has a line of its own. Without errors there is nothing to do.")
CLEAN_CUT = Message(
    0x02f2, INF, "clean_cut", "signal after mailboxes tmp read unread removed octets errors seconds",
    "A signal ended a run. With --resume the next one goes on behind the mailbox named.")
CLEAN_REFUSED = Message(
    0x02f3, ADM, "clean_refused", "why",
    "A run did not begin. If another one has the lock, two overlap: start them less often, or find out why the first "
    "one takes so long.")
MAILBOX_CLEANED = Message(
    0x02f4, INF, "mailbox_cleaned", "mailbox tmp read unread octets",
    "Files were removed from a mailbox: from tmp/, read mail, unread mail, and the octets of all of them. Nothing to "
    "do.")
MAILBOX_REMOVED = Message(
    0x02f5, INF, "mailbox_removed", "mailbox mails octets",
    "A mailbox that was marked as removed is gone, with the mail that it held. Nothing to do.")
MAILBOX_KEPT = Message(
    0x02f6, ADM, "mailbox_kept", "mailbox why",
    "A mailbox is marked as removed and is not removed. If mail came after the mark, something still delivers there: "
    "see to that, then mark it again.")
CLEAN_FAILED = Message(
    0x02f7, ADM, "clean_failed", "mailbox failures why",
    "So many things could not be done to a mailbox, the first of them for this reason. Mend it; the next run tries "
    "again.")
FOLDER_UNREADABLE = Message(
    0x02f8, ADM, "folder_unreadable", "path why",
    "A folder of the spool could not be read; no mailbox in it was cleaned. See to its rights and the "
    "disk; the next run tries again.")
ODD_NAME = Message(
    0x02f9, ADM, "odd_name", "path",
    "A folder of the spool has a name that no mailbox can have. It was left alone; move it away or remove it.")
LINK_LOOP = Message(
    0x02fa, ADM, "link_loop", "path",
    "A symbolic link in the spool leads to itself or back to a folder above it. It was not followed; remove it.")
STATE_LOST = Message(
    0x02fb, ADM, "state_lost", "path why",
    "The file that tells how far a run has come could not be written or read; a run that is ended early begins anew. "
    "See to the rights of its folder and the disk.")
CLEAN_BUG = Message(
    0x02fc, BUG, "clean_bug", "after type place",
    "An error that nobody expected ended the run behind the mailbox named. Report the line.")
CLIENTS_EXPIRED = Message(
    0x02fd, INF, "clients_expired", "path records",
    "So many clients may no longer send mail by SMTP after POP; their records were removed. Nothing to do.")
CLIENTS_NOT_EXPIRED = Message(
    0x02fe, ADM, "clients_not_expired", "path why",
    "The database of SMTP after POP could not be cleaned. Records that are over have no effect, but take room. See to "
    "the disk, to the rights of the folder, and to who keeps the database locked.")
