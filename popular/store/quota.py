"""The one rule for full mailboxes, by which pdeliver takes no more mail and pclean reports (spec 10.1).

Raises MailboxError where a mailbox cannot be listed.
"""

import os
from dataclasses import dataclass

from popular.store.filename import size_of
from popular.store.listing import PlainListing, list_messages
from popular.store.mailbox import Mailbox

_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Usage:
    """What a mailbox holds."""

    octets: int
    number: int


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a mailbox may hold; it is full when it holds that much."""

    octets: int = 0    # 0: no check
    number: int = 0    # of messages; 0: no check

    @classmethod
    def of_mebibytes(cls, size: int, number: int) -> "Quota":
        """Return the quota of `size` times 1024*1024 octets, as administrators write it."""
        return cls(size * _MEBIBYTE, number)

    @property
    def is_set(self) -> bool:
        """Tell whether anything is to be checked."""
        return bool(self.octets or self.number)

    def is_reached(self, usage: Usage) -> bool:
        """Tell whether a mailbox is over its quota, and takes no more mail."""
        return bool((self.octets and usage.octets >= self.octets) or (self.number and usage.number >= self.number))


def usage_of(mailbox: Mailbox) -> Usage:
    """Add up the messages in new/ and cur/; stat is called only for files whose names do not tell their size."""
    messages = list_messages(mailbox)
    if isinstance(messages, PlainListing):
        return Usage(messages.octets, len(messages))
    octets = 0
    for message in messages:
        try:
            octets += message_octets(os.path.join(mailbox.new if message.is_new else mailbox.cur, message.name))
        except OSError:
            pass    # gone meanwhile
    return Usage(octets, len(messages))


def message_octets(path: str) -> int:
    """Return a message's size, close enough for a quota: the size on disk if its name does not tell it.

    Raises OSError.
    """
    size = size_of(os.path.basename(path))
    return os.lstat(path).st_size if size is None else size
