"""Unique ids given elsewhere: whatever the list says, each message has one of its own, and it stays."""

import fcntl
import multiprocessing
import os
import random
from pathlib import Path

import pytest

from popular.errors import MailboxError, StoreError
from popular.store import uidlist
from popular.store.filename import base_of, new_name
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.store.quota import usage_of
from popular.store.uidlist import MAX_UID_LINES, MAX_UID_OCTETS, UIDS_NAME, KnownUids, give_uids, given_uids
from popular.tools.pclean.expire import Ages, Cleaning, IdleHand, WorkingHand

HEAD = "popular-uidls 1\n"
TEXT = b"text\r\n"
NOW = 1_700_000_000


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), "joe").create()
    return spool / "joe"


def drop(box: Path) -> MaildirMaildrop:
    return MaildirMaildrop(Mailbox(str(box.parent), box.name))


def uids(box: Path) -> list[str]:
    return list(drop(box).entries.uids)


def put(box: Path, *places: str) -> None:
    for place in places:
        (box / place).write_bytes(TEXT)


def files(box: Path) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in ("new", "cur", "tmp") for name in os.listdir(box / folder))


def bases(box: Path) -> set[str]:
    return {base_of(os.path.basename(place)) for place in files(box)}


@pytest.mark.parametrize(("lines", "places", "wanted"), [
    pytest.param("u1 1.x\n", ["cur/1.x:2,S"], ["u1"], id="one"),
    pytest.param("u2 2.x\nu1 1.x\n", ["cur/1.x", "new/2.x,S=5"], ["u2", "u1"], id="order-of-the-list"),
    pytest.param("u9 9.x\n", ["cur/1.x", "new/9.x", "new/2.5_6"], ["u9", "1.x", "2.5_6"], id="listed-ones-first"),
    pytest.param("u1 1.5_6\n", ["new/1.5_6,U"], ["u1"], id="our-form"),
    pytest.param("u1 1.5_6\n", ["new/1.5_6"], ["1.5_6"], id="not-read-for-plain-names"),
    pytest.param("u0 gone\nu1 1.x\n", ["cur/1.x"], ["u1"], id="lines-of-removed-messages"),
    pytest.param("u1 a b\n", ["cur/a b:2,S"], ["u1"], id="blank-in-a-base"),
    pytest.param("u1 \udcff\x01\r\n", ["cur/\udcff\x01\r"], ["u1"], id="strange-octets"),
    pytest.param(f"{'u' * 70} 1.x\n", ["cur/1.x"], ["u" * 70], id="longest"),
    pytest.param(f"{'u' * 71} 1.x\n", ["cur/1.x"], ["1.x"], id="too-long"),
    pytest.param("u1 1.x\nu2 1.x\nu1 2.x\nu2 2.x\n", ["cur/1.x", "cur/2.x"], ["u1", "u2"], id="first-lines-count"),
    pytest.param("\nu1\nu1  1.x\nü 1.x\n 1.x\nu1 1.x,S\nu1 1.x:2\nu1 a/1.x\nu2 1.x\n", ["cur/1.x,S:2"], ["u2"],
                 id="other-forms-are-ignored"),
    pytest.param("u1 1.x", ["cur/1.x"], ["1.x"], id="cut-off"),
    pytest.param("u1 1.x\nu2 2", ["cur/1.x", "cur/2"], ["u1", "2"], id="the-last-cut-off"),
    pytest.param("", ["cur/1.x"], ["1.x"], id="empty"),
    pytest.param("1.x 1.x\n2.x 3.x\n3.x 2.x\n", ["cur/1.x", "cur/2.x", "cur/3.x"], ["1.x", "2.x", "3.x"],
                 id="swapped"),
])
def test_listings(box: Path, lines: str, places: list[str], wanted: list[str]) -> None:
    (box / UIDS_NAME).write_bytes(os.fsencode(HEAD + lines))
    put(box, *places)
    assert uids(box) == wanted
    drop(box).commit(set(), set(range(len(places))))
    assert uids(box) == wanted
    assert bases(box) == {base_of(os.path.basename(place)) for place in places}


