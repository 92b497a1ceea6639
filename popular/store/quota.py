"""How full a mailbox is, for the quota test before a delivery (spec 10.1).

Used in pdeliver.  Raises MailboxError.
"""

import os
from dataclasses import dataclass

from popular.store.filename import size_of
from popular.store.listing import Message, PlainListing, list_messages
from popular.store.mailbox import Mailbox


@dataclass(frozen=True, slots=True)
class Usage:
    """What a mailbox holds."""

    octets: int
    number: int


def usage(mailbox: Mailbox) -> Usage:
    """Add up the messages in new/ and cur/; only files that do not tell their size are asked for it."""
    messages = list_messages(mailbox)
    octets = (messages.octets if isinstance(messages, PlainListing)
              else sum(_octets(mailbox, message) for message in messages))
    return Usage(octets, len(messages))


def _octets(mailbox: Mailbox, message: Message) -> int:
    """Return a message's size, near enough for a quota: that of a foreign file is the size on disk."""
    size = size_of(message.name)
    if size is not None:
        return size
    try:
        return os.stat(os.path.join(mailbox.new if message.is_new else mailbox.cur, message.name)).st_size
    except OSError:
        return 0
