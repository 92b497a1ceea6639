"""The walk through a spool: what a mailbox is, the order, going on behind any mailbox, links, odd names."""

import os
import random
from pathlib import Path

import pytest

from popular.errors import MailboxError
from popular.store.mailbox import Mailbox
from popular.tools.pclean.walk import SpoolItem, SpoolItemKind, Walk


def make(spool: Path, *names: str) -> None:
    for name in names:
        Mailbox(str(spool), name).create()


def walk(spool: Path, after: str = "") -> list[SpoolItem]:
    return list(Walk(str(spool), after))


def names(spool: Path, after: str = "", kind: SpoolItemKind = SpoolItemKind.MAILBOX) -> list[str]:
    return [found.name for found in walk(spool, after) if found.kind is kind]


@pytest.mark.parametrize(("folders", "wanted"), [
    pytest.param(["a/new", "a/cur", "a/tmp"], ["a"], id="whole"),
    pytest.param(["a/new", "a/cur"], ["a"], id="without-tmp"),
    pytest.param(["a/new", "a/tmp"], ["a"], id="without-cur"),
    pytest.param(["a/new"], [], id="new-alone"),
    pytest.param(["a/cur", "a/tmp"], [], id="half-made"),
    pytest.param(["new", "cur", "tmp"], [], id="the-spool-itself-is-none"),
    pytest.param(["new/new", "new/cur"], ["new"], id="a-mailbox-called-new"),
    pytest.param(["u/new/new", "u/new/cur"], ["u/new"], id="a-mailbox-called-new-in-a-folder"),
    pytest.param(["a/new/b/new", "a/new/b/cur", "a/tmp"], ["a"], id="folders-of-a-mailbox-are-not-entered"),
    pytest.param(["a/new", "a/cur", "a/b/new", "a/b/cur"], ["a/b", "a"], id="nested-first"),
    pytest.param(["lost+found/a/new", "lost+found/a/cur"], [], id="lost+found"),
    pytest.param([], [], id="nothing"),
])
def test_what_a_mailbox_is(spool: Path, folders: list[str], wanted: list[str]) -> None:
    for folder in folders:
        (spool / folder).mkdir(parents=True)
    assert names(spool) == wanted


def test_the_order_is_that_of_octets_and_the_same_each_time(spool: Path) -> None:
    make(spool, "b", "B", "a.b", "a-b", "a/b", "a/B", "a", "1", "ab", "=x", "a/b/c/d/e")
    assert names(spool) == ["1", "=x", "B", "a/B", "a/b/c/d/e", "a/b", "a", "a-b", "a.b", "ab", "b"]
    assert names(spool) == names(spool)


def test_it_goes_on_behind_every_mailbox(spool: Path) -> None:
    chance = random.Random(7)
    for _ in range(60):
        make(spool, "/".join(chance.choice("ab.-Z09") * chance.randint(1, 2) for _ in range(chance.randint(1, 5))
                             ).replace("..", "."))
    order = names(spool)
    assert len(order) > 40
    for index, name in enumerate(order):
        assert names(spool, name) == order[index + 1:], name


@pytest.mark.parametrize("after", ["a/c", "a/bb/x", "aa", "0", "z", "a/b/c/d"])
def test_it_goes_on_behind_what_is_gone(spool: Path, after: str) -> None:
    make(spool, "a/b", "a/d", "b")
    order = names(spool)
    behind = {"a/c": 1, "a/bb/x": 1, "aa": 2, "0": 0, "z": 3, "a/b/c/d": 0}[after]
    assert names(spool, after) == order[behind:]


@pytest.mark.parametrize("name", ["a b", "x..y", "joe\n", "j\xf6rg", "\udcff", "a:b", "a" * 255])
def test_names_that_no_mailbox_can_have_are_told(spool: Path, name: str) -> None:
    parents = spool / "/".join(["b" * 255] * 2 if len(name) > 200 else ["b"])
    for folder in ("new", "cur"):
        (parents / name / "deep" / folder).mkdir(parents=True)
    [found] = walk(spool)
    assert (found.kind, found.path) == (SpoolItemKind.ODD_NAME, str(parents / name))


