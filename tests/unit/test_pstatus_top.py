"""pstatus --top without a terminal: what is chosen, how it is sorted and what the lines hold."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import wcwidth

from popular.addresses import Endpoint
from popular.statefile.layout import PROXY, SERVER, SessionState
from popular.statefile.reader import Row
from popular.statefile.writer import StateFile
from popular.tools.pstatus.snapshot import Selection, take
from popular.tools.pstatus.top import keys, pages
from popular.tools.pstatus.top.columns import TableRow, address_key, column_widths, columns_of, gap_in
from popular.tools.pstatus.top.filters import Filters
from popular.tools.pstatus.top.frame import frame
from popular.tools.pstatus.top.kill import socket_beside
from popular.tools.pstatus.top.text import FANCY, PLAIN, fit, marks_for, shown, shown_line
from popular.tools.pstatus.top.view import DETAIL, HELP, TABLE, Look, View, chosen, settled
from popular.tools.pstatus.top.watch import Follower
from tests.harness.statefiles import Made, many, put, statefile_with

ANY = Selection()
HOSTILE = "a\x1b[2J\x07\n\u202eb\u0301\u65e5\u05d0\U0001f600 \x9bc"

SOME: Sequence[Made | None] = (
    Made("joe", "192.0.2.7", 2, "main", "store0", state=SessionState.RELAY, bytes_in=5, bytes_out=70),
    None,
    Made("Ann", "192.0.2.30", 1, "tls", "store1", state=SessionState.AUTH, bytes_in=9, bytes_out=30),
    Made("bob", "2001:db8::1", 3, "main", "store1", state=SessionState.EMPTY, bytes_in=7, bytes_out=50),
    Made("", "192.0.2.7", 1, "main", "store0", state=SessionState.GREETING, bytes_in=0, bytes_out=0),
)


@pytest.fixture
def statefile(tmp_path: Path) -> Iterator[StateFile]:
    """A proxy's state file with SOME sessions."""
    with statefile_with(tmp_path / "pproxy.state", SOME) as statefile:
        yield statefile


@pytest.fixture
def look(statefile: StateFile) -> Look:
    """A look at it."""
    return Follower(take(statefile.path), ANY).last


def slots(look: Look, **chosen_by: object) -> list[int]:
    """Return the slots that a view shows, in its order."""
    return [session.row.slot for session in chosen(look, replace(View(), **chosen_by))]    # type: ignore[arg-type]


# Texts

def test_no_character_gets_through_that_is_not_one_column_wide() -> None:
    for number in [*range(0x3100), *range(0x3100, sys.maxunicode + 1, 61)]:
        char = chr(number)
        if (text := shown(char)) == char:
            assert wcwidth.wcwidth(char) == 1 and unicodedata.bidirectional(char) not in ("R", "AL", "AN"), hex(number)
            assert char.isprintable() and char != " "
        else:
            assert text.isascii() and text.isprintable() and text.startswith("\\")


def test_letters_that_users_have_are_kept() -> None:
    assert shown("j\u00f6rg.\u017bak@\u0436.example") == "j\u00f6rg.\u017bak@\u0436.example"
    assert shown(HOSTILE) == r"a\x1b[2J\x07\x0a\u202eb\u0301\u65e5\u05d0\u1f600\x20\x9bc"
    assert shown_line("a b\tc") == r"a b\x09c"


@pytest.mark.parametrize("text, width, is_right, wanted", [
    ("abc", 5, False, "abc  "), ("abc", 5, True, "  abc"), ("abc", 3, False, "abc"), ("abcd", 3, True, "ab~"),
    ("abc", 1, False, "~"), ("abc", 0, False, "")])
def test_fit(text: str, width: int, is_right: bool, wanted: str) -> None:
    assert fit(text, width, PLAIN, right=is_right) == wanted


@pytest.mark.parametrize("encoding, marks", [("utf-8", FANCY), ("ascii", PLAIN), ("iso8859-1", PLAIN), ("no", PLAIN)])
def test_marks(encoding: str, marks: object) -> None:
    assert marks_for(encoding) is marks


# Sorting

