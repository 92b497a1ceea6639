"""MailDelivery of one mail into several mailboxes: written once, each mailbox with a result of its own."""

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import MailboxError, StoreError
from popular.store.delivery import deliver as module
from popular.store.delivery.deliver import Delivered, MailDelivery, Destination, deliver
from popular.store.lineends import MailForm
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.store.uidlist import give_uids

TEXT = b"Subject: x\r\n\r\n.text\r\n"
STEPS = ("sync", "link", "unlink", "settle")


@pytest.fixture
def boxes(spool: Path) -> list[Mailbox]:
    """Three empty mailboxes."""
    made = [Mailbox(str(spool), name) for name in ("joe", "jane", "jim")]
    for mailbox in made:
        mailbox.create()
    return made


@pytest.fixture
def other_disk(spool: Path) -> Iterator[Mailbox]:
    """A mailbox on another disk, to which a link in the spool leads."""
    folder = tempfile.mkdtemp(dir="/dev/shm")
    assert os.stat(folder).st_dev != os.stat(spool).st_dev
    os.symlink(folder, spool / "far")
    mailbox = Mailbox(str(spool), "far")
    mailbox.create()
    yield mailbox
    shutil.rmtree(folder)


def delivered(*destinations: Destination | Mailbox, step: Callable[[str], None] = lambda name: None
              ) -> list[Delivered | Exception]:
    """Deliver the text in two blocks."""
    places = [each if isinstance(each, Destination) else Destination(each) for each in destinations]
    with MailDelivery(places, step) as delivery:
        for block in (TEXT[:11], TEXT[11:]):
            delivery.write(block)
        return delivery.finish()


def mail(mailbox: Mailbox) -> list[bytes]:
    """Return the messages of a mailbox, in which nothing may be left in tmp/."""
    assert os.listdir(mailbox.tmp) == []
    return [Path(mailbox.new, name).read_bytes() for name in sorted(os.listdir(mailbox.new))]


def inodes(*boxes: Mailbox) -> set[int]:
    return {os.stat(Path(mailbox.new, name)).st_ino for mailbox in boxes for name in os.listdir(mailbox.new)}


def failing(number: int, only: str = "") -> Callable[..., None]:
    """Return a call that fails; given the text `only`, a link(2) that fails where the new path has that text."""
    real = os.link

    def call(*given: object) -> None:
        source, target = map(str, given)
        if not only or only in target and (number != errno.EXDEV or source.split("/")[-3] != target.split("/")[-3]):
            raise OSError(number, os.strerror(number))
        real(source, target)

    return call


def test_the_text_is_written_once_for_all(boxes: list[Mailbox]) -> None:
    results = delivered(*boxes)
    assert [mail(mailbox) for mailbox in boxes] == [[TEXT]] * 3
    assert len(inodes(*boxes)) == 1
    assert [result.name for result in results if isinstance(result, Delivered)] == [
        os.listdir(mailbox.new)[0] for mailbox in boxes]


