"""log.limit: how many lines peers may cause, over all processes of a daemon."""

import os
import time

import pytest

from popular.log.limit import EVERYBODY, FROM_ONE, PERIOD, TIMES, Counted, LineLimit

HERE = "192.0.2.1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves; it begins with a period."""
    now = [10.0 * PERIOD]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def fill(limit: LineLimit, host: str = HERE, kind: int = 0x0217) -> list[Counted]:
    return [limit.count(kind, host) for _ in range(FROM_ONE)]


def test_an_address_may_cause_so_many_lines_and_the_last_is_known(clock: list[float]) -> None:
    limit = LineLimit()
    assert fill(limit) == [Counted(True)] * (FROM_ONE - 1) + [Counted(True, HERE)]
    assert limit.count(0x0217, HERE) == Counted(False)


@pytest.mark.parametrize("kind, host", [(0x0217, "192.0.2.2"), (0x0035, HERE)], ids=["address", "kind"])
def test_another_has_lines_of_its_own(clock: list[float], kind: int, host: str) -> None:
    limit = LineLimit()
    fill(limit)
    assert limit.count(kind, host) == Counted(True)


def test_the_next_period_begins_anew(clock: list[float]) -> None:
    limit = LineLimit()
    fill(limit)
    clock[0] += PERIOD - 1
    assert (limit.left, limit.count(0x0217, HERE)) == (1, Counted(False))
    clock[0] += 1
    assert (limit.left, limit.count(0x0217, HERE)) == (PERIOD, Counted(True))


def test_all_addresses_together_have_a_limit(clock: list[float]) -> None:
    limit = LineLimit()
    found = [limit.count(0x0217, f"2001:db8::{number}") for number in range(FROM_ONE * TIMES)]
    assert [counted for counted in found if counted.full] == [Counted(True, EVERYBODY)]
    assert limit.count(0x0217, HERE) == Counted(False)


def test_what_a_child_counts_counts_for_all(clock: list[float]) -> None:
    limit = LineLimit()
    child = os.fork()
    if child == 0:
        fill(limit)
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert limit.count(0x0217, HERE) == Counted(False)
