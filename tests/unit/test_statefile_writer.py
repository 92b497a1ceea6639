"""The state file as master and children write it."""

import os
import struct
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.statefile import writer as writer_module
from popular.statefile import layout as layout
from popular.statefile.layout import DELIVERY, PROXY, SERVER, SessionState, StateFileKind
from popular.statefile.reader import Row, StateFileView
from popular.statefile.writer import StateFile

CLIENT = Endpoint("192.0.2.7", 50123)


@pytest.fixture
def make(tmp_path):
    """A function (kind, slots) that makes a state file with a file."""
    statefiles = []

    def make_one(kind: StateFileKind = PROXY, slots: int = 4, name: str = "pproxy.state") -> StateFile:
        statefiles.append(StateFile(kind, slots, str(tmp_path / name)))
        return statefiles[-1]

    yield make_one
    for each in statefiles:
        each.close()


@pytest.fixture
def statefile(make):
    """A state file that knows a vserv and two backends, with room and children in all four slots."""
    statefile = make()
    statefile.learn([("vserv", "main"), ("backend", "store1"), ("backend", "store2")])
    statefile.make_room(4)
    statefile.use(3)
    return statefile


@pytest.fixture
def child_slot(statefile):
    """A function (slot) that takes a child's place on the state file."""
    slots = []

    def take(slot: int = 0):
        slots.append(statefile.slot(slot))
        return slots[-1]

    yield take
    for each in slots:
        each.release()


def view(path: str | bytes) -> StateFileView:
    """Read a file, or octets, as pstatus does."""
    octets = path if isinstance(path, bytes) else Path(path).read_bytes()
    return StateFileView(lambda at, size: octets[at:at + size])


def row_of(statefile: StateFile, slot: int = 0) -> Row:
    """Return what the child in `slot` tells."""
    row = statefile.row(slot)
    assert row is not None
    return row


# The layout

@pytest.mark.parametrize("kind, word", [pytest.param(PROXY, b"PROXY\0\0\0", id="proxy"),
                                        pytest.param(SERVER, b"SERVER\0\0", id="server"),
                                        pytest.param(DELIVERY, b"LMTP\0\0\0\0", id="delivery")])
def test_spec_6_magic_and_version(make, kind, word):
    statefile = make(kind)
    head = Path(statefile.path).read_bytes()[:20]
    assert head == b"POPULAR\0" + word + struct.pack("=I", 5)


def test_numbers_stand_where_the_text_says(statefile, child_slot):
    child = child_slot(2)
    child.begin(CLIENT, "main")
    child.call_session("px-1")
    child.call_user("joe")
    child.call_backend("store2")
    child.enter(SessionState.RELAY, 7, 9)
    octets = Path(statefile.path).read_bytes()
    at = struct.unpack_from("=Q", octets, 32)[0] + 2 * 384
    assert struct.unpack_from("=iIHHH", octets, at + 4) == (os.getpid(), 1, 1, 3, 50123)
    assert octets[at + 20] == 7
    assert struct.unpack_from("=QQ", octets, at + 24) == (7, 9)
    assert octets[at + 64:at + 69] == b"px-1\0"
    assert octets[at + 128:at + 138] == b"192.0.2.7\0"
    assert octets[at + 176:at + 180] == b"joe\0"
    assert octets[at:at + 4] == octets[at + 380:at + 384]
    row = struct.unpack_from("=Q", octets, 48)[0] + 3 * struct.unpack_from("=I", octets, 44)[0]
    assert struct.unpack_from("=4Q", octets, row) == (1, 0, 7, 9)
    assert struct.unpack_from("=4Q", octets, row + 512) == (0, 1, 0, 1)
    assert octets[4096 + 72:4096 + 80] == b"vserv\0\0\0"
    assert octets[4096 + 80:4096 + 85] == b"main\0"


# What a child tells

def test_a_session_from_begin_to_end(statefile, child_slot):
    child = child_slot(1)
    child.idle()
    assert row_of(statefile, 1).state == "idle"
    child.begin(CLIENT, "main")
    child.enter(SessionState.AUTH, 0, 10)
    child.call_session("px-040821121929-4712")
    child.call_user("joe")
    child.call_backend("store1")
    child.progress(30, 40)
    row = row_of(statefile, 1)
    assert (row.state, row.sid, row.client, row.user) == ("auth", "px-040821121929-4712", CLIENT, "joe")
    assert (row.owner, row.backend, row.bytes_in, row.bytes_out, row.sessions) == ("main", "store1", 30, 40, 1)
    assert row.pid == os.getpid() and row.has_session
    assert 0 < row.started <= row.entered <= row.activity
    child.idle()
    row = row_of(statefile, 1)
    assert (row.state, row.sid, row.client, row.user, row.owner, row.backend) == ("idle", "", None, "", "", "")
    assert row.sessions == 1 and not row.has_session


def test_octets_are_totals_as_they_come(statefile, child_slot):
    child = child_slot()
    for _ in range(2):
        child.begin(CLIENT, "main")
        child.progress(5, 1)
        child.progress(3, 1)     # less than before: nothing
        child.enter(SessionState.CLOSING, 10, 20)
    counters, _ = view(statefile.path).totals()
    assert (counters["bytes_in"], counters["bytes_out"], counters["sessions"]) == (20, 40, 2)


