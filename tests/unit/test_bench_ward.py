"""When a contender has come to rest: two readings in a row that are alike, or a deadline."""

import time

import pytest

from tests.bench.ward import is_still, settled

MIB = 1 << 20


def test_the_first_reading_like_the_one_before_is_taken():
    readings = iter([1, 5, 9, 9, 12])
    assert settled(lambda: next(readings), lambda last, now: last == now, 30.0) == 9
    assert next(readings) == 12


def test_what_never_rests_is_told_at_the_deadline():
    readings = iter(range(1000))
    begun = time.monotonic()
    last = settled(lambda: next(readings), lambda last, now: last == now, 0.2)
    assert 0.2 <= time.monotonic() - begun < 5.0
    assert last == next(readings) - 1 > 0


@pytest.mark.parametrize("before, now, wanted", [
    ({"pproxy": 4 * MIB}, {"pproxy": 4 * MIB + 40_000}, True),
    ({"pproxy": 4 * MIB}, {"pproxy": 5 * MIB}, False),
    ({"pproxy": 4000 * MIB}, {"pproxy": 4003 * MIB}, True),
    ({"pproxy": 4 * MIB, "pserv": 3 * MIB}, {"pproxy": 3 * MIB, "pserv": 4 * MIB}, False),
    ({"pproxy": 4 * MIB}, {"pproxy": 4 * MIB, "pserv": MIB}, False),
    ({}, {}, True),
], ids=["a few pages", "a MiB", "little of much", "from one to the other", "another program", "nothing"])
def test_memory_stands_still(before, now, wanted):
    assert is_still(before, now) is wanted
