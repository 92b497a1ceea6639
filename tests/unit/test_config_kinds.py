"""Kinds of values: what is accepted, what is refused, and that everything shown can be read again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.config.kinds import (Address, Addresses, Bool, Choice, Dir, File, Files, Float, Id, Int, Kind, Off, String,
                                  Time)

LONG = 10 ** 9


@pytest.mark.parametrize("kind, text, value", [
    pytest.param(Bool(), "1", True, id="bool-1"),
    pytest.param(Bool(), "TRUE", True, id="bool-true"),
    pytest.param(Bool(), " Yes ", True, id="bool-yes"),
    pytest.param(Bool(), "on", True, id="bool-on"),
    pytest.param(Bool(), "0", False, id="bool-0"),
    pytest.param(Bool(), "False", False, id="bool-false"),
    pytest.param(Bool(), "no", False, id="bool-no"),
    pytest.param(Bool(), "OFF", False, id="bool-off"),
    pytest.param(Off(), "off", False, id="off"),
    pytest.param(Off(), "0", False, id="off-0"),
    pytest.param(Int(5, 1024), "5", 5, id="int-low"),
    pytest.param(Int(5, 1024), " 1024 ", 1024, id="int-high"),
    pytest.param(Int(5, 1024), "+007", 7, id="int-zeros"),
    pytest.param(Int(-3, 3), "-3", -3, id="int-negative"),
    pytest.param(Int(0), "999999999999999999", 999999999999999999, id="int-unbounded"),
    pytest.param(Float(0, 100), "3.23", 3.23, id="float"),
    pytest.param(Float(0, 100), "100", 100.0, id="float-whole"),
    pytest.param(Float(0, 100), "1e-3", 0.001, id="float-exponent"),
    pytest.param(String(), "", "", id="string-empty"),
    pytest.param(String(), " a\t# b ", " a\t# b ", id="string-kept"),
    pytest.param(String(3), "äöü", "äöü", id="string-limit"),
    pytest.param(File(), "/var/log/x y", "/var/log/x y", id="file"),
    pytest.param(Dir(), "/", "/", id="dir"),
    pytest.param(Id(), "a_B-c.9", "a_B-c.9", id="id"),
    pytest.param(Id(), "x" * 64, "x" * 64, id="id-64"),
    pytest.param(Choice("cxpop", "xpop"), "CXPOP", "cxpop", id="choice-case"),
    pytest.param(Address(), "10.0.0.5:110", Endpoint("10.0.0.5", 110), id="address"),
    pytest.param(Addresses(), "0.0.0.0:110,[::]:110", (Endpoint("0.0.0.0", 110), Endpoint("::", 110)), id="addresses"),
    pytest.param(Addresses(), "127.0.0.1:0, 127.0.0.1:0", (Endpoint("127.0.0.1", 0),) * 2, id="addresses-kernel"),
    pytest.param(Files(), "/a/b.pem,/c d.pem", ("/a/b.pem", "/c d.pem"), id="files"),
])
def test_spec_1_2_accepted(kind, text, value):
    found = kind.parse(text)
    assert found == value and type(found) is type(value)
    assert kind.parse(kind.show(found)) == found


@pytest.mark.parametrize("kind, text", [
    pytest.param(Bool(), "", id="bool-empty"),
    pytest.param(Bool(), "2", id="bool-2"),
    pytest.param(Bool(), "enabled", id="bool-word"),
    pytest.param(Off(), "on", id="off-on"),
    pytest.param(Off(), "maybe", id="off-word"),
    pytest.param(Int(5, 1024), "", id="int-empty"),
    pytest.param(Int(5, 1024), "10.0", id="int-fraction"),
    pytest.param(Int(5, 1024), "0x10", id="int-hex"),
    pytest.param(Int(5, 1024), "1_0", id="int-underscore"),
    pytest.param(Int(5, 1024), "١٠", id="int-arabic"),
    pytest.param(Int(0), "9" * 5000, id="int-endless"),
    pytest.param(Float(0, 100), "nan", id="float-nan"),
    pytest.param(Float(0, 100), "inf", id="float-inf"),
    pytest.param(String(), "a\nb", id="string-newline"),
    pytest.param(String(), "a\rb", id="string-return"),
    pytest.param(String(), "a\0b", id="string-nul"),
    pytest.param(String(), "a\x85b", id="string-nel"),
    pytest.param(String(), "a\u2028b", id="string-line-separator"),
    pytest.param(String(), "a\udcffb", id="string-not-utf8"),
    pytest.param(String(3), "abcd", id="string-long"),
    pytest.param(File(), "", id="file-empty"),
    pytest.param(File(), "a\0b", id="file-nul"),
    pytest.param(File(), "x" * 5000, id="file-long"),
    pytest.param(Dir(), "/no/such/directory", id="dir-missing"),
    pytest.param(Dir(), "/dev/null", id="dir-file"),
    pytest.param(Dir(), "/\0", id="dir-nul"),
    pytest.param(Id(), "", id="id-empty"),
    pytest.param(Id(), "a b", id="id-space"),
    pytest.param(Id(), "a/b", id="id-slash"),
    pytest.param(Id(), "x" * 65, id="id-65"),
    pytest.param(Id(), "ä", id="id-umlaut"),
    pytest.param(Choice("a", "b"), "c", id="choice"),
    pytest.param(Choice("a", "b"), "", id="choice-empty"),
    pytest.param(Address(), "10.0.0.5", id="address-no-port"),
    pytest.param(Address(), "a:1, b:2", id="address-two"),
    pytest.param(Addresses(), "", id="addresses-empty"),
    pytest.param(Files(), "", id="files-empty"),
    pytest.param(Files(), "/a,", id="files-one-empty"),
    pytest.param(Files(), "a.pem", id="files-relative"),
    pytest.param(Files(), ",".join(["/a"] * 17), id="files-many"),
    pytest.param(Addresses(), "a:1,", id="addresses-comma"),
    pytest.param(Addresses(), "a:1, a:1", id="addresses-twice"),
    pytest.param(Addresses(), ",".join(f"a:{port}" for port in range(1, 1026)), id="addresses-many"),
])
def test_spec_1_2_refused_with_what_is_wanted(kind, text):
    with pytest.raises(ValueError) as caught:
        kind.parse(text)
    assert str(caught.value) == kind.wanted


@pytest.mark.parametrize("kind, text, why", [
    pytest.param(Int(5, 1024), "4", "between 5 and 1024", id="int-below"),
    pytest.param(Int(5, 1024), "1025", "between 5 and 1024", id="int-above"),
    pytest.param(Float(0, 100), "100.1", "between 0 and 100", id="float-above"),
    pytest.param(Float(0, 100), "-0.1", "between 0 and 100", id="float-below"),
    pytest.param(Float(0, 100), "1e999", "between 0 and 100", id="float-overflow"),
    pytest.param(Int(1), "0", "1 or more", id="int-without-end"),
])
def test_what_is_out_of_range_is_told_the_range(kind, text, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        kind.parse(text)


@pytest.mark.parametrize("text, seconds", [
    pytest.param("5d3h10m4s", 5 * 86400 + 3 * 3600 + 10 * 60 + 4, id="example"),
    pytest.param("90", 90, id="bare-number"),
    pytest.param("0", 0, id="zero"),
    pytest.param("500ms", 0.5, id="milliseconds"),
    pytest.param("1m500ms", 60.5, id="minutes-and-milliseconds"),
    pytest.param("4s5d", 4 + 5 * 86400, id="any-order"),
    pytest.param(" 2m ", 120, id="spaces-around"),
])
def test_spec_1_2_time(text, seconds):
    found = Time(0, LONG).parse(text)
    assert found == seconds and type(found) is float


@pytest.mark.parametrize("text", ["", "-1", "-5d", "5d-3h", "5-", "d", "5x", "1h30", "5 h 4", "9" * 30, "1 week",
                                  "1e3", "5ｄ", "٣s", "1s" * 1000, "1 hour " * 1000])
def test_spec_1_2_time_refused(text):
    with pytest.raises(ValueError, match="^a time from 0s to 1d such as 5d3h10m4s$"):
        Time(0, 86400).parse(text)


@pytest.mark.parametrize("text, meant", [
    ("1 hour", "1h"), ("10 minutes", "10m"), ("1.5s", "1s500ms"), ("5D", "5d"), ("2h 30m", "2h30m"),
    ("90 sec", "1m30s"),
    ("1 day, 2 hours and 5 min", "1d2h5m"), ("250 msec", "250ms"), ("1.5h", "1h30m")])
def test_a_time_in_other_words_is_told_how_to_be_written(text, meant):
    with pytest.raises(ValueError, match=f"^a time; write {meant}$"):
        Time(0, 10 * 86400).parse(text)


def test_time_keeps_its_bounds():
    kind = Time(0.1, 3600)
    assert kind.parse("100ms") == 0.1 and kind.parse("1h") == 3600
    for text in ("99ms", "1h1ms", "3601"):
        with pytest.raises(ValueError, match="^between 100ms and 1h$"):
            kind.parse(text)


@settings(deadline=None)
@given(st.integers(min_value=0, max_value=10 ** 13))
def test_time_shown_is_read_again(milliseconds):
    kind = Time(0, 10 ** 10)
    assert kind.parse(kind.show(milliseconds / 1000)) == milliseconds / 1000


@settings(deadline=None)
@given(st.floats(min_value=-1e12, max_value=1e12))
def test_float_shown_is_read_again(value):
    kind = Float(-1e12, 1e12)
    assert kind.parse(kind.show(value)) == value


@settings(deadline=None)
@given(st.integers(min_value=-10 ** 17, max_value=10 ** 17))
def test_int_shown_is_read_again(value):
    kind = Int(-10 ** 17, 10 ** 17)
    assert kind.parse(kind.show(value)) == value


@settings(deadline=None)
@given(st.text(max_size=60))
def test_string_takes_a_text_whole_or_not_at_all(text):
    try:
        assert String().parse(text) == text
    except ValueError:
        assert len(text.splitlines()) > 1 or not text.isprintable()
    else:
        assert len(text.splitlines()) <= 1 and "\0" not in text


HOSTS = st.ip_addresses().map(str) | st.sampled_from(["store1", "mx.example.org", "a-b_c.d"])
ENDPOINTS = st.builds(Endpoint, HOSTS, st.integers(0, 65535))


@settings(deadline=None)
@given(st.lists(ENDPOINTS, min_size=1, max_size=5, unique=True))
def test_addresses_shown_are_read_again(endpoints):
    kind = Addresses()
    assert kind.parse(kind.show(tuple(endpoints))) == tuple(endpoints)
    assert Address().parse(Address().show(endpoints[0])) == endpoints[0]


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_makes_a_kind_raise_anything_else(text):
    kinds: tuple[Kind, ...] = (Bool(), Int(0, 9), Float(0, 9), String(), File(), Dir(), Id(), Time(0, 9),
                               Choice("a", "b"), Address(), Addresses())
    for kind in kinds:
        try:
            value = kind.parse(text)
        except ValueError:
            continue
        assert kind.parse(kind.show(value)) == value
