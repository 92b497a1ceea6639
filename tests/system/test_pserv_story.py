"""A real pserv: the preamble, the mailbox, what lies on disk and in the log afterwards."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.system import wait_for

MAIL = b"Subject: x\r\n\r\n.text\r\n"
FOREIGN = b"Subject: x\n\n.text\n"
MakeMailbox = Callable[..., Path]
Connect = Callable[[], PopClient]
Start = Callable[..., Daemon]


def files(box: Path) -> list[str]:
    return sorted(f"{folder}/{path.name}" for folder in ("new", "cur", "tmp") for path in (box / folder).iterdir())


def serve(start: Start, spool: Path, **variables: object) -> Daemon:
    """Start pserv over the spool, on a port of the kernel's choice."""
    return start("pserv", {"pserv": {"mailboxdir": spool, **variables}, "server": {"main": {"address": "127.0.0.1:0"}}})


@pytest.fixture
def pserv(start: Start, spool: Path) -> Daemon:
    """A running pserv."""
    return serve(start, spool)


@pytest.fixture
def connect(pserv: Daemon, pop: Callable[[Endpoint], PopClient]) -> Connect:
    """A function that opens a connection to it."""
    return lambda: pop(pserv.endpoint())


def fields(line: str) -> dict[str, str]:
    """Return the parameters of a log line; good for values without spaces."""
    return dict(word.partition("=")[::2] for word in line.split(" ")[9:] if "=" in word)


def test_spec_8_1_three_lines_then_the_answer_then_pop3(connect: Connect, make_mailbox: MakeMailbox) -> None:
    make_mailbox("3/2d/joe.doe", [MAIL])
    client = connect()
    client.send(b"3/2d/joe.doe\r\np1-0408211219-4712\r\n\r\nSTAT\r\n")    # at once, without waiting for a greeting
    assert client.line() == b"+OK 1 messages (%d octets)" % len(MAIL)
    assert client.line() == b"+OK 1 %d" % len(MAIL)
    assert client.message(1) == MAIL
    assert client.ok("QUIT") == b"bye"
    assert client.rest() == b""


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"], ids=["CRLF", "LF"])
def test_spec_8_1_the_flags_may_be_empty_or_unknown(connect: Connect, make_mailbox: MakeMailbox,
                                                    ending: bytes) -> None:
    make_mailbox("joe")
    for flags in (b"", b"M", b"X", b"XMY"):
        client = connect()
        client.send(ending.join((b"joe", b"sid-1", flags, b"")))
        assert client.line().startswith(b"+OK")


@pytest.mark.parametrize(("preamble", "code"), [
    pytest.param(b"/joe\r\nsid\r\n\r\n", b"[SYS/PERM]", id="absolute"),
    pytest.param(b"a/../joe\r\nsid\r\n\r\n", b"[SYS/PERM]", id="upward"),
    pytest.param(b"jo e\r\nsid\r\n\r\n", b"[SYS/PERM]", id="space"),
    pytest.param(b"j\xf6e\r\nsid\r\n\r\n", b"[SYS/PERM]", id="8-bit"),
    pytest.param(b"\r\nsid\r\n\r\n", b"[SYS/PERM]", id="no-mailbox"),
    pytest.param(b"x" * 600 + b"\r\nsid\r\n\r\n", b"[SYS/PERM]", id="long-mailbox"),
    pytest.param(b"joe\r\ns i d\r\n\r\n", b"[SYS/PERM]", id="bad-sid"),
    pytest.param(b"joe\r\n\r\n\r\n", b"[SYS/PERM]", id="no-sid"),
    pytest.param(b"joe\r\nsid' ADM\r\n\r\n", b"[SYS/PERM]", id="forged-sid"),
    pytest.param(b"joe\r\nsid\r\n" + b"M" * 100 + b"\r\n", b"[SYS/PERM]", id="many-flags"),
    pytest.param(b"USER joe\r\nPASS x\r\n", b"[SYS/PERM]", id="POP3"),
])
def test_spec_2_4_what_is_no_preamble_is_refused(connect: Connect, pserv: Daemon, make_mailbox: MakeMailbox,
                                                 preamble: bytes, code: bytes) -> None:
    make_mailbox("joe")
    client = connect()
    client.send(preamble)
    assert client.line().startswith(b"-ERR " + code)
    assert client.rest() == b""
    (line,) = pserv.wait_log("preamble_refused")
    assert line.split(" ")[5:9] == ["-", "ADM", "0283", "preamble_refused"]


