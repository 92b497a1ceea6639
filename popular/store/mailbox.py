"""A mailbox: a folder below the spool with new/, cur/ and tmp/ (spec 9.1), and whether it holds mail (spec 8.2).

Used in the children of pserv and pcheckd, and in pdeliver.  Raises MailboxError, and StoreError for a name that is not
well-formed.
"""

import errno
import os
import time

from popular.errors import MailboxError, StoreError
from popular.names import is_mailbox
from popular.store.folders import folder_error, has_file, make_folder, make_name, sync_name


class Mailbox:
    """The paths of one mailbox, and whether it exists.

    A mailbox exists if it has new/ or cur/: without cur/ nothing was read yet, and a lost new/ is no reason to hide
    what is in cur/.  Symbolic links to folders are the administrator's and are followed; links to messages are not.
    """

    __slots__ = ("name", "root", "path", "new", "cur", "tmp")

    def __init__(self, root: str, name: str) -> None:
        """Name a mailbox below `root`; raises StoreError for a name against spec 2.4."""
        if not is_mailbox(name):
            raise StoreError("not a mailbox name")
        self.root = root
        self.name = name
        self.path = f"{root}/{name}"
        self.new = f"{self.path}/new"
        self.cur = f"{self.path}/cur"
        self.tmp = f"{self.path}/tmp"

    def places(self) -> tuple[str, ...]:
        """Return its folder, and those of the three in it that are links to others."""
        return self.path, *(path for path in (self.new, self.cur, self.tmp) if os.path.islink(path))

    def lost(self, why: MailboxError) -> bool:
        """Tell whether new/ failed only because it does not exist, while cur/ does."""
        return why.is_missing and os.path.isdir(self.cur)

    def missing(self, why: MailboxError) -> MailboxError:
        """Return the error for a failure of new/: without the spool, no mailbox is said to be missing."""
        if why.no_such_mailbox and not os.path.isdir(self.root):
            return MailboxError(self.root, why.number)
        return why

    def check(self) -> None:
        """Raise MailboxError unless the mailbox exists; a lost new/ is made again, so that mail can be delivered."""
        try:
            os.stat(self.new)
        except OSError as why:
            error = folder_error(self.new, why)
            if not self.lost(error):
                raise self.missing(error) from why
            try:
                make_folder(self.new)
            except OSError as other:
                raise MailboxError(self.new, other.errno or errno.EIO) from other

    def create(self) -> None:
        """Make the mailbox's missing folders below the spool and sync them to disk.

        The spool itself is never made: it may be a disk that is not mounted.  Raises MailboxError.
        """
        folder = self.root
        try:
            for part in filter(None, self.name.split("/")):
                folder = os.path.join(folder, part)
                make_folder(folder)
            past = time.time() - 2
            for folder in (self.tmp, self.cur, self.new):    # new/ last: with it the mailbox exists
                if make_name(folder):
                    os.utime(folder, (past, past))    # nothing has come or gone, see `store.delivery.deliver`
            sync_name(self.new)
        except OSError as why:
            raise MailboxError(folder, why.errno or errno.EIO) from why

    def mark_departure(self) -> None:
        """Touch cur/, as any move out of new/ does; this shows `store.delivery.deliver` that names may have been used.

        To be called before a message is removed from new/.  Raises OSError.
        """
        try:
            os.utime(self.cur)
        except FileNotFoundError:
            make_folder(self.cur)


def mail_state(root: str, name: str) -> str:
    """Return `new` if new/ has a message, else `read` if cur/ has one, else `none` (spec 8.2).

    Opens two folders at most, and reads each only up to its first message.  Raises MailboxError, or StoreError for a
    bad name.
    """
    mailbox = Mailbox(root, name)
    try:
        if has_file(mailbox.new):
            return "new"
    except MailboxError as why:
        if not mailbox.lost(why):
            raise mailbox.missing(why) from why
    try:
        return "read" if has_file(mailbox.cur) else "none"
    except MailboxError as why:
        if why.is_missing:
            return "none"
        raise