@pytest.mark.parametrize("column, wanted", [
    ("slot", [0, 2, 3, 4]),
    ("state", [4, 2, 3, 0]),
    ("client", [4, 0, 2, 3]),
    ("vserv", [0, 3, 4, 2]),
    ("backend", [0, 4, 2, 3]),
    ("in", [2, 3, 0, 4]),
    ("out", [0, 3, 2, 4]),
    ("user", [2, 3, 0, 4]),
    ("session", [0, 2, 3, 4]),
    ("nosuch", [0, 2, 3, 4]),
])
def test_sorting(look: Look, column: str, wanted: list[int]) -> None:
    assert slots(look, sort=column) == wanted


def test_times_sort_the_oldest_first(look: Look) -> None:
    older = {2: 50.0, 0: 20.0, 3: 30.0, 4: 10.0}
    sessions = [replace(session, row=replace(
        session.row, started=1000 - older.get(session.row.slot, 0), entered=1000 - older.get(session.row.slot, 0),
        activity=1000 - older.get(session.row.slot, 0)), moment=1000.0) for session in look.sessions]
    for column in ("age", "since", "idle"):
        assert slots(replace(look, sessions=sessions), sort=column) == [2, 3, 0, 4]


def test_what_is_missing_comes_last_both_ways(look: Look) -> None:
    assert slots(look, sort="user", is_reversed=True) == [0, 3, 2, 4]
    assert slots(look, sort="rate")[:2] == [0, 2], "no rates yet: as they come"


def test_idle_slots_on_demand(look: Look) -> None:
    assert slots(look, has_all=True) == [0, 1, 2, 3, 4]
    assert slots(look, has_all=True, sort="out") == [0, 3, 2, 4, 1]


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_each_column_has_a_letter_of_its_own_that_is_no_other_key(program: str) -> None:
    letters = [column.letter for column in columns_of(program)]
    assert len(set(letters)) == len(letters)
    assert all(column.letter.lower() in column.name for column in columns_of(program))
    assert not set(letters) & {name for key in keys.KEYS for name in key.names}


def test_addresses_sort_by_number() -> None:
    hosts = ["no address", "9.0.0.1", "10.0.0.1", "::ffff:10.0.0.2", "::1", "2001:db8::2", "2001:db8::10"]
    assert sorted(hosts, key=lambda host: address_key(Endpoint(host, 1)) or ()) == hosts
    assert address_key(None) is None


# Filters

@pytest.mark.parametrize("kind, text, wanted", [
    ("user", "o", [0, 3]), ("user", "ANN", [2]), ("user", "=Ann", [2]), ("user", "=ann", []),
    ("user", "", [0, 2, 3, 4]), ("user", "   ", [0, 2, 3, 4]),
    ("client", "192.0.2.7", [0, 4]), ("client", "192.0.2.0/27", [0, 2, 4]), ("client", "192.0.2.0/28", [0, 4]),
    ("client", "2001:DB8::/32", [3]), ("client", "2.30", [2]), ("client", ":1", [2, 3, 4]),
    ("client", "0.0.0.0/0", [0, 2, 4]),
    ("client", "=192.0.2.7:1", [4]), ("owner", "ma", [0, 3, 4]), ("owner", "=tls", [2]), ("backend", "1", [2, 3]),
    ("backend", "=store0", [0, 4]), ("backend", " =store0 ", [0, 4]),
])
def test_filters(look: Look, kind: str, text: str, wanted: list[int]) -> None:
    assert slots(look, filters=Filters().with_one(kind, text)) == wanted


def test_filters_hold_all_at_once(look: Look) -> None:
    both = Filters().with_one("owner", "main").with_one("backend", "store1")
    assert slots(look, filters=both) == [3]
    assert slots(look, filters=both, has_all=True) == [3], "a child that waits has no backend"
    assert slots(look, filters=both.with_one("user", "joe")) == []


def test_hostile_names_are_found_as_they_are_shown(statefile: StateFile) -> None:
    put(statefile, 0, Made("x\x1b[2J"))
    assert slots(Follower(take(statefile.path), ANY).last, filters=Filters().with_one("user", r"x\x1b[2j")) == [0]


