"""The dispatcher: table, arity, raw arguments, secrets, the error count, and what ends a dialogue."""

import pytest

from popular.errors import CommandRefused, Gone, Leave, NulByte
from popular.net.wire import Wire
from popular.pop3.command import State, command
from popular.pop3.dialogue import Dialogue
from tests.harness.memory import Conversation


class Echo(State):
    """Answers with its arguments."""

    def __init__(self, wire: Wire, tls: bool = False) -> None:
        self.wire = wire
        self.tls = tls

    @command("ZERO")
    def zero(self) -> None:
        self.wire.reply(True, "zero")

    @command("UPTO", (0, 2), usage="takes at most two words")
    def upto(self, *words: bytes) -> None:
        self.wire.reply(True, repr(list(words)))

    @command("RAW", (1, 1), raw=True, usage="needs a text")
    def raw(self, text: bytes) -> None:
        self.wire.reply(True, repr(text))

    @command("HIDE", (1, 2), secret=True, usage="needs a secret")
    def hide(self, *words: bytes) -> None:
        raise CommandRefused("never", code="AUTH")

    @command("STLS", when=lambda state: state.tls)
    def stls(self) -> None:
        raise Leave("tls")

    @command("QUIT")
    def quit(self) -> None:
        self.wire.reply(True, "bye")
        raise Leave(42)


class More(Echo):
    """Has one command more."""

    @command("MORE")
    def more(self) -> None:
        self.wire.reply(True)


def serve(data: bytes, *, maxerrors: int = 25, tls: bool = False) -> tuple[list[bytes], Conversation, list[str]]:
    """Return the answers to `data`, the ended conversation and what was traced."""
    trace: list[str] = []
    conversation = Conversation(
        lambda wire: Dialogue(wire, maxerrors=maxerrors, trace=trace.append).run(Echo(wire, tls)))
    return conversation.exchange(data).split(b"\r\n")[:-1], conversation, trace


@pytest.mark.parametrize("line, answer", [
    pytest.param(b"ZERO", b"+OK zero", id="plain"),
    pytest.param(b"zErO", b"+OK zero", id="any case"),
    pytest.param(b"ZERO   ", b"+OK zero", id="trailing blanks"),
    pytest.param(b"ZERO \t", b"+OK zero", id="trailing tab"),
    pytest.param(b"ZERO 1", b"-ERR ZERO takes no argument", id="surplus"),
    pytest.param(b"UPTO", b"+OK []", id="none of two"),
    pytest.param(b"UPTO  a   b ", b"+OK [b'a', b'b']", id="two of two"),
    pytest.param(b"UPTO a b c", b"-ERR UPTO takes at most two words", id="three of two"),
    pytest.param(b"RAW  a  b ", b"+OK b' a  b '", id="raw keeps blanks"),
    pytest.param(b"RAW \xe4\xff", b"+OK b'\\xe4\\xff'", id="raw keeps octets"),
    pytest.param(b"RAW  ", b"+OK b' '", id="raw blank"),
    pytest.param(b"RAW ", b"-ERR RAW needs a text", id="raw empty"),
    pytest.param(b"RAW", b"-ERR RAW needs a text", id="raw bare"),
    pytest.param(b"HIDE x", b"-ERR [AUTH] never", id="refused with a code"),
    pytest.param(b"", b"-ERR empty line", id="empty"),
    pytest.param(b"   ", b"-ERR empty line", id="blank"),
    pytest.param(b" ZERO", b"-ERR unknown command", id="leading blank"),
    pytest.param(b"ZERO1", b"-ERR unknown command", id="longer word"),
    pytest.param(b"ZER", b"-ERR unknown command", id="shorter word"),
    pytest.param(b"\xff\xfe", b"-ERR unknown command", id="not ASCII"),
    pytest.param(b"RUN", b"-ERR unknown command", id="a method is no command"),
    pytest.param(b"ZERO\rQUIT", b"-ERR stray CR in command", id="stray CR"),
    pytest.param(b"STLS", b"-ERR unknown command", id="not there now"),
    pytest.param(b"MORE", b"-ERR unknown command", id="of a descendant only"),
    pytest.param(b"Z" * 256, b"-ERR line too long", id="too long"),
    pytest.param(b"ZERO" + b" " * 251, b"+OK zero", id="as long as may be"),
])
def test_one_line_has_one_answer(line: bytes, answer: bytes) -> None:
    answers, _, _ = serve(line + b"\r\nQUIT\r\n")
    assert answers == [answer, b"+OK bye"]


def test_bare_lf_ends_a_line() -> None:
    assert serve(b"ZERO\nQUIT\n")[0] == [b"+OK zero", b"+OK bye"]


def test_run_returns_what_leave_brought() -> None:
    assert serve(b"QUIT\r\n")[1].result == 42


def test_when_is_asked_each_time() -> None:
    assert serve(b"STLS\r\n", tls=True)[1].result == "tls"


def test_a_descendant_inherits_the_table() -> None:
    assert [*More.COMMANDS] == [*Echo.COMMANDS, "MORE"]
    assert not State.COMMANDS


def test_trace_hides_secrets_and_what_is_no_command() -> None:
    _, _, trace = serve(b"hide me not\r\nPASSword\r\nupto me not\r\nraw a  b\xff\r\nHIDE\r\nQUIT\r\n")
    assert trace == ["HIDE ***", "UPTO me not", "RAW a  b\\xff", "QUIT"]


@pytest.mark.parametrize("data, gone", [
    pytest.param(b"", "", id="nothing"),
    pytest.param(b"ZERO\r\n", "", id="after a command"),
    pytest.param(b"QUIT", "", id="unfinished line"),
])
def test_end_of_input_is_gone(data: bytes, gone: str) -> None:
    _, conversation, _ = serve(data)
    assert isinstance(conversation.error, Gone)


def test_spec_1_5_nul_is_answered_by_nothing() -> None:
    answers, conversation, _ = serve(b"ZE\0RO\r\nZERO\r\n")
    assert answers == []
    assert isinstance(conversation.error, NulByte)


def test_too_many_errors_end_the_session_with_one_last_answer() -> None:
    answers, conversation, _ = serve(b"A\r\nZERO\r\nB\r\n\r\nQUIT\r\n", maxerrors=3)
    assert answers == [b"-ERR unknown command", b"+OK zero", b"-ERR unknown command", b"-ERR too many errors"]
    assert str(conversation.error) == "too many errors"


def test_over_long_lines_count_as_errors() -> None:
    answers, _, _ = serve((b"Z" * 10000 + b"\r\n") * 3, maxerrors=2)
    assert answers == [b"-ERR line too long", b"-ERR too many errors"]


def test_errors_are_counted_over_all_states() -> None:
    def serve_two_states(wire: Wire) -> None:
        dialogue = Dialogue(wire, maxerrors=3)
        dialogue.run(Echo(wire))
        dialogue.run(Echo(wire))

    conversation = Conversation(serve_two_states)
    assert conversation.exchange(b"A\r\nA\r\nQUIT\r\nA\r\nQUIT\r\n").count(b"-ERR too many errors") == 1
    assert isinstance(conversation.error, Gone)


def test_an_endless_line_is_gone() -> None:
    answers, conversation, _ = serve(b"Z" * 70000)
    assert answers == []
    assert isinstance(conversation.error, Gone)
