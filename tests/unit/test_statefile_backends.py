"""What the state file says of backends: sessions at each of them, and how they answer."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.statefile import layout
from popular.statefile.layout import PROXY, SERVER, BackendState, SessionState
from popular.statefile.reader import Health, StateFileView
from popular.statefile.slot import ChildSlot
from popular.statefile.writer import StateFile
from popular.tools.pstatus import main as pstatus

CLIENT = Endpoint("192.0.2.7", 50123)

TakeSlot = Callable[[int], ChildSlot]


@pytest.fixture
def statefile(tmp_path: Path) -> Iterator[StateFile]:
    """A state file that knows two backends, with room and children in all four slots."""
    statefile = StateFile(PROXY, 4, str(tmp_path / "pproxy.state"))
    statefile.learn([("vserv", "main"), ("backend", "store1"), ("backend", "store2")])
    statefile.make_room(4)
    statefile.use(3)
    yield statefile
    statefile.close()


@pytest.fixture
def child_slot(statefile: StateFile) -> Iterator[TakeSlot]:
    """A function (slot) that takes a child's place on the state file."""
    slots: list[ChildSlot] = []

    def take(slot: int) -> ChildSlot:
        slots.append(statefile.slot(slot))
        return slots[-1]

    yield take
    for each in slots:
        each.release()


def view(statefile: StateFile) -> StateFileView:
    """Read it as pstatus does."""
    return StateFileView(statefile.read)


def test_sessions_with_a_backend_are_counted_by_their_states(statefile: StateFile, child_slot: TakeSlot) -> None:
    children = [child_slot(number) for number in range(4)]
    for child, backend, state in zip(children, ("store1", "store2", "store1", "without a name"), (
            SessionState.RELAY, SessionState.RELAY, SessionState.CONNECTING, SessionState.RELAY)):
        child.begin(CLIENT, "main")
        child.call_backend(backend)
        child.enter(state, 0, 0)
    count = children[3].sessions_of_backend
    assert [count(backend, {SessionState.RELAY}) for backend in ("store1", "store2", "without a name")] == [1, 1, 0]
    assert count("store1", {SessionState.RELAY, SessionState.CONNECTING}) == 2
    assert children[0].sessions_of_backend("store1", {SessionState.RELAY}) == 0, "others only"
    children[1].move_to_backend("store1")
    assert count("store1", {SessionState.RELAY}) == 2
    row = statefile.row(1)
    assert row is not None and row.backend == "store1"
    assert view(statefile).totals()[1]["backend", "store1"] == 2, "the user's backend is still another"


def test_all_children_write_the_health_of_a_backend(statefile: StateFile, child_slot: TakeSlot) -> None:
    numbers, at = child_slot(0).health("store2")
    numbers[at + layout.OF_LOGINS + layout.STATE] = BackendState.DOWN
    numbers[at + layout.OF_CHECKS + layout.UNTIL] = 1.5
    octets = Path(statefile.path).read_bytes()
    assert struct.unpack_from("=10d", octets, 57344 + 3 * 128) == (0, 0, 0, 0, 2, 0, 0, 0, 1.5, 0)
    numbers, at = child_slot(1).health("store2")
    assert numbers[at + layout.OF_LOGINS + layout.STATE] == 2
    assert view(statefile).backends() == {"store1": Health("up", "up"), "store2": Health("down", "up")}


def test_backends_without_a_name_share_nothing(child_slot: TakeSlot) -> None:
    numbers, at = child_slot(0).health("without a name")
    numbers[at + layout.STATE] = 1.0
    numbers, at = child_slot(1).health("without a name")
    assert not any(numbers[at + number] for number in range(layout.HEALTH_NUMBERS))


def test_switches_hide_what_children_say_and_end_limits_that_were_counted(statefile: StateFile,
                                                                          child_slot: TakeSlot) -> None:
    numbers, at = child_slot(0).health("store1")
    numbers[at + layout.OF_LOGINS + layout.STATE] = BackendState.SLOW
    numbers[at + layout.LOGIN_ROOM] = numbers[at + layout.SESSION_ROOM] = 7.0
    statefile.set_switches({"store1": BackendState.DRAINED})
    assert numbers[at + layout.LOGIN_ROOM] == numbers[at + layout.SESSION_ROOM] == 0.0
    assert view(statefile).backends() == {"store1": Health("drained", "up")}, "the other one is not configured"
    statefile.set_switches({"store1": BackendState.UP, "store2": BackendState.DISABLED})
    assert view(statefile).backends() == {"store1": Health("slow", "up"), "store2": Health("disabled", "up")}


@pytest.mark.parametrize("number", [-1.0, 5.0, 5.5, 17.0, float("nan"), float("inf")])
def test_hostile_states_of_a_backend(statefile: StateFile, child_slot: TakeSlot, number: float) -> None:
    numbers, at = child_slot(0).health("store1")
    numbers[at + layout.OF_LOGINS + layout.STATE] = number
    assert view(statefile).backends()["store1"] == Health("?", "up")


def test_pserv_has_no_backends() -> None:
    statefile = StateFile(SERVER, 1)
    assert view(statefile).backends() == {}
    statefile.close()


def test_pstatus_shows_backends_in_trouble(statefile: StateFile, child_slot: TakeSlot,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    numbers, at = child_slot(0).health("store1")
    numbers[at + layout.OF_CHECKS + layout.STATE] = BackendState.SLOW
    assert shown(statefile, capsys) == ["mail checks of store1 are slow"]
    statefile.set_switches({"store1": BackendState.DRAINED, "store2": BackendState.UP})
    assert shown(statefile, capsys) == ["store1 is drained, mail checks of store1 are slow"]
    assert pstatus.run(["-f", statefile.path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backends"] == {
        "store1": {"state": "drained", "checks": "slow"}, "store2": {"state": "up", "checks": "up"}}


def shown(statefile: StateFile, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what pstatus says of troubles."""
    assert pstatus.run(["-f", statefile.path]) == 0
    return [line.removeprefix("trouble").strip() for line in capsys.readouterr().out.splitlines()
            if line.startswith("trouble")]
