"""Maildirs of other servers as sources: each message with the UIDL that its server has given, in its order."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from popular.tools.pmigrate.copying import Tally, copy
from popular.tools.pmigrate.sources import dovecot
from popular.tools.pmigrate.sources.maildir import MaildirSource
from popular.tools.pmigrate.sources.source import SourceError, SourceMessage
from popular.tools.pmigrate.targets.spool import Spool
from popular.unix.rights import own_rights

V3 = "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n"
VALIDITY = "4c0907b0"    # 1275660208


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """An empty Maildir."""
    for name in ("new", "cur", "tmp"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    return tmp_path / "Maildir"


def put(box: Path, *places: str) -> None:
    for number, place in enumerate(places):
        (box / place).write_bytes(b"Subject: x\n\ntext\n")
        os.utime(box / place, (1_700_000_000 + number, 1_700_000_000 + number))


def found(box: Path, kind: str = "maildir", form: str = "%08Xu%08Xv") -> list[tuple[str, str | None]]:
    return [(message.place, message.uid) for message in MaildirSource(str(box), kind, form).messages()]


@pytest.mark.parametrize(("text", "form", "uids"), [
    pytest.param(f"{V3}5 :1.a:2,S\n9 W22 S20 :2.b,S=5\n", "%08Xu%08Xv",
                 ["00000005" + VALIDITY, "00000009" + VALIDITY], id="version-3"),
    pytest.param("1 1275660208 12\n5 1.a:2,S\n9 2.b,S=5\n", "%08Xu%08Xv",
                 ["00000005" + VALIDITY, "00000009" + VALIDITY], id="version-1"),
    pytest.param(f"{V3}5 :1.a\n9 :2.b,S=5\n", "%{{uid | hex(8)}}%{{uidvalidity | hex(8)}}".format(),
                 ["00000005" + VALIDITY, "00000009" + VALIDITY], id="language-of-2.4"),
    pytest.param(f"{V3}5 :1.a\n9 :2.b,S=5\n", "%v.%u", ["1275660208.5", "1275660208.9"], id="v.u"),
    pytest.param(f"{V3}5 :1.a\n9 :2.b,S=5\n", "%f", ["1.a", "2.b,S=5"], id="file-name"),
    pytest.param(f"{V3}5 :1.a\n9 Gabc0 :2.b,S=5\n", "%g", ["1.a", "abc0"], id="guid"),
    pytest.param(f"{V3}5 P :1.a\n9 Pold-9 W3 :2.b,S=5\n", "%m", ["1.a", "old-9"], id="fixed-ids-need-no-format"),
    pytest.param(f"{V3}5 :2.b,S=5:2,\n9 :1.a:2,F\n", "%u", ["5", "9"], id="order-of-uids"),
    pytest.param(f"{V3}5 O12 :1.a\n8 O3 P8 :gone\n9 O2 :2.b,S=5\n", "%u", ["9", "5"], id="order-of-its-own"),
    pytest.param(f"{V3}5 :1.a\n9 O1 :2.b,S=5\n", "%u", ["9", "5"], id="those-without-order-come-after"),
    pytest.param(f"{V3}5 :1.a\n9 :2.b,S=5\n11 :1.a:2,S\n", "%u", ["9", "11"], id="a-later-line-for-a-name-counts"),
    pytest.param(f"{V3}5 :1.a\n9 :2.b,S", "%u", ["5", "2.b"], id="a-line-that-is-being-written"),
    pytest.param(f"{V3}5 :1.a\n", "%f", ["1.a", "2.b,S=5"], id="not-listed-yet-but-certain"),
    pytest.param("", "%u", ["1.a", "2.b"], id="nothing-listed"),
])
def test_what_dovecot_gave(box: Path, text: str, form: str, uids: list[str]) -> None:
    put(box, "cur/1.a:2,FS", "new/2.b,S=5")
    (box / "dovecot-uidlist").write_text(text)
    assert [uid for _, uid in found(box, form=form)] == uids


@pytest.mark.parametrize("text", [
    "2 V1 N2\n", "3 N2\n", "\n", f"{V3}5 1.a\n", f"{V3}x :1.a\n", f"{V3}5 :\n", f"{V3}5 w3 :1.a\n", f"{V3}5 :cur/1.a\n",
    f"{V3}5 ::1.a\n", "1 12\n5 1.a\n"])
def test_a_damaged_list_moves_nothing_with_wrong_ids(box: Path, text: str) -> None:
    put(box, "cur/1.a")
    (box / "dovecot-uidlist").write_text(text)
    with pytest.raises(SourceError, match="dovecot-uidlist: line"):
        found(box)


@pytest.mark.parametrize("form", ["%m", "%08Xu%08Xm", "%{md5}"])
def test_what_no_list_tells_is_an_error(box: Path, form: str) -> None:
    put(box, "cur/1.a")
    (box / "dovecot-uidlist").write_text(f"{V3}5 :1.a\n")
    with pytest.raises(SourceError, match="pop3_uidl_format"):
        found(box, form=form)


@pytest.mark.parametrize(("script", "uid"), [
    ("echo '%v.%u'", "1275660208.5"), ("echo", "00000005" + VALIDITY), (None, "00000005" + VALIDITY), ("exit 89", "")])
def test_the_format_is_that_of_the_dovecot_here(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                script: str | None, uid: str) -> None:
    put(box, "cur/1.a")
    (box / "dovecot-uidlist").write_text(f"{V3}5 :1.a\n")
    if script is not None:
        (tmp_path / "doveconf").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "doveconf").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    dovecot.configured_format.cache_clear()
    try:
        if uid:
            assert found(box, form="") == [("cur/1.a", uid)]
        else:
            with pytest.raises(SourceError, match="--uidl-format"):
                found(box, form="")
    finally:
        dovecot.configured_format.cache_clear()


@pytest.mark.parametrize(("text", "uids"), [
    pytest.param("/3 8 1600000000\n10.c:2,S 20 7:1600000000:0\n9.a,S=5:2, 5 3:1500000000:1\n9.b:2, 9 4:0:0\n",
                 ["UID3-1500000000", "UID4", "UID7-1600000000"], id="version-3"),
    pytest.param("/2 8 1600000000\n9.b:2, 9 4:1600000000\n10.c:2, 20 0:1600000000\n9.a,S=5:2,S 5 3\n",
                 ["UID3", "UID4-1600000000", "10.c"], id="version-2"),
    pytest.param("/1 8\n9.b 9 4\n10.c:2, 20 5\n9.a,S=5:2,S 5 3\n", ["UID3", "UID4", "UID5"], id="version-1"),
    pytest.param("9.b:2,S 9\n10.c:2, 20\n9.a,S=5 5\n", ["9.a,S=5", "9.b", "10.c"], id="version-0"),
    pytest.param("/3 8 16\nx\n\n9.a,S=5 x 3:1:0\n9.b 9 4:16:0\n10.c 9 5:16:0", ["UID4-16", "9.a", "10.c"],
                 id="other-lines-are-ignored"),
])
def test_what_courier_gave(box: Path, text: str, uids: list[str]) -> None:
    put(box, "cur/9.a,S=5:2,S", "cur/10.c:2,", "new/9.b")
    (box / "courierpop3dsizelist").write_text(text)
    assert [uid for _, uid in found(box)] == uids


def test_courier_writes_names_as_ids_in_its_own_way(box: Path) -> None:
    name = "9.a+b'c\"d\udcff e"
    put(box, f"cur/{name}:2,S")
    (box / "courierpop3dsizelist").write_bytes(os.fsencode(f"{name}:2,S 5\n"))
    assert [uid for _, uid in found(box)] == ["9.a+2Bb+27c+22d+FF+20e"]


@pytest.mark.parametrize("text", ["/4 8 16\n", "/x\n", "/\n"])
def test_another_version_of_courier_moves_nothing(box: Path, text: str) -> None:
    (box / "courierpop3dsizelist").write_text(text)
    with pytest.raises(SourceError, match="line 1"):
        found(box)


def test_qmail_shows_whole_names_by_the_time_of_the_file(box: Path) -> None:
    put(box, "cur/2.b,S=5:2,S", "new/3.c", "cur/1.a:2,")
    assert found(box) == [("cur/2.b,S=5:2,S", "2.b,S=5"), ("new/3.c", "3.c"), ("cur/1.a:2,", "1.a")]


def test_of_two_lists_one_must_be_chosen(box: Path) -> None:
    put(box, "cur/1.a:2,")
    (box / "courierpop3dsizelist").write_text("/3 2 16\n1.a 5 1:16:0\n")
    (box / "dovecot-uidlist").write_text(f"{V3}5 :1.a\n")
    with pytest.raises(SourceError, match="dovecot:PATH or courier:PATH"):
        found(box)
    assert found(box, "dovecot", "%u") + found(box, "courier") + found(box, "qmail") == [
        ("cur/1.a:2,", "5"), ("cur/1.a:2,", "UID1-16"), ("cur/1.a:2,", "1.a")]


def test_what_is_known_of_a_message(box: Path) -> None:
    put(box, "cur/1.a,W=7:2,FS", "new/2.b", "new/3.c")
    (box / "dovecot-uidlist").write_text(f"{V3}5 W9 :1.a,W=7\n9 W22 :2.b\n11 :3.c\n")
    source = MaildirSource(str(box), form="%u")
    assert list(source.messages()) == [
        SourceMessage("cur/1.a,W=7:2,FS", "5", 7, 1_700_000_000, True, "1.a,W=7:2,FS", f"{box}/cur/1.a,W=7:2,FS"),
        SourceMessage("new/2.b", "9", 22, 1_700_000_001, False, "2.b", f"{box}/new/2.b"),
        SourceMessage("new/3.c", "11", None, 1_700_000_002, False, "3.c", f"{box}/new/3.c")]


@pytest.mark.parametrize("first", [f"{V3}5 :1.a\n", "", None], ids=["some", "none", "no-list"])
def test_a_message_that_its_server_lists_only_after_it_was_copied_comes_once(
        box: Path, spool: Path, first: str | None) -> None:
    """A client knows it by the id that the server gave at last, unless it has removed it."""
    mailbox = Mailbox(str(spool), "joe")
    mailbox.create()

    def copied(*, removes: bool = False) -> list[str]:
        with closing(Spool(mailbox, own_rights())) as target:
            copy(MaildirSource(str(box), "dovecot", "%u"), target, Tally(), removes=removes)
        return list(MaildirMaildrop(mailbox).entries.uids)

    put(box, "cur/1.a:2,S", "new/2.b", "new/3.c")
    if first is not None:
        (box / "dovecot-uidlist").write_text(first)
    known = "5" if first else "1.a"
    assert copied() == copied() == [known, "2.b", "3.c"]
    (spool / "joe/new/3.c").unlink()
    put(box, "new/4.d", "new/6.f")
    (box / "dovecot-uidlist").write_text(f"{V3}5 :1.a\n9 :2.b\n10 :3.c\n11 :4.d\n")
    assert copied() == copied(removes=True) == ["5", "9", "11", "6.f"]


def test_what_is_not_moved_is_told(box: Path) -> None:
    put(box, "cur/1.a:2,", "cur/1.a:2,S", "new/7.z")
    for place in (".Sent/cur", ".Sent/new", ".Empty/cur", "cur/folder"):
        (box / place).mkdir(parents=True)
    put(box, ".Sent/cur/1.a:2,S", ".Sent/new/2.b")
    (box / "dovecot-uidlist").write_text(f"{V3}5 :1.a\n")
    source = MaildirSource(str(box), form="%u")
    assert {uid for _, uid in found(box)} == {"00000005" + VALIDITY, None, "7.z"}
    list(source.messages())
    told = source.remarks()
    wanted = ("not files", "another message", "'.Sent' is not moved: 2 messages")
    assert [word in line for word, line in zip(wanted, told, strict=True)] == [True] * 3


def test_a_message_is_read_wherever_it_is_now(box: Path) -> None:
    put(box, "new/1.a", "new/2.b", "new/3.c", "cur/4.d:2,SZ")
    source = MaildirSource(str(box))
    one, two, three, four = source.messages()
    (box / "new/1.a").rename(box / "cur/1.a:2,S")
    (box / "new/2.b").unlink()
    (box / "new/3.c").unlink()
    (box / "new/3.c").symlink_to("/etc/hostname")
    with source.open(one) as octets:
        assert octets.read(100) == b"Subject: x\n\ntext\n" and octets.read(100) == b""
    for message, why in ((two, "gone"), (three, "Too many levels"), (four, "compressed")):
        with pytest.raises(SourceError, match=why), source.open(message):
            pass


@pytest.mark.parametrize("name", ["dovecot-uidlist", "courierpop3dsizelist"])
def test_a_list_that_is_no_file_is_an_error(box: Path, name: str) -> None:
    os.mkfifo(box / name)
    with pytest.raises(SourceError, match=name):
        found(box)
    with pytest.raises(SourceError, match="No such file"):
        found(box.parent)