@pytest.mark.parametrize("text", ["10.0.0.0/99", "10.0.0/x", "a/b"])
def test_what_is_no_network_is_told(look: Look, text: str) -> None:
    view = keys.filtered(View(), "client", text)
    assert view.filters == Filters() and "is not an address, ADDRESS/BITS" in view.message


# Cursor

def row(slot: int, sessions: int = 1) -> TableRow:
    return TableRow(Row(slot, 100 + slot, "relay", sessions), 0.0)


def test_the_cursor_stays_with_its_session() -> None:
    table = [row(slot) for slot in range(50)]
    view = settled(keys.moved(3)(View(room=10), None), table, 10)    # type: ignore[arg-type]
    assert (view.cursor, view.held) == (3, (3, 103, 1))
    view = settled(view, table[::-1], 10)
    assert (view.cursor, view.first) == (46, 37)
    view = settled(view, [line for line in table if line.row.slot != 3], 10)
    assert view.cursor == 46, "its session has gone: where it was"


def test_without_having_been_moved_it_stays_in_the_first_line() -> None:
    table = [row(slot) for slot in range(50)]
    assert settled(settled(View(), table, 10), table[::-1], 10).cursor == 0


@pytest.mark.parametrize("count, room, cursor, wanted", [
    (50, 10, 99, (49, 40)), (5, 10, 99, (4, 0)), (0, 10, 7, (0, 0)), (50, 1, 20, (20, 20)), (11, 10, 10, (10, 1))])
def test_the_cursor_is_in_sight(count: int, room: int, cursor: int, wanted: tuple[int, int]) -> None:
    view = settled(View(cursor=cursor), [row(slot) for slot in range(count)], room)
    assert (view.cursor, view.first) == wanted


# Keys

def test_keys_that_change_the_view(look: Look) -> None:
    change = {name: key.change for key in keys.KEYS for name in key.names if key.change is not None}
    view = View(room=3)
    assert change["a"](view, look).has_all and not change["a"](change["a"](view, look), look).has_all
    assert change["right"](view, look).sort == "pid" and change[">"] is change["right"]
    assert change["<"](view, look).sort == "session", "round and round"
    assert change["r"](view, look).is_reversed
    assert change["pagedown"](view, look).cursor == 2 and change["end"](view, look).cursor == 5
    assert change["home"](replace(view, cursor=4, is_holding=True), look) == view
    assert change["h"](view, look).page == HELP and change["h"](change["h"](view, look), look).page == TABLE
    assert change["enter"](view, look).page == DETAIL and change["escape"](replace(view, page=HELP), look).page == TABLE
    assert change["x"](replace(view, filters=Filters("a", "b")), look).filters == Filters()
    assert change["down"](replace(view, page=HELP), look).page_first == 1, "in a text, it is moved"


def test_the_letter_of_the_column_again_turns_it_round() -> None:
    column = columns_of("pproxy")[5]
    once = keys.sorted_by(column, View())
    assert (once.sort, once.is_reversed, keys.sorted_by(column, once).is_reversed) == ("since", False, True)


def test_no_key_does_two_things() -> None:
    names = [name for key in keys.KEYS for name in key.names]
    assert len(set(names)) == len(names)
    assert all((key.change is None) == bool(key.action) for key in keys.KEYS)


def test_the_man_page_tells_every_key_and_column() -> None:
    page = (Path(__file__).parents[2] / "man/pstatus.1").read_text()
    told = page.partition(".SS Keys\n")[2].partition("\n.S")[0]
    heads = {re.sub(r"\\f.|\\", "", head.removeprefix(".B ")) for head in re.findall(r"^\.TP\n(.*)$", told, re.M)}
    assert heads == {key.shown for key in keys.KEYS} | {"Shift and a letter"}
    for program in ("pproxy", "pserv"):
        for column in columns_of(program):
            assert re.search(rf"\b{column.letter} {column.name}\b", told), column.name


# Columns and lines

