"""A real pserv with much to do: a mailbox of very many messages, many sessions at once, deliveries meanwhile."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.store.mailbox import Mailbox
from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.system import wait_for

COUNT, LONG_COUNT = 30_000, 100_000
Start = Callable[..., Daemon]


def serve(start: Start, spool: Path) -> Daemon:
    return start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})


def fill(folder: str, count: int) -> None:
    """Put messages into a folder: the last is a real one, the others are names for it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for number in range(count):
            file = os.open(f"{1_000_000_000 + number}.{number % 30000}_15", os.O_CREAT | os.O_WRONLY, 0o600,
                           dir_fd=descriptor)
            if number in (0, count - 1):
                os.write(file, b"number %06d\r\n" % (number + 1))
            os.close(file)
    finally:
        os.close(descriptor)


@pytest.mark.limit(180)
def test_very_many_messages(start: Start, pop: Callable[..., PopClient], spool: Path,
                            pytestconfig: pytest.Config) -> None:
    count = LONG_COUNT if pytestconfig.getoption("--long") else COUNT
    mailbox = Mailbox(str(spool), "joe")
    mailbox.create()
    fill(mailbox.new, count)
    client = pop(serve(start, spool).endpoint(), timeout=60.0)
    before = time.monotonic()
    assert client.xpop("joe") == b"+OK %d messages (%d octets)" % (count, 15 * count)
    assert client.ok("STAT") == b"%d %d" % (count, 15 * count)
    listed = client.multi("LIST")
    assert (len(listed), listed[0], listed[-1]) == (count, b"1 15", b"%d 15" % count)
    uids = client.multi("UIDL")
    assert len({line.partition(b" ")[2] for line in uids}) == count
    assert client.message(count) == b"number %06d\r\n" % count
    assert client.message(1) == b"number 000001\r\n"
    assert time.monotonic() - before < 20
    client.send(b"".join(b"DELE %d\r\n" % number for number in range(2, 1001)))
    for _ in range(2, 1001):
        assert client.line().startswith(b"+OK")
    client.ok("QUIT")
    assert time.monotonic() - before < 40
    assert len(os.listdir(mailbox.cur)) == 2
    assert len(os.listdir(mailbox.new)) == count - 1001


def test_sessions_and_deliveries_at_once_lose_nothing(start: Start, pop: Callable[[Endpoint], PopClient],
                                                      spool: Path) -> None:
    """Readers fetch and delete what they see while mail comes in; each mail is fetched, and none stays for ever."""
    Mailbox(str(spool), "joe").create()
    pserv = serve(start, spool)
    wanted = {b"Subject: %03d\r\n" % number for number in range(40)}
    command = [sys.executable, str(ROOT / "bin/pdeliver"), "-m", str(spool), "-l", os.devnull, "joe"]
    deliveries = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in wanted]
    for process, mail in zip(deliveries, sorted(wanted)):
        assert process.stdin is not None
        process.stdin.write(mail.replace(b"\r\n", b"\n"))
        process.stdin.close()
    fetched: dict[bytes, set[bytes]] = {}

    def fetch_all() -> bool:
        one, two = pop(pserv.endpoint()), pop(pserv.endpoint())
        for client in (one, two):
            assert client.xpop("joe").startswith(b"+OK")
        for client in (one, two):
            for line in client.multi("UIDL"):
                number, _, uid = line.partition(b" ")
                answer = client.command(b"RETR " + number)
                if answer.startswith(b"+OK"):
                    mail = b"\r\n".join(client.lines()) + b"\r\n"
                    fetched.setdefault(uid, set()).add(mail)
                    client.ok(b"DELE " + number)
            client.ok("QUIT")
            client.close()
        return all(process.poll() is not None for process in deliveries) and not os.listdir(spool / "joe/new")

    wait_for(fetch_all, 40.0, "an empty mailbox")
    assert [process.wait() for process in deliveries] == [0] * len(wanted)
    assert all(len(mails) == 1 for mails in fetched.values()), "a unique id stood for two messages"
    assert {mail for mails in fetched.values() for mail in mails} == wanted
    assert len(fetched) == len(wanted)
    assert os.listdir(spool / "joe/cur") == os.listdir(spool / "joe/tmp") == []


def test_a_client_gone_in_mid_message_has_read_nothing(start: Start, pop: Callable[[Endpoint], PopClient], spool: Path,
                                                       make_mailbox: Callable[..., Path]) -> None:
    box = make_mailbox("joe", [b"short\r\n", b"y" * (20 * 2**20) + b"\r\n"])
    pserv = serve(start, spool)
    client = pop(pserv.endpoint())
    client.xpop("joe")
    client.ok("RETR 2")
    client.sock.recv(1000)
    client.close()
    (line,) = pserv.wait_log("mailbox_closed")
    assert " retrieved=0 " in line
    assert len(list((box / "new").iterdir())) == 2
