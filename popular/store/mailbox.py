"""A mailbox: a folder below the spool with new/, cur/ and tmp/ (spec 9.1), and whether it holds mail (spec 8.2).

Used in the children of pserv and pcheckd, and in pdeliver.  Raises MailboxError; a name that is not well-formed
gives StoreError.
"""

import errno
import os
import time

from popular.errors import MailboxError, StoreError
from popular.names import is_mailbox
from popular.store.folders import folder_error, has_file, make_folder, make_name, sync_name


class Mailbox:
    """The paths of one mailbox, and its being there.

    A mailbox is there when its new/ or its cur/ is: without cur/ nothing was read yet, and a new/ that was lost is no
    reason to hide what is in cur/.  Symbolic links among the folders are the administrator's and are followed; those
    among the messages are not.
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

    def lost(self, why: MailboxError) -> bool:
        """Tell whether new/, which failed, is simply not there, while cur/ is."""
        return why.is_missing and os.path.isdir(self.cur)

    def missing(self, why: MailboxError) -> MailboxError:
        """Return what a failure of new/ means: with the spool away, no mailbox is said to be missing."""
        if why.no_such_mailbox and not os.path.isdir(self.root):
            return MailboxError(self.root, why.number)
        return why

    def check(self) -> None:
        """Raise MailboxError unless the mailbox is there; a new/ that was lost is made anew, so that mail can come."""
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
        """Make the mailbox's folders below the spool where they are missing; all of them last on disk then.

        The spool itself is never made: it may be a disk that is not mounted.  Raises MailboxError.
        """
        folder = self.root
        try:
            for part in filter(None, self.name.split("/")):
                folder = os.path.join(folder, part)
                make_folder(folder)
            past = time.time() - 2
            for folder in (self.tmp, self.cur, self.new):    # new/ last: it makes the mailbox be there
                if make_name(folder):
                    os.utime(folder, (past, past))    # nothing has come or gone, see `store.deliver`
            sync_name(self.new)
        except OSError as why:
            raise MailboxError(folder, why.errno or errno.EIO) from why

    def mark_departure(self) -> None:
        """Touch cur/, as any move out of new/ does: `store.deliver` tells from it that names may have been used.

        To be called before a message is removed from new/.  Raises OSError.
        """
        try:
            os.utime(self.cur)
        except FileNotFoundError:
            make_folder(self.cur)


def mail_state(root: str, name: str) -> str:
    """Tell `new` if new/ has a message, else `read` if cur/ has one, else `none` (spec 8.2).

    Opens two folders at most and lists none to its end.  Raises MailboxError, or StoreError for a bad name.
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
