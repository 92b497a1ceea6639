"""Reading state files: never half a record, and nothing that a hostile file could do."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.statefile import layout as layout
from popular.statefile.layout import PROXY, Layout, LimitState
from popular.statefile.reader import NotAStateFile, Row, StateFileView
from popular.statefile.seqlock import Sequenced, whole_records
from popular.statefile.writer import StateFile
from tests.harness.system import written_all_the_time

CLIENT = Endpoint("192.0.2.7", 50123)


@pytest.fixture
def statefile(tmp_path: Path) -> Iterator[StateFile]:
    """A state file of 200 slots, of which 4 were used; the first one has a session."""
    statefile = StateFile(PROXY, 200, str(tmp_path / "pproxy.state"))
    statefile.make_room(200)
    statefile.use(3)
    child = statefile.slot(0)
    child.begin(CLIENT, "main")
    child.release()
    yield statefile
    statefile.close()


def view(octets: bytes) -> StateFileView:
    """Look at a file that does not change."""
    return StateFileView(lambda at, size: octets[at:at + size])


def file_of(statefile: StateFile) -> bytes:
    return Path(statefile.path).read_bytes()


def numbers(rows: list[Row | None]) -> list[int]:
    return [row.slot for row in rows if row is not None]


def steps_of(monkeypatch: pytest.MonkeyPatch, record: Sequenced, memory: bytearray, letters: bytes) -> list[bytes]:
    """Write `letters`; return what the memory held before and after every single write to it."""
    steps = [bytes(memory)]

    class Memory:
        def __setitem__(self, place: slice, octets: bytes) -> None:
            memory[place] = octets
            steps.append(bytes(memory))

    class Numbers(list[int]):
        def __setitem__(self, place, number):
            numbers[place] = number
            steps.append(bytes(memory))

    numbers = record._numbers
    with monkeypatch.context() as patch:
        patch.setattr(record, "_numbers", Numbers())
        patch.setattr(record, "_memory", Memory())
        record.write(struct.Struct(f"={len(letters)}s"), 4, letters)
    return steps


def only(octets: bytes) -> bytes | None:
    """Return the one record in `octets`, None when it is not whole."""
    return whole_records(lambda at, size: octets[at:at + size], 0, len(octets), 1)[0]


def test_a_writer_is_never_seen_in_the_middle(monkeypatch):
    memory = bytearray(64)
    record = Sequenced(memory, 0, 64)
    steps = steps_of(monkeypatch, record, memory, b"a" * 40)
    assert [only(step) is None for step in steps] == [False, True, True, True, False]
    last = only(steps[-1])
    assert last is not None and last[4:44] == b"a" * 40


def test_a_field_that_stays_the_same_never_looks_different(statefile: StateFile) -> None:
    """Children read single fields without the sequence numbers: at load state MAX one let clients in."""
    statefile.tell(load_state=LimitState.MAX, session_state=LimitState.MAX, is_screening=1)
    child = statefile.slot(0)
    with written_all_the_time(lambda: statefile.tell(load=1.0)):
        assert all(child.must_refuse and child.pool_is_full and child.is_screened for _ in range(20_000))
    child.release()


def test_nothing_is_packed_into_shared_memory() -> None:
    """Struct.pack_into fills its place with zeros first, and other processes see them."""
    root = Path(layout.__file__).parents[1]
    assert [str(path) for path in root.rglob("*.py") if ".pack_into(" in path.read_text("utf-8")] == []


def test_a_copy_made_front_to_back_while_writing_is_whole_or_known_not_to_be(monkeypatch):
    """Octet by octet, with writes that go on at any point of the copying."""
    memory = bytearray(64)
    record = Sequenced(memory, 0, 64)
    steps = [step for letter in (b"a", b"b", b"c") for step in steps_of(monkeypatch, record, memory, letter * 40)]
    chance = random.Random(6)
    whole = set()
    for _ in range(3000):
        first, last = sorted(chance.choices(range(len(steps)), k=2))
        cuts = [0] * first + sorted(chance.choices(range(65), k=last - first)) + [64] * (len(steps) - 1 - last)
        found = only(b"".join(step[start:end] for step, start, end in zip(steps, [0, *cuts], [*cuts, 64])))
        if found is not None:
            whole.add(found[4:44])
    assert whole <= {bytes(40), b"a" * 40, b"b" * 40, b"c" * 40}
    assert len(whole) == 4


@pytest.mark.parametrize("patience, readings, is_found", [(0.0, 20, True), (0.0, 1000, False), (20.0, 1000, True)])
def test_a_record_at_rest_later(statefile: StateFile, patience: float, readings: int, is_found: bool) -> None:
    octets = bytearray(file_of(statefile))
    at = statefile.layout.slot_at(0)
    good = octets[at:at + 4]
    octets[at] ^= 1
    left = readings

    def read(offset: int, size: int) -> bytes:
        nonlocal left
        left -= offset == at
        if left == 0:
            octets[at:at + 4] = good
        return bytes(octets[offset:offset + size])

    assert [row.client for row in StateFileView(read, patience).rows(0, 0) if row] == [CLIENT] * is_found


def test_rows_in_a_range(statefile):
    found = view(file_of(statefile))
    assert numbers(found.rows()) == [0, 1, 2, 3]
    assert numbers(found.rows(1, 2)) == [1, 2]
    assert numbers(found.rows(3, 99)) == [3]
    assert found.rows(9) == []


def test_more_rows_than_are_read_at_once(statefile):
    statefile.use(199)
    for slot in (0, 63, 64, 199):
        child = statefile.slot(slot)
        child.count("sessions", slot + 1)
        child.idle()
        child.release()
    found = view(file_of(statefile))
    rows = found.rows()
    assert len(rows) == 200
    assert numbers([row for row in rows if row and row.pid]) == [0, 63, 64, 199]
    assert found.totals()[0]["sessions"] == 1 + 1 + 64 + 65 + 200


def test_totals_of_full_counters_do_not_spill_over(statefile):
    statefile.learn([("vserv", "main"), ("backend", "store1")])
    file = file_of(statefile)
    for slot in range(4):
        file = changed(file, statefile.layout.row_at(slot), b"\xff" * layout.ROW_SIZE)
    file = changed(file, statefile.layout.row_at(-1), struct.pack("=4Q", 1, 2, 3, 4))
    totals, per_name = view(file).totals()
    full = 4 * (2 ** 64 - 1)
    assert [totals[name] - full for name in PROXY.counters] == [1, 2, 3, 4] + [0] * (len(PROXY.counters) - 4)
    assert per_name == {("", ""): full, ("vserv", "main"): full, ("backend", "store1"): full}


def changed(octets: bytes, at: int, new: bytes) -> bytes:
    return octets[:at] + new + octets[at + len(new):]


@pytest.mark.parametrize("break_it, text", [
    pytest.param(lambda file: b"", "not a state file", id="empty"),
    pytest.param(lambda file: b"\x7fELF" + file, "not a state file", id="other"),
    pytest.param(lambda file: file[:100], "not a state file", id="a start of one"),
    pytest.param(lambda file: changed(file, 8, b"PSMTPD\0\0"), "not a state file of pproxy, pserv or plmtpd",
                 id="of another"),
    pytest.param(lambda file: changed(file, 16, struct.pack("=I", 1)), "version 1, not of version 5", id="version 1"),
    pytest.param(lambda file: changed(file, 16, struct.pack(">I", 4)), "not of version 5", id="byte order"),
    pytest.param(lambda file: changed(file, 24, b"\xff" * 4), "not a state file of", id="too many slots"),
    pytest.param(lambda file: changed(file, 24, b"\0" * 4), "not a state file of", id="no slots"),
    pytest.param(lambda file: changed(file, 48, b"\xff" * 8), "not a state file of", id="offset"),
    pytest.param(lambda file: file[:-1], "cut off", id="cut"),
    pytest.param(lambda file: changed(file, 192, b"\x01"), "being written", id="header half written"),
])
def test_files_that_are_none(statefile, break_it, text):
    with pytest.raises(NotAStateFile, match=text):
        view(break_it(file_of(statefile)))


def test_hostile_numbers_are_bounded(statefile):
    file = file_of(statefile)
    file = changed(file, 208, b"\xff" * 12)                               # generation, slots used, names used
    file = changed(file, 224, struct.pack("=dd", float("nan"), float("-inf")))
    at = statefile.layout.slot_at(0)
    file = changed(file, at + 4, b"\xff" * 376)
    found = view(file)
    assert (found.head.slots_used, len(found.head.names)) == (200, layout.NAMES)
    assert (found.head.maxlocalload, found.head.load) == (0.0, 0.0)
    row = found.rows()[0]
    assert row is not None and row.client is not None
    assert (row.state, row.owner, row.started, row.activity) == ("?255", "", 0.0, 0.0)
    assert row.client.port == 65535 and set(row.user) == set("\\xf")


def test_random_damage_never_does_harm(statefile):
    file = file_of(statefile)
    chance = random.Random(1)
    interesting = [*range(20, 256), *range(statefile.layout.slot_at(0), statefile.layout.slot_at(1))]
    for _ in range(300):
        damaged = bytearray(file)
        for at in chance.choices(interesting, k=chance.randrange(1, 20)):
            damaged[at] = chance.randrange(256)
        try:
            found = view(bytes(damaged))
            assert len(found.rows()) <= 200
            found.totals()
        except NotAStateFile:
            pass


def test_layout_of_the_default_size():
    assert Layout(10_000).size < 32_000_000
