"""Answers on the wire: what is written is what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.control.answer import ControlAnswer, parse_end, unstuffed


def read(octets: bytes) -> tuple[bool, str, list[str]]:
    """Read one answer as a client does."""
    lines = octets.decode().split("\n")
    assert lines.pop() == ""
    end = parse_end(lines.pop())
    assert end is not None
    assert not any(parse_end(line) for line in lines)
    return *end, [unstuffed(line) for line in lines]


@pytest.mark.parametrize(("answer", "octets"), [
    pytest.param(ControlAnswer(True), b"+OK\n", id="nothing"),
    pytest.param(ControlAnswer(True, "done"), b"+OK done\n", id="text"),
    pytest.param(ControlAnswer(False, "no"), b"-ERR no\n", id="refusal"),
    pytest.param(ControlAnswer(True, "", ("a", "+OK b", "-ERR", ".", "..c")),
                 b"a\n.+OK b\n.-ERR\n..\n...c\n+OK\n", id="dots"),
    pytest.param(ControlAnswer(True, "a\nb", ("c\n+OK d",)), b"c\n.+OK d\n+OK a b\n", id="line ends inside"),
    pytest.param(ControlAnswer.refusal("one\ntwo\nthree"), b"one\ntwo\n-ERR three\n", id="refusal of lines"),
    pytest.param(ControlAnswer.refusal(""), b"-ERR refused\n", id="refusal of nothing"),
    pytest.param(ControlAnswer(True, "", ("\udcff",)), b"\\udcff\n+OK\n", id="no UTF-8"),
])
def test_an_answer_is_written(answer, octets):
    assert answer.render() == octets


@pytest.mark.parametrize("line", ["+OKAY", "-ERROR", "OK", "", ".+OK", " +OK"])
def test_other_lines_end_no_answer(line):
    assert parse_end(line) is None


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)


LINE = st.one_of(TEXT, st.sampled_from(["+OK", "-ERR x", ".", "..", "+OK "]))


@given(st.booleans(), TEXT, st.lists(LINE, max_size=5))
def test_what_is_written_is_read(ok, text, lines):
    assert read(ControlAnswer(ok, text, tuple(lines)).render()) == (ok, text, lines)
