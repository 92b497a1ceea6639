"""The dialogue: every command in every order, limits, and what reaches the receiver."""

import socket
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from popular.errors import Gone
from popular.lmtp import dialogue
from popular.lmtp.dialogue import LmtpDialogue, LmtpTerms
from popular.lmtp.grammar import Recipient, Sender
from popular.lmtp.replies import LmtpReply, Replies
from popular.net.wire import Wire
from tests.harness.memory import Conversation

HELLO = b"LHLO mta.example.org\r\n"
BEGIN = HELLO + b"MAIL FROM:<chris@bar.com>\r\nRCPT TO:<pat@foo.edu>\r\nRCPT TO:<jones@foo.edu>\r\n"
GREETING = b"220 foo.edu LMTP"


class Box:
    """A receiver that remembers; `jones` has no mailbox, `green` cannot be written."""

    def __init__(self) -> None:
        self.wanted: list[str] = []
        self.text = b""
        self.mails: list[tuple[list[str], bytes]] = []
        self.began = 0
        self.resets = 0

    def recipient(self, sender: Sender, recipient: Recipient) -> LmtpReply:
        if recipient.address.startswith("jones"):
            return Replies.UNKNOWN_USER
        self.wanted.append(recipient.address.partition("@")[0])
        return Replies.RECIPIENT_OK

    def begin(self, sender: Sender) -> None:
        self.began += 1
        self.text = b""

    def write(self, block: bytes) -> None:
        self.text += block

    def finish(self, size: int) -> Sequence[LmtpReply]:
        assert size == len(self.text)
        self.mails.append((self.wanted, self.text))
        return [Replies.STORE_FAILED if each == "green" else Replies.DELIVERED for each in self.wanted]

    def refuse(self, reply: LmtpReply) -> Sequence[LmtpReply]:
        return [reply] * len(self.wanted)

    def reset(self) -> None:
        self.wanted = []
        self.text = b""
        self.resets += 1


class Played:
    """A session that was played to its end."""

    def __init__(self, data: bytes, **terms: Any) -> None:
        self.box = Box()
        self.trace: list[str] = []
        self.conversation = Conversation(
            lambda wire: LmtpDialogue(wire, self.box, LmtpTerms("foo.edu", trace=self.trace.append, **terms)).run())
        lines = self.conversation.exchange(data).split(b"\r\n")
        assert lines.pop() == b""
        assert lines.pop(0) == GREETING
        self.lines = lines

    @property
    def codes(self) -> str:
        """The codes without those of LHLO."""
        return " ".join(line[:3].decode() for line in self.lines if not line.startswith(b"250-"))

    @property
    def statuses(self) -> list[str]:
        """Both codes of each answer behind that of LHLO."""
        return [" ".join(line.decode().split()[:2]) for line in self.lines if line[3:4] == b" "][1:]


def played(data: bytes, **terms: Any) -> Played:
    return Played(data, **terms)


def test_lhlo_tells_the_extensions() -> None:
    session = played(HELLO + b"QUIT\r\n", maxsize=1000, takes_over=True, start_tls=lambda: None)
    assert session.lines == [
        b"250-foo.edu", b"250-PIPELINING", b"250-8BITMIME", b"250-SMTPUTF8", b"250-ENHANCEDSTATUSCODES",
        b"250-CHUNKING", b"250-SIZE 1000", b"250-STARTTLS", b"250 XTAKEOVER", b"221 2.0.0 bye"]
    assert played(HELLO + b"QUIT\r\n").lines[-2] == b"250 SIZE"


def test_the_example_of_rfc_2033() -> None:
    """Three recipients, of which one is refused, and an answer for each of the others."""
    session = played(
        b"LHLO foo.edu\r\nMAIL FROM:<chris@bar.com>\r\nRCPT TO:<pat@foo.edu>\r\nRCPT TO:<jones@foo.edu>\r\n"
        b"RCPT TO:<green@foo.edu>\r\nDATA\r\nBlah blah blah...\r\n...etc. etc. etc.\r\n.\r\nQUIT\r\n")
    assert session.statuses == ["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "354 end", "250 2.0.0",
                                "451 4.3.0", "221 2.0.0"]
    assert session.box.mails == [(["pat", "green"], b"Blah blah blah...\r\n..etc. etc. etc.\r\n")]
    assert session.conversation.error is None


def test_the_example_of_rfc_3030() -> None:
    """Chunks, sent without waiting for answers."""
    session = played(BEGIN + b"BDAT 10\r\n12345\r\n.\r\nBDAT 5 LAST\r\n\0..\r\nBDAT 0 LAST\r\nQUIT\r\n")
    assert session.codes == "250 250 250 550 250 250 503 221"
    assert session.box.mails == [(["pat"], b"12345\r\n.\r\n\0..\r\n")]


