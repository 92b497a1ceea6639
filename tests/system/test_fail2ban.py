"""The filter and jail for fail2ban find who guesses passwords, and nobody else, in logs that pproxy wrote."""

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import Close, FakeBackend, ReadLines, Say, Step
from tests.harness.machine import Machine, connect
from tests.harness.needs import need_program
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, start_proxy, store
from tests.harness.system import wait_for

SAMPLES = ROOT / "etc/fail2ban"
DEFAULTS = Path("/etc/fail2ban")
NOWHERE = Endpoint("127.0.0.1", 1)
HONEST, GUESSER = "127.0.0.2", "127.0.0.3"
USERS = (    # who the guesser claims to be; the last three would have 192.0.2.9 locked out
    XENIA,
    "x' namespace='d' client='192.0.2.9:110'",
    'x","namespace":"d","client":"192.0.2.9:110',
    "ERR 0243 login_refused user='x' namespace='d' client='192.0.2.9:110' pdm='",
)
GUESSES = [GUESSER] * len(USERS) + ["::1"]
BOTH = pytest.mark.parametrize("logformat", ["classic", "json"])

PPROXY = """[pproxy]
authdelay = 0
[vserv]
[[main]]
address = 0.0.0.0:110
[pdm]
[[users]]
module = passwd
args = /etc/popular/users
"""
JAIL = """[DEFAULT]
backend = polling
banaction = dummy
banaction_allports = dummy
"""

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[str]]:
    """A function (log, filter) that returns the addresses that a filter finds, one for each line that it takes."""
    program = need_program("fail2ban-regex")
    folder = tmp_path / "fail2ban"
    shutil.copytree(DEFAULTS, folder)
    shutil.copytree(SAMPLES, folder, dirs_exist_ok=True)

    def find(log: Path, name: str = "popular") -> list[str]:
        done = subprocess.run([program, "-c", str(folder), "--out", "<ip>", str(log), name],
                              capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.split()

    return find


def come_and_go(proxy: Daemon) -> Iterator[None]:
    """Have one client log in, others guess, one of them by IPv6; yield after each."""
    with PopClient(proxy.endpoint("main"), source=HONEST) as client:
        client.line()
        client.ok(f"USER {XENIA}")
        client.ok(f"PASS {PASSWORD}")    # the backend is away: an empty mailbox
        client.ok("QUIT")
    yield
    for user in USERS:
        with PopClient(proxy.endpoint("main"), source=GUESSER) as client:
            guess(client, user)
        yield
    with PopClient(proxy.addresses["main"][1]) as client:
        guess(client, XENIA)
    yield


def guess(client: PopClient, user: str) -> None:
    """Be refused."""
    client.line()
    client.ok(f"USER {user}")
    client.err("PASS guess")
    client.ok("QUIT")


@BOTH
def test_guesses_are_found_in_a_log_file(start: StartDaemon, rundir: Path, found, logformat: str) -> None:
    proxy = start_proxy(start, rundir, store(NOWHERE), vserv={"address": "127.0.0.1:0, [::1]:0"},
                        logformat=logformat)
    assert len(list(come_and_go(proxy))) == len(GUESSES) + 1
    proxy.wait_log("session_end", count=len(GUESSES) + 1)
    assert found(proxy.logfile) == GUESSES


@BOTH
def test_guesses_are_found_in_syslog(start: StartDaemon, rundir: Path, found, logformat: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
        logger.bind(str(rundir / "logger"))
        logger.settimeout(10.0)
        proxy = start_proxy(start, rundir, store(NOWHERE), vserv={"address": "127.0.0.1:0, [::1]:0"},
                            logformat=logformat, logto="syslog", syslogsocket=rundir / "logger")
        lines = [""]
        for _ in come_and_go(proxy):    # read meanwhile: the socket holds few lines
            lines.append("")
            while "session_end" not in lines[-1]:
                lines.append(logger.recv(65536).decode())
    # the logger puts the host's name in between
    heads = [line.partition(">")[2].split("pproxy[") for line in lines if line]
    mail_log = rundir / "mail.log"
    mail_log.write_text("".join(f"{date}mx1 pproxy[{rest}\n" for date, rest in heads))
    assert found(mail_log) == GUESSES


@BOTH
def test_who_meets_a_limit_is_found(start: StartDaemon, rundir: Path, found: Callable[..., list[str]],
                                    logformat: str) -> None:
    """The guess after one too many, where somebody has logged in before, and a connection where nobody has."""
    proxy = start_proxy(start, rundir, store(NOWHERE), exempt="none", maxfailures=1, logformat=logformat)

    def visit(source: str, user: str, password: str) -> None:
        with PopClient(proxy.endpoint("main"), source=source) as client:
            if client.line().startswith(b"+OK"):
                client.ok(f"USER {user}")
                client.command(f"PASS {password}")

    visit(HONEST, XENIA, PASSWORD)
    for source in (HONEST, HONEST, GUESSER, GUESSER):
        visit(source, USERS[-1], "guess")
    proxy.wait_log("client_limited")
    proxy.wait_log("session_end", count=4)
    assert found(proxy.logfile) == [HONEST, HONEST, GUESSER]
    assert found(proxy.logfile, "popular-limits") == [GUESSER]


@BOTH
def test_guesses_that_a_backend_refuses_are_found(start: StartDaemon, rundir: Path, found, logformat: str) -> None:
    """Where only the backend knows passwords; not those for whom it has another reason."""
    answers = [b"-ERR [AUTH] Authentication failed.", b"-ERR no", b"-ERR [IN-USE] locked", b"-ERR [SYS/TEMP] broken",
               b"-ERR client='192.0.2.9:110' ERR 0243 login_refused user='x' namespace='d' client='192.0.2.9:110'"]

    def script(number: int) -> list[Step]:
        return [Say(b"+OK\r\n"), ReadLines(), Say(b"+OK\r\n"), ReadLines(), Say(answers[number] + b"\r\n"), Close()]

    with FakeBackend(script) as backend:
        proxy = start("pproxy", {
            "pproxy": {"authdelay": 0, "logformat": logformat}, "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {"store": {"protocol": "pop3", "address": backend.endpoint}},
            "pdm": {"all": {"module": "any", "args": "store protocol=pop3"}}})
        for _ in answers:
            with PopClient(proxy.endpoint("main"), source=GUESSER) as client:
                guess(client, XENIA)
        proxy.wait_log("session_end", count=len(answers))
    assert found(proxy.logfile) == [GUESSER] * 3


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make machines")
def test_the_jail_locks_out_who_guesses(tmp_path: Path) -> None:
    need_program("fail2ban-server")
    with Machine.with_popular("mx", tmp_path / "mx") as mx, Machine.boot("guesser", tmp_path / "guesser") as guesser:
        connect(mx, "10.0.0.2/24", guesser, "10.0.0.66/24")
        (mx.root / "etc/popular/pproxy.conf").write_text(PPROXY)
        (mx.root / "etc/popular/users").write_text("joe:{PLAIN}secret:nowhere::joe\n")
        shutil.rmtree(mx.root / "etc/fail2ban/jail.d")    # jails for what does not run there
        shutil.copytree(SAMPLES, mx.root / "etc/fail2ban", dirs_exist_ok=True)
        (mx.root / "etc/fail2ban/jail.local").write_text(JAIL)
        mx.type("pproxy\ninstall -d /run/fail2ban\nfail2ban-client --test\nfail2ban-client start", 30.0)
        guesser.type("for n in 1 2 3 4 5 6 7 8 9 10; do\n"
                     "curl -s --user joe:guess$n pop3://10.0.0.2/ || [ $? = 67 ]\ndone")    # 67: login denied
        wait_for(lambda: "10.0.0.66" in mx.type("fail2ban-client get popular banip"), 15.0, "the ban")
        mx.type("fail2ban-client stop")
