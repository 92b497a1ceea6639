"""A source of pmigrate in memory, and a look at the mailbox that was made of it."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.tools.pmigrate.sources.source import SourceMessage, SourceError

RECEIVED = 1_700_000_000


class Letters:
    """Messages with their octets; those whose octets are an exception cannot be read."""

    title = "letters"

    def __init__(self, *letters: tuple[SourceMessage, bytes | SourceError]) -> None:
        self.letters = [*letters]
        self.opened: list[str] = []

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages."""
        yield from [message for message, _ in self.letters]

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[io.BytesIO]:
        """Give a reader of a message."""
        self.opened.append(message.place)
        octets = dict((letter.place, octets) for letter, octets in self.letters)[message.place]
        if isinstance(octets, SourceError):
            raise octets
        yield io.BytesIO(octets)

    def remarks(self) -> Sequence[str]:
        """Return one remark."""
        return ["a remark"]

    def close(self) -> None:
        """Do nothing."""


def letter(number: int, uid: str | None, text: bytes | SourceError | None = None, *, is_read: bool = False,
           received: int | None = None, name: str | None = None,
           path: str | None = None) -> tuple[SourceMessage, bytes | SourceError]:
    """Return a message; by default they come one after the other, each a second later."""
    octets = b"Subject: %d\r\n\r\ntext\r\n" % number if text is None else text
    size = len(octets) if isinstance(octets, bytes) else 0
    return SourceMessage(str(number), uid, size, received or RECEIVED + number, is_read, name, path), octets


def shown(root: Path | str, name: str) -> list[tuple[str, bytes]]:
    """Return what a client sees of a mailbox: unique ids and octets, in order."""
    maildrop = MaildirMaildrop(Mailbox(str(root), name), master=True)
    found: list[tuple[str, bytes]] = []
    for index, entry in enumerate(maildrop.entries):
        with maildrop.open(index) as file:
            octets = file.read()
        assert entry.size == len(octets)
        found.append((entry.uid, octets))
    assert maildrop.troubles == []
    return found