@pytest.mark.parametrize("commands, statuses", [
    pytest.param(b"HELO x", ["500 5.5.1"], id="helo"),
    pytest.param(b"EHLO x", ["500 5.5.1"], id="ehlo"),
    pytest.param(b"LHLO", ["501 5.5.4"], id="lhlo without a name"),
    pytest.param(b"NOOP", ["250 2.0.0"], id="noop"),
    pytest.param(b"noop with words", ["250 2.0.0"], id="noop with words"),
    pytest.param(b"VRFY joe", ["252 2.5.0"], id="vrfy"),
    pytest.param(b"VRFY", ["501 5.5.4"], id="vrfy without a name"),
    pytest.param(b"EXPN joe", ["502 5.5.1"], id="expn"),
    pytest.param(b"AUTH PLAIN", ["502 5.5.1"], id="auth"),
    pytest.param(b"STARTTLS", ["502 5.5.1"], id="no tls here"),
    pytest.param(b"RSET", ["250 2.0.0"], id="rset"),
    pytest.param(b"RSET x", ["501 5.5.4"], id="rset with words"),
    pytest.param(b"FOO", ["500 5.5.2"], id="unknown"),
    pytest.param(b"", ["500 5.5.2"], id="empty"),
    pytest.param(b"NOOP\0", ["500 5.5.2"], id="nul"),
    pytest.param(b"NOOP \rNOOP", ["500 5.5.2"], id="stray cr"),
    pytest.param(b"NOOP " + b"x" * 3000, ["500 5.5.2"], id="long line"),
    pytest.param(b"RCPT TO:<joe>", ["503 5.5.1"], id="rcpt too early"),
    pytest.param(b"DATA", ["503 5.5.1"], id="data too early"),
    pytest.param(b"BDAT 3 LAST\r\n\0\r\nNOOP", ["503 5.5.1", "250 2.0.0"], id="bdat too early"),
    pytest.param(b"MAIL FROM:<>\r\nBDAT 3\r\nabcNOOP", ["250 2.1.0", "503 5.5.1", "250 2.0.0"], id="bdat for nobody"),
    pytest.param(b"MAIL FROM:<>\r\nMAIL FROM:<>", ["250 2.1.0", "503 5.5.1"], id="mail twice"),
    pytest.param(b"MAIL FROM:<>\r\nRSET\r\nMAIL FROM:<>", ["250 2.1.0", "250 2.0.0", "250 2.1.0"], id="mail anew"),
    pytest.param(b"MAIL FROM:<>\r\nLHLO y\r\nMAIL FROM:<>", ["250 2.1.0", "250 SIZE", "250 2.1.0"], id="lhlo resets"),
    pytest.param(b"MAIL FROM:<>\r\nRCPT TO:<jones>\r\nDATA", ["250 2.1.0", "550 5.1.1", "503 5.5.1"],
                 id="data for nobody"),
    pytest.param(b"MAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA x", ["250 2.1.0", "250 2.1.5", "501 5.5.4"],
                 id="data with words"),
    pytest.param(b"MAIL FROM:<>\r\nRCPT TO:<joe>\r\nBDAT 1\r\na" + b"RCPT TO:<x>\r\nDATA\r\nRSET\r\nRCPT TO:<x>",
                 ["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1", "503 5.5.1", "250 2.0.0", "503 5.5.1"],
                 id="nothing else between chunks"),
    pytest.param(b"QUIT now", ["501 5.5.4"], id="quit with words"),
])
def test_commands(commands: bytes, statuses: list[str]) -> None:
    session = played(HELLO + commands + b"\r\nQUIT\r\n")
    assert session.statuses == [*statuses, "221 2.0.0"]
    assert session.box.mails == []


def test_mail_needs_lhlo() -> None:
    assert played(b"MAIL FROM:<>\r\nQUIT\r\n").codes == "503 221"


def test_several_mails_in_a_session() -> None:
    one = b"MAIL FROM:<>\r\nRCPT TO:<joe>\r\nDATA\r\nx\r\n.\r\n"
    session = played(HELLO + one * 3 + b"QUIT\r\n")
    assert session.box.mails == [(["joe"], b"x\r\n")] * 3
    assert session.box.resets == 3


def test_a_recipient_given_twice_has_two_answers() -> None:
    session = played(HELLO + b"MAIL FROM:<>\r\n" + b"RCPT TO:<joe>\r\n" * 2 + b"DATA\r\n.\r\nQUIT\r\n")
    assert session.codes == "250 250 250 250 354 250 250 221"


# Limits

def test_recipients_have_a_limit() -> None:
    session = played(BEGIN + b"RCPT TO:<joe>\r\nRCPT TO:<jim>\r\nDATA\r\n.\r\nQUIT\r\n", maxrecipients=2)
    assert session.statuses[2:5] == ["550 5.1.1", "250 2.1.5", "452 4.5.3"]
    assert session.box.mails == [(["pat", "joe"], b"")]


def test_a_size_that_is_told_is_refused_at_once() -> None:
    assert played(HELLO + b"MAIL FROM:<> SIZE=11\r\nQUIT\r\n", maxsize=10).statuses[0] == "552 5.3.4"


@pytest.mark.parametrize("text", [
    b"DATA\r\n" + b"x" * 200_000 + b"\r\n.\r\n", b"DATA\r\n123456789\r\n.\r\n", b"BDAT 11 LAST\r\n12345678901",
    b"BDAT 6 \r\n123456BDAT 5 LAST\r\n12345"], ids=["long", "by one", "chunk", "two chunks"])
