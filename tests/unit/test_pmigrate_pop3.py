"""POP3 servers as sources of pmigrate: what is said to them, and what becomes of whatever they answer."""

from collections.abc import Sequence
from contextlib import closing

import pytest

from popular.store.lineends import BLOCK, wire_blocks
from popular.tools.pmigrate.sources import pop3
from popular.tools.pmigrate.sources.pop3 import Pop3Login, Pop3Source, Pop3Server
from popular.tools.pmigrate.sources.source import Cut, SourceError
from tests.harness.fake_backend import Close, Expect, FakeBackend, HalfClose, ReadToEnd, Reset, Say, Step

LOGIN = Pop3Login("joe", "secret")
AT_LOGIN: list[Step] = [Say(b"+OK hello\r\n"), Expect(b"CAPA\r\n"), Say(b"+OK\r\nUSER\r\nUIDL\r\n.\r\n"),
                        Expect(b"USER joe\r\n"), Say(b"+OK\r\n"), Expect(b"PASS secret\r\n"), Say(b"+OK\r\n")]
AT_END: list[Step] = [Expect(b"RSET\r\n"), Say(b"+OK\r\n"), Expect(b"QUIT\r\n"), Say(b"+OK\r\n"), ReadToEnd()]


def asked(*pairs: tuple[bytes, bytes]) -> list[Step]:
    """Return the steps of a server that is asked for something and answers."""
    return [step for line, answer in pairs for step in (Expect(line + b"\r\n"), Say(answer))]


def source_of(fake: FakeBackend, scheme: str = "pop3", login: Pop3Login | None = LOGIN,
              mailbox: str = "") -> Pop3Source:
    return Pop3Source(Pop3Server(scheme, fake.endpoint, 10.0, is_cleartext=True), login, mailbox)


def test_a_session() -> None:
    steps = asked((b"LIST", b"+OK\r\n1 120\r\n2 30\r\n3 7\r\n.\r\n"),
                  (b"UIDL", b"+OK\r\n1 a\r\n2 ..b\r\n3 c d\r\n.\r\n"),
                  (b"LAST", b"+OK 2\r\n"), (b"RETR 2", b"+OK 30\r\nA: b\r\n\r\n..x\r\n.\r\n"))
    with FakeBackend([*AT_LOGIN, *steps, *AT_END]) as fake:
        with closing(source_of(fake)) as source:
            messages = list(source.messages())
            with source.open(messages[1]) as octets:
                assert b"".join(wire_blocks(octets)) == b"A: b\r\n\r\n.x\r\n"
            assert (source.remarks(), source.title) == ([], f"joe at pop3://{fake.endpoint}")
        fake.result()
    assert [(message.place, message.uid, message.size, message.is_read) for message in messages] == [
        ("1", "a", 120, True), ("2", "..b", 30, True), ("3", "c", 7, False)]


def test_a_server_that_knows_less() -> None:
    steps = asked((b"LIST", b"+OK\r\n1 120\r\n.\r\n"), (b"UIDL", b"-ERR what?\r\n"), (b"LAST", b"-ERR what?\r\n"))
    bare = [Say(b"+OK\r\n"), *asked((b"CAPA", b"-ERR what?\r\n")), *AT_LOGIN[3:]]
    with FakeBackend([*bare, *steps, *AT_END]) as fake:
        with closing(source_of(fake)) as source:
            assert [(message.uid, message.is_read) for message in source.messages()] == [(None, False)]
            assert source.remarks() == [f"the server tells no unique ids: pop3://{fake.endpoint}: what?"]
        fake.result()


def test_a_server_without_user() -> None:
    steps = asked((b"CAPA", b"+OK\r\nSASL LOGIN PLAIN\r\n.\r\n"), (b"AUTH PLAIN", b"+ \r\n"),
                  (b"AGpvZQBzZWNyZXQ=", b"+OK\r\n"))
    with FakeBackend([Say(b"+OK\r\n"), *steps, *AT_END]) as fake:
        source_of(fake).close()
        fake.result()


def test_xpop() -> None:
    with FakeBackend([Expect(b"a/joe\r\npmigrate-"), Say(b"+OK\r\n"), Expect(b"")]) as fake:
        source = source_of(fake, "xpop", None, "a/joe")
        assert source.title == f"xpop://{fake.endpoint}/a/joe"
        source.close()
        assert fake.sessions[0].received.splitlines()[2] == b"MR"    # a master session, for a mailbox that exists


@pytest.mark.parametrize("sent, wanted", [
    (b".\r\n", b""), (b"a\r\n.\r\n", b"a\r\n"), (b"a\r\n..\r\n.\r\n", b"a\r\n.\r\n"),
    (b"a\n.\r\nb\r\n.\r\n", b"a\n.\r\nb\r\n"),
    (b"a\r\n...b\r\n.c\r\n.\r\n", b"a\r\n..b\r\nc\r\n"), (b"a\r.\r\n.\r\n", b"a\r.\r\n"),
    *[(b"x" * length + b"\r\n.." + b"y" * BLOCK + b"\r\n.\r\n", b"x" * length + b"\r\n." + b"y" * BLOCK + b"\r\n")
      for length in range(BLOCK - 5, BLOCK + 1)]])
