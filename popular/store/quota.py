"""The one rule for full mailboxes, by which pdeliver takes no more mail and pclean reports (spec 10.1).

Raises MailboxError where a mailbox cannot be listed.
"""

import os

from popular.errors import MailboxError
from popular.store.folders import names_in
from popular.store.mailbox import Mailbox
from popular.store.plainname import plain_octets

_MEBIBYTE = 1024 * 1024


class Usage:
    """What a mailbox holds."""

    __slots__ = ("octets", "number")

    def __init__(self, octets: int, number: int) -> None:
        self.octets = octets
        self.number = number


class Quota:
    """How much a mailbox may hold; it is full when it holds that much."""

    __slots__ = ("octets", "number")

    def __init__(self, octets: int = 0, number: int = 0) -> None:
        self.octets = octets    # 0: no check
        self.number = number    # of messages; 0: no check

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

    def percent(self, usage: Usage) -> int:
        """Return how much of it is used, in whole percent, of size or number, whichever is more; 0 without a quota."""
        return max(usage.octets * 100 // self.octets if self.octets else 0,
                   usage.number * 100 // self.number if self.number else 0)

    def nearer(self, usage: Usage) -> tuple[str, str]:
        """Return how much is used, and the limit with its unit, of size or number, whichever is nearer to its limit."""
        if self.number and (not self.octets or usage.number * self.octets > usage.octets * self.number):
            return str(usage.number), f"{self.number} messages"
        return f"{usage.octets / _MEBIBYTE:.1f}", f"{self.octets / _MEBIBYTE:.1f} MiB"


def usage_of(mailbox: Mailbox) -> Usage:
    """Add up the messages in new/ and cur/; stat is called only for files whose names do not tell their size."""
    try:
        new, cur = names_in(mailbox.new, []), names_in(mailbox.cur, [])
    except MailboxError:    # a folder is missing, and perhaps all of the mailbox
        return _listed_usage(mailbox)
    octets = plain_octets(new + cur)
    if octets is None or not frozenset(new).isdisjoint(cur):
        return _listed_usage(mailbox)
    return Usage(octets, len(new) + len(cur))


def _listed_usage(mailbox: Mailbox) -> Usage:
    """Add up the messages of a mailbox in which not all names are plain (see `plain_octets`), or some occur twice."""
    from popular.store.listing import list_messages    # pdeliver seldom needs it

    octets = 0
    messages = list_messages(mailbox)
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
    from popular.store.filename import size_of    # pdeliver seldom needs it

    size = size_of(os.path.basename(path))
    return os.lstat(path).st_size if size is None else size