def test_a_large_message_is_read_to_its_end_and_refused(text: bytes) -> None:
    session = played(BEGIN + b"RCPT TO:<joe>\r\n" + text + b"NOOP\r\nQUIT\r\n", maxsize=10)
    assert session.statuses[-4:] == ["552 5.3.4", "552 5.3.4", "250 2.0.0", "221 2.0.0"]
    assert session.box.mails == []


def test_a_message_may_have_the_whole_size() -> None:
    assert played(BEGIN + b"DATA\r\n12345678\r\n.\r\nQUIT\r\n", maxsize=10).box.mails == [(["pat"], b"12345678\r\n")]


def test_errors_have_a_limit() -> None:
    session = played(HELLO + b"FOO\r\n" * 5 + b"NOOP\r\n", maxerrors=3)
    assert session.statuses == ["500 5.5.2", "500 5.5.2", "421 4.7.0"]
    assert isinstance(session.conversation.error, Gone)


def test_unknown_recipients_are_no_errors_of_the_client() -> None:
    session = played(HELLO + b"MAIL FROM:<>\r\n" + b"RCPT TO:<jones>\r\n" * 5 + b"QUIT\r\n", maxerrors=3)
    assert session.codes.endswith("550 221")


def test_bdat_without_a_size_ends_the_session() -> None:
    """What follows may be text, with commands of somebody else in it."""
    session = played(BEGIN + b"BDAT LAST\r\nMAIL FROM:<>\r\n")
    assert session.codes.endswith("550 501")
    assert isinstance(session.conversation.error, Gone)


def test_a_browser_is_not_listened_to() -> None:
    session = played(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n" + BEGIN + b"DATA\r\nx\r\n.\r\n")
    assert session.lines == [] and session.box.wanted == []
    assert str(session.conversation.error) == "HTTP instead of LMTP"


def test_a_text_has_a_limit_of_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(BEGIN + b"DATA\r\nx\r\n")
        began = time.monotonic()
        box = Box()
        with pytest.raises(Gone, match="timeout"):
            LmtpDialogue(Wire(theirs, idle=60.0), box, LmtpTerms("foo.edu", texttimeout=0.05)).run()
        assert time.monotonic() - began < 30
        assert box.mails == [] and box.began == 1


def test_the_limit_of_time_is_that_of_all_chunks_together(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((time.monotonic() - 700, time.monotonic(), time.monotonic()))
    monkeypatch.setattr(dialogue, "time", SimpleNamespace(monotonic=lambda: next(times)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(BEGIN + b"BDAT 2\r\nxxBDAT 2\r\nx")
        with pytest.raises(Gone, match="timeout"):
            LmtpDialogue(Wire(theirs, idle=60.0), Box(), LmtpTerms("foo.edu")).run()
        ours.setblocking(False)
        assert ours.recv(4096).endswith(b"250 2.0.0 chunk taken\r\n")


# Ends

@pytest.mark.parametrize("text", [
    b"DATA\r\n", b"DATA\r\nx\r\n.\r", b"DATA\r\nx\r\n.", b"BDAT 3 LAST\r\nxx", b"BDAT 2\r\nxx"])
def test_a_client_that_goes_before_the_end_delivers_nothing(text: bytes) -> None:
    session = played(BEGIN + text)
    assert session.box.mails == [] and session.box.began == 1
    assert isinstance(session.conversation.error, Gone)


@pytest.mark.parametrize("command", [b"MAIL FROM:<>\r\n", b"RSET\r\n"])
def test_a_service_that_ends_takes_one_mail_and_no_further_one(command: bytes) -> None:
    """Else Postfix would defer a mail whose connection is new; it proves by RSET that an old one is of use."""
    session = played(BEGIN + b"RSET\r\n" + BEGIN + b"DATA\r\nx\r\n.\r\nNOOP\r\n" + command + b"NOOP\r\n",
                     is_ending=lambda: True)
    assert len(session.box.mails) == 1
    assert session.statuses[-3:] == ["250 2.0.0", "250 2.0.0", "421 4.3.2"]


def test_answers_of_commands_that_came_together_are_sent_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = Wire.send

    def count(wire: Wire, data: bytes) -> None:
        sent.append(data.count(b"\r\n"))
        send(wire, data)

    monkeypatch.setattr(Wire, "send", count)
    played(BEGIN + b"DATA\r\nx\r\n.\r\nQUIT\r\n")
    assert sent == [1, 7 + 3 + 1, 1, 1]


# TLS

def test_starttls_forgets_what_was_said() -> None:
    begun: list[bool] = []
    session = played(HELLO + b"MAIL FROM:<>\r\nSTARTTLS\r\nRCPT TO:<injected>\r\n",
                     start_tls=lambda: begun.append(True))
    assert session.statuses == ["250 2.1.0", "220 2.0.0"]
    assert begun == [True] and session.box.wanted == []


def test_commands_are_traced() -> None:
    assert played(b"NOOP \xff\r\nQUIT\r\n").trace == ["NOOP \\xff", "QUIT"]
