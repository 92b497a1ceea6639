"""TRANSACTION: what transcripts cannot show: failing stores, totals, stuffing at every border, size."""

import errno
import io
import os
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from popular.errors import CommitError, Gone, MailboxError, MessageGone, StoreError
from popular.net.wire import Wire
from popular.pop3.dialogue import Dialogue
from popular.pop3.maildrop import EmptyMaildrop, Entries, Maildrop
from popular.pop3.response import code_for
from popular.pop3.transaction import SessionTotals, TransactionState
from tests.harness.mailboxes import MAILBOXES, naive_stuffing
from tests.harness.memory import Conversation, MemoryMaildrop

BAD = "bad sector on /dev/sda1"


class Failing(io.BytesIO):
    """A message that can be read for some octets only."""

    def __init__(self, octets: int, error: Exception) -> None:
        super().__init__(b"x" * octets)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data:
            raise self.error
        return data


class Session:
    """One ended TRANSACTION."""

    def __init__(self, maildrop: Maildrop, data: bytes, has_last: bool = False) -> None:
        self.totals = SessionTotals()
        self.has_last = has_last
        self.conversation = Conversation(lambda wire: self.serve(wire, maildrop))
        self.said = self.conversation.exchange(data)

    def serve(self, wire: Wire, maildrop: Maildrop) -> object:
        state = TransactionState(wire, maildrop, ("X",), has_last=self.has_last)
        try:
            return Dialogue(wire, maxerrors=25).run(state)
        finally:
            self.totals = state.totals


UNOPENED = {
    "": MessageGone(BAD),
    "SYS/TEMP": StoreError(BAD),
    "SYS/PERM": MailboxError(BAD, errno.ENOENT, no_such_mailbox=True)}


def refuse_to_open(code: str) -> BinaryIO:
    raise UNOPENED[code]


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 0"])
@pytest.mark.parametrize("code, answer", [
    pytest.param("", b"-ERR message 1 is gone", id="gone"),
    pytest.param("SYS/TEMP", b"-ERR [SYS/TEMP] message 1 cannot be read now", id="temporary"),
    pytest.param("SYS/PERM", b"-ERR [SYS/PERM] message 1 cannot be read now", id="permanent"),
])
def test_a_message_that_cannot_be_opened(command: bytes, code: str, answer: bytes) -> None:
    maildrop = MemoryMaildrop(MAILBOXES["two"])
    maildrop.openers[0] = lambda: refuse_to_open(code)
    session = Session(maildrop, command + b"\r\nNOOP\r\nQUIT\r\n")
    assert session.said == answer + b"\r\n+OK\r\n+OK bye\r\n"
    assert session.totals.unreadable == bool(code)    # a message that is gone needs no administrator
    assert maildrop.disk() == {"new": 2, "cur": 0}


@pytest.mark.parametrize("code", ["", "SYS/TEMP", "SYS/PERM"])
@pytest.mark.parametrize("command", [b"RETR", b"TOP"])
def test_what_the_server_cannot_read_is_no_error_of_the_client(command: bytes, code: str) -> None:
    maildrop = MemoryMaildrop([*MAILBOXES["one"] * 30, *MAILBOXES["three"]])
    for index in range(30):
        maildrop.openers[index] = lambda: refuse_to_open(code)
    lines = b" 9\r\n" if command == b"TOP" else b"\r\n"
    commands = b"".join(b"%b %d%b" % (command, number, lines) for number in range(1, 34))
    said = Session(maildrop, commands + b"QUIT\r\n").said
    assert said.count(b"-ERR") == 30 and b"too many errors" not in said
    assert said.count(b"From: ") == 3 and said.endswith(b"+OK bye\r\n")


@pytest.mark.parametrize("line", [b"RETR 4", b"RETR 0", b"RETR", b"TOP 2 x", b"DELE 1", b"LIST 1", b"BAD", b""])
def test_what_the_client_could_have_known_is_its_error(line: bytes) -> None:
    said = Session(MemoryMaildrop(MAILBOXES["three"]), b"DELE 1\r\n" + 25 * (line + b"\r\n")).said
    assert said.count(b"-ERR") == 25 and said.endswith(b"-ERR too many errors\r\n")


@pytest.mark.parametrize("error", [
    pytest.param(OSError(5, BAD), id="OSError"), pytest.param(StoreError(BAD), id="StoreError")])
def test_a_message_whose_first_octet_cannot_be_read_is_refused(error: Exception) -> None:
    maildrop = MemoryMaildrop(MAILBOXES["one"])
    message = Failing(0, error)
    maildrop.openers[0] = lambda: message
    session = Session(maildrop, b"RETR 1\r\nQUIT\r\n")
    assert session.said == b"-ERR [SYS/TEMP] message 1 cannot be read now\r\n+OK bye\r\n"
    assert session.totals == SessionTotals(unreadable=1, read_error=f"message 1: {error}")
    assert message.closed


@pytest.mark.parametrize("error", [
    pytest.param(OSError(5, BAD), id="OSError"), pytest.param(StoreError(BAD), id="StoreError")])
