"""A session of plmtpd in the test's own process: signals, and answers for what a disk says."""

import errno
import os
import signal
from pathlib import Path

import pytest

from popular.errors import MailboxError, StoreError
from popular.lmtp.grammar import Recipient, Sender, Takeover
from popular.lmtp.replies import LmtpReply, Replies
from popular.log.writer import Log
from popular.pdm.api import Found
from popular.plmtpd.session import reply_to
from popular.store import folders, uidlist
from popular.store.delivery import deliver
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota
from tests.harness.lmtpsession import LmtpFrame, session_of

JOE = Recipient("joe", "joe")


def test_signals_that_end_a_child_wait_until_the_answers_were_sent(spool: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    Mailbox(str(spool), "joe").create()
    arrived: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
    session = session_of(spool, LmtpFrame())
    try:
        assert session.recipient(Sender(""), JOE) == Replies.RECIPIENT_OK
        session.begin(Sender(""))
        session.write(b"x\r\n")
        sync = folders.sync_folder

        def interrupted(path: str) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            sync(path)

        monkeypatch.setattr(deliver, "sync_folder", interrupted)
        assert session.finish(3) == [Replies.DELIVERED]
        assert arrived == []
        session.reset()
        assert arrived == [signal.SIGTERM]
    finally:
        session.let_go()
        signal.signal(signal.SIGTERM, former)


def test_what_happens_is_logged_and_counted(spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Mailbox(str(spool), "joe").create()
    log = Log.open("plmtpd", str(tmp_path / "log"))
    frame = LmtpFrame(log)
    session = session_of(spool, frame, deliveredto=True, returnpath=True)

    def fail(path: str) -> None:
        raise MemoryError

    for sync, answer in ((folders.sync_folder, Replies.DELIVERED), (fail, Replies.STORE_FAILED)):
        monkeypatch.setattr(deliver, "sync_folder", sync)
        session.recipient(Sender("a@b"), JOE)
        session.begin(Sender("a@b"))
        session.write(b"x")
        assert session.finish(1) == [answer]
        session.reset()
    assert frame.notes == ["envelope", "data", "delivering", "message_delivered", "ready",
                           "envelope", "data", "delivering", "message_bug", "ready"]
    assert frame.counts == ["delivered", "accepted", "accepted_octets", "deferred"]
    [path] = spool.glob("joe/new/*")
    assert path.read_bytes() == b"Return-Path: <a@b>\r\nDelivered-To: joe\r\nx\r\n"
    os.close(log.fileno())
    assert "type='MemoryError' trace='test_plmtpd_session.py:" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("quota, maxnum, answer", [
    (None, None, Replies.RECIPIENT_OK), (3, None, Replies.RECIPIENT_OK), (2, None, Replies.OVER_QUOTA_YET),
    (None, 2, Replies.OVER_QUOTA_YET), (None, 0, Replies.RECIPIENT_OK), (1, 0, Replies.OVER_QUOTA_YET)])
def test_the_record_has_the_last_word_about_quota(spool: Path, quota: int | None, maxnum: int | None,
                                                  answer: LmtpReply) -> None:
    mailbox = Mailbox(str(spool), "joe")
    mailbox.create()
    for number in range(2):
        Path(mailbox.new, f"1500000000.{number}_{1 << 20}").touch()
    found = Found("store1", mailbox="joe", quota=quota, maxnum=maxnum)
    assert session_of(spool, LmtpFrame(), found, quota=Quota(0, 3)).recipient(Sender(""), JOE) == answer


def test_a_mailbox_that_is_to_be_removed_takes_over_nothing(spool: Path) -> None:
    Mailbox(str(spool), "joe").create()
    (spool / "joe/.removed").touch()
    session = session_of(spool, LmtpFrame())
    taken = Recipient("joe", "joe", Takeover("uidl"))
    assert session.recipient(Sender(""), taken) == Replies.TO_BE_REMOVED
    assert session.recipient(Sender(""), JOE) == Replies.RECIPIENT_OK


def test_a_list_of_unique_ids_is_read_once_for_many_messages(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Mailbox(str(spool), "joe").create()
    session = session_of(spool, LmtpFrame())
    octets: list[int] = []
    read = uidlist._text

    def count(file: int, start: int) -> bytes:
        text = read(file, start)
        octets.append(len(text))
        return text

    monkeypatch.setattr(uidlist, "_text", count)
    for number in range(20):
        taken = Recipient("joe", "joe", Takeover(f"uid{number}"))
        assert session.recipient(Sender(""), taken) == Replies.RECIPIENT_OK
        session.begin(Sender(""))
        session.write(b"x\r\n")
        assert session.finish(3) == [Replies.DELIVERED]
        session.reset()
    lines = [len(line) for line in (spool / "joe" / uidlist.UIDS_NAME).read_bytes().splitlines(keepends=True)]
    assert sum(octets) < 2 * sum(lines), "each line when it is new, and once more to know the list again"
    assert len(octets) == 20


def test_mail_for_a_mailbox_that_moves_must_wait(spool: Path) -> None:
    Mailbox(str(spool), "joe").create()
    found = Found("old", mailbox="joe", is_moving=True)
    assert session_of(spool, LmtpFrame(), found).recipient(Sender(""), JOE) == Replies.MOVING


def test_without_a_text_of_the_site_the_warning_is_a_short_one(spool: Path) -> None:
    Mailbox(str(spool), "joe").create()
    frame = LmtpFrame()
    session = session_of(spool, frame, quota=Quota(0, 2), quotawarning=(50,))
    session.recipient(Sender(""), JOE)
    session.begin(Sender(""))
    session.write(b"x")
    session.finish(1)
    session.reset()
    assert "quota_warned" in frame.notes
    assert any(path.read_bytes().startswith(b"Subject: Your mailbox is 50 % full") for path in spool.glob("joe/new/*"))


def test_a_user_whose_mailbox_fills_up_is_warned_once(spool: Path, tmp_path: Path) -> None:
    mailbox = Mailbox(str(spool), "joe")
    mailbox.create()
    Path(mailbox.new, "1500000000.1_10").touch()
    frame = LmtpFrame()
    for text, note in (("", "quota_not_warned"), ("Subject: {percent} % full\n\n", "quota_warned"), ("x", "ready")):
        (tmp_path / "text").write_text(text)
        session = session_of(spool, frame, quota=Quota(0, 4), quotawarning=(50,), quotamessage=str(tmp_path / "text"))
        for _ in range(2):    # the same mailbox
            assert session.recipient(Sender(""), JOE) == Replies.RECIPIENT_OK
        session.begin(Sender(""))
        session.write(b"x")
        session.finish(1)
        frame.notes.clear()
        session.reset()
        assert frame.notes == [note, *(["ready"] if note != "ready" else [])]
        if note == "quota_not_warned":
            [delivered] = [path for path in spool.glob("joe/new/*") if path.name != "1500000000.1_10"]
            delivered.unlink()
    assert sum(b"Subject: 50 % full" in path.read_bytes() for path in spool.glob("joe/new/*")) == 1


@pytest.mark.parametrize("why, answer", [
    (MailboxError("/x", errno.ENOSPC), Replies.NO_SPACE), (MailboxError("/x", errno.EIO), Replies.STORE_FAILED),
    (StoreError("x"), Replies.STORE_FAILED)])
def test_answers_for_what_a_disk_says(why: StoreError, answer: LmtpReply) -> None:
    assert reply_to(why) == answer


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(spool: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    Mailbox(str(spool), "joe").create()
    session = session_of(spool, LmtpFrame())
    session.recipient(Sender(""), JOE)
    session.begin(Sender(""))

    def fail(file: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        session.write(b"x\r\n\r\n")
        assert session.finish(3) == [Replies.NO_SPACE]
    session.reset()
