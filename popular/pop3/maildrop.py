"""The interface between the POP3 protocol and whatever holds the messages, and an empty implementation.

Used in the children of pserv (over `store.maildrop`) and of pproxy (the imitated empty mailbox).
"""

from collections.abc import Iterator, Sequence, Set
from typing import BinaryIO, NamedTuple, Protocol


class Entry(NamedTuple):
    """One message as STAT, LIST and UIDL show it."""

    size: int    # octets on the wire, CRLF line ends, without dot-stuffing and the final dot
    uid: str     # 1 to 70 characters of 0x21-0x7E (RFC 1939 section 7)


class Entries:
    """The messages of a maildrop as two columns; an Entry is made only when it is asked for."""

    __slots__ = ("octets", "_sizes", "_uids", "_true")

    def __init__(self, sizes: Sequence[int] = (), uids: Sequence[str] = ()) -> None:
        """Take the `size` and the `uid` of each Entry, in order."""
        self.octets = sum(sizes)
        self._sizes = sizes
        self._uids = uids
        self._true: dict[int, int] = {}    # by index, sizes that were corrected

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
        self.octets += size - self.size(index)
        self._true[index] = size

    def size(self, index: int) -> int:
        """Return the size of one message."""
        size = self._true.get(index)
        return self._listed_size(index) if size is None else size

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
        return Entry(self.size(index), self.uids[index])

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry, self.sizes, self.uids)


class Maildrop(Protocol):
    """The messages of one mailbox, fixed for the length of the session.

    Number and order of `entries` never change (RFC 1939 numbering).  If a file has vanished meanwhile, `open`
    fails, but the numbers stay.  The true size may only be known to `open`, which then corrects it.  No message
    is changed on disk before `commit`.
    """

    @property
    def entries(self) -> Entries:
        """The messages; the list index is the 0-based index that the other methods take."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Return a reader of the message's wire octets, with CRLF, not dot-stuffed; raises StoreError, MessageGone.

        From now on `entries` has their true number as its size.

        If the reader is an io.FileIO, they are the octets of that file, from the first to the last: RETR then
        lets the kernel send them.
        """
        ...

    def last_read(self) -> int:
        """Return the highest number, counted from 1, of a message that an earlier session has read; 0 if none was."""
        ...

    def commit(self, deleted: Set[int], read: Set[int]) -> None:
        """Make deletions and read marks permanent, synced to disk; called once, at QUIT; raises StoreError."""
        ...

    def close(self) -> None:
        """Release all resources; always called, even without QUIT."""
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
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