@pytest.mark.parametrize("octets", [1, 70_000, 300_000])
def test_a_read_error_within_a_message_drops_the_connection(octets: int, error: Exception) -> None:
    maildrop = MemoryMaildrop(MAILBOXES["one"])
    message = Failing(octets, error)
    maildrop.openers[0] = lambda: message
    session = Session(maildrop, b"DELE 1\r\nRSET\r\nRETR 1\r\nQUIT\r\n")
    text = session.said.split(b"\r\n", 2)[2]
    assert not text or text.startswith(b"+OK 46 octets\r\nx")
    assert b"-ERR" not in text and not text.endswith(b".\r\n")
    assert isinstance(session.conversation.error, Gone)
    assert session.totals.unreadable == 1 and BAD in session.totals.read_error
    assert message.closed and maildrop.commits == 0


@pytest.mark.parametrize("messages", [pytest.param(MAILBOXES[name], id=name) for name in sorted(MAILBOXES)])
def test_every_message_goes_out_as_the_plainest_code_would_send_it(messages: tuple[bytes, ...]) -> None:
    commands = b"".join(b"RETR %d\r\n" % number for number in range(1, len(messages) + 1))
    said = Session(MemoryMaildrop(messages), commands + b"QUIT\r\n").said
    wanted = [b"+OK %d octets\r\n%b" % (len(message), naive_stuffing(message)) for message in messages]
    assert said == b"".join(wanted) + b"+OK bye\r\n"


def opened(path: Path, text: bytes) -> io.FileIO:
    """Return an open file with `text` in it."""
    path.write_bytes(text)
    return io.FileIO(path)


@pytest.mark.parametrize("messages", [pytest.param(MAILBOXES[name], id=name) for name in sorted(MAILBOXES)])
def test_every_message_in_a_file_too(messages: tuple[bytes, ...], tmp_path: Path) -> None:
    maildrop = MemoryMaildrop(messages)
    for index, message in enumerate(messages):
        maildrop.openers[index] = partial(opened, tmp_path / "message", message)
    commands = b"".join(b"RETR %d\r\nTOP %d 1\r\n" % (number, number) for number in range(1, len(messages) + 1))
    session = Session(maildrop, commands + b"QUIT\r\n")
    wanted = [b"+OK %d octets\r\n%b+OK top of message follows\r\n%b" % (
        len(message), naive_stuffing(message), naive_stuffing(message, 1)) for message in messages]
    assert session.said == b"".join(wanted) + b"+OK bye\r\n"
    assert session.totals.octets == maildrop.entries.octets    # as STAT says, with no dot doubled, and no final line


