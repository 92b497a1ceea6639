"""Session and load states: the rules of spec 5.3 by table, and who is told."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.daemon.master import limits as limits_module
from popular.daemon.master.limits import Limits, LoadSource, following_states
from popular.log.writer import Log
from popular.statefile.layout import SERVER, LimitState
from popular.statefile.writer import StateFile
from tests.harness.system import wait_for

OK, WARN, MAX = LimitState


@pytest.mark.parametrize("state, value, following", [
    pytest.param(OK, 0, [], id="ok-none"),
    pytest.param(OK, 89, [], id="ok-below-90"),
    pytest.param(OK, 90, [WARN], id="ok-90"),
    pytest.param(OK, 99, [WARN], id="ok-99"),
    pytest.param(OK, 100, [WARN, MAX], id="ok-100-by-warn"),
    pytest.param(OK, 1000, [WARN, MAX], id="ok-far-above"),
    pytest.param(WARN, 100, [MAX], id="warn-100"),
    pytest.param(WARN, 99, [], id="warn-below-100"),
    pytest.param(WARN, 90, [], id="warn-90"),
    pytest.param(WARN, 80, [], id="warn-80"),
    pytest.param(WARN, 79, [OK], id="warn-below-80"),
    pytest.param(MAX, 100, [], id="max-100"),
    pytest.param(MAX, 90, [], id="max-90"),
    pytest.param(MAX, 89, [WARN], id="max-below-90"),
    pytest.param(MAX, 80, [WARN], id="max-80"),
    pytest.param(MAX, 79, [WARN, OK], id="max-below-80-by-warn"),
])
@pytest.mark.parametrize("scale", [1, 7, 0.25])
def test_spec_5_3_changes(state: LimitState, value: float, following: list[LimitState], scale: float) -> None:
    assert list(following_states(state, value * scale, 100 * scale)) == following


@pytest.mark.parametrize("state, following", [(OK, []), (WARN, [OK]), (MAX, [WARN, OK])])
def test_without_a_limit_all_is_well(state: LimitState, following: list[LimitState]) -> None:
    assert list(following_states(state, 1000, 0)) == following


@pytest.mark.parametrize("limit, at", [(1, 1), (2, 2), (3, 3), (10, 9), (11, 10), (1000, 900)])
def test_small_limits(limit: int, at: int) -> None:
    assert list(following_states(OK, at - 1, limit)) == []
    assert list(following_states(OK, at, limit))[:1] == [WARN]


class Stage:
    """Limits with a log, a state file, and a load that the test writes."""

    def __init__(self, folder: Path) -> None:
        self.loadavg = folder / "loadavg"
        self.log = Log.open("toy", str(folder / "log"))
        self.statefile = StateFile(SERVER, 1)
        self.slot = self.statefile.slot(0)
        self.limits = Limits(self.statefile, self.log, LoadSource(str(self.loadavg), 0.01))
        self._logged = folder / "log"

    def look(self) -> LimitState:
        """Do a turn of the master's loop."""
        self.limits.look(0)
        return self.limits.load_state

    def refuses(self) -> bool:
        """Tell whether a child would refuse a connection."""
        return self.slot.must_refuse

    def logged(self) -> list[str]:
        return [line.split(" ", 7)[7] for line in self._logged.read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.slot.release()
    stage.statefile.close()
    os.close(stage.log.fileno())


def test_spec_5_3_every_change_of_the_session_state_is_logged(stage: Stage) -> None:
    stage.limits.configure(10, 0)
    for busy in (8, 9, 9, 10, 9, 8, 7, 0):
        stage.limits.look(busy)
    assert stage.logged() == [
        "0170 session_state state='WARN' sessions=9 limit=10", "0170 session_state state='MAX' sessions=10 limit=10",
        "0170 session_state state='WARN' sessions=8 limit=10", "0170 session_state state='OK' sessions=7 limit=10"]
    assert not stage.refuses()


def test_a_new_maxsession_is_judged_at_once(stage: Stage) -> None:
    stage.limits.configure(100, 0)
    stage.limits.look(50)
    stage.limits.configure(50, 0)
    assert stage.limits.session_state is MAX
    stage.limits.configure(1000, 0)
    assert stage.limits.session_state is OK


def test_spec_5_3_load_state_follows_the_file(stage: Stage) -> None:
    stage.loadavg.write_text("0.50 0.40 0.30 1/100 4711\n")
    stage.limits.configure(10, 20)
    for text, state in (("18.00", WARN), ("20.00", MAX), ("18.01", MAX), ("17.99", WARN), ("15.99", OK)):
        stage.loadavg.write_text(f"{text} 0 0 1/100 4711\n")
        wait_for(lambda: stage.look() is state, 5.0, f"load state {state.name}")
        assert stage.refuses() is (state is MAX)
    assert stage.logged() == [
        "0172 load_state state='WARN' load=18.000 limit=20", "0172 load_state state='MAX' load=20.000 limit=20",
        "0172 load_state state='WARN' load=17.990 limit=20", "0172 load_state state='OK' load=15.990 limit=20"]


def test_the_load_is_read_at_intervals_only(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    readings: list[str] = []
    now = 1000.0

    def read(path: str) -> float:
        readings.append(path)
        return 0.0

    monkeypatch.setattr(limits_module, "read_load", read)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits = Limits(stage.statefile, stage.log, LoadSource("/proc/loadavg", 5.0))
    limits.configure(10, 20)
    assert limits.wait(None) == 5.0
    assert limits.wait(1.0) == 1.0
    now = 1004.0
    limits.look(0)
    assert len(readings) == 1
    assert limits.wait(60.0) == 1.0
    now = 1005.0
    assert limits.wait(None) == 0.0
    limits.look(0)
    assert readings == ["/proc/loadavg"] * 2
    assert limits.wait(None) == 5.0


def test_without_maxlocalload_the_load_is_not_read(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "read_load", lambda path: pytest.fail("read"))
    stage.limits.configure(10, 0)
    stage.limits.look(0)
    assert stage.limits.wait(None) is None
    assert stage.limits.wait(3.0) == 3.0


def test_taking_maxlocalload_back_lets_everybody_in(stage: Stage) -> None:
    stage.loadavg.write_text("99\n")
    stage.limits.configure(10, 20)
    assert stage.refuses()
    stage.limits.configure(10, 0)
    assert not stage.refuses()
    assert [line.split("'")[1] for line in stage.logged()] == ["WARN", "MAX", "WARN", "OK"]


@pytest.mark.parametrize("text", ["", "none\n", "nan 0 0\n", "inf\n", "-3\n", None], ids=str)
def test_a_load_that_is_none_refuses_nobody(stage: Stage, text: str | None) -> None:
    if text is not None:
        stage.loadavg.write_text(text)
    stage.limits.configure(10, 1)
    assert stage.limits.load_state is OK
