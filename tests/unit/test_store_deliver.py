"""Delivery: the whole mail or none, under a name that no message has or had."""

import ctypes
import errno
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import MailboxError, StoreError
from popular.store.delivery import deliver as module
from popular.store.delivery.deliver import deliver
from popular.store.filename import is_ours, size_of
from popular.store.lineends import BLOCK, MailForm
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

MAIL = b"Subject: x\n\n.text\n"
STORED = b"Subject: x\r\n\r\n.text\r\n"
STEPS = ("write", "sync", "link", "unlink", "settle")


@pytest.fixture
def mailbox(spool: Path) -> Mailbox:
    """An empty mailbox."""
    made = Mailbox(str(spool), "joe")
    made.create()
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that stops the clock of the delivery at a time."""
    def stop_at(seconds: float) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: int(seconds * 1_000_000) * 1000)

    return stop_at


def names(mailbox: Mailbox) -> list[str]:
    assert os.listdir(mailbox.tmp) == []
    return sorted(os.listdir(mailbox.new))


def test_spec_9_1_mail_goes_to_new_under_time_pid_size(mailbox: Mailbox) -> None:
    before = int(time.time())
    delivered = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert names(mailbox) == [delivered.name]
    seconds, _, rest = delivered.name.partition(".")
    assert before <= int(seconds) <= time.time()
    assert rest == f"{os.getpid()}_{len(STORED)}"
    assert delivered.size == len(STORED)
    assert Path(mailbox.new, delivered.name).read_bytes() == STORED
    assert os.stat(Path(mailbox.new, delivered.name)).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_sizes_told_are_sizes_stored(mailbox: Mailbox, size: int) -> None:
    delivered = deliver(mailbox, io.BytesIO(b"\n" * size), MailForm.LF)
    assert os.stat(Path(mailbox.new, delivered.name)).st_size == delivered.size == size_of(delivered.name)
    assert delivered.size == max(2, 2 * size)


def test_short_writes_are_completed(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    delivered = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert Path(mailbox.new, delivered.name).read_bytes() == STORED


def test_the_order_on_disk(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def watched(module: object, name: str) -> None:
        real = getattr(module, name)

        def call(*arguments: object, **more: object) -> object:
            calls.append(name)
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, call)

    for name in ("write", "fsync", "close", "link", "unlink"):
        watched(os, name)
    monkeypatch.setattr(module, "sync_folder", lambda path: calls.append(f"sync {os.path.basename(path)}"))
    deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert calls == ["write", "fsync", "close", "link", "unlink", "sync new"]


# Failures

@pytest.mark.parametrize(("call", "at"), [("write", "write"), ("fsync", "sync"), ("close", "sync"), ("link", "link")])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_failed_call_leaves_nothing(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, call: str, at: str,
                                      error: int) -> None:
    real = getattr(os, call)

    def fail(*arguments: object) -> None:
        if call == "close":
            real(*arguments)
        raise OSError(error, os.strerror(error))

    def step(name: str) -> None:
        if name == at:
            monkeypatch.setattr(os, call, fail)

    with pytest.raises(StoreError) as caught:
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF, step)
    assert not getattr(caught.value, "no_such_mailbox", False)
    monkeypatch.undo()
    assert names(mailbox) == []


def test_a_folder_that_cannot_be_synced_asks_for_a_retry(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "sync_folder", fail)
    with pytest.raises(MailboxError) as caught:
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert not caught.value.no_such_mailbox
    assert names(mailbox) == []    # or the retry would bring it twice


def test_a_message_that_can_be_neither_synced_nor_taken_back_stays(mailbox: Mailbox,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def step(name: str) -> None:
        if name == "settle":
            monkeypatch.setattr(os, "unlink", fail)

    monkeypatch.setattr(module, "sync_folder", fail)
    with pytest.raises(StoreError, match="comes twice"):
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF, step)
    monkeypatch.undo()
    assert len(names(mailbox)) == 1    # twice is better than never


def test_a_lack_of_memory_behind_the_link_takes_the_message_back(mailbox: Mailbox,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "sync_folder", fail)
    with pytest.raises(MemoryError):
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert names(mailbox) == []


# Links that are refused

REFUSED = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK]


@pytest.fixture(params=REFUSED, ids=errno.errorcode.get)
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that refuses links."""
    def fail(source: str, target: str) -> None:
        raise FileExistsError(errno.EEXIST, "") if os.path.lexists(target) else OSError(request.param, "refused")

    monkeypatch.setattr(os, "link", fail)


