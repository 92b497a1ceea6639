"""SMTP after POP with a real Postfix: the lines in etc/examples/postfix-smtp-after-pop, and what they let in."""

import grp
import itertools
import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.needs import lacking, need_program
from tests.harness.popclient import PopClient
from tests.harness.postfix import Postfix
from tests.harness.proxy import CASPER, PASSWORD, StartProxy, store

EXAMPLE = ROOT / "etc/examples/postfix-smtp-after-pop"
ELSEWHERE = "someone@example.com"    # whom only those may write to who may relay
OURS = "joe@example.org"
OK, REFUSED = 250, 554


@dataclass(frozen=True, slots=True)
class Site:
    """A pproxy that records clients, and where Postfix looks."""

    proxy: Daemon
    database: Path
    map: Path


@pytest.fixture
def site(proxy: StartProxy, rundir: Path) -> Iterator[Site]:
    """The example in a folder of the test, with the rights that pproxy(8) asks for."""
    postmap = need_program("postmap")
    if "sqlite" not in subprocess.run([f"{Path(postmap).parent}/postconf", "-m"], capture_output=True, text=True,
                                      timeout=60, check=True).stdout.split():
        lacking("Postfix's map of type sqlite")
    if os.geteuid() != 0:
        pytest.skip("Postfix needs root")
    folder = rundir / "smtpafterpop"
    folder.mkdir()
    os.chown(folder, -1, grp.getgrnam("postfix").gr_gid)
    folder.chmod(0o2770)
    rundir.chmod(0o755)
    database = folder / "clients.db"
    text = (EXAMPLE / "popular-clients.cf").read_text()
    assert text.count("/var/lib/popular/smtpafterpop/clients.db") == 1
    (rundir / "popular-clients.cf").write_text(text.replace("/var/lib/popular/smtpafterpop/clients.db", str(database)))
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        yield Site(proxy(store(Endpoint("127.0.0.1", 1), check.endpoint), smtpafterpopfile=database,
                         vserv={"smtpafterpop": "on", "address": "127.0.0.1:0, [::1]:0"}),
                   database, rundir / "popular-clients.cf")


@pytest.fixture
def postfix(site: Site, rundir: Path) -> Iterator[Postfix]:
    """A Postfix with the lines of the example."""
    lines = (EXAMPLE / "main.cf").read_text()
    assert lines.count("/etc/postfix/popular-clients.cf") == 1
    with Postfix.start(rundir / "postfix", lines.replace("/etc/postfix/popular-clients.cf", str(site.map)),
                       ("127.0.0.1", "::1")) as postfix:
        yield postfix


def fetch_mail(site: Site, source: str) -> None:
    """Log in and out; returns when that is over, and recorded."""
    before = len(site.proxy.log_lines("session_end"))
    with PopClient(site.proxy.addresses["main"][":" in source], source=source) as client:
        client.login(CASPER, PASSWORD)
        client.ok("QUIT")
    site.proxy.wait_log("session_end", count=before + 1)


def let_time_pass(site: Site, address: str) -> None:
    """Make a record one that ends now."""
    with closing(sqlite3.connect(site.database, isolation_level=None)) as database:
        done = database.execute("UPDATE clients SET until = strftime('%s', 'now') WHERE address = ?", (address,))
        assert done.rowcount == 1


def postmap(site: Site, address: str) -> tuple[int, str]:
    """Return exit code and answer of the command that the example tells."""
    [command] = re.findall(r"^# +(postmap -q .*)$", (EXAMPLE / "popular-clients.cf").read_text(), re.MULTILINE)
    words = command.replace("192.0.2.7", address).replace("/etc/postfix/popular-clients.cf", str(site.map)).split()
    done = subprocess.run([need_program(words[0]), *words[1:]], stdout=subprocess.PIPE, timeout=20)
    return done.returncode, done.stdout.decode().strip()


@pytest.mark.parametrize("address", ["127.0.0.7", "::1"])
def test_postmap_finds_who_has_logged_in(site: Site, address: str) -> None:
    assert postmap(site, address) == (1, "")
    fetch_mail(site, address)
    assert postmap(site, address) == (0, "OK")
    assert postmap(site, "127.0.0.1") == (1, "")
    let_time_pass(site, address)
    assert postmap(site, address) == (1, "")


def test_spec_1_5_smtp_after_pop(site: Site, postfix: Postfix) -> None:
    def may_send(source: str) -> int:
        return postfix.rcpt(ELSEWHERE, source, int(":" in source))

    assert [may_send("127.0.0.7"), may_send("::1")] == [REFUSED, REFUSED]
    assert postfix.rcpt(OURS, "127.0.0.7") == OK
    fetch_mail(site, "127.0.0.7")
    assert [may_send("127.0.0.7"), may_send("127.0.0.8"), may_send("::1")] == [OK, REFUSED, REFUSED]
    fetch_mail(site, "::1")
    assert [may_send("127.0.0.7"), may_send("127.0.0.8"), may_send("::1")] == [OK, REFUSED, OK]
    let_time_pass(site, "127.0.0.7")
    assert [may_send("127.0.0.7"), may_send("127.0.0.8"), may_send("::1")] == [REFUSED, REFUSED, OK]
    assert "warning" not in postfix.log()


def test_lookups_and_logins_at_the_same_time_disturb_nobody(site: Site, postfix: Postfix) -> None:
    """Postfix waits for no lock: a writer that kept readers out would make it defer mail (code 451)."""
    fetch_mail(site, "127.0.0.7")
    is_over = threading.Event()

    def fetch_from_everywhere() -> None:
        for number in itertools.takewhile(lambda number: number < 25 or not is_over.is_set(), itertools.count()):
            with PopClient(site.proxy.endpoint(), source=f"127.1.{number // 250}.{number % 250 + 1}") as client:
                client.login(CASPER, PASSWORD)
                client.ok("QUIT")

    others = threading.Thread(target=fetch_from_everywhere)
    others.start()
    try:
        codes = {postfix.rcpt(ELSEWHERE, "127.0.0.7") for _ in range(100)}
    finally:
        is_over.set()
        others.join()
    assert codes == {OK}
    assert len(site.proxy.log_lines("session_end")) > 20
    assert site.proxy.log_lines("smtp_not_recorded") == []
    assert "warning" not in postfix.log()