@pytest.mark.parametrize(("lines", "places", "fixed"), [
    pytest.param("2.x 1.x\n", ["cur/1.x", "cur/2.x"], {0: "2.x"}, id="id-is-another-name"),
    pytest.param("2.x gone\n", ["cur/1.x", "cur/2.x"], {0: "1.x"}, id="id-of-a-removed-one-is-another-name"),
    pytest.param("2.5_6 1.x\n", ["cur/1.x", "new/2.5_6"], {0: "2.5_6"}, id="id-is-a-name-of-our-form"),
    pytest.param("u1 1.x\n", ["cur/1.x:2,", "cur/1.x:2,S", "new/1.x"], {}, id="foreign-twins"),
    pytest.param("u1 1.5_6\n", ["cur/1.5_6,U", "new/1.5_6,U:2,", "new/1.5_6"], {0: "u1"}, id="our-twins"),
    pytest.param("u1 1.x\n", ["cur/1.x", "new/1.x"], {}, id="same-name-in-both-folders"),
    pytest.param("1.x.T2 2.x\n", ["cur/1.x:2,", "cur/1.x:2,S", "cur/2.x"], {0: "1.x.T2"}, id="id-like-a-twin's"),
    pytest.param("u1 a b\n", ["cur/a b:2,", "cur/a b:2,S"], {}, id="twins-with-hashed-ids"),
])
def test_ids_are_different_and_stay_whatever_the_list_says(
        box: Path, lines: str, places: list[str], fixed: dict[int, str]) -> None:
    (box / UIDS_NAME).write_bytes(os.fsencode(HEAD + lines))
    put(box, *places)
    before = uids(box)
    assert len(set(before)) == len(places)
    assert all(before[index] == uid for index, uid in fixed.items())
    for _ in range(2):
        maildrop = drop(box)
        maildrop.commit(set(), set(range(len(places))))
        assert sorted(uids(box)) == sorted(before)
    first = uids(box)[0]
    drop(box).commit({0}, set())
    assert sorted(uids(box)) == sorted(set(before) - {first})


def test_a_name_of_our_form_keeps_its_name_and_its_twin_gets_another(box: Path) -> None:
    give_uids(str(box), [("u1", "1.5_6")])
    put(box, "cur/1.5_6,U", "new/1.5_6,U:2,")
    maildrop = drop(box)
    before = list(maildrop.entries.uids)
    maildrop.commit(set(), set())
    assert "cur/1.5_6,U" in files(box) and len(files(box)) == 2
    assert uids(box) == before
    (box / "cur/1.5_6,U").unlink()
    assert uids(box) == before[1:]


@pytest.mark.parametrize("obstacle", ["link", "folder", "pipe", "empty", "another-version", "too-large", "too-many"])
def test_a_list_that_cannot_be_used_closes_the_mailbox(box: Path, obstacle: str) -> None:
    path = box / UIDS_NAME
    put(box, "new/1.x")
    match obstacle:
        case "link":
            (box.parent / "list").write_text(f"{HEAD}u1 1.x\n")
            path.symlink_to(box.parent / "list")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.write_bytes(b"")
        case "another-version":
            path.write_text("popular-uidls 2\nu1 1.x\n")
        case "too-large":
            path.write_text(HEAD)
            os.truncate(path, MAX_UID_OCTETS + 1)
        case "too-many":
            path.write_text(HEAD + "\n" * MAX_UID_LINES)
    with pytest.raises(MailboxError, match=UIDS_NAME):
        drop(box)
    with pytest.raises(MailboxError, match=UIDS_NAME):
        give_uids(str(box), [("u1", "1.x")])
    assert files(box) == ["new/1.x"]
    (box / "new/1.x").rename(box / "new/1.5_6")
    assert uids(box) == ["1.5_6"]    # the list is not even opened


def test_noise_behind_the_head_is_no_id(box: Path) -> None:
    noise = random.Random(1).randbytes(1 << 20) * 16
    (box / UIDS_NAME).write_bytes(HEAD.encode("ascii") + noise[:16 << 20].replace(b"\n", b" ", 16))
    put(box, "new/1.x", "new/2.x")
    assert uids(box) == ["1.x", "2.x"]


# Writing

