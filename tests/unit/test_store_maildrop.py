"""The Maildir behind the POP3 state: what is served, what QUIT changes, and what two sessions do to each other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.errors import CommitError, MessageGone, StoreError
from popular.store import commit as commit_module
from popular.store.commit import MAX_TROUBLES
from popular.store.lineends import BLOCK
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

NAME = "joe"
TEXT = b"Subject: x\r\n\r\ntext\r\n"
FOREIGN = b"Subject: x\n\ntext\n"


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), NAME).create()
    return spool / NAME


@pytest.fixture
def drop(spool: Path) -> Callable[..., MaildirMaildrop]:
    """A function that begins a session over the mailbox."""
    return lambda master=False: MaildirMaildrop(Mailbox(str(spool), NAME), master=master)


def put(box: Path, *places: str, octets: bytes = TEXT) -> None:
    for place in places:
        (box / place).write_bytes(octets)


def files(box: Path) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in ("new", "cur", "tmp") for name in os.listdir(box / folder))


def read(maildrop: MaildirMaildrop, index: int) -> bytes:
    with maildrop.open(index) as file:
        return file.read()


Drop = Callable[..., MaildirMaildrop]


def test_spec_9_1_size_in_the_name_is_trusted_and_the_file_sent_as_it_is(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_999", octets=b"a\nb\r\n")
    maildrop = drop()
    assert [(entry.size, entry.uid) for entry in maildrop.entries] == [(999, "1.1_999")]
    assert read(maildrop, 0) == b"a\nb\r\n"


def test_spec_2_4_messages_come_from_new_and_cur_and_open_no_file(box: Path, drop: Drop,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "cur/1.1_20", "new/2.1_20")
    monkeypatch.setattr(os, "open", None)
    assert [entry.uid for entry in drop().entries] == ["1.1_20", "2.1_20"]


@pytest.mark.parametrize(("name", "size"), [("1.x.host", 20), ("1.x.host,S=17", 20), ("1.x.host,W=20", 20),
                                            ("1.x.host,W=7", 7)])
def test_foreign_file_is_served_with_crlf(box: Path, drop: Drop, name: str, size: int) -> None:
    put(box, f"new/{name}", octets=FOREIGN)
    maildrop = drop()
    assert [entry.size for entry in maildrop.entries] == [size]
    assert read(maildrop, 0) == FOREIGN.replace(b"\n", b"\r\n")


def test_foreign_file_over_the_border_of_a_block(box: Path, drop: Drop) -> None:
    octets = b"x" * (BLOCK - 1) + b"\r\n" + b"y\n" * BLOCK
    put(box, "new/1.x.host", octets=octets)
    maildrop = drop()
    assert maildrop.entries[0].size == len(read(maildrop, 0)) == BLOCK + 1 + 3 * BLOCK


def test_the_base_of_a_foreign_name_and_the_id_stay_at_the_move(box: Path, drop: Drop) -> None:
    put(box, "new/1.x.host", octets=FOREIGN)
    maildrop = drop()
    before = list(maildrop.entries)
    maildrop.commit(set(), {0})
    assert files(box) == ["cur/1.x.host:2,S"]
    assert list(drop().entries) == before


def test_a_name_without_room_for_the_size_moves_as_it_is(box: Path, drop: Drop) -> None:
    name = "1." + "x" * 250
    put(box, f"new/{name}", octets=FOREIGN)
    drop().commit(set(), {0})
    assert files(box) == [f"cur/{name}"]


def test_a_foreign_file_that_cannot_be_read_is_not_listed(box: Path, drop: Drop,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.x.host", "new/2.1_20")

    def fail(source: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("popular.store.maildrop.wire_size", fail)
    maildrop = drop()
    assert [entry.uid for entry in maildrop.entries] == ["2.1_20"]
    assert [(trouble.what, trouble.name) for trouble in maildrop.troubles] == [("not_listed", "1.x.host")]
    assert read(maildrop, 0) == TEXT


def test_a_broken_disk_does_not_fill_the_log(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, *(f"new/{number}.x.host" for number in range(MAX_TROUBLES + 10)))

    def fail(source: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("popular.store.maildrop.wire_size", fail)
    assert len(drop().troubles) == MAX_TROUBLES


# What QUIT changes

@pytest.mark.parametrize(("deleted", "was_read", "master", "left"), [
    pytest.param(set(), set(), False, ["cur/1.1_20", "new/2.1_20", "new/3.1_20"], id="nothing"),
    pytest.param(set(), {0, 1}, False, ["cur/1.1_20", "cur/2.1_20", "new/3.1_20"], id="read"),
    pytest.param(set(), {0, 1}, True, ["cur/1.1_20", "new/2.1_20", "new/3.1_20"], id="read-by-master"),
    pytest.param({0, 2}, set(), False, ["new/2.1_20"], id="deleted"),
    pytest.param({0, 2}, set(), True, ["new/2.1_20"], id="deleted-by-master"),
    pytest.param({1}, {1, 2}, False, ["cur/1.1_20", "cur/3.1_20"], id="read-and-deleted"),
    pytest.param({0, 1, 2}, {0, 1, 2}, False, [], id="all"),
])
def test_spec_2_4_quit_moves_what_was_read_and_removes_what_was_deleted(
        box: Path, drop: Drop, deleted: set[int], was_read: set[int], master: bool, left: list[str]) -> None:
    put(box, "cur/1.1_20", "new/2.1_20", "new/3.1_20")
    drop(master).commit(deleted, was_read)
    assert files(box) == left


def test_nothing_changes_before_commit(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_20", "new/2.x.host")
    maildrop = drop()
    read(maildrop, 0)
    read(maildrop, 1)
    maildrop.close()
    assert files(box) == ["new/1.1_20", "new/2.x.host"]


def test_uids_and_order_stay_over_moves_and_sessions(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_20", "new/2.x.host", "new/3.\x80\xff", "cur/4.1_20:2,S", "new/" + "5" * 80)
    uids = [entry.uid for entry in drop().entries]
    for index in range(len(uids)):
        maildrop = drop()
        assert [entry.uid for entry in maildrop.entries] == uids
        maildrop.commit(set(), {index})
    assert [entry.uid for entry in drop().entries] == uids
    assert all(name.startswith("cur/") for name in files(box))


def test_each_changed_folder_is_synced_once(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, *(f"new/{number}.1_20" for number in range(10, 20)))
    synced: list[str] = []
    monkeypatch.setattr(commit_module, "sync_folder", synced.append)
    drop().commit({0, 1, 2}, {3, 4, 5})
    assert synced == [str(box / "cur"), str(box / "new")]
    synced.clear()
    drop().commit(set(), set())
    assert synced == []


def test_cur_is_made_when_it_is_needed(box: Path, drop: Drop) -> None:
    (box / "cur").rmdir()
    put(box, "new/1.1_20")
    drop().commit(set(), {0})
    assert files(box) == ["cur/1.1_20"]


def test_no_folder_is_made_while_cur_is_there(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.1_20", "new/2.1_20", "new/3.1_20")
    maildrop = drop()
    os.unlink(box / "new/3.1_20")

    def never(*given: object) -> None:
        raise AssertionError(f"mkdir{given}")

    monkeypatch.setattr("popular.store.mailbox.make_folder", never)
    monkeypatch.setattr(os, "mkdir", never)
    maildrop.commit({0}, {1})
    assert files(box) == ["cur/2.1_20"]


# What goes wrong

def failing(monkeypatch: pytest.MonkeyPatch, call: str, *names: str) -> None:
    """Make `os.unlink` or `os.link` fail for these files."""
    real = getattr(os, call)

    def maybe(path: str, *more: object, **keywords: object) -> None:
        if os.path.basename(path) in names:
            raise OSError(5, "Input/output error", path)
        real(path, *more, **keywords)

    monkeypatch.setattr(os, call, maybe)


def test_deletions_that_fail_are_counted_and_the_rest_is_done(box: Path, drop: Drop,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.1_20", "new/2.1_20", "cur/3.1_20", "new/4.1_20")
    failing(monkeypatch, "unlink", "1.1_20", "3.1_20")
    with pytest.raises(CommitError) as caught:
        drop().commit({0, 1, 2}, {3})
    assert (caught.value.failed, caught.value.wanted) == (2, 3)
    assert "1.1_20" in str(caught.value)
    monkeypatch.undo()
    assert files(box) == ["cur/3.1_20", "cur/4.1_20", "new/1.1_20"]


def test_a_folder_that_cannot_be_synced_makes_no_deletion_sure(box: Path, drop: Drop,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "cur/1.1_20", "cur/2.1_20", "new/3.1_20")

    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(commit_module, "sync_folder", fail)
    with pytest.raises(CommitError) as caught:
        drop().commit({0, 1}, set())
    assert (caught.value.failed, caught.value.wanted) == (2, 2)
    drop().commit(set(), {0})    # a read mark is not worth an error


def test_a_move_that_fails_is_trouble_and_no_error(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.1_20", "new/2.1_20")
    failing(monkeypatch, "link", "1.1_20")
    maildrop = drop()
    maildrop.commit(set(), {0, 1})
    assert files(box) == ["cur/2.1_20", "new/1.1_20"]
    assert [(trouble.what, trouble.name) for trouble in maildrop.troubles] == [("not_moved", "1.1_20")]


def test_a_move_never_overwrites(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_20")
    maildrop = drop()
    put(box, "cur/1.1_20", octets=b"another one\r\n")
    maildrop.commit(set(), {0})
    assert (box / "cur/1.1_20").read_bytes() == b"another one\r\n"
    assert (box / "new/1.1_20").read_bytes() == TEXT


@pytest.mark.parametrize("error", [13, 24], ids=["EACCES", "EMFILE"])
def test_a_file_that_cannot_be_opened_now(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    put(box, "new/1.1_20")
    maildrop = drop()

    def fail(path: str, flags: int) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StoreError) as caught:
        maildrop.open(0)
    assert type(caught.value) is StoreError


def test_a_link_put_in_the_place_of_a_message_is_not_followed(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_20", "secret")
    maildrop = drop()
    os.unlink(box / "new/1.1_20")
    os.symlink(box / "secret", box / "new/1.1_20")
    with pytest.raises(StoreError):
        maildrop.open(0)


# Two sessions at once (spec 9.1: no locks)

def test_spec_2_4_a_message_the_other_session_deleted_is_gone(box: Path, drop: Drop) -> None:
    put(box, "new/1.1_20", "new/2.1_20")
    one, other = drop(), drop()
    other.commit({0}, set())
    with pytest.raises(MessageGone):
        one.open(0)
    assert read(one, 1) == TEXT
    one.commit({0}, {1})
    assert files(box) == ["cur/2.1_20"]


@pytest.mark.parametrize("name", ["1.1_20", "1.x.host"])
def test_a_message_the_other_session_moved_is_found(box: Path, drop: Drop, name: str) -> None:
    put(box, f"new/{name}", octets=FOREIGN)
    one, two, other = drop(), drop(), drop()
    other.commit(set(), {0})
    assert read(one, 0) == read(other, 0)
    one.commit(set(), {0})
    assert len(files(box)) == 1
    two.commit({0}, set())
    assert files(box) == []


@pytest.mark.parametrize("name", ["1.1_20", "1.x.host"])
@pytest.mark.parametrize("place", ["new", "cur"])
def test_a_message_another_program_flagged_is_found(box: Path, drop: Drop, name: str, place: str) -> None:
    put(box, f"{place}/{name}", octets=FOREIGN)
    one, two = drop(), drop()
    os.rename(box / place / name, box / "cur" / f"{name}:2,S")
    assert read(one, 0)
    os.rename(box / "cur" / f"{name}:2,S", box / "cur" / f"{name}:2,FS")
    assert read(one, 0)
    one.commit(set(), {0})
    assert files(box) == [f"cur/{name}:2,FS"]
    two.commit({0}, set())
    assert files(box) == []


def test_a_message_that_shares_its_base_by_now_is_gone(box: Path, drop: Drop) -> None:
    """Nobody can tell which of them it was; the wrong one must neither be sent nor removed."""
    put(box, "new/1.1_20")
    maildrop = drop()
    os.rename(box / "new/1.1_20", box / "cur/1.1_20:2,S")
    put(box, "cur/1.1_20:2,F", octets=b"another one\r\n")
    with pytest.raises(MessageGone):
        maildrop.open(0)
    maildrop.commit({0}, set())
    assert len(files(box)) == 2


def test_many_that_vanished_cost_one_listing(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, *(f"cur/{number}.1_20" for number in range(100, 200)))
    maildrop = drop()
    for number in range(100, 150):
        os.unlink(box / "cur" / f"{number}.1_20")
    listings = 0
    real = os.scandir

    def count(path: str) -> object:
        nonlocal listings
        listings += 1
        return real(path)

    monkeypatch.setattr(os, "scandir", count)
    for index in range(50):
        with pytest.raises(StoreError):
            maildrop.open(index)
    maildrop.commit(set(range(100)), set())
    assert listings <= 4
    assert files(box) == []


def test_a_deletion_wins_over_a_move_in_mid_air(box: Path, drop: Drop) -> None:
    """The other session has linked into cur/ and not yet unlinked from new/."""
    put(box, "new/1.1_20", "new/2.x.host")
    maildrop = drop()
    os.link(box / "new/1.1_20", box / "cur/1.1_20")
    os.link(box / "new/2.x.host", box / "cur/2.x.host:2,S")
    maildrop.commit({0, 1}, set())
    assert files(box) == []


@pytest.mark.parametrize("deleted", [set(), {0}])
def test_a_move_that_was_cut_off_is_completed(box: Path, drop: Drop, deleted: set[int]) -> None:
    put(box, "new/1.x.host")
    os.link(box / "new/1.x.host", box / "cur/1.x.host,W=20")
    maildrop = drop()
    assert len(maildrop.entries) == 1
    maildrop.commit(deleted, set())
    assert files(box) == ([] if deleted else ["cur/1.x.host,W=20"])


@pytest.mark.parametrize("names", [
    pytest.param(("cur/1.1_20", "new/1.1_20"), id="ours"),
    pytest.param(("cur/1.x,W=9", "cur/1.x:2,S"), id="foreign"),
    pytest.param(("cur/a b", "new/a b"), id="no-id"),
])
def test_twins_keep_their_ids_when_one_goes(box: Path, drop: Drop, names: tuple[str, str]) -> None:
    put(box, names[0], octets=b"first\r\n")
    put(box, names[1], octets=b"second\r\n")
    maildrop = drop()
    uids = [entry.uid for entry in maildrop.entries]
    texts = [read(maildrop, index) for index in range(2)]
    assert len(set(uids)) == len(set(texts)) == 2
    drop().close()
    assert [entry.uid for entry in drop().entries] == uids
    maildrop.commit({0}, set())
    after = drop()
    assert [entry.uid for entry in after.entries] == uids[1:]
    assert read(after, 0) == texts[1]
    after.commit({0}, {0})
    assert files(box) == []
