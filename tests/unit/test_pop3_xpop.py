"""The XPOP preamble, both ends (spec 8.1)."""

import pytest

from popular.errors import Gone, LoginRefused, NulByte
from popular.pop3.xpop import Preamble, preamble_lines, read_preamble
from tests.harness.memory import Conversation

SID = b"p1-0408211219-4712"


def read(data: bytes) -> Conversation:
    """Return the ended conversation of a server that reads a preamble out of `data`."""
    conversation = Conversation(read_preamble)
    conversation.exchange(data)
    return conversation


@pytest.mark.parametrize("mailbox, flags, master", [
    pytest.param("3/2d/joe.doe", "", False, id="the manual's"),
    pytest.param("joe", "M", True, id="master"),
    pytest.param("joe", "XYZ", False, id="unknown flags"),
    pytest.param("joe", "XMY", True, id="master among others"),
    pytest.param("joe", "m", False, id="flags have a case"),
    pytest.param("joe", "X" * 16, False, id="many flags"),
    pytest.param("a" * 512, "", False, id="long name"),
    pytest.param("a+b%c=d_e-f.g", "", False, id="all letters"),
    pytest.param("list", "", False, id="a mailbox called list"),
])
def test_spec_8_1_three_lines(mailbox: str, flags: str, master: bool) -> None:
    result = read(b"%b\r\n%b\r\n%b\r\n" % (mailbox.encode(), SID, flags.encode())).result
    assert isinstance(result, Preamble)
    assert result == Preamble(mailbox, SID.decode(), frozenset(flags))
    assert result.master is master


@pytest.mark.parametrize("lines, text, why", [
    pytest.param(b"/joe", "bad mailbox name", "/joe", id="spec 8.1: leading slash"),
    pytest.param(b"../joe", "bad mailbox name", "../joe", id="spec 8.1: dots"),
    pytest.param(b"a/..", "bad mailbox name", "a/..", id="dots at the end"),
    pytest.param(b"", "bad mailbox name", "", id="empty name"),
    pytest.param(b"jo\xc3\xa9", "bad mailbox name", "jo?", id="not ASCII"),
    pytest.param(b"j\xb2", "bad mailbox name", "j?", id="a Latin-1 digit"),
    pytest.param(b"a\rb", "bad mailbox name", "a?b", id="CR in the name"),
    pytest.param(b"a" * 513, "mailbox name too long", "line too long", id="long name"),
    pytest.param(b"USER joe", "this port speaks XPOP, not POP3", "USER joe", id="POP3"),
    pytest.param(b"CAPA", "this port speaks XPOP, not POP3", "CAPA", id="POP3 without argument"),
    pytest.param(b"joe\r\n", "bad session id", "", id="no id"),
    pytest.param(b"joe\r\na b", "bad session id", "a b", id="bad id"),
    pytest.param(b"joe\r\n" + b"s" * 65, "bad session id", "s" * 65, id="long id"),
    pytest.param(b"joe\r\n" + b"s" * 600, "session id too long", "line too long", id="very long id"),
    pytest.param(b"joe\r\n%b\r\n" % SID + b"X" * 17, "bad flags", "X" * 17, id="many flags"),
    pytest.param(b"joe\r\n%b\r\nM M" % SID, "bad flags", "M M", id="blank flag"),
    pytest.param(b"joe\r\n%b\r\n\xe4" % SID, "bad flags", "?", id="flag not ASCII"),
])
def test_refused_at_the_line_that_is_wrong(lines: bytes, text: str, why: str) -> None:
    # Without more lines behind it: the refusal must not wait for them.
    conversation = Conversation(read_preamble)
    conversation.sock.sendall(lines + b"\r\n")
    assert conversation.sock.recv(1) == b""      # the server function ended
    with pytest.raises(LoginRefused) as caught:
        conversation.end()
    assert (caught.value.code, caught.value.text) == ("SYS/PERM", text)
    assert why in caught.value.why


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="nothing"),
    pytest.param(b"joe\r\n", id="one line"),
    pytest.param(b"joe\r\nsid\r\nM", id="unfinished"),
])
def test_end_of_input_is_gone(data: bytes) -> None:
    assert isinstance(read(data).error, Gone)


def test_spec_1_5_nul() -> None:
    assert isinstance(read(b"jo\0e\r\nsid\r\n\r\n").error, NulByte)


def test_the_limit_of_command_lines_comes_back() -> None:
    conversation = read(b"joe\r\nsid\r\n\r\n")
    assert conversation.wire.maxline == 255


def test_what_follows_stays_in_the_wire() -> None:
    conversation = Conversation(lambda wire: (read_preamble(wire), wire.readline()))
    conversation.exchange(b"joe\r\nsid\r\n\r\nSTAT\r\n")
    assert conversation.result == (Preamble("joe", "sid", frozenset()), b"STAT")


@pytest.mark.parametrize(("master", "missing", "flags"), [
    (False, "", ""), (True, "", "M"), (False, "empty", "E"), (False, "create", "C"), (True, "refuse", "MR")])
def test_the_two_ends_agree(master: bool, missing: str, flags: str) -> None:
    result = read(preamble_lines("3/2d/joe.doe", SID.decode(), master, missing)).result
    assert result == Preamble("3/2d/joe.doe", SID.decode(), frozenset(flags))
    assert (result.master, result.missing) == (master, missing)


def test_spec_8_1_the_lines_of_the_manual() -> None:
    assert preamble_lines("3/2d/joe.doe", "p1-0408211219-4712", False) == b"3/2d/joe.doe\r\np1-0408211219-4712\r\n\r\n"


@pytest.mark.parametrize("mailbox, sid", [
    pytest.param("/joe", "sid", id="absolute"),
    pytest.param("joe\r\nother", "sid", id="two lines"),
    pytest.param("joe", "sid\r\n", id="line end in the id"),
    pytest.param("joe", "", id="no id"),
])
def test_nothing_ill_formed_is_sent(mailbox: str, sid: str) -> None:
    with pytest.raises(ValueError):
        preamble_lines(mailbox, sid, False)
