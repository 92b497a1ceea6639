"""A Maildir that becomes a mailbox by one rename: checked before, complete after any crash, and back again."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import PopularError
from popular.store.filename import base_of
from popular.store.lineends import ByteSource, wire_size
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.store.sizelist import SIZES_NAME
from popular.store.uidlist import UIDS_NAME
from popular.tools.pmigrate.inplace import inplace
from popular.tools.pmigrate.job import MoveResult, MoveVerdict
from popular.tools.pmigrate.main import run
from popular.tools.pmigrate.sources.maildir import MaildirSource
from popular.unix.rights import find_rights, own_rights

TEXT = b"Subject: x\n\ntext\n"
LIST = "3 V1275660208 N25022\n5 W20 :1.a\n7 W20 :3.c,S=17\n9 :2.b\n"
UIDS = ["5", "7", "9", "4.d"]
PLACES = ["cur/1.a:2,S", "cur/3.c,S=17:2,", "new/2.b", "new/4.d"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def spool(place: Path) -> Path:
    """An empty spool."""
    (place / "spool").mkdir()
    return place / "spool"


@pytest.fixture
def box(place: Path) -> Path:
    """A Maildir of Dovecot."""
    for name in ("new", "cur", "tmp"):
        (place / "home/joe/Maildir" / name).mkdir(parents=True)
    path = place / "home/joe/Maildir"
    for name in PLACES:
        (path / name).write_bytes(TEXT)
    (path / "dovecot-uidlist").write_text(LIST)
    return path


def move(box: Path, spool: Path, name: str = "j/joe", *, user: str = "", is_dry: bool = False) -> MoveResult:
    owner = find_rights(user, None) if user else own_rights()
    return inplace(MaildirSource(str(box), form="%u"), Mailbox(str(spool), name), owner, gives=bool(user),
                   is_dry=is_dry)


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def uids(spool: Path, name: str = "j/joe") -> list[str]:
    return list(MaildirMaildrop(Mailbox(str(spool), name)).entries.uids)


def test_one_rename_and_two_lists(box: Path, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(box)
    result = move(box, spool)
    assert (result.verdict, result.found, result.brought, result.octets) == (MoveVerdict.DONE, 4, 4, 40)
    assert result.unnamed == 1
    assert not box.exists() and box.parent.exists()
    assert tree(spool / "j/joe") == sorted([*before, UIDS_NAME, SIZES_NAME])
    counted: list[ByteSource] = []

    def count(source: ByteSource) -> int:
        counted.append(source)
        return wire_size(source)

    monkeypatch.setattr("popular.store.maildrop.wire_size", count)
    assert uids(spool) == UIDS and len(counted) == 2    # those whose size Dovecot did not know


def test_where_it_is(box: Path) -> None:
    assert move(box, box.parent.parent, "joe/Maildir").verdict is MoveVerdict.DONE
    assert uids(box.parent.parent, "joe/Maildir") == UIDS
    (box / "new/1700000000.5_6").write_bytes(b"text\r\n")    # POPular has delivered; then once more
    assert move(box, box.parent.parent, "joe/Maildir").found == 5
    assert uids(box.parent.parent, "joe/Maildir") == [*UIDS, "1700000000.5_6"]


def test_a_second_run_does_nothing_and_the_way_back_is_free(box: Path, spool: Path) -> None:
    before = tree(box)
    move(box, spool)
    assert move(box, spool).remarks == ("was moved by an earlier run",)
    (spool / "j/joe").rename(box)
    (box / UIDS_NAME).unlink()
    (box / SIZES_NAME).unlink()
    assert tree(box) == before


def test_the_command(box: Path, spool: Path) -> None:
    assert run(["inplace", "-j1", "-d", str(spool), "--uidl-format", "%u", f"dovecot:{box}", "j/joe"]) == 0
    assert uids(spool) == UIDS


def test_a_dry_run_only_tells(box: Path, spool: Path) -> None:
    before = tree(box.parent)
    assert move(box, spool, is_dry=True).found == 4
    assert tree(box.parent) == before and tree(spool) == []


def _there(box: Path, spool: Path) -> None:
    (spool / "j/joe").mkdir(parents=True)


def _name_of_ours(box: Path, spool: Path) -> None:
    (box / "cur/1.5_17").write_bytes(TEXT)


def _compressed(box: Path, spool: Path) -> None:
    (box / "cur/6.f:2,SZ").write_bytes(TEXT)


def _unreadable(box: Path, spool: Path) -> None:
    (box / "cur/1.a:2,S").chmod(0)


def _closed(box: Path, spool: Path) -> None:
    (box / "cur").chmod(0o500)


def _gone(box: Path, spool: Path) -> None:
    box.rename(box.with_name("elsewhere"))


def _foreign(box: Path, spool: Path) -> None:
    os.chown(box / "cur/1.a:2,S", 12345, -1)


def _linked(box: Path, spool: Path) -> None:
    (box / "tmp").rmdir()
    (box / "tmp").symlink_to("/tmp")


@pytest.mark.parametrize(("spoil", "why"), [
    (_there, "exists already: use copy"), (_name_of_ours, "use copy"), (_compressed, "compressed"),
    (_unreadable, "rights 400"), (_closed, "rights 700"), (_gone, "No such file"), (_linked, "rights 700"),
    pytest.param(_foreign, "belongs to user 12345", marks=needs_root)])
def test_what_is_wrong_is_found_before_anything_is_changed(
        box: Path, spool: Path, spoil: Callable[[Path, Path], None], why: str) -> None:
    spoil(box, spool)
    before = tree(box.parent)
    with pytest.raises((PopularError, OSError), match=why):
        move(box, spool)
    assert tree(box.parent) == before and uids_of_none(spool)


def uids_of_none(spool: Path) -> bool:
    return not any(path.is_file() for path in spool.rglob("*"))


def test_another_file_system_wants_a_copy(box: Path, spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PopularError, match="another file system than .*: use copy"):
        move(box, spool)
    assert (box / "new/2.b").exists()


def test_ids_that_cannot_be_given_are_told(box: Path, spool: Path) -> None:
    (box / "dovecot-uidlist").write_text("3 V1 N9\n5 P%s :1.a\n7 Psame :3.c,S=17\n8 Psame :2.b\n9 :4.d\n" % ("x" * 71))
    (box / "cur/3.c,S=18:2,").write_bytes(TEXT)
    remarks = move(box, spool).remarks
    assert [word in line for word, line in zip(
        ("1.a", "same", "up to the comma"), remarks, strict=False)] == [True] * 3
    found = uids(spool)
    assert len(set(found)) == 5 and "same" in found and "9" in found


class _Kill:
    """Ends this process at the Nth call that changes the disk."""

    CALLS = ((os, "link"), (os, "rename"), (os, "unlink"), (os, "mkdir"), (os, "fsync"), (os, "write"), (os, "chown"))

    def __init__(self, number: int) -> None:
        self._left = number

    def arm(self) -> None:
        """Replace the calls; only for a process that ends soon."""
        for place, name in self.CALLS:
            setattr(place, name, self._counting(getattr(place, name)))

    def _counting(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **more: object) -> object:
            self._left -= 1
            if self._left < 0:
                os._exit(9)
            return call(*args, **more)

        return counted


@pytest.mark.parametrize("user", ["", pytest.param("nobody", marks=needs_root)])
def test_whatever_ends_it_another_run_completes_it(box: Path, spool: Path, user: str) -> None:
    """Killed before each of its calls, each time once more than before: no cleaning up."""
    if user:
        os.chown(spool, find_rights(user, None).uid, -1)
    number = 0
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                _Kill(number).arm()
                move(box, spool, user=user)
                os._exit(0)
            finally:
                os._exit(3)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9)
        if code == 0:
            break
        number += 1
        there = [path for path in (box, spool / "j/joe") if path.exists()]
        assert len(there) == 1 and {base_of(name) for name in os.listdir(there[0] / "cur")} == {"1.a", "3.c"}
    assert number > 5 and uids(spool) == UIDS
    assert {path.stat().st_uid for path in [spool / "j/joe", *(spool / "j/joe").glob("*/*")]} == {
        find_rights(user, None).uid if user else os.geteuid()}
