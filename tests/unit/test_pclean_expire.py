"""Cleaning one mailbox: ages on an injected clock, order and care of removals, what is counted."""

import os
from pathlib import Path

import pytest

from popular.store.commit import MAX_TROUBLES
from popular.store.filename import time_of
from popular.store.listing import list_messages
from popular.store.mailbox import Mailbox
from popular.tools.pclean.expire import Ages, Cleaned, Cleaning, IdleHand, WorkingHand

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_700_000_000
AGES = Ages(36 * HOUR, read=90 * DAY, unread=365 * DAY)


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), "joe").create()
    return spool / "joe"


class RecordingHand(WorkingHand):
    """Does everything, and keeps what it did in order."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def remove(self, path: str) -> None:
        super().remove(path)
        self.done.append("remove " + "/".join(path.split("/")[-2:]))

    def mark_departure(self, mailbox: Mailbox) -> None:
        super().mark_departure(mailbox)
        self.done.append("mark")

    def sync(self, folder: str) -> None:
        super().sync(folder)
        self.done.append("sync " + os.path.basename(folder))


def put(box: Path, place: str, age: float = 0, content: bytes = b"") -> Path:
    """Make a file that was last changed `age` seconds ago."""
    path = box / place
    path.write_bytes(content)
    os.utime(path, (NOW - age, NOW - age))
    return path


def clean(box: Path, ages: Ages = AGES, hand: WorkingHand | IdleHand | None = None, **more: object) -> Cleaned:
    mailbox = Mailbox(str(box.parent), box.name)
    return Cleaning(mailbox, ages, NOW, hand or WorkingHand(), **more).run()    # type: ignore[arg-type]


def ours(age: int, size: int = 5, pid: int = 1) -> str:
    return f"{NOW - age}.{pid}_{size}"


def files(box: Path) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in ("cur", "new", "tmp") for name in os.listdir(box / folder))


@pytest.mark.parametrize(("place", "changed", "goes"), [
    pytest.param("tmp/x", 36 * HOUR, False, id="tmp-at-the-limit"),
    pytest.param("tmp/x", 36 * HOUR + 1, True, id="tmp-above"),
    pytest.param(f"tmp/{ours(99 * DAY)}", HOUR, False, id="tmp-still-written-to-whatever-its-name"),
    pytest.param("tmp/.nfs1", 99 * DAY, False, id="tmp-dot-file"),
    pytest.param(f"new/{ours(365 * DAY)}", 0, False, id="unread-at-the-limit"),
    pytest.param(f"new/{ours(365 * DAY + 1)}", 0, True, id="unread-above-whatever-its-mtime"),
    pytest.param(f"new/{ours(0)}", 999 * DAY, False, id="unread-young-by-name"),
    pytest.param("new/1.M1P1.host", 365 * DAY, False, id="foreign-unread-by-mtime-at-the-limit"),
    pytest.param("new/1.M1P1.host", 365 * DAY + 1, True, id="foreign-unread-by-mtime-above"),
    pytest.param(f"cur/{ours(90 * DAY)}", 0, False, id="read-at-the-limit"),
    pytest.param(f"cur/{ours(90 * DAY + 1)}", 0, True, id="read-above"),
    pytest.param(f"cur/{ours(90 * DAY + 1)}:2,S", 0, True, id="read-with-flags"),
    pytest.param("cur/1.x:2,S", 90 * DAY + 1, True, id="foreign-read"),
    pytest.param(f"cur/{ours(-DAY)}", 0, False, id="from-the-future"),
    pytest.param("cur/.nfs1", 999 * DAY, False, id="cur-dot-file"),
])
def test_ages(box: Path, place: str, changed: float, goes: bool) -> None:
    path = put(box, place, changed)
    cleaned = clean(box)
    assert path.exists() is not goes
    assert cleaned.removed == goes
    assert {"tmp": cleaned.tmp, "new": cleaned.unread, "cur": cleaned.read}[place[:3]] == goes


@pytest.mark.parametrize(("ages", "left"), [
    pytest.param(Ages(36 * HOUR), 2, id="no-rule"),
    pytest.param(Ages(36 * HOUR, read=DAY), 1, id="read-only"),
    pytest.param(Ages(36 * HOUR, unread=DAY), 1, id="unread-only"),
    pytest.param(Ages(36 * HOUR, DAY, DAY), 0, id="both"),
])
def test_only_what_a_rule_says_expires(box: Path, ages: Ages, left: int) -> None:
    put(box, f"new/{ours(999 * DAY)}")
    put(box, f"cur/{ours(999 * DAY)}")
    put(box, "tmp/x", 99 * DAY)
    cleaned = clean(box, ages)
    assert (cleaned.number, cleaned.tmp) == (left, 1)
    assert len(files(box)) == left


@pytest.mark.parametrize(("name", "seconds"), [
    ("945113196.14341_1067", 945113196),
    ("945113196.14341.M000001_1067:2,S", 945113196),
    ("945113196.M1P1.host,W=5", None),
    ("1075238321.16373_1.host", None),
    ("x", None),
])
def test_the_time_in_a_name_of_ours(name: str, seconds: int | None) -> None:
    assert time_of(name) == seconds


def test_octets_and_what_is_left_are_counted(box: Path) -> None:
    put(box, f"cur/{ours(99 * DAY, size=1000)}")                  # sizes in names are believed, as everywhere
    put(box, "cur/1.x", 99 * DAY, b"x" * 10)
    put(box, "cur/2.x,W=100:2,", 99 * DAY)
    put(box, "tmp/x", 2 * DAY, b"x")
    put(box, f"new/{ours(0, size=7)}")
    put(box, "cur/3.x", 0, b"x" * 20)
    cleaned = clean(box, wants_size=True)
    assert (cleaned.octets, cleaned.number, cleaned.size) == (1111, 2, 27)


def test_sizes_come_without_stat_where_names_tell_them(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat
    asked: list[str] = []

    def noted(path: str) -> os.stat_result:
        asked.append(os.path.basename(path))
        return real(path)

    put(box, f"new/{ours(0, size=7)}")
    put(box, f"cur/{ours(0, size=8)}")
    put(box, "cur/foreign", 0, b"x" * 9)
    with monkeypatch.context() as patch:
        patch.setattr("popular.tools.pclean.expire.os.lstat", noted)
        sized = clean(box, Ages(HOUR), wants_size=True)
        unsized = clean(box, Ages(HOUR))
    assert (sized.size, unsized.number) == (24, 3)
    assert asked == ["foreign"]


def test_new_goes_before_cur_and_each_folder_is_synced_once(box: Path) -> None:
    for pid in (1, 2):
        put(box, f"new/{ours(999 * DAY, pid=pid)}")
        put(box, f"cur/{ours(999 * DAY, pid=pid + 2)}")
    hand = RecordingHand()
    clean(box, hand=hand)
    kinds = [step.rpartition("/")[0] or step for step in hand.done]
    assert kinds == ["mark", "remove new", "remove new", "remove cur", "remove cur", "sync cur", "sync new"]


def test_nothing_is_touched_where_nothing_is_old(box: Path) -> None:
    put(box, f"new/{ours(0)}")
    put(box, "tmp/x")
    hand = RecordingHand()
    clean(box, hand=hand)
    assert hand.done == []


def test_a_name_that_leaves_new_is_never_used_again(box: Path) -> None:
    """pdeliver tells by the time of cur/ that it must not take the short form of a name (store.delivery.deliver)."""
    (box / "cur").rmdir()
    put(box, f"new/{ours(999 * DAY)}")
    clean(box)
    assert os.stat(box / "cur").st_mtime > NOW


def test_unread_mail_stays_if_its_departure_cannot_be_marked(box: Path) -> None:
    class Refusing(WorkingHand):
        def mark_departure(self, mailbox: Mailbox) -> None:
            raise PermissionError(13, "Permission denied")

    path = put(box, f"new/{ours(999 * DAY)}")
    cleaned = clean(box, hand=Refusing())
    assert path.exists()
    assert (cleaned.unread, cleaned.failures) == (0, 1)


def test_both_names_of_a_message_whose_move_was_cut_off_go(box: Path) -> None:
    path = put(box, f"cur/{ours(100 * DAY)}")
    os.link(path, box / "new" / path.name)
    hand = RecordingHand()
    assert clean(box, hand=hand).read == 1
    assert [step.partition("/")[0] for step in hand.done] == ["remove new", "remove cur", "sync cur", "sync new"]
    assert len(list_messages(Mailbox(str(box.parent), "joe"))) == 0


def test_another_message_of_the_same_name_in_new_stays(box: Path) -> None:
    put(box, f"cur/{ours(100 * DAY)}")
    other = put(box, f"new/{ours(100 * DAY)}")
    assert clean(box).read == 1
    assert other.exists()


@pytest.mark.parametrize("place", ["tmp/x", f"new/{ours(999 * DAY)}", f"cur/{ours(999 * DAY)}", "cur/foreign"])
def test_what_vanishes_meanwhile_is_fine(box: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(box, place, 999 * DAY)

    class Late(WorkingHand):
        def remove(self, path: str) -> None:
            os.unlink(path)
            super().remove(path)

    cleaned = clean(box, hand=Late())
    assert not path.exists()
    assert (cleaned.failures, cleaned.removed, cleaned.octets) == (0, 0, 0)


def test_a_file_that_refuses_does_not_end_the_mailbox(box: Path) -> None:
    class Refusing(WorkingHand):
        def remove(self, path: str) -> None:
            if path.endswith("9"):
                raise PermissionError(13, "Permission denied", path)
            super().remove(path)

    for number in range(300):
        put(box, f"tmp/{number}", 99 * DAY)
    cleaned = clean(box, hand=Refusing())
    assert (cleaned.tmp, cleaned.failures, len(cleaned.troubles)) == (270, 30, MAX_TROUBLES)
    assert "Permission denied" in cleaned.troubles[0]


def test_a_folder_that_cannot_be_synced_is_told(box: Path) -> None:
    class Unsynced(WorkingHand):
        def sync(self, folder: str) -> None:
            raise OSError(5, "Input/output error")

    put(box, f"cur/{ours(999 * DAY)}")
    cleaned = clean(box, hand=Unsynced())
    assert (cleaned.read, cleaned.troubles) == (1, [f"{box}/cur: Input/output error"])


def test_missing_folders_are_none_of_our_business(box: Path) -> None:
    for folder in ("new", "cur", "tmp"):
        (box / folder).rmdir()
    assert clean(box) == Cleaned()


def test_folders_and_links_among_the_messages_are_left_alone(box: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_bytes(b"")
    for folder in ("new", "cur", "tmp"):
        (box / folder / "folder").mkdir()
        (box / folder / "link").symlink_to(target)
        os.utime(box / folder / "link", (0, 0), follow_symlinks=False)
    before = files(box)
    assert clean(box) == Cleaned()
    assert files(box) == before and target.exists()


def test_an_idle_hand_touches_nothing_and_counts_the_same(box: Path) -> None:
    put(box, f"new/{ours(999 * DAY)}")
    put(box, f"cur/{ours(999 * DAY)}")
    put(box, "tmp/x", 99 * DAY)
    before = [(path, path.stat()) for path in sorted(box.rglob("*"))]
    pretended = clean(box, hand=IdleHand())
    assert [(path, path.stat()) for path in sorted(box.rglob("*"))] == before
    assert clean(box) == pretended


def test_it_stops_between_files_and_syncs_what_was_done(box: Path) -> None:
    for pid in range(9):
        put(box, f"cur/{ours(999 * DAY, pid=pid)}")
    hand = RecordingHand()
    cleaned = clean(box, hand=hand, is_stopped=lambda: len(hand.done) >= 3)
    assert cleaned.read == 3
    assert hand.done[-1] == "sync cur"


@pytest.mark.parametrize(("new", "cur"), [
    ("{}", "{}"), ("{}", "{}:2,S"), ("1.x.host", "1.x.host:2,S"), ("1.x.host,S=5:2,F", "1.x.host,S=5:2,FS"),
    ("1.x.host:2,", "1.x.host:2,S")])
def test_a_message_whose_move_was_cut_off_goes_with_both_names(box: Path, new: str, cur: str) -> None:
    name = ours(91 * DAY)
    put(box, f"cur/{cur.format(name)}", 91 * DAY, b"text\n")
    os.link(box / "cur" / cur.format(name), box / "new" / new.format(name))
    assert clean(box).read == 1
    assert os.listdir(box / "cur") == os.listdir(box / "new") == []