@pytest.mark.parametrize("width, wanted", [
    (24, "state user"),
    (80, "slot state since client vserv backend out user"),
    (120, "slot pid state since client vserv backend in out rate user"),
    (200, "slot pid nth state age since idle client vserv backend in out rate user session"),
])
def test_which_columns_have_room(width: int, wanted: str) -> None:
    found = column_widths(columns_of("pproxy"), {"user": 300}, width, "slot" if width > 50 else "user")
    assert list(found) == wanted.split()
    assert sum(found.values()) + gap_in(width) * (len(found) - 1) <= width


def test_the_column_that_sorts_is_always_there() -> None:
    for column in columns_of("pproxy"):
        assert column.name in column_widths(columns_of("pproxy"), {}, 40, column.name)


def text_of(look: Look, view: View, width: int, height: int) -> list[str]:
    """Return the lines of a frame as texts."""
    lines, _ = frame(look, chosen(look, view), view, width, height, PLAIN)
    return ["".join(text for _, text in line) for line in lines]


@pytest.mark.parametrize("page", [TABLE, HELP, DETAIL])
@pytest.mark.parametrize("width", [1, 19, 20, 33, 80, 99, 100, 120, 200, 500])
def test_frames_have_the_size_of_the_screen(look: Look, page: str, width: int) -> None:
    for height in (1, 5, 6, 7, 10, 24, 50):
        lines = text_of(look, View(page=page), width, height)
        assert max(map(len, lines)) <= width
        assert len(lines) == height or (height < 6 or width < 20) and len(lines) == 1


def test_a_frame(look: Look) -> None:
    lines = text_of(look, View(filters=Filters().with_one("backend", "1")), 120, 24)
    assert lines[0].startswith(" pproxy 2.0.0 on ") and f"master {os.getpid()}, up 0s" in lines[0]
    assert lines[1] == "now         4 of 5 sessions OK, 1 idle children, load 1.50 of 20 OK"
    assert lines[2] == "rates       -"
    start = next(number for number, line in enumerate(lines) if line.startswith("shown"))
    assert lines[start] == "shown       2 sessions by slot, backend 1"
    assert lines[start + 1].split() == "slot^ pid state since client vserv backend in out rate user".split()
    assert lines[start + 2].split() == f"2 {os.getpid()} auth 0s 192.0.2.30:1 tls store1 9 30 - Ann".split()
    assert lines[start + 4] == "" and lines[-1].startswith(" h help  q end  < > sort ")


def test_nothing_hostile_reaches_the_screen(tmp_path: Path) -> None:
    owner, backend = "v\x1b\u202e", "\u65e5\u05d0"
    hostile = Made(HOSTILE, HOSTILE[:12], 1, owner, backend, HOSTILE)
    with statefile_with(tmp_path / "pproxy.state", [hostile], owners=[owner], backends=[backend]) as statefile:
        look = Follower(take(statefile.path), ANY).last
        for page in (TABLE, HELP, DETAIL):
            for line in text_of(look, View(page=page, message=HOSTILE, filters=Filters(HOSTILE.strip())), 200, 50):
                assert line.isascii() and line.isprintable()
        assert r"\x1b[2J" in "".join(text_of(look, View(page=DETAIL), 200, 50))


def test_rates(statefile: StateFile) -> None:
    follower = Follower(take(statefile.path), ANY)
    put(statefile, 1, Made("new", bytes_in=1000, bytes_out=0))
    slot = statefile.slot(0)
    slot.count("logins", 4)
    slot.release()
    before = follower.last
    follower.last = replace(before, snapshot=replace(before.snapshot, moment=before.snapshot.moment - 10))
    look = follower.look()
    assert 0.3 < look.rates["logins"] <= 0.4
    speeds = {session.row.slot: session.speed for session in look.sessions}
    assert 90 < speeds.pop(1) <= 100 and set(speeds.values()) == {0.0}
    assert slots(look, sort="rate")[0] == 1
    assert "0.4 logins/s" in text_of(look, View(), 120, 24)[2]


def test_details_tell_everything(look: Look) -> None:
    lines = dict(("".join(label).strip(), text) for label, text in pages.page(DETAIL, look, look.sessions[3], 80))
    assert [lines[name] for name in ("user", "client", "vserv", "backend")] == "bob [2001:db8::1]:3 main store1".split()
    assert lines["octets"] == "7 (7) in, 50 (50) out, 0/s" and lines["state"] == "empty for 0s"
    assert pages.page(DETAIL, look, None, 80) == [("", "  no session")]


