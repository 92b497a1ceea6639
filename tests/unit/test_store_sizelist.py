"""What is remembered about foreign files: nothing is counted twice, and no content of the file does harm."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.store import maildrop as maildrop_module
from popular.store.filename import mark_of
from popular.store.lineends import ByteSource, wire_size
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.store.sizelist import MAX_LINES, MAX_OCTETS, SIZES_NAME

FOREIGN = b"Subject: x\n\ntext\n"


@pytest.fixture
def box(spool: Path) -> Path:
    """A mailbox with foreign messages in both folders."""
    Mailbox(str(spool), "joe").create()
    for place in ("new/1.x.host", "cur/2.x.host,S=17:2,S", "cur/3.x.host:2,", "cur/4.1_20"):
        (spool / "joe" / place).write_bytes(FOREIGN)
    return spool / "joe"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of files that are counted."""
    sizes: list[int] = []

    def count(source: ByteSource) -> int:
        sizes.append(wire_size(source))
        return sizes[-1]

    monkeypatch.setattr(maildrop_module, "wire_size", count)
    return sizes


def drop(box: Path) -> MaildirMaildrop:
    return MaildirMaildrop(Mailbox(str(box.parent), box.name))


def test_a_file_is_counted_once_whatever_becomes_of_it(box: Path, counted: list[int]) -> None:
    for _ in range(3):    # users who neither read nor delete, and never say QUIT
        assert drop(box).entries.octets == 80
    assert counted == [20, 20, 20]
    maildrop = drop(box)
    for index in range(4):
        maildrop.open(index).close()
    maildrop.commit({1}, {0, 2})
    assert drop(box).entries.octets == 60
    assert len(counted) == 3
    assert sorted(os.listdir(box)) == [SIZES_NAME, "cur", "new", "tmp"]
    assert os.listdir(box / "tmp") == []
    assert (box / SIZES_NAME).stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_changed_is_counted_anew(box: Path, counted: list[int]) -> None:
    drop(box)
    (box / "new/1.x.host").write_bytes(FOREIGN + b"more\n")
    assert [entry.size for entry in drop(box).entries][0] == 26
    assert len(counted) == 4
    drop(box)
    assert len(counted) == 4


def test_what_is_gone_is_dropped(box: Path) -> None:
    drop(box)
    assert (box / SIZES_NAME).read_bytes().count(b"S ") == 3
    (box / "cur/3.x.host:2,").unlink()
    (box / "new/5.x.host").write_bytes(FOREIGN)
    (box / "cur/2.x.host,S=17:2,S").unlink()
    drop(box)
    assert (box / SIZES_NAME).read_bytes().count(b"S ") == 2


