"""Removing marked mailboxes: as a whole or not at all, and never mail that came after the mark."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.errors import StoreError
from popular.store import removal
from popular.store.mailbox import Mailbox
from popular.store.removal import Removal, finish_removal, marked_at, obstacle, remove_mailbox
from popular.tools.pclean.walk import SpoolItemKind, Walk
from tests.harness.system import wait_for


class PowerCut(BaseException):
    """The machine stops here."""


@pytest.fixture
def box(spool: Path) -> Path:
    """A mailbox with mail in new/ and cur/, a draft and other files, marked as removed."""
    return make(spool / "a/joe")


def make(box: Path) -> Path:
    for folder in ("new", "cur", "tmp"):
        (box / folder).mkdir(parents=True, exist_ok=True)
    (box / "new/945113196.1_7").write_bytes(b"")
    (box / "cur/945113197.1_70:2,S").write_bytes(b"")
    (box / "cur/foreign").write_bytes(b"x" * 700)
    (box / "tmp/draft").write_bytes(b"x")
    (box / "maildirsize").write_bytes(b"x")
    (box / "broken").symlink_to("nowhere")
    mark(box)
    return box


def mark(box: Path) -> None:
    """Mark a mailbox, a tick of the kernel's clock after its mail came."""
    def is_later() -> bool:
        (box / ".removed").write_bytes(b"")
        came = [path.lstat().st_ctime for path in (box / "new").iterdir()]
        return (box / ".removed").stat().st_mtime > max(came, default=0.0)

    wait_for(is_later, what="the next tick")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def mailboxes(spool: Path) -> list[str]:
    return [found.name for found in Walk(str(spool)) if found.kind is SpoolItemKind.MAILBOX]


def test_a_marked_mailbox_goes_with_all_it_holds(spool: Path, box: Path) -> None:
    assert remove_mailbox(str(box)) == Removal("", mails=3, octets=777)
    assert tree(spool) == ["a"]


def test_the_time_of_the_mark(spool: Path, box: Path) -> None:
    os.utime(box / ".removed", (1, 12345))
    assert marked_at(str(box)) == 12345
    (box / ".removed").unlink()
    assert marked_at(str(box)) is None
    (box / ".removed").mkdir()
    assert marked_at(str(box)) is None
    assert marked_at(str(spool / "nobody")) is None


@pytest.mark.parametrize(("change", "word"), [
    pytest.param(lambda box: (box / "new/late").write_bytes(b""), "late", id="mail-after-the-mark"),
    pytest.param(lambda box: os.link(box / "tmp/draft", box / "new/delivered"), "delivered", id="delivered-after"),
    pytest.param(lambda box: (box / "nested/new").mkdir(parents=True), "nested", id="nested-mailbox"),
    pytest.param(lambda box: (box / "other").symlink_to(".."), "other", id="link-to-a-folder"),
    pytest.param(lambda box: (box / ".removed").unlink(), "no longer marked", id="mark-taken-away"),
])
def test_obstacles_are_seen_before_anything_is_done(box: Path, change: Callable[[Path], object], word: str) -> None:
    change(box)
    before = tree(box)
    assert word in remove_mailbox(str(box)).obstacle
    assert word in obstacle(str(box))
    assert tree(box) == before


def test_a_mark_set_again_covers_late_mail(box: Path) -> None:
    (box / "new/late").write_bytes(b"")
    mark(box)
    assert remove_mailbox(str(box)).mails == 4


def test_read_mail_is_never_late(box: Path) -> None:
    """A session may have moved it after the mark; who read it has it."""
    os.rename(box / "new/945113196.1_7", box / "cur/945113196.1_7")
    assert remove_mailbox(str(box)).obstacle == ""


def at_rename(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], object]) -> None:
    """Let something happen right before or after the folder is set aside; `act` gets the new path."""
    real = os.rename

    def rename(source: str, target: str) -> None:
        real(source, target)
        monkeypatch.setattr(os, "rename", real)
        act(target)

    monkeypatch.setattr(os, "rename", rename)


