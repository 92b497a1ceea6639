"""The contract between the POP3 protocol and whatever holds the messages, and its empty fulfilment.

Used in the children of pserv (over `store.maildrop`) and of pproxy (the imitated empty mailbox).
"""

from collections.abc import Iterator, Sequence, Set
from typing import BinaryIO, NamedTuple, Protocol


class Entry(NamedTuple):
    """One message as STAT, LIST and UIDL show it."""

    size: int    # octets on the wire, CRLF line ends, without dot-stuffing and the final dot
    uid: str     # 1 to 70 characters of 0x21-0x7E (RFC 1939 section 7)


class Entries:
    """The messages of a maildrop as two columns; no object stands for a message until one is asked for."""

    __slots__ = ("octets", "_sizes", "_uids")

    def __init__(self, sizes: Sequence[int] = (), uids: Sequence[str] = ()) -> None:
        """Take the `size` and the `uid` of each Entry, in order."""
        self.octets = sum(sizes)
        self._sizes = sizes
        self._uids = uids

    @property
    def sizes(self) -> Sequence[int]:
        """The sizes of all messages."""
        return self._sizes

    @property
    def uids(self) -> Sequence[str]:
        """The unique ids of all messages."""
        return self._uids

    def __len__(self) -> int:
        return len(self._uids)

    def __getitem__(self, index: int) -> Entry:
        return Entry(self._sizes[index], self._uids[index])

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self.sizes, self.uids)


class Maildrop(Protocol):
    """The messages of one mailbox, fixed for the length of the session.

    `entries` never changes (RFC 1939 numbering); a file that vanished meanwhile shows in
    `open`, not in the numbers.  Nothing is changed on disk before `commit`.
    """

    @property
    def entries(self) -> Entries:
        """The messages; the list index is the 0-based index that the other methods take."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Return the message's wire octets, line ends CRLF, not dot-stuffed; raises StoreError.

        An io.FileIO tells that they are the octets of that file, from its first to its last: RETR then leaves
        it to the kernel to send them.
        """
        ...

    def last_read(self) -> int:
        """Return the highest number, from 1, of a message that was read in an earlier session; 0 if there is none."""
        ...

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Make deletions and read marks lasting, synced to disk; once, at QUIT; raises StoreError."""
        ...

    def close(self) -> None:
        """Let go of all resources; always called, also without QUIT."""
        ...


class EmptyMaildrop:
    """The mailbox pproxy shows when there is nothing to fetch."""

    entries = Entries()

    def open(self, index: int) -> BinaryIO:
        """Never called: no number is valid in an empty mailbox."""
        raise AssertionError(f"an empty maildrop has no message {index}")

    def last_read(self) -> int:
        """Return 0."""
        return 0

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