def test_nothing_new_is_not_written(statefile, child_slot):
    child = child_slot()
    child.begin(CLIENT, "main")
    child.progress(5, 1)
    before = Path(statefile.path).read_bytes()
    child.progress(5, 1)
    assert Path(statefile.path).read_bytes() == before


@pytest.mark.parametrize("user, shown", [
    pytest.param("x" * 500, "x" * 200, id="long"),
    pytest.param("\u00e4" * 150, "\u00e4" * 100, id="cut between characters"),
    pytest.param("x" + "\u00e4" * 150, "x" + "\u00e4" * 99, id="cut in a character"),
    pytest.param("j\udcffe", "j\\xffe", id="8-bit"),
    pytest.param("joe\0\0root", "joe", id="NUL"),
    pytest.param("", "", id="empty"),
])
def test_users(statefile, child_slot, user, shown):
    child = child_slot()
    child.begin(CLIENT, "main")
    child.call_user("before" * 10)
    child.call_user(user)
    assert row_of(statefile).user == shown


def test_a_new_user_does_not_touch_his_neighbours(statefile, child_slot):
    child = child_slot()
    child.begin(CLIENT, "main")
    child.call_session("s" * 64)
    child.call_user("x" * 300)
    row = row_of(statefile)
    assert (row.sid, row.client, row.user) == ("s" * 64, CLIENT, "x" * 200)


def test_an_unknown_counter_is_a_mistake_of_ours(child_slot):
    with pytest.raises(KeyError):
        child_slot().count("retrieved")    # of pserv


def test_totals_are_sums_over_slots_and_outlive_children(statefile, child_slot):
    for slot, amount in ((0, 1), (3, 10)):
        child_slot(slot).count("logins", amount)
    statefile.clear(0)
    child_slot(0).count("logins", 100)
    statefile.count("forks")
    counters, _ = view(statefile.path).totals()
    assert counters["logins"] == 111
    assert counters["forks"] == 1
    assert sum(counters.values()) == 112


def test_sessions_per_object(statefile, child_slot):
    for slot, backend in ((0, "store1"), (1, "store1"), (2, "store2"), (3, "gone")):
        child = child_slot(slot)
        child.begin(CLIENT, "main")
        child.call_backend(backend)
    _, names = view(statefile.path).totals()
    assert names == {("", ""): 1, ("vserv", "main"): 4, ("backend", "store1"): 2, ("backend", "store2"): 1}


# Names

def test_numbers_of_names_stay_over_configurations(statefile, child_slot):
    old = child_slot(0)
    statefile.learn([("backend", "store3"), ("backend", "store1"), ("vserv", "main")])    # store2 is gone
    new = child_slot(1)
    for child, backend in ((old, "store2"), (new, "store3"), (new, "store1")):
        child.begin(CLIENT, "main")
        child.call_backend(backend)
    _, names = view(statefile.path).totals()
    assert {ident: count for (cls, ident), count in names.items() if cls == "backend"} == {
        "store1": 1, "store2": 1, "store3": 1}


def test_ids_of_two_classes_are_two_names(make):
    statefile = make()
    statefile.learn([("vserv", "a"), ("backend", "a")])
    assert list(view(statefile.path).head.names.values()) == [("", ""), ("vserv", "a"), ("backend", "a")]


def test_more_names_than_there_is_room_for(make):
    statefile = make()
    statefile.use(0)
    statefile.make_room(1)
    statefile.learn(("vserv", f"v{number}") for number in range(300))
    child = statefile.slot(0)
    for owner in ("v0", "v254", "v255", "v299"):
        child.begin(CLIENT, owner)
    child.release()
    found = view(statefile.path)
    assert len(found.head.names) == layout.NAMES
    _, names = found.totals()
    assert (names["", ""], names["vserv", "v0"], names["vserv", "v254"]) == (2, 1, 1)


def test_the_longest_id(make):
    statefile = make()
    statefile.learn([("backend", "x" * 64)])
    assert view(statefile.path).head.names[1] == ("backend", "x" * 64)


# Failures of backends

def test_failures_stand_in_one_table_that_the_master_writes(statefile, child_slot):
    child = child_slot(2)
    for backend, kind, times in (("store2", "tls", 2), ("store2", "drained", 1), ("without a name", "refused", 3)):
        for _ in range(times):
            statefile.count_failure(child.failure(backend, kind))
    octets = Path(statefile.path).read_bytes()
    assert struct.unpack_from("=8Q", octets, 24576 + 3 * 128) == (0, 0, 0, 2, 0, 0, 0, 1)
    found = view(statefile.path).failures()
    assert {which: count for which, count in found.items() if count} == {
        ("store2", "tls"): 2, ("store2", "drained"): 1, ("", "refused"): 3}
    assert set(found) == {(backend, kind) for backend in ("", "store1", "store2") for kind in layout.FAILURES}