def test_what_is_given_counts_and_is_on_disk(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def note(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        sync(file)

    monkeypatch.setattr(os, "fsync", note)
    assert give_uids(str(box), [("u2", "2.x"), ("u1", "1.x")]) == ["2.x", "1.x"]
    assert synced[-2:] == [str(box / UIDS_NAME), str(box)]
    assert (box / UIDS_NAME).read_text() == f"{HEAD}u2 2.x\nu1 1.x\n"
    assert (box / UIDS_NAME).stat().st_mode & 0o777 == 0o600
    assert files(box) == []
    assert give_uids(str(box), [("u1", "7.x"), ("u3", "3.x"), ("u3", "4.x")]) == ["1.x", "3.x", "3.x"]
    assert list(given_uids(str(box)).items()) == [("2.x", "u2"), ("1.x", "u1"), ("3.x", "u3")]


@pytest.mark.parametrize("rest", ["u", "u5", "u5 ", "u5 5", "u5 5.x", "\0\0", "\udcff"])
def test_a_line_that_a_crash_has_cut_off_never_counts(box: Path, rest: str) -> None:
    (box / UIDS_NAME).write_bytes(os.fsencode(f"{HEAD}u1 1.x\n{rest}"))
    assert give_uids(str(box), [("u5", "5.xyz"), ("u6", "5")]) == ["5.xyz", "5"]
    assert given_uids(str(box)) == {"1.x": "u1", "5.xyz": "u5", "5": "u6"}


@pytest.mark.parametrize(("uid", "base"), [
    ("", "1.x"), ("u" * 71, "1.x"), ("a b", "1.x"), ("ü", "1.x"), ("u1\n", "1.x"), ("u1", ""), ("u1", "1.x,U"),
    ("u1", "1.x:2,"), ("u1", "1\nu2 2"), ("u1", "cur/1.x")])
def test_what_no_line_can_hold_is_refused(box: Path, uid: str, base: str) -> None:
    with pytest.raises(ValueError, match="cannot be listed"):
        give_uids(str(box), [("u0", "0.x"), (uid, base)])
    assert not (box / UIDS_NAME).exists()


def test_a_base_has_one_id_and_a_list_an_end(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_uids(str(box), [("u1", "1.x")])
    before = (box / UIDS_NAME).read_bytes()
    with pytest.raises(StoreError, match="another id"):
        give_uids(str(box), [("u2", "2.x"), ("u3", "1.x")])
    for name, limit in (("MAX_UID_LINES", 3), ("MAX_UID_OCTETS", len(before) + 10)):
        with monkeypatch.context() as patch:
            patch.setattr(uidlist, name, limit)
            with pytest.raises(StoreError, match="full"):
                give_uids(str(box), [("u2", "2.x"), ("u3", "3.x")])
            give_uids(str(box), [("u1", "1.x")])
    assert (box / UIDS_NAME).read_bytes() == before


def test_where_links_are_refused_the_list_is_made_nevertheless(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    give_uids(str(box), [("u1", "1.x")])
    assert given_uids(str(box)) == {"1.x": "u1"} and files(box) == []


def _give_many(folder: str, name: str) -> None:
    for number in range(100):
        give_uids(folder, [(f"{name}{number}", f"{name}{number}.x"), (f"both{number}", f"{name}{number}.both")])


def test_writers_at_once_lose_no_line_and_agree(box: Path) -> None:
    spawned = multiprocessing.get_context("fork")
    writers = [spawned.Process(target=_give_many, args=(str(box), name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
        writer.close()
    text = (box / UIDS_NAME).read_text().removeprefix(HEAD).splitlines()
    assert len(text) == len(given_uids(str(box))) == len(set(given_uids(str(box)).values())) == 400


def test_a_list_that_is_removed_before_it_is_locked_is_made_anew(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_uids(str(box), [("u1", "1.x")])
    lock = fcntl.flock

    def remove_first(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        (box / UIDS_NAME).unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    give_uids(str(box), [("u2", "2.x")])
    assert given_uids(str(box)) == {"2.x": "u2"}


def test_who_comes_again_reads_only_what_is_new(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, octets = KnownUids(), 0
    read = uidlist._text

    def count(file: int, start: int) -> bytes:
        nonlocal octets
        text = read(file, start)
        octets += len(text)
        return text

    monkeypatch.setattr(uidlist, "_text", count)
    for number in range(100):
        assert give_uids(str(box), [(f"u{number}", f"{number}.x")], known) == [f"{number}.x"]
        give_uids(str(box), [(f"v{number}", f"{number}.y")])    # somebody else's
    wanted = given_uids(str(box))
    octets = 0
    assert give_uids(str(box), [("v99", "7.z"), ("u0", "8.z")], known) == ["99.y", "0.x"]
    assert octets == len("u99 99.x\nv99 99.y\n") + len("v98 98.y\n")
    assert known.uids == wanted
    with pytest.raises(StoreError, match="another id"):
        give_uids(str(box), [("v", "99.y")], known)


@pytest.mark.parametrize("text", ["", "u1 1.x\nu2 2", "u2 2.x\nu3 3.x\nu4 4.x\n"])
def test_what_is_known_of_one_list_never_counts_for_another(box: Path, text: str) -> None:
    known = KnownUids()
    for _ in range(2):
        give_uids(str(box), [("u1", "1.x"), ("u2", "2.x")], known)
    (box / UIDS_NAME).write_text(f"{HEAD}{text}")    # the file number of a removed one may come again at once
    wanted = {**given_uids(str(box)), "9.x": "u9"}
    assert give_uids(str(box), [("u9", "9.x")], known) == ["9.x"]
    assert given_uids(str(box)) == wanted
    known.forget()
    give_uids(str(box), [("u9", "9.x")], known)
    assert known.uids == wanted


def test_a_message_that_comes_between_two_listings_has_its_id(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twins make the folders be listed again; what has come since then was put into the list meanwhile."""
    put(box, "cur/1.x:2,", "cur/1.x:2,S")
    read = given_uids
    calls: list[str] = []

    def read_and_deliver(folder: str) -> dict[str, str]:
        found = read(folder)
        calls.append(folder)
        if len(calls) == 1:
            give_uids(folder, [("u9", "9.x")])
            put(box, "new/9.x")
        return found

    monkeypatch.setattr("popular.store.maildrop.given_uids", read_and_deliver)
    assert "u9" in drop(box).entries.uids and len(calls) == 2


# Over many sessions

@pytest.mark.parametrize("seed", range(12))
def test_ids_and_order_stay_through_whatever_happens(box: Path, seed: int) -> None:
    """Against a model: a message has one id for ever, also when it was removed and restored, and none has another's."""
    chance = random.Random(seed)
    model: dict[str, str] = {}                  # ids by base, of all that ever were there
    removed: dict[str, str] = {}                # names by base, as in a backup
    counter = iter(range(1, 10_000))

    def take_over() -> None:
        """What another server's messages become; the id of one that a crash kept from coming is asked for again."""
        number = next(counter)
        uid = chance.choice([f"{number:08x}6543ffff", f"old.{number}"])
        base = chance.choice([new_name(1_600_000_000 + number, 5, 6, 1), f"{1_600_000_000 + number}.M1P5.host"])
        (base,) = give_uids(str(box), [(uid, base)])
        if not chance.randrange(4):
            (base,) = give_uids(str(box), [(uid, f"{number}.another")])
        put(box, f"{chance.choice(['new', 'cur'])}/{base},U")
        model[base] = uid

    def deliver() -> None:
        base = chance.choice([new_name(1_700_000_000 + next(counter), 5, 6), f"{1_700_000_000 + next(counter)}.M1P5.h"])
        put(box, f"new/{base}")
        model[base] = base

    def session() -> None:
        maildrop = drop(box)
        count = len(maildrop.entries)
        gone, read = ({index for index in range(count) if not chance.randrange(share)} for share in (8, 2))
        names = {model[base_of(name)]: name for name in (os.path.basename(place) for place in files(box))}
        for index in gone:
            name = names[maildrop.entries[index].uid]
            removed[base_of(name)] = name
        maildrop.commit(gone, read)

    def restore() -> None:
        for base in list(removed)[:2]:
            put(box, f"{chance.choice(['new', 'cur'])}/{removed.pop(base)}")

    def flag() -> None:
        for place in files(box):
            if place.startswith("cur/") and not chance.randrange(4):
                (box / place).rename(box / f"{place.partition(':')[0]}:2,{chance.choice(['', 'F', 'FS', 'RS'])}")

    for _ in range(60):
        chance.choice([take_over, take_over, deliver, session, restore, flag])()
        there, found = bases(box), uids(box)
        listed = [uid for base, uid in given_uids(str(box)).items() if base in there]
        assert found[:len(listed)] == listed
        assert sorted(found) == sorted(model[base] for base in there)


# pclean

@pytest.mark.parametrize(("places", "age", "is_dry", "is_kept"), [
    ([], 3601, False, False), (["cur/2.x", "new/1.5_6"], 3601, False, False), ([], 3599, False, True),
    ([], 3601, True, True), (["cur/1.x:2,S"], 3601, False, True), (["new/1.x"], 3601, False, True)])
def test_the_list_goes_with_the_last_of_its_messages(box: Path, places: list[str], age: int, is_dry: bool,
                                                     is_kept: bool) -> None:
    give_uids(str(box), [("u0", "0.x"), ("u1", "1.x")])
    put(box, *places)
    os.utime(box / UIDS_NAME, (NOW - age, NOW - age))
    cleaned = Cleaning(Mailbox(str(box.parent), box.name), Ages(3600), NOW, IdleHand() if is_dry else WorkingHand())
    assert cleaned.run().failures == 0
    assert (box / UIDS_NAME).exists() == is_kept
    assert len(files(box)) == len(places)


def test_pclean_reports_a_list_that_it_cannot_read_and_cleans_the_rest(box: Path) -> None:
    os.mkfifo(box / UIDS_NAME)
    put(box, "tmp/1.x")
    os.utime(box / "tmp/1.x", (1, 1))
    cleaned = Cleaning(Mailbox(str(box.parent), box.name), Ages(3600), NOW, WorkingHand()).run()
    assert (cleaned.tmp, cleaned.failures) == (1, 1) and UIDS_NAME in cleaned.troubles[0]


def test_quotas_do_not_need_the_list(box: Path) -> None:
    os.mkfifo(box / UIDS_NAME)
    put(box, "new/1.5_6,U")
    usage = usage_of(Mailbox(str(box.parent), box.name))
    assert (usage.octets, usage.number) == (6, 1)