@pytest.mark.parametrize("path", ["new/late", "nested/new"])
def test_what_comes_at_the_last_moment_brings_the_mailbox_back(spool: Path, box: Path, path: str,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    at_rename(monkeypatch, lambda aside: os.makedirs(os.path.join(aside, path)) if "nested" in path else
              Path(aside, path).write_bytes(b"mail"))
    assert path.partition("/")[path.startswith("new") * 2] in remove_mailbox(str(box)).obstacle
    assert mailboxes(spool) == ["a/joe"]
    assert (box / path).exists() and (box / "new/945113196.1_7").exists() and (box / "tmp").is_dir()
    assert os.listdir(spool / "a") == ["joe"]


def test_a_delivery_that_stands_in_the_folder_fails_and_can_try_again(box: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as those of programs that change into the mailbox first: its file in tmp/ goes before new/ is looked at."""
    folder = os.open(box, os.O_RDONLY)
    outcome: list[str] = []
    real = removal.obstacle

    def look(path: str) -> str:
        if ":removed:" in path:
            try:
                os.link("tmp/draft", "new/draft", src_dir_fd=folder, dst_dir_fd=folder)
            except FileNotFoundError:
                outcome.append("failed")
        return real(path)

    monkeypatch.setattr(removal, "obstacle", look)
    assert remove_mailbox(str(box)).obstacle == ""
    os.close(folder)
    assert outcome == ["failed"]


def test_a_name_that_is_in_use_again_is_left_to_its_owner(spool: Path, box: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def reuse(aside: str) -> None:
        Path(aside, "new/late").write_bytes(b"")
        Mailbox(str(spool), "a/joe").create()
        (box / "new/fresh").write_bytes(b"")

    at_rename(monkeypatch, reuse)
    assert "in use again" in remove_mailbox(str(box)).obstacle
    assert os.listdir(box / "new") == ["fresh"]
    assert (spool / "a/:removed:joe/new/late").exists()


@pytest.mark.parametrize("is_link", [False, True], ids=["folder", "link"])
@pytest.mark.parametrize("number", range(20))
def test_cut_off_anywhere_it_is_whole_or_gone_and_done_later(spool: Path, tmp_path: Path, number: int, is_link: bool,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    box = spool / "joe"
    real = make(tmp_path / "disk/joe" if is_link else box)
    if is_link:
        box.symlink_to(real)
    before = tree(real)
    steps = 0

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **names: object) -> object:
            nonlocal steps
            if steps == number:
                raise PowerCut
            steps += 1
            return function(*arguments, **names)
        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "rmdir", "fsync"):
            patch.setattr(os, name, counted(getattr(os, name)))
        try:
            remove_mailbox(str(box))
        except PowerCut:
            pass
    found = [(each.kind, each.path) for each in Walk(str(spool))]
    if (SpoolItemKind.MAILBOX, str(box)) in found:
        assert tree(real) == before and number == 0
    for kind, path in found:
        if kind is SpoolItemKind.LEFTOVER:
            assert finish_removal(path).obstacle == ""
    if number:
        assert [path for path in tree(spool) if not (spool / path).is_symlink()] == []
        assert not is_link or tree(tmp_path / "disk") == []


def test_a_leftover_with_late_mail_gets_its_name_back(spool: Path, box: Path) -> None:
    (box / "new/late").write_bytes(b"")
    box.rename(spool / "a/:removed:joe")
    assert "late" in finish_removal(str(spool / "a/:removed:joe")).obstacle
    assert (box / "new/late").exists()


def test_an_older_leftover_of_the_same_name_goes_first(spool: Path, box: Path) -> None:
    box.rename(spool / "a/:removed:joe")
    make(box)
    assert remove_mailbox(str(box)).obstacle == ""
    assert tree(spool) == ["a"]


def test_folders_on_other_disks_go_too(spool: Path, box: Path, tmp_path: Path) -> None:
    (box / "cur").rename(tmp_path / "cur")
    (box / "cur").symlink_to(tmp_path / "cur")
    assert remove_mailbox(str(box)).mails == 3
    assert tree(spool) == ["a"] and not (tmp_path / "cur").exists()


def test_all_names_of_a_mailbox_end_at_once(spool: Path, box: Path) -> None:
    (spool / "alias").symlink_to("a/joe")
    assert remove_mailbox(str(spool / "alias")).obstacle == ""
    assert tree(spool) == ["a"]


def test_what_the_system_refuses_is_told_with_the_file(spool: Path, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied", source)

    before = tree(spool)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(StoreError, match="joe: Permission denied"):
            remove_mailbox(str(box))
    assert tree(spool) == before
    (box / "new/folder").mkdir()
    with pytest.raises(StoreError, match="folder: "):
        remove_mailbox(str(box))
    assert mailboxes(spool) == []


def test_a_mark_from_the_future_removes_nothing_too_early(box: Path) -> None:
    os.utime(box / ".removed", (time.time() + 999,) * 2)
    marked = marked_at(str(box))
    assert marked is not None and marked > time.time() + 900


def test_each_step_is_on_disk_before_the_next(spool: Path, box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = spool / "a/:removed:joe"
    steps: list[str] = []
    real = {name: getattr(os, name) for name in ("unlink", "rmdir", "rename", "fsync")}

    def noted(name: str) -> Callable[..., None]:
        def call(subject: "str | int", *more: object) -> None:
            path = os.readlink(f"/proc/self/fd/{subject}") if isinstance(subject, int) else subject
            steps.append(f"{name} {os.path.relpath(path, spool)}")
            real[name](subject, *more)
        return call

    for name in real:
        monkeypatch.setattr(os, name, noted(name))
    remove_mailbox(str(box))
    monkeypatch.undo()
    assert not aside.exists()
    assert steps[:2] == ["rename a/joe", "fsync a"]
    assert steps[-4:] == ["fsync a/:removed:joe", "unlink a/:removed:joe/.removed", "rmdir a/:removed:joe", "fsync a"]
