"""A Maildir as the POP3 state sees it: `pop3.maildrop.Maildrop` over new/ and cur/ (spec 2.4 and 9.1).

Used in the children of pserv.  Nothing is locked, on purpose: the worst effect of two overlapping sessions is an error
on RETR of a message that the other session has removed.  Raises MailboxError and StoreError; CommitError at QUIT.
"""

import errno
import io
import os
import stat
from collections.abc import Set
from typing import BinaryIO, cast

from popular.errors import MessageGone, StoreError
from popular.pop3.maildrop import Entries
from popular.store.commit import MAX_TROUBLES, Commit, Trouble
from popular.store.filename import is_ours, size_of, tells_size
from popular.store.lineends import CrlfReader, wire_size
from popular.store.listing import Messages, PlainListing, StoredMessage, Whereabouts, list_messages
from popular.store.mailbox import Mailbox
from popular.store.sizelist import SIZES_NAME, SizeList
from popular.store.uidlist import given_uids

_Opened = tuple[io.FileIO, os.stat_result]


class MaildirMaildrop:
    """The messages of one mailbox, listed once, when this object is made."""

    def __init__(self, mailbox: Mailbox, *, master: bool = False, flags_own: bool = False) -> None:
        """List the mailbox; a foreign file whose name does not tell its size is read once to count it.

        `master`: read mail stays new (spec 7.3).  `flags_own`: read messages with names of our form also get the flag
        `S`.  `troubles` holds what went wrong apart from raised errors.  Raises MailboxError.
        """
        self._mailbox = mailbox
        self._master = master
        self._flags_own = flags_own
        self._where = Whereabouts(mailbox, flags_own)
        self._list = SizeList(mailbox)
        self.troubles: list[Trouble] = []
        strange: list[str] = []
        self._messages = list_messages(mailbox, self._list, strange, lambda: given_uids(mailbox.path))
        if strange:
            self._trouble(Trouble("not_a_file", min(strange), f"a folder, a link or the like, of {len(strange)}"))
        self.entries: Entries
        if isinstance(self._messages, PlainListing):
            self.entries = _PlainEntries(self._messages)
        else:
            sizes, self._messages = self._sized(self._messages)
            self.entries = Entries(sizes, [message.uid for message in self._messages])
            self._keep_list()

    @property
    def messages(self) -> Messages:
        """The messages as they were listed, in the order of `entries`."""
        return self._messages

    def places(self) -> tuple[str, ...]:
        """Return the folders that hold the mailbox, see `Mailbox.places`."""
        return self._mailbox.places()

    def open(self, index: int) -> BinaryIO:
        """Return a reader of the message's wire octets, unbuffered; the entry is corrected if its size is wrong.

        Raises StoreError, MessageGone if the message is not there any more.
        """
        message = self._messages[index]
        try:
            opened = self._file(message)
            if opened is None:
                raise MessageGone(f"{message.name}: gone")
            file = self._checked(index, message.name, *opened)
        except OSError as why:
            raise StoreError(f"{message.name}: {why.strerror}") from why
        return file if is_ours(message.name) else cast(BinaryIO, CrlfReader(file))

    def last_read(self) -> int:
        """Return the highest number, counted from 1, of a message that an earlier session has read; 0 if none was."""
        messages = self._messages
        return next((index + 1 for index in reversed(range(len(messages))) if messages[index].was_read), 0)

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Remove `deleted`, then move what was `read` from new/ to cur/ (not in a master session); sync to disk.

        A message that is already gone counts as removed.  Raises CommitError if some may remain.
        """
        commit = Commit(self._mailbox, self._where, self._flags_own)
        try:
            commit.run(self._messages, deleted, frozenset() if self._master else read)
        finally:
            self._trouble(*commit.troubles)

    def close(self) -> None:
        """Do nothing, since nothing is held open."""

    def _sized(self, messages: list[StoredMessage]) -> tuple[list[int], list[StoredMessage]]:
        """Return sizes and messages, without the messages that are gone or cannot be read."""
        sizes: list[int] = []
        kept: list[StoredMessage] = []
        for message in messages:
            size = size_of(message.name)
            if size is None:
                size = self._counted(message)
            if size is not None:
                sizes.append(size)
                kept.append(message)
        return sizes, kept

    def _counted(self, message: StoredMessage) -> int | None:
        """Return the wire size of a file whose name does not tell it; None if it is gone or cannot be read."""
        try:
            size = self._remembered(message)
            if size is not None:
                return size
            opened = self._file(message)
            if opened is None:
                return None
            file, status = opened
            try:
                size = wire_size(file)
                self._list.add(status, size)
                return size
            finally:
                _close(file)
        except OSError as why:
            self._trouble(Trouble("not_listed", message.name, why.strerror or type(why).__name__))
            return None

    def _remembered(self, message: StoredMessage) -> int | None:
        """Return the wire size that an earlier session counted, or None.  Raises OSError."""
        try:
            return self._list.size(os.lstat(self._where.likely(message)[0]))
        except FileNotFoundError:
            return None

    def _keep_list(self) -> None:
        """Save what was learned about the files; if that fails, the next session counts again."""
        if self._list.is_changed:
            try:
                self._list.save()
            except OSError as why:
                self._trouble(Trouble("not_remembered", SIZES_NAME, why.strerror or type(why).__name__))

    def _checked(self, index: int, name: str, file: io.FileIO, status: os.stat_result) -> io.FileIO:
        """Return the file after the size in its entry was corrected; an error closes the file.  Raises OSError."""
        try:
            announced, size = self.entries.size(index), self._true_size(name, file, status)
        except BaseException:
            _close(file)
            raise
        if size != announced:
            self.entries.correct(index, size)
            self._trouble(Trouble("wrong_size", name, f"{announced} octets announced, {size} there"))
        return file

    def _true_size(self, name: str, file: io.FileIO, status: os.stat_result) -> int:
        """Return how many octets the client will get of an open file, which is read only if nothing else tells that.

        With our names it is the size on disk, plus a line end if the file lacks the last one, as a truncated file does.
        """
        octets, told = status.st_size, size_of(name)
        if is_ours(name):
            if octets in (told, 0) or os.pread(file.fileno(), 2, max(0, octets - 2)) == b"\r\n":
                return octets
            return octets + 2
        if told is not None and tells_size(name, octets):
            return told
        known = self._list.size(status) if told is None else None
        if known is None:
            known = wire_size(file)
            file.seek(0)
        return known

    def _file(self, message: StoredMessage) -> _Opened | None:
        """Return the open file of a message wherever it is now, and its status; None if it is gone.  Raises OSError."""
        for path in self._where.likely(message):
            try:
                return _open(path)
            except FileNotFoundError:
                continue
        moved = self._where.search(message)
        try:
            return None if moved is None else _open(moved)
        except FileNotFoundError:
            return None

    def _trouble(self, *troubles: Trouble) -> None:
        """Keep some troubles for the log."""
        self.troubles.extend(troubles[:MAX_TROUBLES - len(self.troubles)])


class _PlainEntries(Entries):
    """Entries from plain names; sizes are taken from the names when they are needed."""

    __slots__ = ("_listing",)

    def __init__(self, listing: PlainListing) -> None:
        super().__init__()
        self.octets = listing.octets
        self._listing = listing

    def _listed_sizes(self) -> list[int]:
        return self._listing.sizes

    def _listed_size(self, index: int) -> int:
        return self._listing.size(index)

    @property
    def uids(self) -> list[str]:
        return self._listing.names

    def __len__(self) -> int:
        return len(self._listing)


def _close(file: io.FileIO) -> None:
    """Close a file that was only read."""
    try:
        file.close()
    except OSError:    # nothing can be lost
        pass


def _open(path: str) -> _Opened:
    """Open a regular file; no link, and no pipe, which could block.  Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return io.FileIO(fd), status
    except BaseException:
        os.close(fd)
        raise
