"""A Maildir as the POP3 state sees it: `pop3.maildrop.Maildrop` over new/ and cur/ (spec 2.4 and 9.1).

Used in the children of pserv.  Nothing is locked, on purpose: the worst that two overlapping sessions do to each other
is an error on RETR of a message that the other has removed.  Raises MailboxError and StoreError; CommitError at QUIT.
"""

import errno
import io
import os
import stat
from collections.abc import Set
from typing import BinaryIO, cast

from popular.errors import StoreError
from popular.pop3.maildrop import Entries, Entry
from popular.store.commit import Commit, Trouble
from popular.store.filename import is_ours, size_of
from popular.store.lineends import CrlfReader, wire_size
from popular.store.listing import Message, PlainListing, list_messages
from popular.store.mailbox import Mailbox
from popular.store.whereabouts import Whereabouts

MAX_TROUBLES = 20    # kept for the log; a broken disk must not fill it


class MaildirMaildrop:
    """The messages of one mailbox, listed once when made."""

    def __init__(self, mailbox: Mailbox, *, master: bool = False) -> None:
        """List the mailbox; the size of a foreign file that does not tell it is counted by reading it once.

        `master`: read mail stays new (spec 7.3).  `troubles` holds what went wrong beside the raised errors.
        Raises MailboxError.
        """
        self._mailbox = mailbox
        self._master = master
        self._where = Whereabouts(mailbox)
        self.troubles: list[Trouble] = []
        self._messages = list_messages(mailbox)
        self.entries: Entries
        if isinstance(self._messages, PlainListing):
            self.entries = _PlainEntries(self._messages)
        else:
            sizes, self._messages = self._sized(self._messages)
            self.entries = Entries(sizes, [message.uid for message in self._messages])

    def open(self, index: int) -> BinaryIO:
        """Return the message's wire octets; unbuffered.

        Raises StoreError: without a code if the message is gone, else SYS/TEMP.
        """
        message = self._messages[index]
        try:
            file = self._file(message, self.entries[index].size)
        except OSError as why:
            raise StoreError(f"{message.name}: {why.strerror}") from why
        if file is None:
            raise StoreError(f"{message.name}: gone", "")
        return cast(BinaryIO, file if is_ours(message.name) else CrlfReader(file))

    def last_read(self) -> int:
        """Return the highest number, from 1, of a message that was read in an earlier session; 0 if there is none."""
        messages = self._messages
        return next((index + 1 for index in reversed(range(len(messages))) if messages[index].was_read), 0)

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Remove `deleted`, then move what was `read` from new/ to cur/ (not in a master session); synced to disk.

        What is gone already counts as removed.  Raises CommitError if some remain.
        """
        commit = Commit(self._mailbox, self._where)
        try:
            commit.run(self._messages, lambda index: self.entries[index].size,
                       deleted, frozenset() if self._master else read)
        finally:
            self._trouble(*commit.troubles)

    def close(self) -> None:
        """Nothing is held open."""

    def _sized(self, messages: list[Message]) -> tuple[list[int], list[Message]]:
        """Return the sizes of messages, and the messages without those that are gone or cannot be read."""
        sizes: list[int] = []
        kept: list[Message] = []
        for message in messages:
            size = size_of(message.name)
            if size is None:
                size = self._counted(message)
            if size is not None:
                sizes.append(size)
                kept.append(message)
        return sizes, kept

    def _counted(self, message: Message) -> int | None:
        """Return the wire size of a file that does not tell it; None if it is gone or cannot be read."""
        try:
            file = self._file(message, None)
            if file is None:
                return None
            with file:
                return wire_size(file)
        except OSError as why:
            self._trouble(Trouble("not_listed", message.name, why.strerror or type(why).__name__))
            return None

    def _file(self, message: Message, size: int | None) -> io.FileIO | None:
        """Return the open file of a message wherever it is now; None if it is gone.  Raises OSError."""
        for path in self._where.likely(message, size):
            try:
                return io.FileIO(path, opener=_open_plain)
            except FileNotFoundError:
                continue
        moved = self._where.search(message)
        try:
            return None if moved is None else io.FileIO(moved, opener=_open_plain)
        except FileNotFoundError:
            return None

    def _trouble(self, *troubles: Trouble) -> None:
        """Keep some troubles for the log."""
        self.troubles.extend(troubles[:MAX_TROUBLES - len(self.troubles)])


class _PlainEntries(Entries):
    """What plain names tell; sizes are taken from them when somebody asks."""

    __slots__ = ("_listing",)

    def __init__(self, listing: PlainListing) -> None:
        self.octets = listing.octets
        self._listing = listing

    @property
    def sizes(self) -> list[int]:
        return self._listing.sizes

    @property
    def uids(self) -> list[str]:
        return self._listing.names

    def __len__(self) -> int:
        return len(self._listing)

    def __getitem__(self, index: int) -> Entry:
        name = self._listing.names[index]
        return Entry(size_of(name) or 0, name)


def _open_plain(path: str, flags: int) -> int:
    """Open a file, and nothing else that has the name of one: no link, no pipe, which would have us wait."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "not a file")
