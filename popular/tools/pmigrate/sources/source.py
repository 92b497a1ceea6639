"""What a mailbox to be moved is to pmigrate, whatever program it belongs to: the contract of all sources.

Part of pmigrate.  A source raises SourceError; `Cut` if another attempt may succeed.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from popular.errors import PopularError
from popular.store.lineends import ByteSource

MAX_MESSAGES = 200_000    # of one mailbox; their list is held in memory


class SourceError(PopularError):
    """A source, or one of its messages, cannot be read; the text says why, and holds no password."""


class Cut(SourceError):
    """A server has ended the connection, or lets nobody into the mailbox now: worth another attempt."""


@dataclass(frozen=True, slots=True)
class SourceMessage:
    """One message of a source."""

    place: str                    # how the source finds it: a path, a number; for people in reports, too
    uid: str | None               # its UIDL: any text that a server gave; None if it was never given one
    size: int | None = None       # octets on the wire, as LIST tells them; None: not known before it is read
    received: int | None = None   # UNIX time; None: to be taken from its header
    is_read: bool = False         # goes to cur/
    name: str | None = None       # of a Maildir file: kept with all flags; None: it gets a name of our form
    path: str | None = None       # of a file that holds this message and nothing else: can be linked
    is_given: bool = True         # by the server; else the UIDL is made of `name`, and the server may give another


class MailSource(Protocol):
    """The messages of one mailbox, as a POP3 client of the old server sees them.

    It may change while it is read; a message that is gone meanwhile raises SourceError in `open` or while it is read.
    Memory is bounded but for the list of messages, and no message is ever held as a whole.
    """

    @property
    def title(self) -> str:
        """What this is, for people: `Maildir of Dovecot at /var/mail/joe`."""
        ...

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages in the order of POP3; raises SourceError."""
        ...

    def open(self, message: SourceMessage) -> AbstractContextManager[ByteSource]:
        """Return a reader of a message's octets, whose lines may end in LF or CRLF; raises SourceError.

        Only one message is open at a time.
        """
        ...

    def remarks(self) -> Sequence[str]:
        """Return what is not moved, or looks wrong, a line each: subfolders, damaged lists; asked at the end."""
        ...

    def close(self) -> None:
        """Release all resources; called once."""
        ...
