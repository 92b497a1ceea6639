"""Whatever octets a client sends, a state answers, leaves or is Gone; nothing else ever comes out."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from popular.errors import Gone, LoginRefused
from popular.net.wire import Wire
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.pop3.transaction import TransactionState
from popular.pop3.xpop import read_preamble
from tests.harness.mailboxes import MAILBOXES
from tests.harness.memory import Conversation, MemoryMaildrop

WORDS = [b"USER", b"PASS", b"STAT", b"LIST", b"RETR", b"TOP", b"DELE", b"UIDL", b"RSET", b"CAPA", b"LAST", b"NOOP"]
NUMBERS = [b"0", b"1", b"2", b"3", b"-1", b"01", b"99999999999", b"", b" ", b"\t", b"x", b"\xff"]

line_ends = some.sampled_from([b"\r\n", b"\n", b"\r", b""])
likely = some.tuples(some.sampled_from(WORDS), some.lists(some.sampled_from(NUMBERS), max_size=3), line_ends).map(
    lambda parts: b" ".join([parts[0], *parts[1]]) + parts[2])
streams = some.lists(some.one_of(likely, some.binary(max_size=400)), max_size=12).map(b"".join)


def authorization(wire: Wire) -> None:
    Dialogue(wire, maxerrors=25).run(AuthorizationState(wire))


def transaction(wire: Wire) -> None:
    Dialogue(wire, maxerrors=25).run(TransactionState(wire, MemoryMaildrop(MAILBOXES["two"])))


@pytest.mark.parametrize("serve", [authorization, transaction])
@settings(deadline=None)
@given(stream=streams)
def test_a_state(serve: Callable[[Wire], None], stream: bytes) -> None:
    conversation = Conversation(serve)
    said = conversation.exchange(stream)      # raises what is not Gone
    assert said == b"" or said.startswith((b"+OK", b"-ERR")) and said.endswith(b"\r\n")
    assert all(line.isascii() for line in said.split(b"\r\n"))


@settings(deadline=None)
@given(stream=some.one_of(streams, some.lists(some.text(max_size=20).map(str.encode), max_size=4).map(b"\n".join)))
def test_the_preamble(stream: bytes) -> None:
    conversation = Conversation(read_preamble)
    try:
        conversation.exchange(stream)
    except LoginRefused as why:
        assert why.code == "SYS/PERM" and why.why.isascii() and why.why.isprintable()
    else:
        assert conversation.result is not None or isinstance(conversation.error, Gone)
