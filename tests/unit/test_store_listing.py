"""Listings of mailboxes with plain names, which are made in a quicker way, and must be as right as any other."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.pop3.maildrop import Entry
from popular.store.filename import rank_of, size_of, uid_of
from popular.store.listing import PlainListing, list_messages
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

NAME = "joe"
MakeMailbox = Callable[..., Path]


def fill(path: Path, count: int, *more: str) -> list[str]:
    """Put messages with plain names into both folders, and more into cur/; returns all names."""
    names = [f"{1_700_000_000 + number * 7919 % count // 3}.{number * 31 % 997}{'' if number % 5 else '.M1'}_{number}"
             for number in range(count)]
    for number, name in enumerate(names):
        (path / ("cur" if number % 3 else "new") / name).write_bytes(b"")
    for name in more:
        (path / "cur" / name).write_bytes(b"")
    return [*names, *more]


@pytest.mark.parametrize("more", [pytest.param((), id="plain"), pytest.param(("999.1_1",), id="short-time"),
                                  pytest.param(("1700000005.1_9:2,S",), id="one-flagged"),
                                  pytest.param(("999.1", "zzz", "a b"), id="foreign")])
def test_quick_and_careful_listings_are_the_same(spool: Path, make_mailbox: MakeMailbox, more: tuple[str, ...]) -> None:
    path = make_mailbox(NAME)
    names = fill(path, 300, *more)
    messages = list_messages(Mailbox(str(spool), NAME))
    assert isinstance(messages, PlainListing) == (more in ((), ("999.1_1",)))
    assert [message.name for message in messages] == sorted(names, key=rank_of)
    assert all(message.uid == uid_of(message.name) for message in messages)
    assert {message.name for message in messages if message.is_new} == set(os.listdir(path / "new"))
    assert all(message.is_alone and not message.is_twin for message in messages)
    if isinstance(messages, PlainListing):
        assert messages.octets == sum(size_of(name) or 0 for name in names)


def test_a_plain_listing_makes_nothing_for_each_message(spool: Path, make_mailbox: MakeMailbox,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    fill(make_mailbox(NAME), 30)

    def never(*given: object) -> None:
        raise AssertionError(f"called for {given}")

    for name in ("files_in", "base_of", "uid_of", "rank_of", "StoredMessage"):
        monkeypatch.setattr(f"popular.store.listing.{name}", never)
    assert len(list_messages(Mailbox(str(spool), NAME))) == 30


@pytest.mark.parametrize("is_same", [True, False], ids=["same", "another"])
def test_a_plain_name_in_both_folders(spool: Path, make_mailbox: MakeMailbox, is_same: bool) -> None:
    path = make_mailbox(NAME)
    (path / "new/1700000000.1_6").write_bytes(b"text\r\n")
    if is_same:
        os.link(path / "new/1700000000.1_6", path / "cur/1700000000.1_6")
    else:
        (path / "cur/1700000000.1_6").write_bytes(b"text\r\n")
    messages = list(list_messages(Mailbox(str(spool), NAME)))
    assert [(message.is_new, message.leftover) for message in messages] == (
        [(False, "1700000000.1_6")] if is_same else [(False, ""), (True, "")])
    assert len({message.uid for message in messages}) == len(messages)


@pytest.mark.parametrize("more", [(), ("cur/1.x.host,W=7",)], ids=["plain", "with-a-foreign-one"])
def test_entries_are_the_same_as_columns_and_one_by_one(spool: Path, make_mailbox: MakeMailbox,
                                                        more: tuple[str, ...]) -> None:
    path = make_mailbox(NAME)
    for place in ("new/1700000009.1_7", "cur/1700000008.1_8", "new/1700000010.1_9", *more):
        (path / place).write_bytes(b"")
    entries = MaildirMaildrop(Mailbox(str(spool), NAME)).entries
    assert entries.octets == 24 + 7 * len(more)
    assert list(entries.sizes) == [8, 7, 9] if not more else [7, 8, 7, 9]
    assert list(entries) == [entries[index] for index in range(len(entries))] == list(map(
        Entry, entries.sizes, entries.uids))


@pytest.mark.parametrize("more", [(), ("1700000009.x.host",)], ids=["plain", "with-a-foreign-one"])
def test_what_is_no_file_is_not_listed_and_reported(spool: Path, make_mailbox: MakeMailbox,
                                                    more: tuple[str, ...]) -> None:
    path = make_mailbox(NAME) / "new"
    for name in (*more, "1700000000.1_6"):
        (path / name).write_bytes(b"text\r\n")
    (path / "1700000001.1_5").mkdir()
    os.mkfifo(path / "1700000002.1_5")
    (path.parent / "elsewhere").write_bytes(b"text\r\n")
    (path / "1700000003.1_5").symlink_to(path.parent / "elsewhere")
    (path / "1700000004.1_5").symlink_to(path / "nowhere")
    (path / ".hidden").mkdir()
    maildrop = MaildirMaildrop(Mailbox(str(spool), NAME))
    assert [entry.uid for entry in maildrop.entries] == ["1700000000.1_6", *more]
    assert [(trouble.what, trouble.name) for trouble in maildrop.troubles] == [("not_a_file", "1700000001.1_5")]
    assert "4" in maildrop.troubles[0].why


def test_a_plain_mailbox_costs_one_scan_of_each_folder_and_no_call_for_a_message(
        spool: Path, make_mailbox: MakeMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(make_mailbox(NAME), 30)
    mailbox = Mailbox(str(spool), NAME)
    with monkeypatch.context() as patch:
        for call in ("open", "stat", "lstat", "fstat", "listdir"):
            patch.setattr(os, call, None)
        count = len(MaildirMaildrop(mailbox).entries)
    assert count == 30
