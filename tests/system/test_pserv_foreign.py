"""Mailboxes that another Maildir program uses too, and files that are not what their names say, on a real pserv."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.store.uidlist import give_uids
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.needs import lacking
from tests.harness.popclient import PopClient

FOREIGN = b"From: joe@example.org\nSubject: x\n\ntext\n"
Pop = Callable[[Endpoint], PopClient]


def serve(start: Callable[..., Daemon], spool: Path, **variables: object) -> Daemon:
    return start("pserv", {"pserv": {"mailboxdir": spool, **variables}, "server": {"main": {"address": "127.0.0.1:0"}}})


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    """A Dovecot with a user joe; its folder is a spool for pserv, too."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        try:
            server = Dovecot.start(folder, {"joe": "secret"})
        except NoDovecot as why:
            lacking(f"Dovecot ({why})")
        with server:
            yield server
    finally:
        shutil.rmtree(folder)


def test_dovecot_on_the_same_mailbox_sees_the_same_messages_before_and_after(
        start: Callable[..., Daemon], pop: Pop, dovecot: Dovecot) -> None:
    box = dovecot.maildir("joe")
    for place in ("new/1700000000.M1P1.mx", "new/1700000001.M1P1.mx", "new/1700000002.M1P1.mx,S=39",
                  "cur/1700000003.M1P1.mx:2,", "cur/1700000004.M1P1.mx,S=39:2,S", "new/1700000005.77_43"):
        (box / place).write_bytes(FOREIGN.replace(b"\n", b"\r\n") if "_" in place else FOREIGN)
    dovecot.own("joe")

    def seen() -> tuple[list[bytes], list[str]]:
        """What Dovecot tells, and the UIDs that it has given."""
        client = pop(dovecot.endpoint)
        assert client.login("joe", "secret").startswith(b"+OK")
        ids = client.multi("UIDL")
        client.ok("QUIT")
        head, *uids = (box / "dovecot-uidlist").read_text().splitlines()
        validity = next(word for word in head.split() if word.startswith("V"))
        return ids, [validity, *(line.partition(" :")[0].split()[0] + " " + line.partition(" :")[2].partition(":")[0]
                                 for line in uids)]

    before = seen()
    pserv = serve(start, box.parent.parent)
    ours = []
    for _ in range(2):
        client = pop(pserv.endpoint())
        assert client.xpop("joe/Maildir").startswith(b"+OK")
        ours.append(client.multi("UIDL"))
        for number in range(1, 7):
            client.message(number)
        client.ok("QUIT")
        dovecot.own("joe")
    assert ours[0] == ours[1]
    assert seen() == before
    assert sorted(path.name.partition(":")[2] for path in (box / "cur").iterdir()) == ["2,S"] * 6
    assert (box / ".popular-sizes").exists()


def test_a_cut_off_file_is_announced_as_what_is_there_and_logged(
        start: Callable[..., Daemon], pop: Pop, spool: Path, make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("box")
    (box / "new/1700020000.5_1000").write_bytes(b"Subject: cut off\r\n\r\nhalf of it")
    (box / "new/1700020001.5_1000").write_bytes(b"")
    (box / "new/1700020002.5_1000").mkdir()
    pserv = serve(start, spool)
    client = pop(pserv.endpoint())
    assert client.xpop("box", "sid-1").startswith(b"+OK 2 messages (2000 octets)")
    assert client.ok("TOP 1 0") == b"top of message follows" and client.lines()[0] == b"Subject: cut off"
    assert client.ok("RETR 1") == b"32 octets"
    assert client.lines() == [b"Subject: cut off", b"", b"half of it"]
    assert client.ok("RETR 2") == b"0 octets" and client.lines() == []
    assert client.multi("LIST") == [b"1 32", b"2 0"]
    assert client.ok("STAT") == b"2 32"
    client.ok("DELE 1")
    assert client.ok("STAT") == b"1 0"
    client.ok("QUIT")
    lines = pserv.wait_log("wrong_size", count=2)
    assert [f"ADM 0289 wrong_size mailbox='box' name='170002000{number}.5_1000'" in line
            for number, line in enumerate(lines)] == [True, True]
    [line] = pserv.wait_log("not_a_file")
    assert "ADM 0288 not_a_file mailbox='box' name='1700020002.5_1000'" in line


def test_sizes_that_cannot_be_kept_are_counted_each_time_and_harm_nobody(
        start: Callable[..., Daemon], pop: Pop, spool: Path, make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("box")
    (box / "cur/1700000000.M1P1.mx:2,S").write_bytes(FOREIGN)
    (box / ".popular-sizes/not empty").mkdir(parents=True)
    pserv = serve(start, spool)
    for _ in range(2):
        client = pop(pserv.endpoint())
        assert client.xpop("box").startswith(b"+OK 1 messages (43 octets)")
        client.ok("QUIT")
    for line in pserv.wait_log("not_remembered", count=2):
        assert "ADM 028a not_remembered mailbox='box' name='.popular-sizes'" in line


@pytest.mark.parametrize("seenflag", ["off", "on"])
def test_seenflag_marks_names_of_pdeliver_too(start: Callable[..., Daemon], pop: Pop, spool: Path, seenflag: str,
                                              make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("box", [b"Subject: x\r\n\r\n"])
    client = pop(serve(start, spool, seenflag=seenflag).endpoint())
    assert client.xpop("box").startswith(b"+OK")
    client.message(1)
    client.ok("QUIT")
    [path] = (box / "cur").iterdir()
    assert path.name.endswith(":2,S") == (seenflag == "on")


def test_ids_given_elsewhere_stay_through_sessions_and_a_restore(
        start: Callable[..., Daemon], pop: Pop, spool: Path, make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("box")
    give_uids(str(box), [("000000036543ffff", "1700000003.M1P1.mx"), ("old-2", "1700000002.5_6"),
                         ("1700000001.M1P1.mx", "1700000001.M1P1.mx")])
    for place in ("cur/1700000001.M1P1.mx:2,S", "new/1700000002.5_6,U", "new/1700000003.M1P1.mx", "new/1700000000.5_6"):
        (box / place).write_bytes(b"text\r\n")
    wanted = [b"1 000000036543ffff", b"2 old-2", b"3 1700000001.M1P1.mx", b"4 1700000000.5_6"]
    pserv = serve(start, spool)

    def session(*commands: str) -> list[bytes]:
        client = pop(pserv.endpoint())
        assert client.xpop("box", "sid-1").startswith(b"+OK")
        found = client.multi("UIDL")
        for command in commands:
            (client.multi if command.startswith("RETR") else client.ok)(command)
        client.ok("QUIT")
        return found

    assert session("RETR 1", "RETR 2") == wanted
    (box / "cur/1700000003.M1P1.mx:2,S").rename(box / "cur/1700000003.M1P1.mx:2,FS")
    (box / "cur/1700000002.5_6,U").rename(box / "new/1700000002.5_6,U")
    assert session("DELE 1", "DELE 2") == wanted
    assert session() == [b"1 1700000001.M1P1.mx", b"2 1700000000.5_6"]
    (box / "new/1700000003.M1P1.mx").write_bytes(b"text\r\n")
    assert session() == [b"1 000000036543ffff", b"2 1700000001.M1P1.mx", b"3 1700000000.5_6"]
    (box / ".popular-uidls").write_text("popular-uidls 9\n")
    client = pop(pserv.endpoint())
    assert client.xpop("box", "sid-2").startswith(b"-ERR [SYS/TEMP]")
    [line] = pserv.wait_log(" sid-2 ADM ")
    assert "/box/.popular-uidls: " in line
