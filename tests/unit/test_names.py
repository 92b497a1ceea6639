"""Which names are well-formed, and text cleaned for a POP3 line."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.names import MAX_MAILBOX, MAX_RESPONSE, clean_line, is_id, is_mailbox, is_sid


@pytest.mark.parametrize("text, good", [
    pytest.param("pproxy", True, id="word"),
    pytest.param("a_B-c.9", True, id="all-signs"),
    pytest.param("x" * 64, True, id="longest"),
    pytest.param("x" * 65, False, id="too-long"),
    pytest.param("", False, id="empty"),
    pytest.param("a b", False, id="space"),
    pytest.param("a:b", False, id="colon"),
    pytest.param("a/b", False, id="slash"),
    pytest.param("a\n", False, id="line-end"),
    pytest.param("é", False, id="letter-of-another-alphabet"),
    pytest.param("٣", False, id="digit-of-another-script"),
])
def test_spec_1_2_id(text, good):
    assert is_id(text) is good


@pytest.mark.parametrize("text, good", [
    pytest.param("p1-040821121929-4712", True, id="proxy"),
    pytest.param("p1-040821121929-4712.2", True, id="second-session"),
    pytest.param("a:b_c", True, id="signs"),
    pytest.param("x" * 64, True, id="longest"),
    pytest.param("x" * 65, False, id="too-long"),
    pytest.param("", False, id="empty"),
    pytest.param("a b", False, id="space"),
    pytest.param("a'b", False, id="quote"),
    pytest.param("a\r", False, id="return"),
])
def test_session_id(text, good):
    assert is_sid(text) is good


@pytest.mark.parametrize("name, good", [
    pytest.param("3/2d/joe.doe", True, id="manual"),
    pytest.param("aZ09._-+/=%", True, id="all-signs"),
    pytest.param("x" * MAX_MAILBOX, True, id="longest"),
    pytest.param("x" * (MAX_MAILBOX + 1), False, id="too-long"),
    pytest.param("", False, id="empty"),
    pytest.param("..", False, id="dots"),
    pytest.param("a/../b", False, id="dots-inside"),
    pytest.param("a..b", False, id="dots-in-a-word"),
    pytest.param("/etc", False, id="absolute"),
    pytest.param("joe doe", False, id="space"),
    pytest.param("joe@example.org", False, id="at"),
    pytest.param("joe\n", False, id="line-end"),
    pytest.param("joe\0", False, id="nul"),
    pytest.param("jöe", False, id="umlaut"),
    pytest.param("~joe", False, id="tilde"),
    pytest.param("a\\b", False, id="backslash"),
])
def test_spec_2_4_mailbox_name(name, good):
    assert is_mailbox(name) is good


@settings(deadline=None)
@given(st.text(max_size=30))
def test_spec_2_4_a_mailbox_has_no_other_signs(name):
    wanted = bool(name) and all(char.isascii() and (char.isalnum() or char in "._-+/=%") for char in name)
    assert is_mailbox(name) is (wanted and ".." not in name and not name.startswith("/"))


@pytest.mark.parametrize("raw, line", [
    pytest.param(b"-ERR [AUTH] no\r\n", "-ERR [AUTH] no", id="plain"),
    pytest.param(b"a\0\1\x7fb\xff", "a?b?", id="unprintable"),
    pytest.param(b"a\r\n+OK forged\r\n", "a?+OK forged", id="second-line"),
    pytest.param(b"", "", id="empty"),
    pytest.param(b"x" * 1000, "x" * MAX_RESPONSE, id="cut"),
])
def test_clean_line(raw, line):
    assert clean_line(raw) == line


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 50))
def test_clean_line_is_short_and_printable(raw, limit):
    line = clean_line(raw, limit)
    assert len(line) <= limit and line.isascii() and (not line or line.isprintable())