@pytest.mark.parametrize("name", ["jane", "joe/deep/down"])
def test_a_mailbox_that_is_missing_is_empty(connect: Connect, pserv: Daemon, make_mailbox: MakeMailbox, spool: Path,
                                            name: str) -> None:
    make_mailbox("joe")
    client = connect()
    assert client.xpop(name, "sid-7") == b"+OK 0 messages (0 octets)"
    assert client.ok("STAT") == b"0 0" and client.multi("LIST") == []
    client.ok("QUIT")
    (line,) = pserv.wait_log("mailbox_missing")
    assert line.split(" ")[5:9] == ["sid-7", "INF", "0284", "mailbox_missing"]
    pserv.wait_log("mailbox_closed")
    assert not (spool / name).exists()
    assert [line for line in pserv.log_lines(" sid-7 ") if " INF " not in line] == []


def test_a_mailbox_that_is_missing_is_refused(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path) -> None:
    pserv = serve(start, spool, missing="refuse")
    client = pop(pserv.endpoint())
    assert client.xpop("jane", "sid-7") == b"-ERR [SYS/PERM] no such mailbox"
    assert client.rest() == b""
    (line,) = pserv.wait_log("mailbox_missing")
    assert line.split(" ")[5:9] == ["sid-7", "INF", "0284", "mailbox_missing"]


def test_a_mailbox_that_is_missing_is_made(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path) -> None:
    pserv = serve(start, spool, missing="create")
    for _ in range(2):
        client = pop(pserv.endpoint())
        assert client.xpop("3/2d/jane", "sid-7") == b"+OK 0 messages (0 octets)"
        client.ok("QUIT")
    (line,) = pserv.wait_log("mailbox_made")
    assert line.split(" ")[5:9] == ["sid-7", "INF", "0290", "mailbox_made"]
    assert sorted(path.name for path in (spool / "3/2d/jane").iterdir()) == ["cur", "new", "tmp"]


@pytest.mark.parametrize("missing", ["empty", "create"])
def test_what_is_in_the_way_of_a_mailbox_is_no_empty_one(
        start: Start, pop: Callable[[Endpoint], PopClient], spool: Path, missing: str) -> None:
    (spool / "file").write_bytes(b"")
    pserv = serve(start, spool, missing=missing)
    assert pop(pserv.endpoint()).xpop("file").startswith(b"-ERR [SYS/PERM] ")
    assert "ADM 0006 dir_access_failed mailbox='file'" in pserv.wait_log("0006")[0]


def test_mail_in_cur_is_served_when_new_was_lost(connect: Connect, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", cur=[MAIL])
    (box / "new").rmdir()
    client = connect()
    assert client.xpop("joe").startswith(b"+OK 1 messages")
    assert client.message(1) == MAIL
    client.ok("QUIT")


def test_a_mailbox_that_vanishes_with_its_spool(connect: Connect, pserv: Daemon, spool: Path) -> None:
    spool.rmdir()
    assert connect().xpop("joe").startswith(b"-ERR [SYS/TEMP] ")
    assert "ADM 0006 dir_access_failed mailbox='joe'" in pserv.wait_log("0006")[0]
    spool.mkdir()


def test_a_path_that_is_too_long(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path) -> None:
    pserv = serve(start, spool)
    assert pop(pserv.endpoint()).xpop("x" * 300).startswith(b"-ERR [SYS/PERM] ")
    assert "ADM 0008 name_too_long mailbox='xxx" in pserv.wait_log("0008")[0]


def test_spec_1_5_a_nul_byte_ends_the_session_without_a_word(connect: Connect, pserv: Daemon,
                                                             make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL])
    early, late = connect(), connect()
    early.send(b"jo\0e\r\nsid\r\n\r\n")
    assert early.rest() == b""
    late.xpop("joe", "sid-9")
    late.ok("DELE 1")
    late.send(b"QUIT\r\n\0")
    assert b"+OK" not in late.rest()
    lines = pserv.wait_log("0035", count=2)
    assert {line.split(" ")[5] for line in lines} == {"-", "sid-9"}
    assert files(box) == [f"new/{name.name}" for name in (box / "new").iterdir()]


