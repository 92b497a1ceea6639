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

    __slots__ = ("octets", "_sizes", "_uids", "_true")

    def __init__(self, sizes: Sequence[int] = (), uids: Sequence[str] = ()) -> None:
        """Take the `size` and the `uid` of each Entry, in order."""
        self.octets = sum(sizes)
        self._sizes = sizes
        self._uids = uids
        self._true: dict[int, int] = {}    # by index, sizes that turned out to be others

    @property
    def sizes(self) -> Sequence[int]:
        """The sizes of all messages."""
        if not self._true:
            return self._listed_sizes()
        sizes = list(self._listed_sizes())
        for index, size in self._true.items():
            sizes[index] = size
        return sizes

    def correct(self, index: int, size: int) -> None:
        """Take note of the true size of a message."""
        self.octets += size - self[index].size
        self._true[index] = size

    def _listed_sizes(self) -> Sequence[int]:
        """Return the sizes as they were when the maildrop was opened."""
        return self._sizes

    def _listed_size(self, index: int) -> int:
        return self._sizes[index]

    @property
    def uids(self) -> Sequence[str]:
        """The unique ids of all messages."""
        return self._uids

    def __len__(self) -> int:
        return len(self._uids)

    def __getitem__(self, index: int) -> Entry:
        size = self._true.get(index) if self._true else None
        return Entry(self._listed_size(index) if size is None else size, self.uids[index])

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self.sizes, self.uids)


class Maildrop(Protocol):
    """The messages of one mailbox, fixed for the length of the session.

    Number and order of `entries` never change (RFC 1939 numbering); a file that vanished meanwhile shows in
    `open`, not in the numbers.  What a size really is may be known to `open` only, which then corrects it.  No
    message is changed on disk before `commit`.
    """

    @property
    def entries(self) -> Entries:
        """The messages; the list index is the 0-based index that the other methods take."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Return the message's wire octets, line ends CRLF, not dot-stuffed; raises StoreError, MessageGone.

        From now on `entries` has as its size how many there are.

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
