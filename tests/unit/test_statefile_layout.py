"""The places in the state file, and the room that they have."""

import pytest

from popular.statefile import layout as layout


@pytest.mark.parametrize("form, size", [
    pytest.param(layout.FIXED, 184, id="header"),
    pytest.param(layout.NAME, 72, id="name"),
    pytest.param(layout.SLOT, 372, id="slot"),
    pytest.param(layout.MOVING, 36, id="moving part"),
])
def test_records_have_the_documented_sizes(form, size):
    assert form.size == size


def test_the_second_sequence_number_ends_the_record():
    assert layout.SEQUENCE_SIZE + layout.SLOT.size <= layout.SLOT_SIZE - layout.SEQUENCE_SIZE
    assert 2 * layout.SEQUENCE_SIZE + layout.CHANGING.size <= layout.CHANGING_SIZE
    assert layout.CHANGING_AT + layout.CHANGING_SIZE <= layout.HEADER_SIZE


@pytest.mark.parametrize("kind", layout.KINDS.values(), ids=["proxy", "server"])
def test_kinds_have_room_for_their_counters(kind):
    assert len(set(kind.counters)) == len(kind.counters) <= layout.COLUMNS
    assert set(kind.outcomes) <= set(kind.counters)
    assert kind.counters[:len(layout.COMMON)] == layout.COMMON


def test_the_table_of_failures_has_its_place():
    assert layout.NAMES_AT + layout.NAMES * layout.NAME.size <= layout.FAILURES_AT == 6 * 4096
    assert len(layout.FAILURES) <= layout.FAILURE_COLUMNS
    assert layout.Layout(1).slots_at == layout.FAILURES_AT + layout.NAMES * layout.FAILURE_SIZE