def test_a_mailbox_of_our_own_names_has_no_such_file(spool: Path, make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("jane", [b"text\r\n"], [b"text\r\n"])
    (box / "cur/7.1_20:2,S").write_bytes(FOREIGN)
    drop(box)
    assert sorted(os.listdir(box)) == ["cur", "new", "tmp"]


@pytest.mark.parametrize("spoil", [
    pytest.param(lambda text: b"", id="empty"),
    pytest.param(lambda text: text[:-5], id="cut-off"),
    pytest.param(lambda text: text[:text.index(b"\n", 20) - 1], id="cut-off-in-a-number"),
    pytest.param(lambda text: text[:60] + text[text.index(b"end"):], id="hole"),
    pytest.param(lambda text: b"popular-sizes 2" + text[15:], id="of-another-version"),
    pytest.param(lambda text: os.urandom(5000), id="noise"),
    pytest.param(lambda text: b"\0" * 5000, id="nul"),
    pytest.param(lambda text: text + b"\n", id="more"),
    pytest.param(lambda text: text.replace(b"S ", b"S -"), id="negative"),
    pytest.param(lambda text: b"popular-sizes 1\n" + b"S 1 1 1 1\n" * (MAX_OCTETS // 10) + b"end 1\n", id="too-large"),
    pytest.param(lambda text: text[:text.index(b"end")] + b"S 1 1 1 1\n" * 2 * MAX_LINES + b"end %d\n" % (
                 2 * MAX_LINES + 3), id="too-many-lines"),
])
def test_content_that_is_wrong_counts_as_none(box: Path, counted: list[int], spoil: Callable[[bytes], bytes]) -> None:
    drop(box)
    (box / SIZES_NAME).write_bytes(spoil((box / SIZES_NAME).read_bytes()))
    assert drop(box).entries.octets == 80
    assert counted == [20] * 6
    drop(box)
    assert counted == [20] * 6


def test_a_size_that_somebody_made_up_is_not_promised_by_retr_for_long(box: Path, counted: list[int]) -> None:
    """The user of the daemons could write any mail; still, what is sent has no other end than the file's."""
    drop(box)
    text = (box / SIZES_NAME).read_bytes()
    (box / SIZES_NAME).write_bytes(text.replace(b" 17 20\n", b" 17 9999\n"))
    maildrop = drop(box)
    assert maildrop.entries[0].size == 9999
    with maildrop.open(0) as file:
        assert len(file.read()) == 20


@pytest.mark.parametrize("obstacle", ["link", "folder", "pipe", "no-tmp"])
def test_a_list_that_cannot_be_used_harms_no_session(box: Path, obstacle: str) -> None:
    path = box / SIZES_NAME
    if obstacle == "link":
        (box.parent / "secret").write_bytes(b"secret")
        path.symlink_to(box.parent / "secret")
    elif obstacle == "folder":
        path.mkdir()
    elif obstacle == "pipe":
        os.mkfifo(path)
    else:
        (box / "tmp").rmdir()
    maildrop = drop(box)
    assert maildrop.entries.octets == 80
    failed = obstacle in ("folder", "no-tmp")
    assert [trouble.what for trouble in maildrop.troubles] == ["not_remembered"] * failed
    if obstacle == "link":
        assert (box.parent / "secret").read_bytes() == b"secret"
    assert not (box / "tmp").exists() or os.listdir(box / "tmp") == []


@pytest.mark.parametrize("names", [
    ("cur/1.x,W=9", "cur/1.x:2,S"), ("cur/a b", "new/a b"), ("new/5.y.host", "cur/5.y.host:2,F")])
def test_foreign_twins_keep_their_names_and_ids(spool: Path, make_mailbox: Callable[..., Path],
                                                names: tuple[str, str]) -> None:
    box = make_mailbox("jane")
    for number, name in enumerate(names):
        (box / name).write_bytes(b"%d\r\n" % number)
    uids = [entry.uid for entry in drop(box).entries]
    assert len(set(uids)) == 2
    drop(box).commit(set(), {0, 1})
    bases = {path.name.partition(":")[0] for folder in ("new", "cur") for path in (box / folder).iterdir()}
    assert bases == {name.partition("/")[2].partition(":")[0] for name in names}
    maildrop = drop(box)
    assert sorted(entry.uid for entry in maildrop.entries) == sorted(uids)
    first = [entry.uid for entry in maildrop.entries].index(uids[0])
    maildrop.commit({first}, set())
    for _ in range(2):
        assert [entry.uid for entry in drop(box).entries] == uids[1:]


def test_a_twin_and_another_name_of_its_file_have_ids_of_their_own(
        spool: Path, make_mailbox: Callable[..., Path]) -> None:
    """As after COPY of an IMAP server within one mailbox, which is a link."""
    box = make_mailbox("jane")
    for number, name in enumerate(("1.x.host:2,", "1.x.host:2,S", "2.y.host:2,")):
        (box / "cur" / name).write_bytes(b"%d\r\n" % number)
    os.link(box / "cur/1.x.host:2,", box / "cur/3.z.host:2,S")
    os.link(box / "cur/1.x.host:2,S", box / "cur/4.z.host:2,S")
    before = [entry.uid for entry in drop(box).entries]
    assert len(set(before)) == 5
    os.link(box / "cur/1.x.host:2,S", box / "cur/5.z.host:2,S")
    for _ in range(2):
        assert [entry.uid for entry in drop(box).entries] == [*before, "5.z.host"]


def test_twins_that_somebody_made_up_have_ids_of_their_own(box: Path) -> None:
    twins = [(path.stat().st_ino, mark_of(path.name)) for folder in ("new", "cur") for path in (box / folder).iterdir()]
    lines = b"".join(b"T %d %d %d\n" % (*twin, 7) for twin in [*twins, (1, 1)])
    (box / SIZES_NAME).write_bytes(b"popular-sizes 1\n" + lines + b"end %d\n" % (len(twins) + 1))
    uids = [entry.uid for entry in drop(box).entries]
    assert len(set(uids)) == 4 and "4.1_20" in uids


def test_a_delivery_in_the_same_second_still_sees_that_names_may_be_spent(box: Path) -> None:
    """Writing the list changes the folder of the mailbox, whose time a delivery compares with that of cur/."""
    drop(box)
    assert (box / "cur").stat().st_mtime > box.stat().st_mtime
