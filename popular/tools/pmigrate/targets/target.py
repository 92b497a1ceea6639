"""Where pmigrate writes messages: the contract of the local spool and of another host.

Part of pmigrate.  A target raises StoreError, and SourceError from the reader of a message.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from popular.tools.pmigrate.sources.source import SourceMessage


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that was written to a draft."""

    message: SourceMessage
    uid: str         # that it has, or is given if the source has none
    size: int        # octets on the wire
    received: int    # UNIX time
    index: int       # in the order of the source


class MoveDraft(Protocol):
    """A file for one message."""

    @property
    def file(self) -> BinaryIO:
        """Return the file, open for writing and reading."""
        ...

    def forget(self) -> None:
        """Remove it."""
        ...


class Target(Protocol):
    """A mailbox that takes messages, in batches that are whole on disk or do not count."""

    def brought(self) -> Set[str]:
        """Return the unique ids that pmigrate has brought, now or in earlier runs."""
        ...

    def has(self, uid: str) -> bool:
        """Tell whether a message has been brought, even if a client has removed it since, or is there anyway."""
        ...

    def begin(self, messages: Sequence[tuple[str | None, SourceMessage]]) -> None:
        """Take note of all messages of the source, in order, before the first is brought."""
        ...

    def keeps_octets(self, message: SourceMessage, uid: str | None) -> bool:
        """Tell whether the file of a message is taken as it is, with its name and line ends."""
        ...

    def draft(self) -> MoveDraft:
        """Return a new draft."""
        ...

    def keep(self, draft: MoveDraft, incoming: Incoming) -> None:
        """Take over a draft; its message may come into the mailbox with the next `commit` only."""
        ...

    def link(self, incoming: Incoming) -> bool:
        """Take the file of a message over by a link in place of a draft; False if that is not wanted."""
        ...

    def commit(self) -> None:
        """Have everything that was kept in the mailbox and on disk."""
        ...

    def remove(self, uids: Iterable[str]) -> int:
        """Remove messages that were brought; return how many were there."""
        ...

    def close(self) -> None:
        """Forget what was not committed, and release all resources."""
        ...
