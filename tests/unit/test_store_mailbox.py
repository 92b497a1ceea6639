"""Mailboxes: what is there, what it holds, and what the listing makes of it."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.errors import MailboxError, StoreError
from popular.store.filename import uid_of
from popular.store.listing import list_messages
from popular.store.mailbox import Mailbox, mail_state
from popular.store.maildrop import MaildirMaildrop

NAME = "3/2d/joe.doe"
MakeMailbox = Callable[..., Path]


def put(folder: Path, name: str, octets: bytes = b"text\r\n") -> None:
    (folder / name).write_bytes(octets)


@pytest.mark.parametrize("name", ["", "/joe", "../joe", "joe/..", "a..b", "jo e", "joe\n", "joe\0", "j\u00f6e",
                                  "a" * 513], ids=ascii)
def test_spec_2_4_bad_names_are_refused(spool: Path, name: str) -> None:
    for use in (lambda: Mailbox(str(spool), name), lambda: mail_state(str(spool), name)):
        with pytest.raises(StoreError, match="not a mailbox name"):
            use()


@pytest.mark.parametrize(("new", "cur", "state"), [
    pytest.param([], [], "none", id="empty"),
    pytest.param([b"x"], [], "new", id="new"),
    pytest.param([], [b"x"], "read", id="only-read"),
    pytest.param([b"x"], [b"x"], "new", id="both"),
])
def test_spec_8_2_state_of_a_mailbox(spool: Path, make_mailbox: MakeMailbox, new: list[bytes], cur: list[bytes],
                                     state: str) -> None:
    make_mailbox(NAME, new, cur)
    assert mail_state(str(spool), NAME) == state


def unlisted_things(folder: Path) -> None:
    """Put everything into a folder that is no message."""
    put(folder, ".hidden")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    put(folder.parent, "elsewhere")
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    (folder / "dangling").symlink_to(folder / "nowhere")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(folder / "socket"))


def test_only_plain_files_are_messages(spool: Path, make_mailbox: MakeMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_mailbox(NAME)
    for folder in ("new", "cur"):
        monkeypatch.chdir(path / folder)
        unlisted_things(path / folder)
    assert mail_state(str(spool), NAME) == "none"
    assert len(list_messages(Mailbox(str(spool), NAME))) == 0


def test_spec_9_1_mail_in_tmp_is_not_there_yet(spool: Path, make_mailbox: MakeMailbox) -> None:
    put(make_mailbox(NAME) / "tmp", "1.1_6")
    assert mail_state(str(spool), NAME) == "none"
    assert len(list_messages(Mailbox(str(spool), NAME))) == 0


def test_listing_stats_no_file(spool: Path, make_mailbox: MakeMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mailbox(NAME, [b"a"] * 3, [b"b"] * 3)

    def never(path: object, **more: object) -> None:
        raise AssertionError(f"stat of {path}")

    monkeypatch.setattr(os, "stat", never)
    monkeypatch.setattr(os, "lstat", never)
    assert len(list_messages(Mailbox(str(spool), NAME))) == 6


@pytest.mark.parametrize("missing", ["mailbox", "new and cur"])
def test_missing_mailbox_is_told_for_good(spool: Path, make_mailbox: MakeMailbox, missing: str) -> None:
    if missing == "new and cur":
        path = make_mailbox(NAME)
        (path / "new").rmdir()
        (path / "cur").rmdir()
    for use in (lambda: mail_state(str(spool), NAME), lambda: list_messages(Mailbox(str(spool), NAME)),
                lambda: Mailbox(str(spool), NAME).check()):
        with pytest.raises(MailboxError) as caught:
            use()
        assert caught.value.no_such_mailbox


def test_missing_spool_is_told_for_now(tmp_path: Path) -> None:
    root = str(tmp_path / "not-mounted")
    for use in (lambda: mail_state(root, NAME), lambda: list_messages(Mailbox(root, NAME)),
                lambda: Mailbox(root, NAME).check(), lambda: Mailbox(root, NAME).create()):
        with pytest.raises(MailboxError) as caught:
            use()
        assert not caught.value.no_such_mailbox
    assert not os.path.exists(root)


def test_a_folder_that_cannot_be_opened_is_told_for_now(spool: Path, make_mailbox: MakeMailbox,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    make_mailbox(NAME)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    for use in (lambda: mail_state(str(spool), NAME), lambda: list_messages(Mailbox(str(spool), NAME))):
        with pytest.raises(MailboxError) as caught:
            use()
        assert not caught.value.no_such_mailbox
        assert caught.value.path.endswith("/new")
        assert caught.value.number == 13


def test_cur_may_be_missing(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    (path / "cur").rmdir()
    assert mail_state(str(spool), NAME) == "none"
    put(path / "new", "1.1_6")
    assert mail_state(str(spool), NAME) == "new"
    assert [message.uid for message in list_messages(Mailbox(str(spool), NAME))] == ["1.1_6"]


def test_new_may_be_lost(spool: Path, make_mailbox: MakeMailbox) -> None:
    """Mail in cur/ is served all the same, and the next delivery makes new/ anew."""
    path = make_mailbox(NAME)
    put(path / "cur", "1.1_6")
    (path / "new").rmdir()
    mailbox = Mailbox(str(spool), NAME)
    assert mail_state(str(spool), NAME) == "read"
    assert [message.uid for message in list_messages(mailbox)] == ["1.1_6"]
    drop = MaildirMaildrop(mailbox)
    with drop.open(0) as file:
        assert file.read() == b"text\r\n"
    drop.commit({0}, set())
    assert mail_state(str(spool), NAME) == "none"
    mailbox.check()
    assert sorted(os.listdir(path)) == ["cur", "new", "tmp"]


def test_a_file_in_place_of_new_is_no_loss(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    (path / "new").rmdir()
    put(path, "new")
    for use in (lambda: mail_state(str(spool), NAME), lambda: list_messages(Mailbox(str(spool), NAME))):
        with pytest.raises(MailboxError) as caught:
            use()
        assert caught.value.number == errno.ENOTDIR


def test_create_makes_what_is_missing(spool: Path) -> None:
    mailbox = Mailbox(str(spool), NAME)
    mailbox.create()
    put(Path(mailbox.new), "1.1_6")
    os.rmdir(mailbox.cur)
    mailbox.create()
    assert sorted(os.listdir(mailbox.path)) == ["cur", "new", "tmp"]
    assert os.listdir(mailbox.new) == ["1.1_6"]
    assert os.stat(mailbox.new).st_mode & 0o777 == 0o700


def synced_by(create: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths of the folders that `create` brings to disk."""
    synced: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
        create()
    return synced