def test_the_order_on_disk(boxes: list[Mailbox], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is visible only when the text is on disk, and a result comes only after the sync of its folder."""
    calls: list[str] = []

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*given: object) -> object:
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "close", "link", "unlink"):
        watch(name)
    monkeypatch.setattr(module, "sync_folder", lambda path: calls.append(f"sync {path.split('/')[-2]}"))
    delivered(*boxes)
    assert calls == ["write", "write", "fsync", "close", "link", "link", "link", "unlink",
                     "sync joe", "sync jane", "sync jim"]


def test_a_mailbox_given_twice_gets_one_message(boxes: list[Mailbox], spool: Path) -> None:
    os.symlink(boxes[0].path, spool / "alias")
    results = delivered(boxes[0], boxes[1], boxes[0], Mailbox(str(spool), "alias"))
    assert results[0] == results[2] == results[3]
    assert mail(boxes[0]) == mail(boxes[1]) == [TEXT]


def test_lines_of_its_own_are_a_file_of_its_own(boxes: list[Mailbox]) -> None:
    heads = [f"Delivered-To: {mailbox.name}\r\n".encode() for mailbox in boxes[:2]]
    results = delivered(*map(Destination, boxes[:2], heads), Destination(boxes[2], heads[0]))
    assert [mail(mailbox) for mailbox in boxes] == [[heads[0] + TEXT], [heads[1] + TEXT], [heads[0] + TEXT]]
    assert [result.size for result in results if isinstance(result, Delivered)] == [
        len(mail(mailbox)[0]) for mailbox in boxes]
    assert len(inodes(boxes[0], boxes[2])) == 1


def test_a_single_delivery_has_a_head_too(boxes: list[Mailbox]) -> None:
    result = deliver(boxes[0], io.BytesIO(b"Subject: x\n"), MailForm.LF, head=b"Return-Path: <>\r\n")
    assert mail(boxes[0]) == [b"Return-Path: <>\r\nSubject: x\r\n"]
    assert result.size == len(mail(boxes[0])[0])


def test_another_disk_gets_a_copy(boxes: list[Mailbox], other_disk: Mailbox) -> None:
    delivered(other_disk, *boxes)
    assert [mail(mailbox) for mailbox in (other_disk, *boxes)] == [[TEXT]] * 4


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EMLINK, errno.EPERM], ids=errno.errorcode.get)
def test_where_links_are_refused_each_gets_a_copy(boxes: list[Mailbox], monkeypatch: pytest.MonkeyPatch,
                                                  error: int) -> None:
    monkeypatch.setattr(os, "link", failing(error, "joe/new" if error == errno.EXDEV else ""))
    delivered(boxes[1], boxes[0], boxes[2])
    assert [mail(mailbox) for mailbox in boxes] == [[TEXT]] * 3


# Failures of one

def outcome(results: list[Delivered | Exception]) -> list[bool]:
    return [isinstance(result, Delivered) for result in results]


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_missing_mailbox_is_no_obstacle(boxes: list[Mailbox], at: int) -> None:
    shutil.rmtree(boxes[at].path)
    results = delivered(*boxes)
    assert outcome(results) == [each != at for each in range(3)]
    why = results[at]
    assert isinstance(why, MailboxError) and why.no_such_mailbox


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_mailbox_without_tmp_matters_only_if_it_must_hold_the_text(boxes: list[Mailbox], at: int) -> None:
    os.rmdir(boxes[at].tmp)
    assert outcome(delivered(*boxes)) == [each != at or at > 0 for each in range(3)]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_link_that_fails_is_the_failure_of_one(boxes: list[Mailbox], monkeypatch: pytest.MonkeyPatch, at: int,
                                                 error: int) -> None:
    monkeypatch.setattr(os, "link", failing(error, f"{boxes[at].name}/new"))
    results = delivered(*boxes)
    assert outcome(results) == [each != at for each in range(3)]
    assert str(results[at]) == f"{boxes[at].name}: {os.strerror(error)}"
    assert [len(mail(mailbox)) for mailbox in boxes] == [each != at for each in range(3)]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), MemoryError()], ids=["EIO", "memory"])
def test_a_folder_that_cannot_be_synced_loses_its_message_only(boxes: list[Mailbox], monkeypatch: pytest.MonkeyPatch,
                                                               at: int, error: Exception) -> None:
    def fail(path: str) -> None:
        if path == boxes[at].new:
            raise error

    monkeypatch.setattr(module, "sync_folder", fail)
    assert outcome(delivered(*boxes)) == [each != at for each in range(3)]
    assert [len(mail(mailbox)) for mailbox in boxes] == [each != at for each in range(3)]


# Failures of a disk

def test_a_full_disk_sends_the_text_to_the_next(boxes: list[Mailbox], other_disk: Mailbox,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    near = os.stat(boxes[0].new).st_dev

    def write(file: int, data: bytes) -> int:
        if os.fstat(file).st_dev == near and bytes(data) != TEXT[:11]:
            if len(data) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(file, data[:len(data) // 2])
        return real(file, data)

    monkeypatch.setattr(os, "write", write)
    assert outcome(delivered(boxes[0], boxes[1], other_disk)) == [False, False, True]
    assert [mail(mailbox) for mailbox in (*boxes, other_disk)] == [[], [], [], [TEXT]]


def test_when_no_disk_takes_the_text_nobody_gets_it(boxes: list[Mailbox], other_disk: Mailbox,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", failing(errno.EDQUOT))
    results = delivered(*boxes, other_disk)
    assert [str(result) for result in results] == [
        f"{name}: {os.strerror(errno.EDQUOT)}" for name in ("joe", "jane", "jim", "far")]
    assert [mail(mailbox) for mailbox in (*boxes, other_disk)] == [[]] * 4


def test_a_text_that_cannot_be_synced_is_nobodys_but_a_copy_is(boxes: list[Mailbox], other_disk: Mailbox,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync
    near = os.stat(boxes[0].new).st_dev

    def sync(file: int) -> None:
        if os.fstat(file).st_dev == near and os.path.isfile(f"/proc/self/fd/{file}"):
            raise OSError(errno.EIO, "Input/output error")
        real(file)

    monkeypatch.setattr(os, "fsync", sync)
    assert outcome(delivered(*boxes, other_disk)) == [False, False, False, True]
    assert [mail(mailbox) for mailbox in (*boxes, other_disk)] == [[], [], [], [TEXT]]


def test_without_a_mailbox_the_text_is_dropped(spool: Path) -> None:
    with MailDelivery([Destination(Mailbox(str(spool), "nobody"))]) as delivery:
        assert not delivery.is_possible
        delivery.write(TEXT)
        [result] = delivery.finish()
    assert isinstance(result, StoreError)


# Messages that another store had

OLD = 1_500_000_000


def entries(mailbox: Mailbox) -> list[tuple[str, bool]]:
    """Return the unique ids that a client sees, and which messages are read."""
    maildrop = MaildirMaildrop(mailbox)
    last = maildrop.last_read()
    found = [(entry.uid, index < last) for index, entry in enumerate(maildrop.entries)]
    maildrop.close()
    return found


def test_a_message_keeps_its_id_its_time_and_its_place(boxes: list[Mailbox]) -> None:
    [first] = delivered(Destination(boxes[0], uidl="b", received=OLD + 1, is_read=True))
    [second] = delivered(Destination(boxes[0], uidl="a", received=OLD))
    [third] = delivered(boxes[0])
    assert isinstance(first, Delivered) and isinstance(second, Delivered) and isinstance(third, Delivered)
    assert entries(boxes[0]) == [("b", True), ("a", False), (third.name, False)]
    assert os.listdir(boxes[0].cur) == [first.name] and first.name.startswith(f"{OLD + 1}.")
    assert second.name.startswith(f"{OLD}.") and second.name in os.listdir(boxes[0].new)


def test_a_place_for_read_mail_is_made(boxes: list[Mailbox]) -> None:
    os.rmdir(boxes[0].cur)
    assert outcome(delivered(Destination(boxes[0], is_read=True))) == [True]
    assert len(os.listdir(boxes[0].cur)) == 1


@pytest.mark.parametrize("is_read", [False, True])
def test_a_message_that_was_taken_over_before_is_not_doubled(boxes: list[Mailbox], is_read: bool) -> None:
    """The client may have moved it meanwhile; the answer to the first attempt was lost."""
    [first] = delivered(Destination(boxes[0], uidl="a", received=OLD))
    if is_read:
        MaildirMaildrop(boxes[0]).commit(set(), {0})
    assert delivered(Destination(boxes[0], uidl="a", received=OLD)) == [first]
    assert [uid for uid, _ in entries(boxes[0])] == ["a"]


@pytest.mark.parametrize("has_cur", [True, False])
def test_an_id_that_was_listed_before_a_crash_is_that_of_the_message(boxes: list[Mailbox], has_cur: bool) -> None:
    if not has_cur:
        os.rmdir(boxes[0].cur)
    give_uids(boxes[0].path, [("a", f"{OLD}.1.M2_{len(TEXT)}")])
    [result] = delivered(Destination(boxes[0], uidl="a", received=OLD))
    assert isinstance(result, Delivered) and result.name == f"{OLD}.1.M2_{len(TEXT)},U"
    assert [uid for uid, _ in entries(boxes[0])] == ["a"]


def test_a_list_that_cannot_be_used_is_the_failure_of_one(boxes: list[Mailbox]) -> None:
    Path(boxes[1].path, ".popular-uidls").write_bytes(b"nonsense")
    results = delivered(*(Destination(mailbox, uidl="a", received=OLD) for mailbox in boxes))
    assert outcome(results) == [True, False, True]
    assert mail(boxes[1]) == []


# Kills

@pytest.mark.parametrize("at", STEPS)
def test_a_kill_leaves_the_whole_mail_or_none_everywhere(boxes: list[Mailbox], at: str) -> None:
    def step(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), 9)

    child = os.fork()
    if child == 0:
        try:
            delivered(*boxes, step=step)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    left = [[Path(mailbox.new, name).read_bytes() for name in os.listdir(mailbox.new)] for mailbox in boxes]
    assert left == [[TEXT] if at in ("unlink", "settle") else []] * 3


def test_an_end_before_the_text_is_complete_leaves_nothing(boxes: list[Mailbox]) -> None:
    with MailDelivery([*map(Destination, boxes)]) as delivery:
        delivery.write(TEXT)
    assert [mail(mailbox) for mailbox in boxes] == [[]] * 3