def test_the_text_of_a_message(sent: bytes, wanted: bytes) -> None:
    steps = asked((b"LIST", b"+OK\r\n1 1\r\n.\r\n"), (b"UIDL", b"+OK\r\n1 a\r\n.\r\n"), (b"LAST", b"-ERR\r\n"),
                  (b"RETR 1", b"+OK\r\n" + sent))
    with FakeBackend([*AT_LOGIN, *steps, *AT_END]) as fake, closing(source_of(fake)) as source:
        [message] = source.messages()
        with source.open(message) as octets:
            assert b"".join(iter(lambda: octets.read(1000) or b"", b"")) == wanted


@pytest.mark.parametrize("steps, kind, text", [
    ([Say(b"-ERR [SYS/TEMP] soon\r\n")], Cut, r"\[SYS/TEMP\] soon"),
    ([Say(b"-ERR go away\r\n")], SourceError, "go away"),
    ([Say(b"-ERR\r\n")], SourceError, "refuses without a reason"),
    ([Say(b"-ERR \x1b[2J\xff\r\n")], SourceError, r"\\x1b\[2J\\udcff"),
    ([Say(b"SSH-2.0-x\r\n")], SourceError, "SSH-2.0-x"),
    ([Close()], Cut, "has closed the connection"), ([Reset()], Cut, "reset by peer|has closed"),
    ([Say(b"+OK" * 1000), ReadToEnd()], SourceError, "too long"),
    ([*AT_LOGIN[:-1], Say(b"-ERR [IN-USE] locked\r\n")], Cut, "locked"),
    ([*AT_LOGIN[:-1], Say(b"-ERR [AUTH] wrong\r\n")], SourceError, "wrong"),
    ([*AT_LOGIN[:1], *asked((b"CAPA", b"+OK\r\n" + b"X\r\n" * 300)), ReadToEnd()], SourceError, "more than 200 lines"),
])
def test_refusals(steps: Sequence[Step], kind: type[Exception], text: str) -> None:
    with FakeBackend(steps) as fake, pytest.raises(SourceError, match=text) as caught:
        source_of(fake)
    assert caught.type is kind or kind is SourceError and not isinstance(caught.value, Cut)
    assert "secret" not in str(caught.value)


def test_nobody_there() -> None:
    with FakeBackend([]) as fake:
        pass
    with pytest.raises(Cut, match="refused"):
        source_of(fake)


def test_no_password_without_tls() -> None:
    with FakeBackend(AT_LOGIN) as fake, pytest.raises(SourceError, match="no password is sent; --cleartext"):
        Pop3Source(Pop3Server("pop3", fake.endpoint), LOGIN)


@pytest.mark.parametrize("login", [Pop3Login("joe\r\nDELE 1", "x"), Pop3Login("joe", "a\nb"), Pop3Login("j\0e", "x")])
def test_a_login_that_would_be_more_lines(login: Pop3Login) -> None:
    with FakeBackend(AT_LOGIN) as fake, pytest.raises(SourceError, match="one line each"):
        source_of(fake, login=login)


@pytest.mark.parametrize("word, answer, text", [
    (b"LIST", b"+OK\r\n" + b"1 1\r\n" * 12, "more than 10 lines"), (b"LIST", b"+OK\r\n1 1\r\n", "has closed"),
    (b"LIST", b"-ERR no\r\n", "no")])
def test_a_list_without_end(monkeypatch: pytest.MonkeyPatch, word: bytes, answer: bytes, text: str) -> None:
    monkeypatch.setattr(pop3, "MAX_MESSAGES", 10)
    with FakeBackend([*AT_LOGIN, *asked((word, answer)), HalfClose(), ReadToEnd()]) as fake:
        with closing(source_of(fake)) as source, pytest.raises(SourceError, match=text):
            list(source.messages())


def test_lines_of_lists_that_make_no_sense() -> None:
    steps = asked((b"LIST", b"+OK\r\nx 1\r\n1\r\n2 -5\r\n3 9\r\n\xff\r\n9999999999 1\r\n.\r\n"),
                  (b"UIDL", b"+OK\r\n3\r\n3 \xff\r\n.\r\n"), (b"LAST", b"+OK many\r\n"))
    with FakeBackend([*AT_LOGIN, *steps, *AT_END]) as fake, closing(source_of(fake)) as source:
        assert [(message.place, message.uid) for message in source.messages()] == [("3", "\udcff")]


def test_a_connection_that_is_cut_within_a_message() -> None:
    steps = asked((b"LIST", b"+OK\r\n1 1\r\n2 1\r\n.\r\n"), (b"UIDL", b"+OK\r\n1 a\r\n.\r\n"), (b"LAST", b"-ERR\r\n"),
                  (b"RETR 1", b"-ERR damaged\r\n"), (b"RETR 2", b"+OK\r\nhalf of it"))
    with FakeBackend([*AT_LOGIN, *steps, HalfClose(), ReadToEnd()]) as fake, closing(source_of(fake)) as source:
        one, two = source.messages()
        with pytest.raises(SourceError, match="damaged"), source.open(one):
            pass
        with pytest.raises(Cut, match="has closed"), source.open(two) as octets:
            b"".join(wire_blocks(octets))
        with pytest.raises(Cut, match="was not read to its end"), source.open(one):
            pass
