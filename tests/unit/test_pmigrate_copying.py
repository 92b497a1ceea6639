"""What pmigrate brings to a mailbox: ids, order, names, places; again and again; and what it leaves out."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.errors import StoreError
from popular.store.mailbox import Mailbox
from popular.tools.pmigrate.compare import KeptMailbox, compare
from popular.tools.pmigrate.copying import Tally, copy, date_of, foretell
from popular.tools.pmigrate.sources.source import Cut, SourceError
from popular.tools.pmigrate.targets import spool
from popular.tools.pmigrate.targets.spool import Spool, known_uids
from popular.unix.rights import own_rights
from tests.harness.letters import RECEIVED, Letters, letter, shown

OWN = f"{RECEIVED}.77.M000001_21"


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    """Return an empty mailbox."""
    made = Mailbox(str(tmp_path), "joe")
    made.create()
    return made


@pytest.fixture
def move(mailbox: Mailbox) -> Callable[..., Tally]:
    """Return a function that brings letters to the mailbox."""
    def run(source: Letters, *, removes: bool = False, links: bool = False) -> Tally:
        tally = Tally()
        target = Spool(mailbox, own_rights(), links=links)
        try:
            copy(source, target, tally, removes=removes)
        finally:
            target.close()
            assert os.listdir(mailbox.tmp) == []
        return tally
    return run


def names(mailbox: Mailbox, folder: str = "new") -> list[str]:
    return sorted(os.listdir(f"{mailbox.path}/{folder}"))


def test_ids_order_times_and_places(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "zz", received=RECEIVED + 9), letter(2, "aa", is_read=True), letter(3, "~!", b"x\ny"))
    tally = move(source)
    assert shown(mailbox.root, "joe") == [
        ("zz", b"Subject: 1\r\n\r\ntext\r\n"), ("aa", b"Subject: 2\r\n\r\ntext\r\n"), ("~!", b"x\r\ny\r\n")]
    pid = os.getpid()
    assert names(mailbox) == [f"{RECEIVED + 3}.{pid}.M000003_6,U", f"{RECEIVED + 9}.{pid}.M000001_20,U"]
    assert names(mailbox, "cur") == [f"{RECEIVED + 2}.{pid}.M000002_20,U"]
    assert os.stat(f"{mailbox.new}/{names(mailbox)[0]}").st_mtime == RECEIVED + 3
    assert (tally.found, tally.brought, tally.octets, tally.failed, tally.remarks) == (3, 3, 46, 0, ["a remark"])


@pytest.mark.parametrize("received", [-5, 1, 253370764800])
def test_a_date_that_cannot_be_so_is_not_believed(mailbox: Mailbox, move, received: int) -> None:
    move(Letters(letter(1, "a", b"Date: Mon, 5 Jan 2026 10:00:00 +0100\r\n\r\n", received=received)))
    assert names(mailbox)[0].startswith("1767603600.")


def test_a_second_run_brings_what_is_new(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, "b"))
    move(source)
    source.opened.clear()
    source.letters.append(letter(3, "c"))
    assert move(source).brought == 1
    assert source.opened == ["3"]
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["a", "b", "c"]


def test_new_mail_comes_behind_what_is_brought(mailbox: Mailbox, move) -> None:
    Path(mailbox.new, "1600000000.5_3").write_bytes(b"x\r\n")
    move(Letters(letter(1, "b"), letter(2, "a")))
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["b", "a", "1600000000.5_3"]


def test_what_a_client_has_removed_does_not_come_again(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, "b"))
    move(source)
    os.unlink(f"{mailbox.new}/{names(mailbox)[0]}")
    assert move(source).brought == 0
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["b"]


def test_ids_of_our_form_become_the_names(mailbox: Mailbox, move) -> None:
    first, second = f"{RECEIVED}.9_20", f"{RECEIVED + 1}.3.M000007_20"
    source = Letters(letter(1, first), letter(2, second, is_read=True))
    move(source)
    assert (names(mailbox), names(mailbox, "cur")) == ([first], [second])
    assert not os.path.exists(f"{mailbox.path}/.popular-uidls")
    source.letters.append(letter(3, "foreign"))
    source.letters.append(letter(4, f"{RECEIVED - 5}.9_20"))
    assert move(source).brought == 2
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == [first, second, "foreign", f"{RECEIVED - 5}.9_20"]


@pytest.mark.parametrize("one, other", [
    (f"{RECEIVED}.9_20", f"{RECEIVED - 1}.9_20"),    # the other order
    (f"{RECEIVED}.9_20", f"{RECEIVED + 1}.9_21")])   # another size
def test_ids_of_our_form_that_cannot_be_the_names(mailbox: Mailbox, move, one: str, other: str) -> None:
    move(Letters(letter(1, one), letter(2, other)))
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == [one, other]
    assert all(name.endswith("_20,U") for name in names(mailbox))


def test_files_of_other_programs_keep_name_and_octets(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "u1", b"one\n", name="1.M2P3.host,S=4:2,"),
                     letter(2, "u2", b"two\n", name="1.M1P3.host,S=4:2,S", is_read=True),
                     letter(3, "u3", b"three\n", name="1.M2P3.host,S=6"))
    move(source)
    assert Path(mailbox.new, "1.M2P3.host,S=4:2,").read_bytes() == b"one\n"
    assert names(mailbox, "cur") == ["1.M1P3.host,S=4:2,S"]
    assert shown(mailbox.root, "joe") == [("u1", b"one\r\n"), ("u2", b"two\r\n"), ("u3", b"three\r\n")]
    assert names(mailbox)[1].endswith("_7,U")    # its base was taken


def test_names_that_tell_ids_and_order_need_no_list(mailbox: Mailbox, move) -> None:
    source = Letters(*[letter(number, f"{number}.5.host", b"x\n", name=f"{number}.5.host:2,") for number in (1, 2)])
    move(source)
    assert names(mailbox) == ["1.5.host:2,", "2.5.host:2,"]
    assert not os.path.exists(f"{mailbox.path}/.popular-uidls")


def test_linked_files(mailbox: Mailbox, move, tmp_path: Path) -> None:
    path = tmp_path / "1.5.host"
    path.write_bytes(b"x\n")
    move(Letters(letter(1, "u1", name=path.name, path=str(path)), letter(2, "u2")), links=True)
    assert os.path.samefile(path, f"{mailbox.new}/{path.name}")
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["u1", "u2"]
    assert path.read_bytes() == b"x\n"


def test_ids_that_are_missing_double_or_invalid(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, None), letter(2, "a"), letter(3, "a"), letter(4, "with blank"), letter(5, "x" * 71),
                     letter(6, None, b"Subject: 1\n\ntext\n"), letter(7, ""), letter(8, "\udcff"))
    tally = move(source)
    ids = [uid for uid, _ in shown(mailbox.root, "joe")]
    assert len({*ids}) == 8 and ids[1] == "a" and ids[5] == f"{ids[0][:60]}.2"
    assert tally.remarks == [
        "message 3: an earlier message has its unique id a: gets another one",
        "message 4: 'with blank' is no unique id: gets another one",
        f"message 5: '{'x' * 70}' is no unique id: gets another one",
        "message 7: '' is no unique id: gets another one",
        "message 8: '\\\\udcff' is no unique id: gets another one", "a remark"]
    before = shown(mailbox.root, "joe")
    assert move(source).brought == 0
    assert shown(mailbox.root, "joe") == before


def test_a_message_that_cannot_be_read(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, "b", SourceError("damaged")), letter(3, "c"))
    tally = move(source, removes=True)
    assert (tally.brought, tally.failed, tally.remarks) == (2, 1, ["message 2: damaged", "a remark"])
    source.letters[1] = letter(2, "b")
    assert move(source).failed == 0
    assert sorted(uid for uid, _ in shown(mailbox.root, "joe")) == ["a", "b", "c"]


def test_a_cut_loses_nothing(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, "b", Cut("gone")))
    with pytest.raises(Cut):
        move(source)
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["a"]


def test_what_the_source_no_longer_has_is_removed_on_request(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, "b", is_read=True), letter(3, "c"))
    move(source)
    Path(mailbox.new, "1600000000.5_3").write_bytes(b"x\r\n")
    del source.letters[:2]
    assert move(source).removed == 0
    assert move(source, removes=True).removed == 2
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["c", "1600000000.5_3"]
    assert move(source, removes=True).removed == 0


def test_a_rehearsal_changes_nothing(mailbox: Mailbox, move) -> None:
    source = Letters(letter(1, "a"), letter(2, None))
    for known in (frozenset(), frozenset("a")):
        tally = Tally()
        foretell(source, known_uids(mailbox, own_rights()), tally)
        assert (tally.found, tally.brought, tally.octets) == (2, 2 - len(known), 40 - 20 * len(known))
        if not known:
            assert sorted(os.listdir(mailbox.path)) == ["cur", "new", "tmp"] and source.opened == []
            move(Letters(letter(1, "a")))
    assert known_uids(Mailbox(mailbox.root, "nobody"), own_rights()) == frozenset()


def test_batches(mailbox: Mailbox, move, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(spool, "sync_folder", synced.append)
    monkeypatch.setattr(spool, "BATCH_MESSAGES", 4)
    move(Letters(*[letter(number, f"u{number}") for number in range(10)]))
    assert synced == [mailbox.new] * 3


def test_a_full_disk(mailbox: Mailbox, move, monkeypatch: pytest.MonkeyPatch) -> None:
    move(Letters(letter(1, "a")))

    def make(path: str, flags: int) -> int:
        os.close(os.open(path, flags, 0o600))
        return os.open("/dev/full", os.O_RDWR)

    monkeypatch.setattr(spool, "_make", make)
    with pytest.raises(StoreError, match="message 2: No space left on device"):
        move(Letters(letter(1, "a"), letter(2, "b", b"x" * 100_000), letter(3, "c")))
    assert [uid for uid, _ in shown(mailbox.root, "joe")] == ["a"]


def test_two_runs_at_once(mailbox: Mailbox) -> None:
    first = Spool(mailbox, own_rights())
    with pytest.raises(StoreError, match="another pmigrate works on this mailbox"):
        Spool(mailbox, own_rights())
    first.close()


@pytest.mark.parametrize("content, text", [(b"something\n", "not a list of moved messages"), (None, "Is a directory")])
def test_a_list_of_moved_messages_that_is_none(mailbox: Mailbox, content: bytes | None, text: str) -> None:
    path = Path(mailbox.path, ".popular-moved")
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(StoreError, match=text):
        Spool(mailbox, own_rights())


@pytest.mark.parametrize("head, moment", [
    (b"Received: by b; Mon, 5 Jan 2026 10:00:00 +0100\r\nReceived: x; Sun, 4 Jan 2026 10:00:00 GMT\r\n", 1767603600),
    (b"received: from a (b; c)\r\n\tby d;\r\n Mon, 5 Jan 2026 10:00:00 +0100 (CET)\r\nDate: x\r\n", 1767603600),
    (b"Date: Mon, 5 Jan 2026 04:00:00 EST\n\nReceived: x; Sun, 4 Jan 2026 10:00:00 +0100\n", 1767603600),
    (b"Received: nonsense\r\nDate: Mon, 5 Jan 2026 09:00:00 GMT\r\n\r\n", 1767603600),
    (b"Date: Mon, 5 Jan 2026 10:00:00\r\n\r\n", 1800000000),                                   # no zone
    (b"Date: Mon, 5 Jan 2026 09:00:00 GMT\r\nDate: Mon, 5 Jan 2026 09:00:00 GMT\r\n", 1800000000),
    (b"Date: Mon, 5 Jan 1970 09:00:00 GMT\r\n", 1800000000), (b"Date: Mon, 5 Jan 2099 09:00:00 GMT\r\n", 1800000000),
    (b"Date: Mon, 99 Jan 99999999999999999999 99:99:99 +9999\r\n", 1800000000),
    (b"\xff\0", 1800000000), (b"", 1800000000)])
def test_the_date_of_a_message(head: bytes, moment: int) -> None:
    assert date_of(head, lambda: 1_800_000_000.0) == moment


def test_a_mailbox_of_ours_as_source(mailbox: Mailbox) -> None:
    for folder, name in [("new", "1700000002.5_3"), ("cur", "1700000003.M1P2.host:2,"), ("cur", "x:2,S")]:
        Path(mailbox.path, folder, name).write_bytes(b"x\r\n")
        os.utime(Path(mailbox.path, folder, name), (RECEIVED, RECEIVED))
    found = [(message.uid, message.size, message.received, message.is_read)
             for message in KeptMailbox(mailbox, own_rights()).messages()]
    assert found == [("1700000002.5_3", 3, 1700000002, False), ("1700000003.M1P2.host", 3, RECEIVED, False),
                     ("x", 3, RECEIVED, True)]


def test_verify(mailbox: Mailbox, move) -> None:
    def compared() -> Tally:
        tally = Tally()
        kept = KeptMailbox(mailbox, own_rights())
        compare(source, kept, spool.brought_uids(mailbox), tally)
        return tally

    source = Letters(*[letter(number, f"u{number}") for number in range(1, 7)], letter(7, None))
    move(source)
    Path(mailbox.new, "1600000000.5_3").write_bytes(b"x\r\n")
    assert (compared().failed, compared().remarks) == (0, ["1 more came to the mailbox by another way", "a remark"])
    first, second, third, *_ = names(mailbox)[1:]
    os.unlink(f"{mailbox.new}/{first}")
    with open(f"{mailbox.new}/{second}", "r+b") as file:
        file.write(b"X")
    with open(f"{mailbox.new}/{third}", "ab") as longer:
        longer.write(b"more\r\n")
    source.letters[3:5] = [letter(5, "u5"), letter(4, "u4")]
    source.letters[5] = letter(6, "u6", SourceError("damaged"))
    source.letters[6] = letter(8, "u8")
    tally = compared()
    assert (tally.failed, tally.remarks[:6]) == (7, [
        "message 1, u1: is missing; it was brought and is gone", "message 2, u2: has other octets",
        "message 3, u3: has 26 octets in place of 20", "message 6, u6: damaged", "message 8, u8: is missing",
        "the messages are in another order"])
    assert tally.remarks[6].endswith(": is no longer in the source")