def test_spec_2_4_read_mail_moves_to_cur_at_quit(connect: Connect, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL, MAIL])
    names = sorted(path.name for path in (box / "new").iterdir())
    client = connect()
    client.xpop("joe")
    client.message(1)
    client.multi("TOP 2 1")
    client.ok("DELE 3")
    assert len(files(box)) == 3
    client.ok("QUIT")
    assert files(box) == [f"cur/{names[0]}", f"new/{names[1]}"]


def test_spec_2_4_a_master_session_leaves_new_mail_new(connect: Connect, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL])
    names = sorted(path.name for path in (box / "new").iterdir())
    client = connect()
    client.xpop("joe", flags="M")
    client.message(1)
    client.message(2)
    client.ok("DELE 2")
    client.ok("QUIT")
    assert files(box) == [f"new/{names[0]}"]


def test_spec_2_4_nothing_is_deleted_without_quit(connect: Connect, pserv: Daemon, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL])
    before = files(box)
    client = connect()
    client.xpop("joe")
    client.message(1)
    client.ok("DELE 1")
    client.close()
    pserv.wait_log("mailbox_closed")
    assert files(box) == before


def test_spec_2_4_overlapping_sessions(connect: Connect, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL, MAIL])
    one, other = connect(), connect()
    one.xpop("joe", "sid-1")
    other.xpop("joe", "sid-2")    # spec 9.1: no lock
    other.message(2)
    other.ok("DELE 1")
    other.ok("QUIT")
    assert one.err("RETR 1").startswith(b"message 1 is gone")
    assert one.message(2) == MAIL
    assert one.ok("STAT") == b"3 %d" % (3 * len(MAIL))
    one.ok("DELE 1")
    one.ok("DELE 2")
    one.ok("QUIT")
    assert [name.partition("/")[0] for name in files(box)] == ["new"]


def test_uids_are_the_same_after_moves_and_restarts(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path,
                                                    make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL])
    for name in ("1.M1P1.host", "2.M1P1.host,S=18,W=21", "3." + "x" * 100):
        (box / "new" / name).write_bytes(FOREIGN)
    listings: list[list[bytes]] = []
    for number in range(2):
        pserv = serve(start, spool)
        client = pop(pserv.endpoint())
        client.xpop("joe")
        listings.append(client.multi("UIDL"))
        client.message(number + 1)
        client.ok("QUIT")
        pserv.stop()
    assert listings[0] == listings[1]
    assert len(listings[0]) == 5


def test_spec_9_1_foreign_files_are_sent_with_crlf(connect: Connect, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe")
    (box / "new" / "1.M1P1.host").write_bytes(FOREIGN)
    client = connect()
    client.xpop("joe")
    assert client.ok("LIST 1") == b"1 %d" % len(MAIL)
    assert client.message(1) == MAIL
    client.ok("QUIT")
    assert files(box) == ["cur/1.M1P1.host:2,S"]


def test_failed_deletions_are_told(connect: Connect, pserv: Daemon, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL, MAIL])
    first = min((box / "new").iterdir())
    client = connect()
    client.xpop("joe", "sid-5")
    client.ok("DELE 1")
    client.ok("DELE 2")
    first.unlink()
    first.mkdir()    # unlink(2) fails on it, also for root
    assert client.err("QUIT") == b"[SYS/TEMP] 1 of 2 messages not removed"
    assert client.rest() == b""
    (line,) = pserv.wait_log("not_removed")
    assert line.split(" ")[5:9] == ["sid-5", "ADM", "0286", "not_removed"]


