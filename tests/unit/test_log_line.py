"""log.line: how values look in a log line, and that none can forge a line or a field."""

import enum
import re
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.log.line import MAX_LOG_LINE, MAX_VALUE, line, value, word

FIELD = re.compile(r" ([a-z_]+)=('[ -&(-\[\]-~\\]*'|[-+0-9a-z.]+)", re.ASCII)


def fields_of(text: str, head: str) -> list[tuple[str, str]]:
    """Read a line back, as a reader of logs would; fail when it is not made of fields to its end."""
    assert text.startswith(head)
    assert text.endswith("\n")
    found = []
    place = len(head)
    while place < len(text) - 1:
        match = FIELD.match(text, place)
        assert match, f"no field at {text[place:]!r}"
        found.append((match[1], match[2]))
        place = match.end()
    return found


class Colour(enum.IntEnum):
    RED = 7


class Poser(str):
    """A text that has itself formatted as something else."""

    def __format__(self, form: str) -> str:
        return "' user='root"

    def __str__(self) -> str:
        return "root"


@pytest.mark.parametrize(("thing", "shown"), [
    pytest.param("plain text", "'plain text'", id="string"),
    pytest.param("", "''", id="empty"),
    pytest.param(b"octets", "'octets'", id="bytes"),
    pytest.param(bytearray(b"octets"), "'octets'", id="bytearray"),
    pytest.param("it's", r"'it\x27s'", id="quote"),
    pytest.param("a\\b", r"'a\x5cb'", id="backslash"),
    pytest.param("a\r\nb\tc\0", r"'a\x0d\x0ab\x09c\x00'", id="control"),
    pytest.param("\x7f\x1b[2J", r"'\x7f\x1b[2J'", id="terminal"),
    pytest.param("Zoë", r"'Zo\xc3\xab'", id="utf-8"),
    pytest.param("\u2028\x85", r"'\xe2\x80\xa8\xc2\x85'", id="unicode line ends"),
    pytest.param(b"Zo\xeb", r"'Zo\xeb'", id="latin-1 octets"),
    pytest.param(b"Zo\xeb".decode("utf-8", "surrogateescape"), r"'Zo\xeb'", id="surrogate-escaped"),
    pytest.param("\ud800", r"'\xed\xa0\x80'", id="lone surrogate"),
    pytest.param(12, "12", id="int"),
    pytest.param(-3, "-3", id="negative"),
    pytest.param(Colour.RED, "7", id="IntEnum"),
    pytest.param(Poser("joe"), "'joe'", id="a kind of string"),
    pytest.param((1 << 256) - 1, str((1 << 256) - 1), id="widest int in decimal"),
    pytest.param(-(1 << 256), f"-0x1{'0' * 64}", id="wider"),
    pytest.param(True, "1", id="true"),
    pytest.param(False, "0", id="false"),
    pytest.param(1.5, "1.500", id="float"),
    pytest.param(0.00049, "0.000", id="small float"),
    pytest.param(1e300, "1.000e+300", id="huge float"),
    pytest.param(float("nan"), "nan", id="nan"),
    pytest.param(None, "'None'", id="none"),
    pytest.param(Endpoint("::1", 110), "'[::1]:110'", id="endpoint"),
    pytest.param({"auth": 0.12345, "relay": 2.0}, "'auth=0.123 relay=2.000'", id="mapping"),
    pytest.param(MappingProxyType({"auth": 0.5, "n": True}), "'auth=0.500 n=1'", id="a kind of mapping"),
    pytest.param({"": 1, 2: None, "mail check": {"a": 1}}, r"'-=1 2=\x27None\x27 mail?check=\x27a=1\x27'", id="nested"),
    pytest.param({}, "''", id="empty mapping"),
    pytest.param({"a' b": "c' d"}, r"'a\x27?b=\x27c\x5cx27 d\x27'", id="hostile mapping"),
])
def test_spec_5_1_value(thing: object, shown: str) -> None:
    assert value(thing) == shown


@pytest.mark.parametrize("thing", [
    pytest.param("x" * 10_000_000, id="long"),
    pytest.param(b"x" * 10_000_000, id="long bytes"),
    pytest.param("\0" * 500, id="all escaped"),
    pytest.param("\u20ac" * 201, id="three octets each"),
    pytest.param("x" * 201, id="one too many"),
])
def test_long_values_are_cut_and_say_so(thing: object) -> None:
    shown = value(thing)
    assert MAX_VALUE - 3 <= len(shown) - 2 <= MAX_VALUE
    assert shown.endswith("...'")


def test_a_value_of_the_full_length_stays_whole() -> None:
    assert value("x" * MAX_VALUE) == f"'{'x' * MAX_VALUE}'"


def test_no_escape_is_cut_in_two() -> None:
    for before in range(8):
        shown = value("x" * before + "\0" * 300)
        assert re.fullmatch(r"'x*(\\x00)+\.\.\.'", shown)


def test_an_integer_that_python_will_not_write_in_decimal() -> None:
    assert re.fullmatch("0x1[0]+", value(1 << 100_000))
    assert len(value(1 << 100_000)) == MAX_VALUE


@pytest.mark.parametrize(("text", "shown"), [
    ("p1-0408211219-4712.2", "p1-0408211219-4712.2"), ("", "-"), ("a b", "a?b"), ("a\nb", "a?b"), ("ü", "?"),
])
def test_word(text: str, shown: str) -> None:
    assert word(text) == shown


def test_a_line_with_many_long_fields_keeps_them_all() -> None:
    fields = [(f"f{'abcdefghij'[number % 10]}", "\n" * 1000) for number in range(60)]
    octets = line("head", fields)
    assert len(octets) <= MAX_LOG_LINE
    found = fields_of(octets.decode("ascii"), "head")
    assert [name for name, _ in found] == [name for name, _ in fields]
    assert min(len(shown) for _, shown in found) > MAX_LOG_LINE / len(fields) / 2, "no more is cut than must be"


def test_a_line_never_exceeds_its_limit_whatever_its_head() -> None:
    octets = line("h" * 10_000, [("a", "b")])
    assert len(octets) == MAX_LOG_LINE
    assert octets.count(b"\n") == 1 and octets.endswith(b"\n")


FORGERIES = ["' user='root", "\n20040821 121929 mx1 pproxy 1 - SOS 0007 out_of_memory", "\\", "\\x27", "'"]
HOSTILE = (st.text(st.characters(), max_size=300) | st.binary(max_size=300) | st.sampled_from(FORGERIES)
           | st.integers() | st.floats() | st.booleans() | st.dictionaries(st.text(), st.floats()))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["user", "why", "len_total"]), HOSTILE), max_size=30))
def test_no_value_forges_a_line_or_a_field(fields: list[tuple[str, object]]) -> None:
    octets = line("head", fields)
    assert len(octets) <= MAX_LOG_LINE
    assert re.fullmatch(rb"[ -~]*\n", octets)
    assert [name for name, _ in fields_of(octets.decode("ascii"), "head")] == [name for name, _ in fields]


@settings(deadline=None)
@given(HOSTILE | st.text("ab'\\ ", min_size=MAX_VALUE - 2, max_size=MAX_VALUE + 2))
def test_a_line_shows_what_value_says(thing: object) -> None:
    assert line("head", [("a", thing)]) == f"head a={value(thing)}\n".encode("ascii")


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_short_octets_can_be_read_back_from_the_line(data: bytes) -> None:
    shown = value(data)[1:-1]
    assert re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), shown).encode("latin-1") == data
    assert value(data.decode("utf-8", "surrogateescape")) == value(data)
