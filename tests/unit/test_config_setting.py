"""Rows: optional and read-only values, lookups, and what a report may repeat."""

import pytest

from popular.config.kinds import Id, Int, String
from popular.config.setting import ObjectClass, Schema, Setting, quoted

PLAIN = Setting("maxerrors", Int(1, 1000), 25, "Limit.")
OPTIONAL = Setting("sidprefix", Id(), None, "Prefix.")
REQUIRED = Setting("module", Id(), None, "Module.", required=True)
EMPTY = Setting("args", String(), "", "Arguments.")


@pytest.mark.parametrize("row, text, value", [
    pytest.param(PLAIN, "3", 3, id="plain"),
    pytest.param(OPTIONAL, "p1", "p1", id="optional"),
    pytest.param(OPTIONAL, "", None, id="optional-taken-away"),
    pytest.param(OPTIONAL, "  ", None, id="optional-blank"),
    pytest.param(EMPTY, "", "", id="empty-string"),
])
def test_parse(row, text, value):
    assert row.parse(text) == value


@pytest.mark.parametrize("row, text", [
    pytest.param(PLAIN, "", id="plain-empty"),
    pytest.param(REQUIRED, "", id="required-empty"),
])
def test_parse_refuses(row, text):
    with pytest.raises(ValueError, match="wanted|number|an id"):
        row.parse(text)


def test_nothing_is_shown_of_a_value_that_is_not_given():
    assert OPTIONAL.show(None) is None
    assert OPTIONAL.show("p1") == "p1"


@pytest.mark.parametrize("row, starts", [
    pytest.param(PLAIN, True, id="plain"),
    pytest.param(Setting("pid", Int(0), 0, "", readonly=True), False, id="read-only"),
    pytest.param(Setting("sessionlimit", Int(0), 0, "", readonly=True, at_start=True), True, id="read-only-at-start"),
    pytest.param(Setting("rundir", Int(0), 0, "", readonly=True, option=("-r",)), True, id="read-only-option"),
])
def test_what_a_start_may_set(row, starts):
    assert row.starts is starts


def test_lookups():
    schema = Schema("p", (PLAIN,), (ObjectClass("pdm", "", (REQUIRED, EMPTY)),))
    assert schema.variable("maxerrors") is PLAIN
    assert schema.variable("module") is None
    pdm = schema.object_class("pdm")
    assert pdm is not None and pdm.row("args") is EMPTY and pdm.row("maxerrors") is None
    assert schema.object_class("vserv") is None


def test_a_secret_is_not_repeated():
    assert Setting("password", String(), "", "", secret=True).found("hunter2") == "***"


@pytest.mark.parametrize("text, shown", [
    pytest.param("70s", "'70s'", id="plain"),
    pytest.param("a\nERR forged", r"'a\nERR forged'", id="line-end"),
    pytest.param("\udcff", r"'\udcff'", id="not-utf8"),
    pytest.param("x" * 81, "'" + "x" * 80 + "'...", id="long"),
])
def test_quoted(text, shown):
    assert quoted(text) == shown
