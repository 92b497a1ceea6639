"""log.jsonline: one JSON object a line, which no value can leave, and in which none can pose as another."""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.log.jsonline import FORMS, json_line, json_text, json_value
from popular.log.line import MAX_LOG_LINE, MAX_VALUE
from popular.log.message import ADM, Event, Message

KEYS = ["time", "host", "program", "pid", "session", "level", "number", "name", "fields"]
MOMENT = 1093083569.25    # 21 August 2004, 10:19:29.25 UTC


def event(*fields: tuple[str, object], sid: str = "p1-040821121929-4712", name: str = "null_byte_in_input") -> Event:
    """Return the event of the manual's example with other fields."""
    return Event(MOMENT, "mx1", "pproxy", 4711, sid, Message(0x35, ADM, name, "", ""), dict(fields))


def read(octets: bytes) -> Any:
    """Read a line as a strict program would: one object, no doubled keys, no constants that JSON does not have."""
    def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
        return dict(pairs)

    assert re.fullmatch(rb"[ -~]*\n", octets), "not one line of ASCII"
    assert not re.search(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])", octets), "half a surrogate pair"
    return json.loads(octets, object_pairs_hook=each_once, parse_constant=pytest.fail)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A process whose time zone can be set."""
    yield monkeypatch
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("name", "stamp"), [
    ("UTC", "2004-08-21T10:19:29.250+00:00"),
    ("CET-1CEST,M3.5.0,M10.5.0", "2004-08-21T12:19:29.250+02:00"),
    ("XYZ-5:45", "2004-08-21T16:04:29.250+05:45"),
    ("XYZ+3:30", "2004-08-21T06:49:29.250-03:30"),
])
def test_the_keys_and_what_they_hold(zone: pytest.MonkeyPatch, name: str, stamp: str) -> None:
    zone.setenv("TZ", name)
    time.tzset()
    octets = json_line(event(("ctx", "client"), ("len", 12), ("data", b"USER \0")))
    found = read(octets)
    assert found == {
        "time": stamp, "host": "mx1", "program": "pproxy", "pid": 4711, "session": "p1-040821121929-4712",
        "level": "ADM", "number": "0035", "name": "null_byte_in_input",
        "fields": {"ctx": "client", "len": 12, "data": "USER \0"}}
    assert list(found) == KEYS
    assert json_text(event()) + b"\n" == json_line(event())


@pytest.mark.parametrize(("thing", "wanted"), [
    pytest.param("plain", "plain", id="string"),
    pytest.param(b"octets", "octets", id="bytes"),
    pytest.param('say "no"', 'say "no"', id="quotes"),
    pytest.param("a\\b", r"a\x5cb", id="backslash"),
    pytest.param("a\r\n\0", "a\r\n\0", id="control"),
    pytest.param("Zoë", "Zoë", id="text"),
    pytest.param("Zoë".encode(), "Zoë", id="utf-8 octets"),
    pytest.param(b"Zo\xeb", r"Zo\xeb", id="latin-1 octets"),
    pytest.param(b"Zo\xeb".decode("utf-8", "surrogateescape"), r"Zo\xeb", id="surrogate-escaped"),
    pytest.param("\ud800", r"\xed\xa0\x80", id="lone surrogate"),
    pytest.param(12, 12, id="int"),
    pytest.param(True, True, id="true"),
    pytest.param(None, None, id="none"),
    pytest.param(1.23456, 1.235, id="float"),
    pytest.param(math.nan, None, id="nan"),
    pytest.param(-math.inf, None, id="infinity"),
    pytest.param({"auth": 0.12345, "relay": 2.0}, {"auth": 0.123, "relay": 2.0}, id="mapping"),
    pytest.param(KeyError("x"), "'x'", id="anything else"),
])
def test_value(thing: object, wanted: object) -> None:
    found = read(json_line(event(("value", thing))))["fields"]["value"]
    assert (type(found), found) == (type(wanted), wanted)


def test_a_number_that_python_will_not_write_in_decimal() -> None:
    assert str(json_value(1 << 100_000)).startswith("0x1000")
    assert str(json_value(-(1 << 100_000))).startswith("-0x1000")


@pytest.mark.parametrize("thing", [
    pytest.param("x" * 10_000_000, id="long"),
    pytest.param(b"x" * 10_000_000, id="long bytes"),
    pytest.param(b"\xff" * 500, id="no text"),
    pytest.param("\\" * 500, id="backslashes"),
    pytest.param("\u20ac" * 201, id="one too many"),
    pytest.param(("\U0001f600" * 201).encode(), id="four octets each"),
])
def test_long_values_are_cut_and_say_so(thing: object) -> None:
    text = str(json_value(thing))
    assert MAX_VALUE - 4 <= len(text) <= MAX_VALUE
    assert text.endswith("...")
    assert not re.search(r"\\(?!x[0-9a-f]{2})", text), "an escape was cut in two"


def test_a_value_of_the_full_length_stays_whole() -> None:
    assert json_value("€" * MAX_VALUE) == json_value(("€" * MAX_VALUE).encode()) == "€" * MAX_VALUE


@pytest.mark.parametrize("text", ["\0", "\U0001f600", "x"])
def test_a_line_with_many_long_fields_keeps_them_all(text: str) -> None:
    fields = [(f"f{number}", text * 1000) for number in range(60)]
    octets = json_line(event(*fields))
    assert len(octets) <= MAX_LOG_LINE
    assert list(read(octets)["fields"]) == [name for name, _ in fields]


def test_a_line_that_nothing_makes_short_enough_is_still_an_object() -> None:
    octets = json_line(event(*[(f"field{number}", "x" * 50) for number in range(500)], sid="s" * 10_000))
    assert len(octets) <= MAX_LOG_LINE
    assert list(read(octets)) == KEYS


FORGERIES = ['"}\n{"level":"SOS"}', '","level":"SOS', "\\", '\\"', "\u2028", "\x85", "\x1b[2J"]
HOSTILE = (st.text(st.characters(), max_size=300) | st.binary(max_size=300) | st.sampled_from(FORGERIES)
           | st.integers() | st.floats() | st.booleans() | st.none() | st.dictionaries(st.text(), st.floats()))
NAMES = st.sampled_from(["user", "why", "level", "name", "session", "number"])


@settings(deadline=None)
@given(st.dictionaries(NAMES, HOSTILE), st.text(), st.text())
def test_no_value_forges_a_line_or_a_field(fields: dict[str, object], sid: str, name: str) -> None:
    found = read(json_line(event(*fields.items(), sid=sid, name=name)))
    assert list(found) == KEYS
    assert list(found["fields"]) == list(fields)
    assert (found["level"], found["number"]) == ("ADM", "0035")


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_short_octets_can_be_read_back_from_the_line(data: bytes) -> None:
    text = str(json_value(data))
    back = b"".join(bytes([int(part[2:], 16)]) if part.startswith("\\") else part.encode()
                    for part in re.findall(r"\\x..|[^\\]", text, re.DOTALL))
    assert back == data
    assert json_value(data.decode("utf-8", "surrogateescape")) == json_value(data)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, HOSTILE), max_size=8))
def test_what_syslog_is_given_is_one_line_in_every_form(fields: list[tuple[str, object]]) -> None:
    for form in FORMS.values():
        text = form.text(event(*fields))
        assert re.fullmatch(rb"[ -~]+", text)
        assert len(text) < MAX_LOG_LINE <= os.pathconf("/", "PC_PIPE_BUF")