@pytest.mark.usefixtures("no_links")
def test_where_links_are_refused_mail_is_renamed(mailbox: Mailbox) -> None:
    delivered = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert names(mailbox) == [delivered.name]
    assert Path(mailbox.new, delivered.name).read_bytes() == STORED


@pytest.mark.usefixtures("no_links")
def test_a_rename_overwrites_nothing(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken between the link that is refused and the rename."""
    refuse = os.link

    def late(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", refuse)
        try:
            refuse(source, target)
        finally:
            Path(target).write_bytes(b"other")

    monkeypatch.setattr(os, "link", late)
    delivered = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert len(names(mailbox)) == 2
    assert {Path(mailbox.new, name).read_bytes() for name in names(mailbox)} == {b"other", STORED}
    assert Path(mailbox.new, delivered.name).read_bytes() == STORED


@pytest.mark.usefixtures("no_links")
@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EACCES, None], ids=str)
def test_where_nothing_else_is_safe_the_mail_is_refused(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch,
                                                        error: int | None) -> None:
    class Libc:
        if error is not None:
            @staticmethod
            def renameat2(*given: object) -> int:
                ctypes.set_errno(error or 0)
                return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *given, **more: Libc)
    with pytest.raises(StoreError):
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert names(mailbox) == []


def test_a_source_that_fails_leaves_nothing(mailbox: Mailbox) -> None:
    class Broken:
        blocks: Iterator[bytes] = iter([b"Subject: x\n"])

        def read(self, size: int, /) -> bytes:
            for block in self.blocks:
                return block
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StoreError):
        deliver(mailbox, Broken(), MailForm.LF)
    assert names(mailbox) == []


@pytest.mark.parametrize("at", STEPS)
def test_an_interruption_leaves_the_whole_mail_or_none(mailbox: Mailbox, at: str) -> None:
    def step(name: str) -> None:
        if name == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF, step)
    left = names(mailbox)
    assert len(left) == (1 if at in ("unlink", "settle") else 0)
    assert all(Path(mailbox.new, name).read_bytes() == STORED for name in left)


def killed_at(mailbox: Mailbox, at: str) -> None:
    """Deliver in a child that is killed at a step; returns when it is dead."""
    def step(name: str) -> None:
        if name == at:
            os.kill(os.getpid(), 9)

    child = os.fork()
    if child == 0:
        try:
            deliver(mailbox, io.BytesIO(MAIL), MailForm.LF, step)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


@pytest.mark.parametrize("at", STEPS)
def test_a_kill_leaves_the_whole_mail_or_none(mailbox: Mailbox, at: str) -> None:
    killed_at(mailbox, at)
    maildrop = MaildirMaildrop(mailbox)
    assert len(maildrop.entries) == (1 if at in ("unlink", "settle") else 0)
    for index, entry in enumerate(maildrop.entries):
        with maildrop.open(index) as file:
            assert file.read() == STORED
        assert entry.size == len(STORED)
    assert deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).size == len(STORED)    # the rest in tmp/ is in nobody's way


@pytest.mark.parametrize(("missing", "is_lost"), [("", True), ("tmp", False)])
def test_missing_folders(mailbox: Mailbox, missing: str, is_lost: bool) -> None:
    if missing:
        os.rmdir(os.path.join(mailbox.path, missing))
    else:
        mailbox = Mailbox(mailbox.root, "jane")
    with pytest.raises(MailboxError) as caught:
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    assert caught.value.no_such_mailbox == is_lost


def test_new_that_was_lost_is_made_anew(mailbox: Mailbox) -> None:
    os.rmdir(mailbox.new)
    name = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name
    assert os.listdir(mailbox.new) == [name]


# Names

def test_many_deliveries_within_one_second(mailbox: Mailbox) -> None:
    given = [deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name for _ in range(100)]
    assert len(set(given)) == 100
    assert [entry.uid for entry in MaildirMaildrop(mailbox).entries] == given
    assert names(mailbox) == sorted(given)
    assert all(is_ours(name) and size_of(name) == len(STORED) for name in given)


@pytest.mark.parametrize("sizes", [(9, 9, 9, 9, 9), (5, 4, 300, 20, 1), (100, 99, 98, 97, 96)], ids=str)
@pytest.mark.parametrize("pids", [(7, 7, 7, 7, 7), (99998, 99999, 100000, 1, 2)], ids=str)
def test_mail_of_one_second_is_numbered_as_it_was_delivered(
        mailbox: Mailbox, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...],
        pids: tuple[int, ...]) -> None:
    """Process ids repeat in containers, and begin anew everywhere."""
    second = int(time.time())
    given = []
    for turn, (size, pid) in enumerate(zip(sizes, pids)):
        clock(second + turn / 10 + 0.05)
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        given.append(deliver(mailbox, io.BytesIO(b"x" * size), MailForm.LF).name)
        os.utime(mailbox.new, (second + turn / 10 + 0.06,) * 2)
    assert given[0] == f"{second}.{pids[0]}_{sizes[0] + 2}"
    assert [entry.uid for entry in MaildirMaildrop(mailbox).entries] == given


def test_a_name_in_new_is_never_overwritten(mailbox: Mailbox, clock: Callable[[float], None]) -> None:
    clock(1_000_000_000.5)
    taken = Path(mailbox.new, f"1000000000.{os.getpid()}_{len(STORED)}")
    taken.write_bytes(b"other")
    os.utime(mailbox.cur, (0, 0))
    second = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name
    assert second == f"1000000000.{os.getpid()}.M500000_{len(STORED)}"
    assert taken.read_bytes() == b"other"
    with pytest.raises(StoreError):
        deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)    # the clock stands still: nothing is free


@pytest.mark.parametrize("master", [False, True])
@pytest.mark.parametrize("removed", [False, True])
def test_a_name_that_left_new_in_the_same_second_does_not_come_again(
        mailbox: Mailbox, clock: Callable[[float], None], removed: bool, master: bool) -> None:
    """The process id is the same, as in process id namespaces; so are second and size."""
    now = time.time()
    clock(now)
    first = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name
    assert first == f"{int(now)}.{os.getpid()}_{len(STORED)}"
    MaildirMaildrop(mailbox, master=master).commit({0} if removed else set(), {0})
    second = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name
    assert second != first


def test_the_short_name_is_back_a_second_later(mailbox: Mailbox, clock: Callable[[float], None]) -> None:
    deliver(mailbox, io.BytesIO(MAIL), MailForm.LF)
    MaildirMaildrop(mailbox).commit({0}, set())
    later = int(os.stat(mailbox.new).st_mtime) + 2
    clock(later)
    assert deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name == f"{later}.{os.getpid()}_{len(STORED)}"


def test_a_clock_set_back_brings_no_name_again(mailbox: Mailbox, clock: Callable[[float], None]) -> None:
    now = time.time()
    os.utime(mailbox.new, (now, now))
    clock(now - 3600)
    assert ".M" in deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name


def test_the_first_mail_has_the_short_name(mailbox: Mailbox) -> None:
    assert ".M" not in deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name


def test_files_of_other_programs_beside_the_folders_hide_no_change(mailbox: Mailbox,
                                                                   clock: Callable[[float], None]) -> None:
    """Dovecot writes its list of ids into the mailbox's folder, after it has taken a message out of new/."""
    now = time.time()
    clock(now)
    first = deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name
    os.rename(Path(mailbox.new, first), Path(mailbox.cur, f"{first}:2,S"))
    later = os.stat(mailbox.new).st_mtime + 0.001
    Path(mailbox.path, "dovecot-uidlist").touch()
    os.utime(mailbox.path, (later, later))
    assert deliver(mailbox, io.BytesIO(MAIL), MailForm.LF).name != first
