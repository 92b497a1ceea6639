"""How QUIT gives read mail its name in cur/: each step on disk before the next, and also where links are refused."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.store import commit as commit_module
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

NAME = "joe"
TEXT = b"Subject: x\r\n\r\ntext\r\n"
Drop = Callable[[], MaildirMaildrop]


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), NAME).create()
    return spool / NAME


@pytest.fixture
def drop(spool: Path) -> Drop:
    """A function that begins a session over the mailbox."""
    return lambda: MaildirMaildrop(Mailbox(str(spool), NAME))


def put(box: Path, *places: str, octets: bytes = TEXT) -> None:
    for place in places:
        (box / place).write_bytes(octets)


def files(box: Path) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in ("new", "cur", "tmp") for name in os.listdir(box / folder))


def test_the_name_in_cur_is_on_disk_before_the_one_in_new_goes(box: Path, drop: Drop,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.1_20", "new/2.x.host", "cur/3.1_20")
    steps: list[str] = []

    def note(name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(path: str, *more: object) -> None:
            steps.append(f"{name} {os.path.relpath(more[0] if more else path, box)}")    # type: ignore[call-overload]
            real(path, *more)
        return call

    monkeypatch.setattr(os, "link", note("link", os.link))
    monkeypatch.setattr(os, "unlink", note("unlink", os.unlink))
    monkeypatch.setattr(commit_module, "sync_folder", note("sync", lambda path: None))
    drop().commit({2}, {0, 1})
    assert steps == ["unlink cur/3.1_20", "link cur/1.1_20", "link cur/2.x.host:2,S", "sync cur",
                     "unlink new/1.1_20", "unlink new/2.x.host", "sync new"]


def test_a_move_that_is_not_sure_to_last_keeps_both_names_and_is_completed_later(
        box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    put(box, "new/1.1_20", "new/2.x.host")

    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    uids = [entry.uid for entry in drop().entries]
    with monkeypatch.context() as patch:
        patch.setattr(commit_module, "sync_folder", fail)
        maildrop = drop()
        maildrop.commit(set(), {0, 1})
    assert [(trouble.what, trouble.name) for trouble in maildrop.troubles] == [("not_moved", "cur")]
    assert files(box) == ["cur/1.1_20", "cur/2.x.host:2,S", "new/1.1_20", "new/2.x.host"]
    assert [entry.uid for entry in drop().entries] == uids
    drop().commit(set(), set())
    assert files(box) == ["cur/1.1_20", "cur/2.x.host:2,S"]
    assert [entry.uid for entry in drop().entries] == uids


@pytest.mark.parametrize("error", [1, 95, 38, 31], ids=["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
def test_where_links_are_refused_read_mail_is_renamed(box: Path, drop: Drop, monkeypatch: pytest.MonkeyPatch,
                                                      error: int) -> None:
    put(box, "new/1.1_20", "new/2.x.host", "new/3.1_20")

    def fail(source: str, target: str) -> None:
        raise FileExistsError if os.path.exists(target) else OSError(error, "refused")

    monkeypatch.setattr(os, "link", fail)
    maildrop = drop()
    put(box, "cur/3.1_20", octets=b"another one\r\n")
    maildrop.commit(set(), {0, 1, 2})
    assert files(box) == ["cur/1.1_20", "cur/2.x.host:2,S", "cur/3.1_20", "new/3.1_20"]
    assert (box / "cur/3.1_20").read_bytes() == b"another one\r\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of two users")
def test_mail_of_another_user_is_moved_although_the_system_refuses_links(box: Path, drop: Drop) -> None:
    """fs.protected_hardlinks: nobody may link a file that is not theirs and that they cannot write."""
    put(box, "new/1.1_20")
    os.chmod(box / "new/1.1_20", 0o644)
    for folder in (box / "new", box / "cur"):
        os.chown(folder, 47110, 47110)
    for folder in (box, *list(box.parents)[:4]):
        os.chmod(folder, 0o755)
    assert ctypes    # cannot be imported by the other user where our Python is root's
    maildrop = drop()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(47110)
            maildrop.commit(set(), {0})
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert files(box) == ["cur/1.1_20"]
