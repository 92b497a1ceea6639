"""The contract of `popular.pop3.maildrop.Maildrop`, asked of each fulfilment.

A fulfilment joins by a Mailbox class here and a line in MAKERS.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from popular.errors import MessageGone
from popular.pop3.maildrop import EmptyMaildrop, Maildrop
from popular.store import mailbox as store
from popular.store.maildrop import MaildirMaildrop
from tests.harness.mailboxes import MAILBOXES
from tests.harness.memory import MemoryMaildrop


class Mailbox(Protocol):
    """What the contract needs of a fulfilment under test: the other side of its storage."""

    def open(self, *, master: bool = False) -> Maildrop:
        """Open a session's maildrop over the mailbox."""
        ...

    def vanish(self, index: int) -> None:
        """Remove a message as another session would."""
        ...

    def new(self) -> list[bytes]:
        """Return the messages that nobody read, in order."""
        ...

    def read(self) -> list[bytes]:
        """Return the messages that were read, in order."""
        ...


class MemoryMailbox:
    """The mailbox of a MemoryMaildrop."""

    def __init__(self, folder: Path, messages: Sequence[bytes]) -> None:
        self.maildrop = MemoryMaildrop(messages)

    def open(self, *, master: bool = False) -> Maildrop:
        self.maildrop.master = master
        return self.maildrop

    def vanish(self, index: int) -> None:
        self.maildrop.gone.add(index)

    def _left(self, seen: bool) -> list[bytes]:
        return [message for index, message in enumerate(self.maildrop.messages)
                if index not in self.maildrop.gone and (index in self.maildrop.seen) == seen]

    def new(self) -> list[bytes]:
        return self._left(False)

    def read(self) -> list[bytes]:
        return self._left(True)


class MaildirMailbox:
    """A Maildir with our file names (spec 9.1)."""

    def __init__(self, folder: Path, messages: Sequence[bytes]) -> None:
        self.mailbox = store.Mailbox(str(folder), "3/2d/joe.doe")
        self.mailbox.create()
        self.names = [f"{945113196 + number}.14341_{len(message)}" for number, message in enumerate(messages)]
        for name, message in zip(self.names, messages):
            self._put(name, message)

    def _put(self, name: str, message: bytes) -> None:
        Path(self.mailbox.new, name).write_bytes(message)

    def open(self, *, master: bool = False) -> Maildrop:
        return MaildirMaildrop(self.mailbox, master=master)

    def vanish(self, index: int) -> None:
        Path(self.mailbox.new, self.names[index]).unlink()

    def new(self) -> list[bytes]:
        return self._left(self.mailbox.new)

    def read(self) -> list[bytes]:
        return self._left(self.mailbox.cur)

    def _left(self, folder: str) -> list[bytes]:
        return [path.read_bytes() for path in sorted(Path(folder).iterdir())]


class ForeignMailbox(MaildirMailbox):
    """A Maildir as another program fills it: no sizes in the names, lines end in LF."""

    def __init__(self, folder: Path, messages: Sequence[bytes]) -> None:
        super().__init__(folder, ())
        self.names = [f"{945113196 + number}.M1P2.mx1" for number in range(len(messages))]
        for name, message in zip(self.names, messages):
            self._put(name, message.replace(b"\r\n", b"\n"))

    def _left(self, folder: str) -> list[bytes]:
        return [message.replace(b"\n", b"\r\n") for message in super()._left(folder)]


# Each makes a mailbox out of an empty folder and messages, all of them new.
MAKERS: dict[str, Callable[[Path, Sequence[bytes]], Mailbox]] = {
    "memory": MemoryMailbox,
    "maildir": MaildirMailbox,
    "foreign": ForeignMailbox,
}

THREE = MAILBOXES["three"]


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Sequence[bytes]], Mailbox]:
    """A function (messages) that makes a mailbox of the fulfilment under test."""
    return lambda messages: MAKERS[request.param](tmp_path, messages)


