"""Sizes and flags: files that are not what their names say, and the flag S of Maildir programs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

NAME = "joe"
TEXT = b"Subject: x\r\n\r\ntext\r\n"
FOREIGN = b"Subject: x\n\ntext\n"
Drop = Callable[..., MaildirMaildrop]


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


# Sizes that names do not tell truly (a file cut off by a crash, a wrong name)

@pytest.mark.parametrize(("name", "octets", "said"), [
    pytest.param("1.5_1000", b"Subject: x\r\n\r\ntext\r\n", 20, id="cut-off"),
    pytest.param("1.5_1000", b"Subject: x\r\n\r\nte", 18, id="cut-off-within-a-line"),
    pytest.param("1.5_1000", b"x", 3, id="one-octet"),
    pytest.param("1.5_1000", b"", 0, id="empty"),
    pytest.param("1.5_7", b"Subject: x\r\n\r\ntext\r\n", 20, id="longer"),
    pytest.param("1.x.host,W=1000", FOREIGN, 20, id="foreign"),
    pytest.param("1.x.host,S=990,W=1000", FOREIGN, 20, id="foreign-with-both"),
    pytest.param("1.x.host,W=7", FOREIGN[:-1], 20, id="foreign-longer"),
])
@pytest.mark.parametrize("more", [(), ("new/2.x.host",)], ids=["alone", "with-a-foreign-one"])
def test_a_file_of_another_size_is_served_with_its_true_one(box: Path, drop: Drop, name: str, octets: bytes, said: int,
                                                            more: tuple[str, ...]) -> None:
    put(box, f"new/{name}", octets=octets)
    put(box, *more)
    maildrop = drop()
    before = maildrop.entries[0].size
    for _ in range(2):
        read(maildrop, 0)
    entries = maildrop.entries
    assert (before != said, entries[0].size, entries.sizes[0], entries.octets) == (
        True, said, said, said + len(more) * 20)
    assert [entry.size for entry in entries] == list(entries.sizes)
    assert [(trouble.what, trouble.name) for trouble in maildrop.troubles] == [("wrong_size", name)]


def test_a_foreign_name_that_tells_both_sizes_is_not_read_to_be_counted(box: Path, drop: Drop,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.x.host,S=17,W=20", octets=FOREIGN)
    monkeypatch.setattr("popular.store.maildrop.wire_size", None)
    assert read(drop(), 0) == TEXT


@pytest.mark.parametrize("octets", [b"Subject: x\n\ntext", b"Subject: x\n\ntext\n"])
def test_a_foreign_file_without_a_last_line_end_is_announced_as_sent(box: Path, drop: Drop, octets: bytes) -> None:
    put(box, "new/1.x.host", octets=octets)
    assert drop().entries[0].size == 20


# The flag S, which says to other Maildir programs that a message was read

@pytest.mark.parametrize(("flags_own", "before", "after"), [
    (False, "new/1.1_20", "cur/1.1_20"),
    (True, "new/1.1_20", "cur/1.1_20:2,S"),
    (True, "cur/1.1_20", "cur/1.1_20:2,S"),
    (False, "cur/1.1_20:2,F", "cur/1.1_20:2,FS"),
    (False, "new/1.x.host,S=17", "cur/1.x.host,S=17:2,S"),
    (False, "new/1.x.host:2,", "cur/1.x.host:2,S"),
    (False, "cur/1.x.host:2,RT", "cur/1.x.host:2,RST"),
    (False, "cur/1.x.host:2,S", "cur/1.x.host:2,S"),
    (False, "cur/1.x.host", "cur/1.x.host:2,S"),
])
def test_read_messages_get_the_flag_s(spool: Path, box: Path, flags_own: bool, before: str, after: str) -> None:
    steps = (True, {0}, before), (False, set[int](), before), (False, {0}, after), (False, {0}, after)
    for master, was_read, left in steps:
        if not files(box):
            put(box, before)
        maildrop = MaildirMaildrop(Mailbox(str(spool), NAME), master=master, flags_own=flags_own)
        uid = maildrop.entries[0].uid
        maildrop.commit(set(), was_read)
        assert files(box) == [left]
        assert [entry.uid for entry in MaildirMaildrop(Mailbox(str(spool), NAME)).entries] == [uid]


def test_the_flag_never_overwrites_another_message(box: Path, drop: Drop) -> None:
    put(box, "cur/1.x.host:2,")
    maildrop = drop()
    put(box, "cur/1.x.host:2,S", octets=b"another one\r\n")
    maildrop.commit(set(), {0})
    assert files(box) == ["cur/1.x.host:2,", "cur/1.x.host:2,S"]


def test_what_another_program_moved_while_it_was_read_gets_the_flag_there(box: Path, drop: Drop) -> None:
    put(box, "new/1.x.host")
    maildrop = drop()
    os.rename(box / "new/1.x.host", box / "cur/1.x.host:2,F")
    maildrop.commit(set(), {0})
    assert files(box) == ["cur/1.x.host:2,FS"]


@pytest.mark.parametrize(("names", "last"), [
    (("cur/1.1_20", "new/2.1_20"), 1), (("new/1.1_20", "cur/2.1_20"), 2), (("new/1.1_20",), 0),
    (("cur/1.x.host:2,", "new/2.x.host"), 0), (("cur/1.x.host:2,S", "cur/2.x.host:2,F"), 1)])
def test_last_is_what_was_read_before(box: Path, drop: Drop, names: tuple[str, ...], last: int) -> None:
    put(box, *names)
    assert drop().last_read() == last
