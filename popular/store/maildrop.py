"""A Maildir as the POP3 state sees it: `pop3.maildrop.Maildrop` over new/ and cur/ (spec 2.4 and 9.1).

Used in the children of pserv.  Nothing is locked, on purpose: the worst that two overlapping sessions do to each other
is an error on RETR of a message that the other has removed.  Raises MailboxError and StoreError; CommitError at QUIT.
"""

import io
import os
from collections.abc import Sequence, Set
from typing import BinaryIO, cast

from popular.errors import StoreError
from popular.pop3.maildrop import Entry
from popular.store.commit import Commit, Trouble
from popular.store.filename import is_ours, size_of
from popular.store.lineends import CrlfReader, wire_size
from popular.store.listing import Message, list_messages
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
        self._messages: list[Message] = []
        entries: list[Entry] = []
        for message in list_messages(mailbox):
            size = size_of(message.name)
            if size is None:
                size = self._counted(message)
            if size is not None:
                self._messages.append(message)
                entries.append(Entry(size, message.uid))
        self.entries: Sequence[Entry] = entries

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

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Remove `deleted`, then move what was `read` from new/ to cur/ (not in a master session); synced to disk.

        What is gone already counts as removed.  Raises CommitError if some remain.
        """
        commit = Commit(self._mailbox, self._where)
        try:
            commit.run([(message, entry.size) for message, entry in zip(self._messages, self.entries)],
                       deleted, frozenset() if self._master else read)
        finally:
            self._trouble(*commit.troubles)

    def close(self) -> None:
        """Nothing is held open."""

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


def _open_plain(path: str, flags: int) -> int:
    """Open a file that is not a symbolic link."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