@pytest.mark.parametrize("name", ["empty", "one", "three", "dots", "borders", "nul", "eightbit", "header"])
def test_entries_and_messages_agree(make: Callable[[Sequence[bytes]], Mailbox], name: str) -> None:
    messages = [message if message.endswith(b"\r\n") else message + b"\r\n" for message in MAILBOXES[name]]
    maildrop = make(messages).open()
    assert [entry.size for entry in maildrop.entries] == [len(message) for message in messages]
    for index, wanted in enumerate(messages):
        with maildrop.open(index) as message:
            assert b"".join(iter(lambda: message.read(1000), b"")) == wanted
    maildrop.close()


def test_uids_are_unique_and_legal(make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    maildrop = make(MAILBOXES["borders"]).open()
    uids = [entry.uid for entry in maildrop.entries]
    assert len(set(uids)) == len(uids)
    assert all(1 <= len(uid) <= 70 and all("!" <= letter <= "~" for letter in uid) for uid in uids)
    maildrop.close()


def test_a_message_may_be_opened_more_than_once(make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    maildrop = make(THREE).open()
    with maildrop.open(1) as first, maildrop.open(1) as second:
        assert first.read() == second.read() == THREE[1]
    maildrop.close()


def test_nothing_changes_before_commit(make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    mailbox = make(THREE)
    maildrop = mailbox.open()
    maildrop.open(0).close()
    maildrop.close()
    assert (mailbox.new(), mailbox.read()) == ([*THREE], [])


@pytest.mark.parametrize("master", [False, True])
@pytest.mark.parametrize("deleted, read", [
    pytest.param(set(), set(), id="nothing"),
    pytest.param({1}, set(), id="one deleted"),
    pytest.param(set(), {1}, id="one read"),
    pytest.param({1}, {1}, id="one read and deleted"),
    pytest.param({0, 2}, {1, 2}, id="some of each"),
    pytest.param({0, 1, 2}, {0, 1, 2}, id="all"),
])
def test_commit_removes_and_marks(make: Callable[[Sequence[bytes]], Mailbox], deleted: set[int], read: set[int],
                                  master: bool) -> None:
    mailbox = make(THREE)
    maildrop = mailbox.open(master=master)
    maildrop.commit(deleted, read)
    maildrop.close()
    left = {0, 1, 2} - deleted
    seen = set() if master else read
    assert mailbox.new() == [THREE[index] for index in sorted(left - seen)]
    assert mailbox.read() == [THREE[index] for index in sorted(left & seen)]


def test_last_read_is_the_highest_number_that_an_earlier_session_read(
        make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    mailbox = make(THREE)
    for reads, last in ((set(), 0), ({0}, 1), ({2}, 3), ({1}, 3)):
        mailbox.open().commit(set(), reads)
        assert mailbox.open().last_read() == last


def test_a_message_that_vanished_shows_in_open_and_not_in_the_numbers(
        make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    mailbox = make(THREE)
    maildrop = mailbox.open()
    before = list(maildrop.entries)
    mailbox.vanish(1)
    with pytest.raises(MessageGone):
        maildrop.open(1)
    with maildrop.open(2) as message:
        assert message.read() == THREE[2]
    assert list(maildrop.entries) == before
    maildrop.close()


def test_what_vanished_counts_as_removed_and_needs_no_mark(make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    mailbox = make(THREE)
    maildrop = mailbox.open()
    mailbox.vanish(0)
    mailbox.vanish(1)
    maildrop.commit({0}, {1, 2})
    maildrop.close()
    assert (mailbox.new(), mailbox.read()) == ([], [THREE[2]])


def test_close_twice(make: Callable[[Sequence[bytes]], Mailbox]) -> None:
    maildrop = make(THREE).open()
    maildrop.close()
    maildrop.close()


def test_the_empty_fulfilment() -> None:
    maildrop: Maildrop = EmptyMaildrop()
    assert list(maildrop.entries) == []
    with pytest.raises(AssertionError):
        maildrop.open(0)
    maildrop.commit(set(), set())
    maildrop.close()