@pytest.mark.parametrize("number", [-1, layout.NAMES * layout.FAILURE_COLUMNS, 2 ** 32 - 257])
def test_a_report_of_no_failure_means_nothing(statefile, number):
    statefile.count_failure(number)
    assert not any(view(statefile.path).failures().values())


def test_pserv_has_no_backends(make):
    assert view(make(SERVER).path).failures() == {}


# The master's part

def test_facts(statefile):
    statefile.tell(generation=3, maxsession=100, maxlocalload=20.0, load=1.5, session_state=1, load_state=2)
    head = view(statefile.path).head
    assert (head.pid, head.generation, head.maxsession, head.maxlocalload) == (os.getpid(), 3, 100, 20.0)
    assert (head.load, head.session_state, head.load_state, head.slots, head.slots_used) == (1.5, 1, 2, 4, 4)
    here = os.stat(statefile.path)
    assert (head.device, head.inode) == (here.st_dev, here.st_ino)


@pytest.mark.parametrize("state, refuses", [(0, False), (1, False), (2, True)])
def test_spec_5_3_children_see_the_load_state(statefile, child_slot, state, refuses):
    child = child_slot()
    statefile.tell(load_state=state)
    assert child.must_refuse is refuses


def test_a_dead_child_leaves_no_busy_slot(statefile, child_slot):
    child = child_slot(2)
    child.begin(CLIENT, "main")
    child.enter(SessionState.RELAY, 1, 1)
    statefile.clear(2)
    row = row_of(statefile, 2)
    assert (row.state, row.pid, row.sid, row.client, row.bytes_in) == ("free", 0, "", None, 0)


def test_a_child_that_died_in_the_middle_of_writing(statefile, child_slot):
    child = child_slot(2)
    child.begin(CLIENT, "main")
    at = statefile.layout.slot_at(2)
    layout.SEQUENCE.pack_into(statefile._memory, at, layout.SEQUENCE.unpack_from(statefile._memory, at)[0] + 1)
    assert statefile.row(2) is None
    assert view(statefile.path).rows()[2] is None
    statefile.clear(2)
    assert row_of(statefile, 2).state == "free"
    child_slot(2).idle()
    assert row_of(statefile, 2).state == "idle"


# The file

def test_an_old_file_stays_whole_for_those_who_have_it(make):
    old = make()
    old.tell(generation=7)
    with open(old.path, "rb") as held:
        new = make()
        assert view(new.path).head.generation == 0
        assert view(held.read()).head.generation == 7
    old.tell(generation=8)
    assert view(new.path).head.generation == 0


@pytest.mark.parametrize("rest", ["file", "link"])
def test_a_leftover_of_a_start_that_failed_is_replaced(make, tmp_path, rest):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    leftover = tmp_path / "pproxy.state.new"
    leftover.symlink_to(victim) if rest == "link" else leftover.write_text("old")
    statefile = make()
    assert statefile.trouble == ""
    assert victim.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pproxy.state", "victim"]


def test_users_stand_in_it_so_not_everybody_may_read_it(make):
    assert os.stat(make().path).st_mode & 0o007 == 0


def test_most_of_the_file_is_a_hole(make):
    statefile = make(slots=10_000)
    statefile.make_room(100)
    here = os.stat(statefile.path)
    assert here.st_size > 25_000_000
    assert here.st_blocks * 512 < 1_000_000


def test_without_a_folder_it_is_memory(tmp_path):
    statefile = StateFile(PROXY, 2, str(tmp_path / "missing" / "pproxy.state"))
    assert statefile.trouble == f"cannot make the state file {statefile.path}: No such file or directory"
    assert statefile.make_room(2) == 2
    child = statefile.slot(1)
    child.idle()
    assert row_of(statefile, 1).state == "idle"
    child.release()
    statefile.close()


def test_without_room_at_the_start_it_is_memory(tmp_path, monkeypatch):
    def full(fd, offset, size):
        if size > 40_000:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer_module.os, "posix_fallocate", full)
    statefile = StateFile(PROXY, 100, str(tmp_path / "pproxy.state"), room=50)
    assert statefile.trouble == f"cannot make the state file {statefile.path}: No space left on device"
    assert list(tmp_path.iterdir()) == []
    assert statefile.make_room(100) == 100
    child = statefile.slot(99)
    child.idle()
    assert row_of(statefile, 99).state == "idle"
    child.release()
    statefile.close()


def test_a_full_file_system_costs_slots_not_lives(statefile, make, monkeypatch):
    def full(fd, offset, size):
        raise OSError(28, "No space left on device")

    statefile = make(slots=100, name="other")
    assert statefile.make_room(10) == 10
    monkeypatch.setattr(writer_module.os, "posix_fallocate", full)
    assert statefile.make_room(20) == 10
    assert "No space left" in statefile.trouble
    assert statefile.make_room(5) == 5
    monkeypatch.undo()
    assert statefile.make_room(200) == 100
    assert statefile.trouble == ""


def test_removed_at_the_end(statefile):
    statefile.remove()
    statefile.remove()
    assert not os.path.exists(statefile.path)
