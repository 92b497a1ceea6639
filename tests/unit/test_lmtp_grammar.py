"""The grammar of LMTP's commands, and the table of replies."""

import re

import pytest

from popular.lmtp.grammar import (
    Chunk, Recipient, Refused, Sender, Takeover, parse_chunk, parse_recipient, parse_sender)
from popular.lmtp.replies import LmtpReply, Replies
from tests.harness.daemon import ROOT

ANYBODY = Sender("")
UTF8 = Sender("", has_utf8=True)


@pytest.mark.parametrize("argument, sender", [
    (b"FROM:<>", Sender("")),
    (b"from:<Smith@bar.com>", Sender("Smith@bar.com")),
    (b"FROM: <smith@bar.com>", Sender("smith@bar.com")),
    (b"FROM:<@hosta.int,@jkl.org:userc@d.bar.org>", Sender("userc@d.bar.org")),
    (b"FROM:<\"joe bloggs\"@bar.com>", Sender("\"joe bloggs\"@bar.com")),
    (b"FROM:<\"a\\\"b\\\\>\"@bar.com>", Sender("\"a\\\"b\\\\>\"@bar.com")),
    (b"FROM:<joe@[192.0.2.1]>", Sender("joe@[192.0.2.1]")),
    (b"FROM:<joe@[IPv6:2001:db8::1]>", Sender("joe@[IPv6:2001:db8::1]")),
    (b"FROM:<joe..dots.@bar.com>", Sender("joe..dots.@bar.com")),
    (b"FROM:<ned@ymir.claremont.edu> SIZE=10000", Sender("ned@ymir.claremont.edu", 10000)),
    (b"FROM:<ned@ymir.claremont.edu>  BODY=8bitmime  size=0", Sender("ned@ymir.claremont.edu")),
    (b"FROM:<j\xc3\xb6rg@b\xc3\xa4r.de> SMTPUTF8 BODY=8BITMIME", Sender("j\u00f6rg@b\u00e4r.de", 0, True)),
    (b"FROM:<j\xf6rg@bar.de> SMTPUTF8", Sender("j\udcf6rg@bar.de", 0, True)),
])
def test_mail(argument: bytes, sender: Sender) -> None:
    assert parse_sender(argument, 0) == sender


@pytest.mark.parametrize("argument, reply", [
    (b"", Replies.BAD_SYNTAX),
    (b"TO:<joe>", Replies.BAD_SYNTAX),
    (b"FROM <joe@bar.com>", Replies.BAD_SYNTAX),
    (b"FROM:joe@bar.com", Replies.BAD_SENDER),
    (b"FROM:<joe bloggs@bar.com>", Replies.BAD_SENDER),
    (b"FROM:<joe@bar.com", Replies.BAD_SENDER),
    (b"FROM:<joe@bar.com>SIZE=1", Replies.BAD_SENDER),
    (b"FROM:<@bar.com>", Replies.BAD_SENDER),
    (b"FROM:<\"joe@bar.com>", Replies.BAD_SENDER),
    (b"FROM:<joe@b\xc3\xa4r.de>", Replies.NOT_UTF8),
    (b"FROM:<joe@bar.com> SIZE=1001", Replies.TOO_LARGE),
    (b"FROM:<joe@bar.com> SIZE=99999999999999999999", Replies.TOO_LARGE),
    (b"FROM:<joe@bar.com> SIZE=x", Replies.BAD_PARAMETER),
    (b"FROM:<joe@bar.com> SIZE=-1", Replies.BAD_PARAMETER),
    (b"FROM:<joe@bar.com> SIZE", Replies.BAD_PARAMETER),
    (b"FROM:<joe@bar.com> SIZE=1 SIZE=1", Replies.BAD_SYNTAX),
    (b"FROM:<joe@bar.com> =1", Replies.BAD_SYNTAX),
    (b"FROM:<joe@bar.com> BODY=BINARYMIME", Replies.BAD_PARAMETER),
    (b"FROM:<joe@bar.com> SMTPUTF8=yes", Replies.BAD_PARAMETER),
    (b"FROM:<joe@bar.com> RET=HDRS", Replies.BAD_PARAMETER),
])
def test_mail_that_is_refused(argument: bytes, reply: LmtpReply) -> None:
    with pytest.raises(Refused) as caught:
        parse_sender(argument, 1000)
    assert caught.value.reply == reply


def joe(takeover: Takeover | None = None) -> Recipient:
    return Recipient("joe", "joe", takeover)


