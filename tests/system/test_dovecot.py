"""A POP3 server that is not ours as backend: what the proxy adds, hides and passes on, with a real Dovecot."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.mail import crlf
from tests.harness.needs import lacking
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, record

INNER = "inner secret"
MESSAGE = b"Subject: dots\r\n\r\n.\r\n..\r\n.a line\r\nthe end\r\n"
LARGE = b"Subject: large\r\n\r\n" + bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") * 20_000 + b"\r\n"
RECORDS = [
    record("anna", "pw", "pop3", "", ("anna", INNER)),
    record("ben", "pw", "pop3", "", ("ben", "not the password there")),
    record("carla", "pw", "pop3"),
]


@pytest.fixture(scope="module")
def folder(module_rundir: Path) -> Path:
    """A folder that Dovecot can enter when root starts it."""
    return module_rundir


@pytest.fixture(scope="module")
def dovecot(folder: Path) -> Iterator[Dovecot]:
    """A Dovecot with two users; anna has two messages."""
    try:
        server = Dovecot.start(folder / "dovecot", {"anna": INNER, "ben": INNER})
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with server:
        for number, message in enumerate((MESSAGE, LARGE)):
            (server.maildir("anna") / "new" / f"{number}.test").write_bytes(message)
        server.own("anna")
        yield server


@pytest.fixture(scope="module")
def site(folder: Path, dovecot: Dovecot) -> Iterator[MailSite]:
    """A proxy before it."""
    with MailSite(folder, folder, RECORDS, pop3=dovecot.endpoint) as running:
        yield running


@pytest.fixture
def client(site: MailSite) -> Iterator[PopClient]:
    """A connection to the proxy, greeting not yet read."""
    with PopClient(site.pproxy.endpoint()) as connection:
        yield connection


def test_the_backend_answers_pass(client):
    assert client.login("anna", "pw") == b"+OK Logged in."


def test_messages_come_through_unchanged(client):
    client.login("anna", "pw")
    assert [client.message(1), client.message(2)] == [crlf(MESSAGE), LARGE]
    client.ok("QUIT")
    assert client.rest() == b""


def test_what_is_pipelined_behind_pass_reaches_the_backend(client):
    client.send(b"USER anna\r\nPASS pw\r\nSTAT\r\nNOOP\r\nUIDL\r\nQUIT\r\n")
    answers = client.rest().split(b"\r\n")
    assert answers[3].split()[:2] == [b"+OK", b"2"]
    assert answers[6:9] == [b"1 0.test", b"2 1.test", b"."]
    assert answers[9:] == [b"+OK Logging out.", b""]


def test_a_refusal_of_the_backend_leaves_the_client_in_authorization(client, site):
    assert client.login("ben", "pw") == b"-ERR [AUTH] Authentication failed."
    assert client.command("STAT").startswith(b"-ERR")
    client.ok("USER anna")
    client.ok("PASS pw")
    assert client.ok("STAT").split()[0] == b"2"
    assert site.pproxy.log_lines("backend_refused")


def test_a_record_without_a_login_is_our_fault_not_the_users(client, site):
    assert client.login("carla", "pw").startswith(b"-ERR [SYS/TEMP]")
    assert [line for line in site.pproxy.log_lines(" ADM ") if "carla" in line]


def test_no_password_is_logged(client, site):
    client.login("anna", "pw")
    client.ok("QUIT")
    client.rest()
    site.pproxy.wait_log("session_end")
    assert INNER not in "".join(site.pproxy.log_lines())


def test_a_refusal_that_dovecot_delays_lets_nobody_in(folder: Path, start: Callable[..., Daemon]) -> None:
    """Its penalty grows with each guess, up to 17 s, and here we have no patience for the second one."""
    try:
        server = Dovecot.start(folder / "strict", {"anna": INNER})
    except NoDovecot as why:
        lacking(str(why))
    with server:
        proxy = start("pproxy", {
            "pproxy": {"authdelay": 0, "logintimeout": "3s"}, "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {"store": {"protocol": "pop3", "address": server.endpoint}},
            "pdm": {"all": {"module": "any", "args": "store protocol=pop3"}}})
        heard = []
        for password in ("wrong", "another", INNER):
            with PopClient(proxy.endpoint()) as client:
                heard.append(client.login("anna", password))
        assert heard[0] == b"-ERR [AUTH] Authentication failed."
        assert heard[1].startswith(b"-ERR [SYS/TEMP] "), "and the right one may have to wait, too"
        assert heard[2].startswith((b"-ERR [SYS/TEMP] ", b"+OK Logged in"))
        assert proxy.log_lines("login_refused") and proxy.log_lines("backend_failed")


def test_the_backend_ends_in_mid_session(client, site, dovecot):    # the last one: it takes the backend away
    client.login("anna", "pw")
    dovecot.stop()
    assert not client.rest().startswith(b"+OK")
    with PopClient(site.pproxy.endpoint()) as later:
        assert later.login("anna", "pw").startswith(b"+OK")
        assert later.ok("STAT") == b"0 0"
    assert site.pproxy.log_lines("soft_failure")
