"""What a service manager is told: pairs around a reload, the watchdog, the line of status."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.daemon.master.heartbeat import STATUS_SECONDS, Heartbeat
from popular.daemon.master.limits import Limits, LoadSource
from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile
from popular.unix.notify import Notify, watchdog_seconds

Hear = Callable[[], list[str]]


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Where the manager listens."""
    return str(tmp_path / "notify")


@pytest.fixture
def hear(address: str) -> Iterator[Hear]:
    """A function that returns what was told since its last call, a datagram each."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
        manager.bind(address)

        def take() -> list[str]:
            found: list[str] = []
            while True:
                try:
                    found.append(manager.recv(1000).decode())
                except BlockingIOError:
                    return found

        yield take


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that heartbeat see, in its one item."""
    now = [1000.0]
    monkeypatch.setattr("popular.daemon.master.heartbeat.time.monotonic", lambda: now[0])
    return now


def test_reloads_that_overlap_are_one(address: str, hear: Hear) -> None:
    notify = Notify(address)
    notify.reload_begins()
    [begin] = hear()
    assert begin.startswith("RELOADING=1\nMONOTONIC_USEC=")
    notify.reload_begins()
    notify.reload_ends()
    assert hear() == []
    notify.reload_ends()
    assert hear() == ["READY=1"]


def test_who_ends_is_never_ready_again(address: str, hear: Hear) -> None:
    notify = Notify(address)
    notify.reload_begins()
    notify.stopping()
    notify.reload_ends()
    notify.reload_begins()
    notify.reload_ends()
    assert hear()[1:] == ["STOPPING=1"]


@pytest.mark.parametrize(("environment", "seconds"), [
    pytest.param({}, 0.0, id="none"),
    pytest.param({"WATCHDOG_USEC": "1500000"}, 1.5, id="for anybody"),
    pytest.param({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5, id="for us"),
    pytest.param({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, 0.0, id="for another"),
    pytest.param({"WATCHDOG_USEC": "-1"}, 0.0, id="no number"),
    pytest.param({"WATCHDOG_USEC": "0"}, 0.0, id="off"),
])
def test_what_the_watchdog_wants(environment: dict[str, str], seconds: float) -> None:
    assert watchdog_seconds(environment, 7) == seconds


def test_the_watchdog_is_fed_when_it_is_due(address: str, hear: Hear, clock: list[float]) -> None:
    signs = Heartbeat(Notify(address, watchdog=10.0), str)
    signs.attend()
    assert hear() == ["WATCHDOG=1"] and signs.patience(clock[0]) == 5.0
    clock[0] += 4.9
    signs.attend()
    assert hear() == []
    clock[0] += 0.1
    assert signs.patience(clock[0]) == 0.0
    signs.attend()
    assert hear() == ["WATCHDOG=1"]


def test_a_status_is_told_when_it_changes_and_not_too_often(address: str, hear: Hear, clock: list[float]) -> None:
    status = ["one"]
    signs = Heartbeat(Notify(address), lambda: status[0])
    assert signs.patience(clock[0]) == 0.0
    signs.attend()
    assert hear() == ["STATUS=one"] and signs.patience(clock[0]) is None
    status[0] = "two"
    assert signs.patience(clock[0]) == STATUS_SECONDS
    signs.attend()
    assert hear() == []
    clock[0] += STATUS_SECONDS
    signs.attend()
    signs.attend()
    assert hear() == ["STATUS=two"]


def test_of_two_masters_one_speaks(address: str, hear: Hear, clock: list[float]) -> None:
    notify, is_in_charge = Notify(address, 10.0), False
    notify.may_speak = lambda: is_in_charge
    signs = Heartbeat(notify, lambda: "one")
    signs.attend()
    assert hear() == [] and signs.patience(clock[0]) is None
    is_in_charge = True
    signs.attend()
    assert hear() == ["WATCHDOG=1", "STATUS=one"]
    is_in_charge = False
    signs.attend()
    is_in_charge = True
    clock[0] += STATUS_SECONDS
    signs.attend()
    assert hear() == ["WATCHDOG=1", "STATUS=one"], "the other one told something else meanwhile"


def test_the_status_names_what_is_not_in_order(tmp_path: Path) -> None:
    (tmp_path / "load").write_text("5.00 0 0 1/1 1\n")
    statefile = StateFile(SERVER, 4)
    with open(os.devnull, "ab", buffering=0) as null:
        limits = Limits(statefile, Log("test", FileSink(null.fileno())), LoadSource(str(tmp_path / "load")))
        limits.configure(10, 0.0)
        limits.look(3)
        assert limits.status() == "sessions: 3 of 10"
        limits.look(9)
        assert limits.status() == "sessions: 9 of 10 (WARN)"
        limits.configure(10, 5.0)
        assert limits.status() == "sessions: 9 of 10 (WARN), load: MAX"
    statefile.close()
