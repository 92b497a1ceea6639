"""The kind Lines: several lines of text on one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.config.lines import Lines

KIND = Lines(100)


@pytest.mark.parametrize(("value", "text"), [
    pytest.param((), "", id="none"),
    pytest.param(("TOP",), "TOP", id="one"),
    pytest.param(("TOP", "UIDL"), r"TOP\nUIDL", id="two"),
    pytest.param(("",), r"\n", id="an empty one"),
    pytest.param(("a", ""), r"a\n\n", id="an empty last one"),
    pytest.param(("\\n",), r"\\n", id="backslash"),
    pytest.param(("é\t\udcff",), r"\xc3\xa9\x09\xff", id="octets"),
])
def test_lines_are_written_on_one(value, text):
    assert KIND.show(value) == text
    assert KIND.parse(text) == value


@pytest.mark.parametrize("text", [
    pytest.param("\\", id="half an escape"), pytest.param("\\t", id="unknown"), pytest.param("\\xFF", id="capitals"),
    pytest.param("\\x0", id="short"), pytest.param("a\nb", id="a real line end"), pytest.param("é", id="not ASCII"),
    pytest.param("a\\x00", id="NUL"), pytest.param("a\\x0a", id="LF"), pytest.param("x" * 99, id="too long"),
    pytest.param("\\n" * 51, id="too many")])
def test_what_is_no_lines_is_refused(text):
    with pytest.raises(ValueError, match="lines separated by"):
        KIND.parse(text)


def test_a_closing_separator_may_be_missing():
    assert KIND.parse(r"a\nb\n") == KIND.parse(r"a\nb") == ("a", "b")


OCTETS = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\0\n").decode("utf-8", "surrogateescape"))


@given(st.lists(OCTETS, max_size=4))
def test_what_is_shown_is_read(lines):
    assert KIND.parse(KIND.show(tuple(lines))) == tuple(lines)
    assert KIND.show(tuple(lines)).isascii() and KIND.show(tuple(lines)).isprintable() or not lines