def test_spec_8_1_the_session_id_is_for_the_logs_of_both_sides(connect: Connect, pserv: Daemon,
                                                               make_mailbox: MakeMailbox) -> None:
    make_mailbox("joe", [MAIL, MAIL])
    client = connect()
    client.xpop("joe", "mx1-261124072413-4711")
    client.message(1)
    client.ok("DELE 2")
    client.ok("QUIT")
    (end,) = pserv.wait_log("mailbox_closed")
    (begin,) = pserv.log_lines("mailbox_opened")
    for line in (begin, end):
        assert line.split(" ")[5] == "mx1-261124072413-4711"
    assert fields(begin)["messages"] == "2" and fields(begin)["octets"] == str(2 * len(MAIL))
    told = fields(end)
    assert (told["outcome"], told["retrieved"], told["deleted"], told["failed"]) == ("'quit'", "1", "1", "0")
    assert int(told["octets"]) == len(MAIL)    # as STAT counts: no stuffed dot, no final line
    assert int(told["bytes_out"]) > int(told["octets"])


@pytest.mark.parametrize(("send", "word"), [(b"", "no_preamble"), (b"joe\r\nsid", "no_preamble")])
def test_a_connection_without_preamble_is_dropped_in_time(start: Start, pop: Callable[[Endpoint], PopClient],
                                                          spool: Path, send: bytes, word: str) -> None:
    pserv = serve(start, spool, preambletimeout="100ms")
    client = pop(pserv.endpoint())
    client.send(send)
    assert client.rest() == b""
    assert pserv.wait_log(word)[0].split(" ")[5:7] == ["-", "INF"]


def test_an_idle_client_is_dropped_and_nothing_deleted(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path,
                                                       make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL])
    pserv = serve(start, spool, idletimeout="1s")
    client = pop(pserv.endpoint())
    client.xpop("joe")
    client.ok("DELE 1")
    assert client.rest() == b""
    pserv.wait_log("mailbox_closed")
    assert len(files(box)) == 1


def test_the_process_title_tells_state_id_and_peer(connect: Connect, pserv: Daemon, make_mailbox: MakeMailbox) -> None:
    make_mailbox("joe")
    client = connect()
    client.xpop("joe", "sid-3")

    def titles() -> list[str]:
        return [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in pserv.children()]

    wait_for(lambda: "pserv: transaction sid-3 127.0.0.1" in titles(), what="the title")


def test_capabilities_are_the_administrators_list(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path,
                                                  make_mailbox: MakeMailbox, rundir: Path) -> None:
    make_mailbox("joe")
    (rundir / "capa").mkdir()
    (rundir / "capa" / "short").write_text("TOP\nX-OURS 1\n")
    pserv = start("pserv", {
        "pserv": {"mailboxdir": spool, "capadir": rundir / "capa"},
        "server": {"own": {"address": "127.0.0.1:0, [::1]:0", "capa": "short"}, "main": {"address": "127.0.0.1:0"},
                   "off": {"address": "127.0.0.1:0", "enabled": "off"}}})
    assert "off" not in pserv.addresses
    assert len(pserv.addresses["own"]) == 2
    for endpoint in pserv.addresses["own"]:
        client = pop(endpoint)
        client.xpop("joe")
        assert client.multi("CAPA") == [b"TOP", b"X-OURS 1"]
    client = pop(pserv.endpoint("main"))
    client.xpop("joe")
    assert b"UIDL" in client.multi("CAPA")


def test_spec_1_5_keepalive_is_set(pserv: Daemon, make_mailbox: MakeMailbox) -> None:
    with socket.create_connection((pserv.endpoint().host, pserv.endpoint().port)) as sock:
        port = sock.getsockname()[1]
        # 02 in the timer column of /proc/net/tcp is a keepalive timer
        wait_for(lambda: any(
            int(words[2].split(":")[1], 16) == port and words[5].startswith("02") for words in
            (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])), what="keepalive")
