"""The contract between the POP3 protocol and whatever holds the messages, and its empty fulfilment.

Used in the children of pserv (over `store.maildrop`) and of pproxy (the imitated empty mailbox).
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One message as STAT, LIST and UIDL show it."""

    size: int    # octets on the wire, CRLF line ends, without dot-stuffing and the final dot
    uid: str     # 1 to 70 characters of 0x21-0x7E (RFC 1939 section 7)


class Maildrop(Protocol):
    """The messages of one mailbox, fixed for the length of the session.

    `entries` never changes (RFC 1939 numbering); a file that vanished meanwhile shows in
    `open`, not in the numbers.  Nothing is changed on disk before `commit`.
    """

    @property
    def entries(self) -> Sequence[Entry]:
        """The messages; the list index is the 0-based index that the other methods take."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Return the message's wire octets, line ends CRLF, not dot-stuffed; raises StoreError."""
        ...

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Make deletions and read marks lasting, synced to disk; once, at QUIT; raises StoreError."""
        ...

    def close(self) -> None:
        """Let go of all resources; always called, also without QUIT."""
        ...


class EmptyMaildrop:
    """The mailbox pproxy shows when there is nothing to fetch."""

    entries: Sequence[Entry] = ()

    def open(self, index: int) -> BinaryIO:
        """Never called: no number is valid in an empty mailbox."""
        raise AssertionError(f"an empty maildrop has no message {index}")

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
