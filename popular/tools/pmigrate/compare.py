"""Comparing a source with what was made of it: messages, order, sizes and octets.

Part of pmigrate.  Raises SourceError and StoreError.
"""

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import cast

from popular.errors import StoreError
from popular.store.filename import time_of
from popular.store.lineends import ByteSource
from popular.store.listing import StoredMessage
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.tools.pmigrate.copying import Identities, Tally, listed_messages, read_through
from popular.tools.pmigrate.sources.source import Cut, SourceMessage, MailSource, SourceError
from popular.unix.rights import Rights, acting_as


class KeptMailbox:
    """A mailbox of POPular as pserv shows it, read with the rights of its owner; see `source.MailSource`."""

    def __init__(self, mailbox: Mailbox, owner: Rights) -> None:
        """List the mailbox; raises MailboxError."""
        self.title = f"mailbox {mailbox.name}"
        self._mailbox = mailbox
        self._owner = owner
        with acting_as(owner):
            self._maildrop = MaildirMaildrop(mailbox, master=True)

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages in the order of POP3."""
        stored = self._maildrop.messages
        for index, entry in enumerate(self._maildrop.entries):
            message = stored[index]
            yield SourceMessage(str(index + 1), entry.uid, entry.size, self._received(message), message.was_read)

    def _received(self, message: StoredMessage) -> int | None:
        """Return when a message was delivered, by its name or its file; None if that has moved."""
        delivered = time_of(message.name)
        if delivered is not None:
            return delivered
        try:
            with acting_as(self._owner):
                return int(os.stat(f"{self._mailbox.path}/{'new' if message.is_new else 'cur'}/{message.name}",
                                   follow_symlinks=False).st_mtime)
        except OSError:
            return None

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[ByteSource]:
        """Give a reader of a message."""
        try:
            with acting_as(self._owner):
                file = self._maildrop.open(int(message.place) - 1)
            with file:
                yield cast(ByteSource, file)
        except StoreError as why:
            raise SourceError(str(why)) from why

    def remarks(self) -> Sequence[str]:
        """Return what is wrong with files."""
        return [f"{trouble.name}: {trouble.why}" for trouble in self._maildrop.troubles]

    def close(self) -> None:
        """Do nothing, since nothing is held open."""


def compare(source: MailSource, target: MailSource, brought: Set[str], tally: Tally, *, alone: bool = False) -> None:
    """Compare all messages; count and tell in the remarks those that differ.

    `brought` are the unique ids that were brought to the target: others may have come there since, unless `alone`.
    """
    tally.begin()
    there: dict[str, tuple[int, SourceMessage]] = {}
    for index, message in enumerate(target.messages()):
        there[message.uid or ""] = index, message
    identities = Identities(tally.remarks.append)
    last = -1
    is_in_order = True
    messages = listed_messages(source, identities)
    tally.found = len(messages)
    for told, message in messages:
        try:
            read = read_through(source, message)
            uid = told or identities.made(read)
            index, other = there.pop(uid, (-1, message))
            if index < 0:
                why = "is missing; it was brought and is gone" if uid in brought else "is missing"
            else:
                is_in_order, last = is_in_order and index > last, index
                got = read_through(target, other)
                why = "" if got == read else f"has {got.size} octets in place of {read.size}" * (
                    got.size != read.size) or "has other octets"
                tally.octets += got.size
        except Cut:
            raise
        except SourceError as error:
            uid, why = told or "without an id", str(error)
            there.pop(uid, None)
        if why:
            tally.failed += 1
            tally.remarks.append(f"message {message.place}, {uid}: {why}")
        tally.step()
    if not is_in_order:
        tally.failed += 1
        tally.remarks.append("the messages are in another order")
    for uid in sorted(brought & there.keys()):
        tally.failed += 1
        tally.remarks.append(f"{uid}: is no longer in the source")
    came = len(there.keys() - brought)
    if came:
        tally.failed += came if alone else 0
        tally.remarks.append(f"{came} more came to the mailbox by another way")
    tally.remarks.extend(source.remarks())