class Unclosable(io.BytesIO):
    """A message whose close() fails, once."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            raise OSError(5, BAD)


def test_a_message_that_cannot_be_closed_was_sent_and_is_noted() -> None:
    maildrop = MemoryMaildrop(MAILBOXES["one"])
    maildrop.openers[0] = lambda: Unclosable(MAILBOXES["one"][0])
    session = Session(maildrop, b"RETR 1\r\nQUIT\r\n")
    assert session.said.endswith(b"\r\n.\r\n+OK bye\r\n")
    assert (session.totals.retrieved, session.totals.unreadable) == (1, 1) and BAD in session.totals.read_error


def test_a_file_that_is_cut_off_while_it_is_sent_drops_the_connection(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "message"
    text = b"x" * 1_000_000
    sendfile = os.sendfile

    def cut_off(sink: int, source: int, place: int, count: int) -> int:
        os.truncate(path, 100_000)
        return sendfile(sink, source, place, count)

    monkeypatch.setattr(os, "sendfile", cut_off)
    maildrop = MemoryMaildrop((text,))
    maildrop.openers[0] = lambda: opened(path, text)
    session = Session(maildrop, b"RETR 1\r\nQUIT\r\n")
    assert session.said == b"+OK 1000000 octets\r\n" + b"x" * 100_000
    assert isinstance(session.conversation.error, Gone)
    assert session.totals.unreadable == 1 and "cut off" in session.totals.read_error
    assert (session.totals.retrieved, maildrop.commits) == (0, 0)


@pytest.mark.parametrize("lines", [0, 1, 2, 3, 5000, 4294967296])
@pytest.mark.parametrize("name", ["two", "dots", "borders", "header", "nothing", "long"])
def test_top_sends_as_many_lines_as_there_are_or_are_wanted(name: str, lines: int) -> None:
    messages = MAILBOXES[name]
    said = Session(MemoryMaildrop(messages), b"TOP 1 %d\r\nQUIT\r\n" % lines).said
    assert said == b"+OK top of message follows\r\n" + naive_stuffing(messages[0], lines) + b"+OK bye\r\n"


@pytest.mark.parametrize("stuck, failed", [
    pytest.param({0}, 1, id="one of two"), pytest.param({0, 1}, 2, id="both"), pytest.param({2}, 0, id="another"),
])
def test_quit_has_one_answer_whatever_the_store_can_do(stuck: set[int], failed: int) -> None:
    maildrop = MemoryMaildrop(MAILBOXES["three"])
    maildrop.stuck = stuck
    session = Session(maildrop, b"DELE 1\r\nDELE 2\r\nRETR 3\r\nQUIT\r\n")
    answer = b"-ERR [SYS/TEMP] %d of 2 messages not removed" % failed if failed else b"+OK bye"
    assert session.said.endswith(b".\r\n" + answer + b"\r\n")
    assert session.conversation.result == session.totals
    assert (session.totals.deleted, session.totals.failed) == (2 - failed, failed)
    assert session.totals.why == ("permission denied" if failed else "")
    assert maildrop.commits == 1


@pytest.mark.parametrize("seen, commands, lasts", [
    pytest.param(set(), b"LAST TOP_3_0 LAST RETR_2 RETR_1 LAST RSET LAST", b"0 0 2 0", id="nothing-read-before"),
    pytest.param({1}, b"LAST RETR_1 LAST RETR_3 LAST RSET LAST", b"2 2 3 2", id="read-before"),
    pytest.param({0, 2}, b"LAST RETR_2 LAST RSET LAST", b"3 3 3", id="last-one-read-before"),
])
def test_rfc_1460_last_tells_the_highest_message_read_also_in_earlier_sessions(
        seen: set[int], commands: bytes, lasts: bytes) -> None:
    maildrop = MemoryMaildrop(MAILBOXES["three"])
    maildrop.seen = seen
    data = b"".join(word.replace(b"_", b" ") + b"\r\n" for word in commands.split())
    said = Session(maildrop, data + b"QUIT\r\n", has_last=True).said.splitlines()
    assert [line[4:] for line in said if line[:3] == b"+OK" and line[4:].isdigit()] == lasts.split()


def test_an_empty_maildrop_has_last_only_when_asked_for() -> None:
    assert Session(EmptyMaildrop(), b"LAST\r\n").said == b"-ERR unknown command\r\n"
    assert Session(EmptyMaildrop(), b"LAST\r\n", has_last=True).said == b"+OK 0\r\n"


def test_quit_over_a_store_that_is_gone() -> None:
    class Broken(MemoryMaildrop):
        def commit(self, deleted: object, read: object) -> None:
            raise StoreError(BAD)

    session = Session(Broken(MAILBOXES["two"]), b"DELE 1\r\nQUIT\r\n")
    assert session.said.endswith(b"\r\n-ERR [SYS/TEMP] mailbox could not be updated\r\n")
    assert session.totals == SessionTotals(deleted=0, failed=1, why=BAD)


def test_totals_of_a_session_that_quits() -> None:
    session = Session(MemoryMaildrop(MAILBOXES["three"]), b"RETR 1\r\nRETR 1\r\nTOP 2 0\r\nDELE 3\r\nQUIT\r\n")
    assert session.totals == SessionTotals(retrieved=2, octets=2 * 46, deleted=1)


def test_totals_of_a_session_that_breaks_off() -> None:
    session = Session(MemoryMaildrop(MAILBOXES["three"]), b"RETR 1\r\nDELE 3\r\n")
    assert isinstance(session.conversation.error, Gone)
    assert session.totals == SessionTotals(retrieved=1, octets=46)


def test_no_detail_of_ours_reaches_the_client() -> None:
    maildrop = MemoryMaildrop(MAILBOXES["two"])
    maildrop.openers[0] = lambda: refuse_to_open("SYS/TEMP")
    maildrop.openers[1] = lambda: Failing(1, OSError(5, BAD))
    assert b"sda" not in Session(maildrop, b"RETR 1\r\nRETR 2\r\n").said


def test_the_answers_of_an_empty_maildrop_are_those_of_a_maildrop_without_messages() -> None:
    script = b"".join(word + b"\r\n" for word in (
        b"STAT", b"LIST", b"UIDL", b"LIST 1", b"UIDL 1", b"RETR 1", b"TOP 1 1", b"DELE 1", b"RSET", b"LAST", b"CAPA",
        b"NOOP", b"RETR 0", b"QUIT"))
    assert Session(EmptyMaildrop(), script).said == Session(MemoryMaildrop(()), script).said


def test_a_hundred_thousand_messages() -> None:
    class Many(EmptyMaildrop):
        entries = Entries([1000] * 100_000, [f"945113196.{number}_1000" for number in range(100_000)])

    said = Session(Many(), b"STAT\r\nDELE 5\r\nLIST\r\nUIDL\r\nSTAT\r\nQUIT\r\n").said
    lines = said.split(b"\r\n")
    assert lines[0] == b"+OK 100000 100000000"
    assert lines[2] == b"+OK 99999 messages (99999000 octets)"
    numbers = [number for number in range(1, 100_001) if number != 5]
    assert lines[3:100_002] == [b"%d 1000" % number for number in numbers]
    assert lines[100_004:200_003] == [b"%d 945113196.%d_1000" % (number, number - 1) for number in numbers]
    assert lines[200_004:] == [b"+OK 99999 99999000", b"+OK bye", b""]


def test_commit_error_is_worded_from_its_numbers() -> None:
    error = CommitError(2, 5, BAD)
    assert (error.failed, error.wanted, code_for(error), str(error)) == (2, 5, "SYS/TEMP", BAD)