@pytest.mark.parametrize("argument, recipient", [
    (b"TO:<joe>", joe()),
    (b"TO:<joe@example.org>", Recipient("joe@example.org", "joe@example.org")),
    (b"to:<Postmaster>", Recipient("Postmaster", "Postmaster")),
    (b"TO:<joe+lists@example.org>", Recipient("joe+lists@example.org", "joe+lists@example.org")),
    (b"TO:<\"joe\"@example.org>", Recipient("\"joe\"@example.org", "joe@example.org")),
    (b"TO:<\"a\\\"b\\\\>\"@bar.com>", Recipient("\"a\\\"b\\\\>\"@bar.com", "a\"b\\>@bar.com")),
    (b"TO:<joe> XSEEN", joe(Takeover(is_read=True))),
    (b"TO:<joe> xuidl=a+2Bb+3D XRECEIVED=1700000000", joe(Takeover("a+b=", 1_700_000_000))),
    (b"TO:<> XMAILBOX=j/joe", Recipient("", "", Takeover(mailbox="j/joe"))),
    (b"TO:<joe> XUIDL=" + b"x" * 70, joe(Takeover("x" * 70))),
])
def test_rcpt(argument: bytes, recipient: Recipient) -> None:
    assert parse_recipient(argument, ANYBODY, takes_over=True) == recipient


def test_rcpt_with_utf8() -> None:
    assert parse_recipient(b"TO:<j\xc3\xb6rg>", UTF8, takes_over=False) == Recipient("j\u00f6rg", "j\u00f6rg")


@pytest.mark.parametrize("argument, reply", [
    (b"TO:<>", Replies.BAD_RECIPIENT),
    (b"TO:joe", Replies.BAD_RECIPIENT),
    (b"FROM:<joe>", Replies.BAD_SYNTAX),
    (b"TO:<j\xc3\xb6rg>", Replies.NOT_UTF8),
    (b"TO:<joe> NOTIFY=NEVER", Replies.BAD_PARAMETER),
    (b"TO:<joe> XUIDL=" + b"x" * 71, Replies.BAD_PARAMETER),
    (b"TO:<joe> XUIDL=a+2", Replies.BAD_PARAMETER),
    (b"TO:<joe> XUIDL=a+20b", Replies.BAD_PARAMETER),
    (b"TO:<joe> XUIDL", Replies.BAD_PARAMETER),
    (b"TO:<joe> XRECEIVED=-1", Replies.BAD_PARAMETER),
    (b"TO:<joe> XRECEIVED=12345678901", Replies.BAD_PARAMETER),
    (b"TO:<joe> XSEEN=1", Replies.BAD_PARAMETER),
    (b"TO:<joe> XMAILBOX=../x", Replies.BAD_PARAMETER),
    (b"TO:<joe> XMAILBOX=a+00", Replies.BAD_PARAMETER),
])
def test_rcpt_that_is_refused(argument: bytes, reply: LmtpReply) -> None:
    with pytest.raises(Refused) as caught:
        parse_recipient(argument, ANYBODY, takes_over=True)
    assert caught.value.reply == reply


def test_only_some_may_take_over() -> None:
    with pytest.raises(Refused):
        parse_recipient(b"TO:<joe> XSEEN", ANYBODY, takes_over=False)


@pytest.mark.parametrize("argument, chunk", [
    (b"86 LAST", Chunk(86, True)), (b"100000", Chunk(100_000, False)), (b"0 last", Chunk(0, True)),
    (b" 7 ", Chunk(7, False)),
])
def test_bdat(argument: bytes, chunk: Chunk) -> None:
    assert parse_chunk(argument) == chunk


@pytest.mark.parametrize("argument", [b"", b"LAST", b"x", b"-1", b"1 LAST LAST", b"1 FIRST", b"9" * 20, b"1" * 21])
def test_bdat_that_is_refused(argument: bytes) -> None:
    with pytest.raises(Refused):
        parse_chunk(argument)


TABLE = {name: reply for name, reply in vars(Replies).items() if isinstance(reply, LmtpReply)}


@pytest.mark.parametrize("name", TABLE)
def test_replies_have_codes_that_fit(name: str) -> None:
    """The classes of both codes are the same (RFC 2034); only 3xx has none (RFC 3463)."""
    reply = TABLE[name]
    assert reply.status.startswith(f"{reply.code // 100}.") or (reply.code, reply.status) == (354, "")
    assert len(reply.line()) < 512 and reply.line().isascii() and reply.text.isprintable()
    assert reply.is_positive is (reply.code < 400)


def test_two_replies_are_never_the_same() -> None:
    assert len(set(TABLE.values())) == len(TABLE)


def test_the_man_page_names_answers_that_exist() -> None:
    page = (ROOT / "man/src/popular-protocols.7.in").read_text()
    named = set(re.findall(r"^\.B ([2-5][0-9]{2}) ([0-9.]+)$", page, re.MULTILINE))
    assert len(named) > 10
    assert named <= {(str(reply.code), reply.status) for reply in TABLE.values()}