def test_pserv(tmp_path: Path) -> None:
    joe = Made("3/2d/joe", state=SessionState.TRANSACTION)
    with statefile_with(tmp_path / "pserv.state", [joe], SERVER) as statefile:
        look = Follower(take(statefile.path), ANY).last
        lines = text_of(look, View(), 200, 24)
        assert any(line.split()[-2:] == ["mailbox", "session"] for line in lines)
        assert any("3/2d/joe" in line and "transaction" in line for line in lines)
        assert not any("backend" in text for _, text in pages.page(HELP, look, None, 80))


# Following the file

def test_a_daemon_that_ends_and_one_that_takes_over(tmp_path: Path) -> None:
    path = tmp_path / "pproxy.state"
    with statefile_with(path, SOME) as statefile:
        follower = Follower(take(str(path)), ANY)
        statefile.remove()
        look = follower.look()
        assert re.fullmatch(rf"No such file or directory; this was seen last, at [0-9:]{{8}}: {path}", look.trouble)
        assert len(look.sessions) == 5
        path.write_bytes(b"no state file")
        assert "not a state file" in follower.look().trouble
        path.unlink()
    with statefile_with(path, SOME[:2]) as statefile:
        statefile.tell(pid=1)
        look = follower.look()
        assert (look.trouble, look.rates, len(look.sessions)) == ("", {}, 2)
        assert look.news == f"Another pproxy has taken over: master 1, before {os.getpid()}."
        assert follower.look().news == ""
        statefile.tell(pid=2 ** 22 + 1)
        assert follower.look().trouble == f"The master {2 ** 22 + 1} is gone and has left its state file behind."


def test_a_file_that_was_away_for_a_moment(statefile: StateFile) -> None:
    follower = Follower(take(statefile.path), ANY)
    os.rename(statefile.path, statefile.path + ".away")
    assert "No such file" in follower.look().trouble
    os.rename(statefile.path + ".away", statefile.path)
    assert (follower.look().news, follower.last.trouble) == ("The state file is back.", "")


def test_a_copy_says_so(statefile: StateFile, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(Path(statefile.path).read_bytes())
    assert "is a copy of a state file" in Follower(take(str(copy)), ANY).last.trouble


def test_a_range_of_slots(statefile: StateFile) -> None:
    look = Follower(take(statefile.path), Selection(False, 2, 3)).last
    assert [session.row.slot for session in look.sessions] == [2, 3]


def test_a_slot_that_is_never_at_rest(statefile: StateFile, tmp_path: Path) -> None:
    octets = bytearray(Path(statefile.path).read_bytes())
    octets[statefile.layout.slot_at(2)] ^= 1
    copy = tmp_path / "copy"
    copy.write_bytes(octets)
    look = Follower(take(str(copy)), ANY).last
    assert look.sessions[2].row.state == "being-written"
    assert slots(look) == [0, 2, 3, 4] and slots(look, filters=Filters().with_one("user", "o")) == [0, 3]


def test_many_are_sorted_by_every_column(tmp_path: Path) -> None:
    with statefile_with(tmp_path / "pproxy.state", many(300)) as statefile:
        look = Follower(take(statefile.path), ANY).last
        for column in look.columns:
            for is_reversed in (False, True):
                assert sorted(slots(look, sort=column.name, is_reversed=is_reversed)) == list(range(300))


@pytest.mark.parametrize("name, socket", [
    ("pproxy.state", "pproxy.ctrl"), ("pproxy.4711.state", "pproxy.4711.ctrl"), ("copy", "pproxy.ctrl")])
def test_where_sessions_are_killed(statefile: StateFile, name: str, socket: str) -> None:
    assert socket_beside(replace(take(statefile.path), path=f"/run/{name}")) == f"/run/{socket}"


def test_kinds_of_statefile_are_those_of_the_columns() -> None:
    for program, kind in (("pproxy", PROXY), ("pserv", SERVER)):
        assert {kind.owner, *kind.others} <= {column.name for column in columns_of(program)}
