"""The arithmetic of the pool: how many to fork, how many to send home, how long to wait."""

import pytest

from popular.proc.child import ChildState
from popular.proc.childtable import ChildRecord, ChildTable, Slots
from popular.proc.pool import Census, Decision, PoolLimits, decide
from popular.proc.throttle import FIRST, LONGEST, Throttle

LIMITS = PoolLimits(minspare=4, maxspare=8, limit=20, maxuse=1)
FIXED = PoolLimits(minspare=3, maxspare=3, limit=3, maxuse=1)


@pytest.mark.parametrize("limits, census, decision", [
    pytest.param(LIMITS, Census(), Decision(fork=4), id="start"),
    pytest.param(LIMITS, Census(booting=4), Decision(), id="booting ones count as spare"),
    pytest.param(LIMITS, Census(idle=4), Decision(), id="just enough"),
    pytest.param(LIMITS, Census(idle=3, busy=1), Decision(fork=1), id="one got busy"),
    pytest.param(LIMITS, Census(idle=8), Decision(), id="just not too many"),
    pytest.param(LIMITS, Census(idle=11), Decision(retire=3), id="too many"),
    pytest.param(LIMITS, Census(idle=1, booting=9), Decision(retire=1), id="only idle ones are sent home"),
    pytest.param(LIMITS, Census(busy=18), Decision(fork=2), id="near the limit"),
    pytest.param(LIMITS, Census(busy=20), Decision(), id="at the limit"),
    pytest.param(LIMITS, Census(busy=25), Decision(), id="above a lowered limit"),
    pytest.param(LIMITS, Census(busy=18, leaving=2), Decision(), id="leaving ones still have their slot"),
    pytest.param(LIMITS, Census(leaving=4), Decision(fork=4), id="leaving ones are no spare"),
    pytest.param(FIXED, Census(), Decision(fork=3), id="fixed pool starts"),
    pytest.param(FIXED, Census(idle=2), Decision(fork=1), id="fixed pool lost one"),
    pytest.param(FIXED, Census(idle=3), Decision(), id="fixed pool is whole"),
    pytest.param(FIXED, Census(leaving=3), Decision(), id="fixed pool waits for slots"),
    pytest.param(PoolLimits(5, 2, 20, 1), Census(idle=5), Decision(), id="maxspare below minspare does not flap"),
    pytest.param(PoolLimits(1, 1, 1, 1), Census(busy=1), Decision(), id="smallest pool"),
])
def test_decision(limits, census, decision):
    assert decide(limits, census) == decision


@pytest.mark.parametrize("limits, census, decision", [
    pytest.param(LIMITS, Census(idle=3, busy=1), Decision(fork=5), id="as many as may be idle"),
    pytest.param(LIMITS, Census(idle=4), Decision(), id="only when there are too few"),
    pytest.param(LIMITS, Census(idle=3, busy=15), Decision(fork=2), id="near the limit"),
    pytest.param(PoolLimits(4, 8, 20, maxuse=2), Census(idle=3), Decision(fork=1), id="children come back"),
    pytest.param(PoolLimits(5, 2, 20, 1), Census(idle=4), Decision(fork=1), id="maxspare below minspare"),
    pytest.param(FIXED, Census(idle=2), Decision(fork=1), id="fixed pool"),
])
def test_decision_in_a_rush(limits, census, decision):
    assert decide(limits, census, is_rush=True) == decision


@pytest.mark.parametrize("is_rush", [False, True], ids=["calm", "rush"])
def test_whatever_the_counts_the_limit_holds_and_nothing_flaps(is_rush):
    for booting in range(6):
        for idle in range(12):
            for busy in range(12):
                decision = decide(LIMITS, Census(booting, idle, busy), is_rush)
                assert decision.fork == 0 or decision.retire == 0
                assert decision.fork + booting + idle + busy <= max(LIMITS.limit, booting + idle + busy)
                after = Census(booting + decision.fork, idle - decision.retire, busy)
                assert decide(LIMITS, after, is_rush).retire == 0


def test_slots_are_below_the_limit_and_come_back():
    slots = Slots()
    assert [slots.claim(3) for _ in range(4)] == [0, 1, 2, None]
    slots.release(2)
    slots.release(0)
    assert [slots.claim(3), slots.claim(3), slots.claim(3)] == [0, 2, None]


def test_slots_above_a_lowered_limit_are_not_given():
    slots = Slots()
    assert [slots.claim(4) for _ in range(4)] == [0, 1, 2, 3]
    for slot in (3, 2, 1):
        slots.release(slot)
    assert [slots.claim(2), slots.claim(2)] == [1, None]
    assert slots.claim(4) == 2


def test_the_table_counts_as_things_change():
    table = ChildTable()
    first, second = ChildRecord(11, 0, 0), ChildRecord(12, 1, 0)
    table.add(first)
    table.add(second)
    assert table.census() == Census(booting=2)
    table.note_state(first, ChildState.IDLE)
    table.note_leaving(first)
    assert table.census() == Census(booting=1, leaving=1)
    table.note_state(first, ChildState.BUSY)    # it took a last connection
    table.note_state(second, ChildState.BUSY)
    assert table.census() == Census(busy=2)
    table.note_state(second, ChildState.IDLE)
    table.remove(first)
    assert table.census() == Census(idle=1)
    assert (len(table), table.get(11), table.get(12)) == (1, None, second)


def test_the_throttle_doubles_up_to_its_longest():
    throttle, now, delays = Throttle(), 1000.0, []
    for _ in range(12):
        throttle.failed(now)
        delays.append(throttle.delay)
        now += throttle.wait(now)
    assert delays[:4] == [FIRST, FIRST * 2, FIRST * 4, FIRST * 8]
    assert delays[-1] == LONGEST


def test_a_batch_that_dies_counts_once():
    throttle = Throttle()
    for moment in (1000.0, 1000.01, 1000.02):
        throttle.failed(moment)
    assert throttle.delay == FIRST


def test_trouble_allows_one_try_at_a_time():
    throttle = Throttle()
    assert throttle.allowance(4, 0, 1000.0) == 4
    throttle.failed(1000.0)
    assert throttle.allowance(4, 0, 1000.1) == 0
    assert throttle.allowance(4, 0, 1000.3) == 1
    assert throttle.allowance(4, 1, 1000.3) == 0
    throttle.succeeded()
    assert throttle.allowance(4, 1, 1000.3) == 4
    assert not throttle.is_troubled