def test_create_brings_to_disk_what_another_may_just_have_made(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox(str(spool), NAME)
    parents = [str(spool), *(str(spool / part) for part in ("3", "3/2d", NAME))]
    assert sorted(set(synced_by(mailbox.create, monkeypatch))) == sorted(parents)
    assert synced_by(mailbox.create, monkeypatch) == parents


def test_create_leaves_folders_that_we_cannot_read_to_the_administrator(spool: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox(str(spool), NAME)
    mailbox.create()
    real = os.open

    def open_but(path: str, *more: object, **keywords: object) -> int:
        if path == str(spool / "3"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *more, **keywords)    # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", open_but)
    monkeypatch.setattr(os, "access", lambda *given, **more: False)
    mailbox.create()
    monkeypatch.setattr(os, "access", lambda *given, **more: True)
    with pytest.raises(MailboxError):
        mailbox.create()


def test_create_where_a_file_is_in_the_way(spool: Path) -> None:
    put(spool, "3")
    with pytest.raises(MailboxError) as caught:
        Mailbox(str(spool), NAME).create()
    assert not caught.value.no_such_mailbox


def test_symbolic_links_among_folders_are_followed(spool: Path, tmp_path: Path) -> None:
    Mailbox(str(tmp_path), "disk2").create()
    put(tmp_path / "disk2" / "new", "1.1_6")
    (spool / "joe").symlink_to(tmp_path / "disk2")
    assert mail_state(str(spool), "joe") == "new"


def test_order_is_by_time_of_delivery_over_both_folders(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    for folder, name in (("new", "9.1_1"), ("cur", "10.9_1"), ("new", "10.1_1"), ("cur", "zzz"), ("new", "100.1.host"),
                         ("cur", "11.1_1:2,S"), ("new", "aaa")):
        put(path / folder, name)
    assert [message.uid for message in list_messages(Mailbox(str(spool), NAME))] == [
        "9.1_1", "10.1_1", "10.9_1", "11.1_1", "100.1.host", "aaa", "zzz"]


def test_a_message_in_both_folders_is_listed_once(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    put(path / "new", "1.1_6")
    os.link(path / "new" / "1.1_6", path / "cur" / "1.1_6:2,S")
    (message,) = list_messages(Mailbox(str(spool), NAME))
    assert (message.uid, message.is_new, message.name, message.leftover) == ("1.1_6", False, "1.1_6:2,S", "1.1_6")


def test_one_file_under_two_names_is_two_messages(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    put(path / "cur", "1.1_6")
    os.link(path / "cur" / "1.1_6", path / "cur" / "2.1_6")
    assert [message.uid for message in list_messages(Mailbox(str(spool), NAME))] == ["1.1_6", "2.1_6"]


def test_equal_bases_of_different_files_get_ids_of_their_own(spool: Path, make_mailbox: MakeMailbox) -> None:
    path = make_mailbox(NAME)
    for folder, name in (("cur", "1.1_6"), ("new", "1.1_6"), ("cur", "1.1_6:2,S"), ("cur", "9.host"),
                         ("cur", "9.host:2,S"), ("cur", "a b"), ("cur", "a b:2,S"), ("cur", "8.alone")):
        put(path / folder, name)
    mailbox = Mailbox(str(spool), NAME)
    first = list_messages(mailbox)
    uids = [message.uid for message in first]
    assert len(set(uids)) == 8
    assert {"1.1_6", "9.host", "8.alone"} <= set(uids)
    assert [message.uid != uid_of(message.name) for message in first].count(True) == 4
    assert {message.name for message in first if message.is_twin} == {"1.1_6", "1.1_6:2,S"}    # the others keep theirs
    assert [message.uid for message in first if message.is_alone] == ["8.alone"]
    assert list_messages(mailbox) == first