def test_plain_files_are_passed_over(spool: Path) -> None:
    make(spool, "a")
    for name in (".pclean", "x y", "a/quota", "a/:removed:x"):
        (spool / name).write_text("")
    assert [found.name for found in walk(spool)] == ["a"]


def test_marked_mailboxes_are_told(spool: Path) -> None:
    make(spool, "a", "b", "c")
    (spool / "b/.removed").write_text("")
    (spool / "c/.removed").symlink_to(spool / "b/.removed")
    assert [(found.name, found.is_marked) for found in walk(spool)] == [("a", False), ("b", True), ("c", False)]


def test_links_to_other_disks_are_followed(spool: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    make(tmp_path, "disk/joe", "disk/jim")
    make(spool, "a/x")
    (spool / "a/other").symlink_to(disk)
    (spool / "joe").symlink_to(disk / "joe")
    assert names(spool) == ["a/other/jim", "a/other/joe", "a/x", "joe"]


@pytest.mark.parametrize(("link", "target"), [
    pytest.param("a/up", "..", id="to-the-spool"),
    pytest.param("a/b/up", "../..", id="to-the-spool-from-below"),
    pytest.param("a/b/here", ".", id="to-itself"),
    pytest.param("a/b/x", "x", id="endless"),
    pytest.param("a/b/twice", "../../a", id="to-the-parent"),
])
def test_loops_of_links_end(spool: Path, link: str, target: str) -> None:
    make(spool, "a/b/joe", "z")
    (spool / link).symlink_to(target)
    assert names(spool, kind=SpoolItemKind.LOOP) == [link]
    assert names(spool) == ["a/b/joe", "z"]


def test_links_between_two_folders_end(spool: Path) -> None:
    make(spool, "a/joe", "b/jim")
    (spool / "a/b").symlink_to("../b")
    (spool / "b/a").symlink_to("../a")
    assert names(spool) == ["a/b/jim", "a/joe", "b/a/joe", "b/jim"]
    assert names(spool, kind=SpoolItemKind.LOOP) == ["a/b/a", "b/a/b"]


def test_links_that_lead_nowhere_are_passed_over(spool: Path) -> None:
    (spool / "x").symlink_to("nowhere")
    assert walk(spool) == []


def test_folders_that_vanish_meanwhile_are_fine(spool: Path) -> None:
    make(spool, "a", "b")
    walker = iter(Walk(str(spool)))
    assert next(walker).name == "a"
    for folder in ("new", "cur", "tmp", ""):
        (spool / "b" / folder).rmdir()
    assert list(walker) == []


def test_unreadable_folders_are_told(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(spool, "a", "b/c", "d")
    real = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [(found.kind.value, found.name, found.why) for found in walk(spool)] == [
        ("mailbox", "a", ""), ("unreadable", "b", "Permission denied"), ("mailbox", "d", "")]


def test_a_spool_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(MailboxError):
        walk(tmp_path / "missing")


def test_leftovers_of_removals_are_told(spool: Path, tmp_path: Path) -> None:
    make(spool, "a/joe")
    (spool / "a/joe").rename(spool / "a/:removed:joe")
    (tmp_path / "disk" / ":removed:jim").mkdir(parents=True)
    (spool / "jim").symlink_to(tmp_path / "disk/jim")
    assert [(found.kind, found.name, found.path) for found in walk(spool)] == [
        (SpoolItemKind.LEFTOVER, "jim", str(spool / "jim")),
        (SpoolItemKind.LEFTOVER, "a/joe", str(spool / "a/:removed:joe"))]


def test_no_descriptor_stays_open(spool: Path) -> None:
    make(spool, "a/b/c/d", "a/b/e")
    walker = iter(Walk(str(spool)))
    before = os.listdir("/proc/self/fd")
    next(walker)
    assert os.listdir("/proc/self/fd") == before
