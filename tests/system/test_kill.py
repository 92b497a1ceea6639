"""kill -9 of anything at any time: the others go on, the client sees a closed connection, nothing is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, record
from tests.harness.system import is_alive, wait_for

LINE = b"A message so long that no socket buffer can hold it.\r\n"
HUGE = b"Subject: huge\r\n\r\n" + LINE * 600_000
SMALL = b"Subject: small\r\n\r\nHello.\r\n"
USERS = [record("full", "pw", "cxpop", "box/full"), record("empty", "pw", "cxpop", "box/empty")]


@pytest.fixture
def site(rundir, spool, make_mailbox):
    """The system; the mailbox of `full` has two small messages."""
    make_mailbox("box/empty")
    make_mailbox("box/full", new=[SMALL, SMALL])
    variables = {"pproxy": {"checktimeout": "100ms", "checktries": 1}}
    with MailSite(rundir, spool, USERS, variables=variables) as running:
        yield running


def log_in(site: MailSite, user: str) -> PopClient:
    """Open a session through the proxy."""
    client = PopClient(site.pproxy.endpoint())
    answer = client.login(user, "pw")
    assert answer.startswith(b"+OK"), answer
    return client


def child_of(daemon: Daemon, client: PopClient) -> int:
    """Return the pid of the proxy's child that serves a client."""
    host, port = client.sock.getsockname()[:2]
    [line] = daemon.wait_log(f"session_start client='{host}:{port}'")
    return int(line.split(" ")[4])


def partner_of(site: MailSite, child: int) -> int:
    """Return the pid of the server's child that works for a child of the proxy."""
    [line] = [line for line in site.pproxy.log_lines("session_start") if line.split(" ")[4] == str(child)]
    return int(site.pserv.wait_log(f" {line.split(' ')[5]} ")[0].split(" ")[4])


def whole_session(site: MailSite, user: str = "full", count: int = 2) -> None:
    """Prove that a session from login to QUIT works."""
    with log_in(site, user) as client:
        assert client.ok("STAT").split()[0] == str(count).encode()
        client.ok("QUIT")
        assert client.rest() == b""


def end(pid: int) -> None:
    """Kill one process and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), 5.0, f"the end of {pid}")


def messages(mailbox: Path) -> list[bytes]:
    """Return what lies in a mailbox, visible to anyone."""
    return sorted(path.read_bytes() for name in ("new", "cur") for path in (mailbox / name).iterdir())


@pytest.mark.parametrize("program", ["pproxy", "pserv", "pcheckd"])
def test_idle_children_are_replaced(site, program):
    daemon = site.daemons[program]
    wait_for(lambda: len(daemon.children()) >= (1 if program == "pcheckd" else 4), 10.0, "spare children")
    for child in daemon.children():
        end(child)
    whole_session(site)
    assert daemon.process.poll() is None


def test_a_busy_child_of_the_proxy(site):
    with log_in(site, "full") as other, log_in(site, "full") as client:
        end(child_of(site.pproxy, client))
        assert client.rest() == b""
        assert other.ok("STAT") == b"2 %d" % (2 * len(SMALL))
    whole_session(site)


def test_a_busy_child_of_the_server(site):
    with log_in(site, "full") as other, log_in(site, "full") as client:
        client.ok("DELE 1")
        end(partner_of(site, child_of(site.pproxy, client)))
        assert client.rest() == b""
        assert other.ok("STAT") == b"2 %d" % (2 * len(SMALL))
    whole_session(site)
    assert messages(site.spool / "box/full") == [SMALL, SMALL]


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_the_master(site, program):
    daemon = site.daemons[program]
    with log_in(site, "full") as client:
        child = child_of(site.pproxy, client)
        child = child if program == "pproxy" else partner_of(site, child)
        idle = [pid for pid in daemon.children() if pid != child]
        daemon.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in idle), 10.0, "the end of idle children")
        assert client.message(1) == SMALL
        client.ok("DELE 1")
        client.ok("QUIT")
        assert client.rest() == b""
        wait_for(lambda: not is_alive(child), 10.0, "the end of the busy child")
    assert messages(site.spool / "box/full") == [SMALL]
    site.start(program)
    whole_session(site, count=1)


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_a_restart_while_an_old_session_goes_on(site, program):
    daemon = site.daemons[program]
    with log_in(site, "full") as client:
        child = child_of(site.pproxy, client)
        child = child if program == "pproxy" else partner_of(site, child)
        daemon.kill()
        site.start(program)
        whole_session(site)
        assert client.message(2) == SMALL
        client.ok("QUIT")
        assert client.rest() == b""
    wait_for(lambda: not is_alive(child), 10.0, "the end of the old child")


def test_the_server_in_the_middle_of_a_message(site, make_mailbox):
    mailbox = make_mailbox("box/full", new=[HUGE])
    with log_in(site, "full") as client:
        numbers = {int(size): number for number, size in map(bytes.split, client.multi("LIST"))}
        number = int(numbers[len(HUGE)])
        serving = partner_of(site, child_of(site.pproxy, client))
        client.send(b"RETR %d\r\n" % number)
        assert client.line().startswith(b"+OK")
        idle = [pid for pid in site.pserv.children() if pid != serving]
        site.pserv.kill()
        end(serving)
        rest = client.rest()
        assert len(rest) < len(HUGE) and not rest.endswith(b"\r\n.\r\n")
    whole_session(site, "empty", 0)
    wait_for(lambda: not any(is_alive(pid) for pid in idle), 10.0, "the end of idle children")
    site.start("pserv")
    with log_in(site, "full") as client:
        assert client.message(number) == HUGE
        client.ok("QUIT")
    assert messages(mailbox) == sorted([HUGE, SMALL, SMALL])


def test_the_mail_check(site):
    site.pcheckd.kill()
    whole_session(site)
    whole_session(site, "empty", 0)
    assert site.pproxy.log_lines("mailcheck_failed")
    site.start("pcheckd")
    before = len(site.pproxy.log_lines("mailbox_empty"))
    whole_session(site, "empty", 0)
    site.pproxy.wait_log("mailbox_empty", count=before + 1)


def test_a_delivery(site):
    with subprocess.Popen([sys.executable, ROOT / "bin/pdeliver", "-m", site.spool, "-l", "/dev/null", "box/empty"],
                          stdin=subprocess.PIPE) as delivery:
        assert delivery.stdin
        delivery.stdin.write(SMALL * 50_000)
        delivery.stdin.flush()
        wait_for(lambda: any((site.spool / "box/empty/tmp").iterdir()), 10.0, "the beginning of the delivery")
        delivery.kill()
        delivery.stdin.close()
    assert messages(site.spool / "box/empty") == []
    whole_session(site, "empty", 0)
