"""From USER and PASS to XOAUTH2: a proxy, its workers, poauth, a provider's servers for consent and mail."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from popular.tools import poauth
from tests.harness.authserver import SECRET, AuthServer, error
from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon
from tests.harness.needs import need_module
from tests.harness.popclient import PopClient
from tests.harness.system import wait_for
from tests.harness.tokenmail import TokenMail
from tests.harness.tools import run_tool

need_module("cryptography")
need_module("urllib3")

JOE, ANN = "joe@example.org", "ann@example.org"
IN = b"+OK User successfully authenticated"
NO_CONSENT = b"-ERR [AUTH] The owner of this mailbox has not allowed access to it, or has withdrawn that"


class Gateway:
    """A proxy before a provider."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        authority = Authority.make(folder)
        pair = authority.sign("localhost", "127.0.0.1")
        self.server = AuthServer(pair)
        stack.callback(self.server.close)
        self.mail = TokenMail(pair, self.server.owners)
        stack.callback(self.mail.close)
        (folder / "secret").write_text(SECRET)
        (folder / "secret").chmod(0o400)
        (folder / "users").write_text(f"ann:{{PLAIN}}pw:strict:pop3::{ANN}:x\njoe:{{PLAIN}}pw:store:pop3::{JOE}:x\n")
        backend = {"protocol": "pop3", "address": self.mail.endpoint, "tls": "implicit", "cafile": authority.cafile,
                   "auth": "xoauth2"}
        words = self.server.words(f"store={folder}/tokens.db", f"keyfile={folder}/key", f"cafile={authority.cafile}",
                                  "backends=store,strict", secretfile=f"{folder}/secret")
        args = " ".join(f"'{word}'" for word in words if word != "backends=store")
        settings: dict[str, dict[str, object]] = {
            "pproxy": {"authdelay": 0, "user": "root", "group": "root", "pdmworkers": 2},
            "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {"store": backend, "strict": {**backend, "softfail": "off"}},
            "pdm": {"users": {"module": "passwd", "args": folder / "users"},
                    "gate": {"module": "poauth", "args": args}}}
        self.folder = folder
        self._store = folder / "tokens.db"
        (folder / "tool.conf").write_text(f"[pproxy]\nuser = root\n[pdm]\n[[gate]]\nmodule = poauth\nargs = {args}\n")
        self._config = str(folder / "tool.conf")
        self.grant(JOE)
        self.daemon = stack.enter_context(Daemon.start("pproxy", settings, folder))

    def grant(self, user: str) -> None:
        """Have a user consent, by the tool."""
        self.server.someone = user
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("time.sleep", lambda seconds: None)
            assert poauth.run(["-c", self._config, "grant", user]) == 0

    def expire(self) -> None:
        """Let a day pass for the stored tokens, and for the provider's patience."""
        with closing(sqlite3.connect(self._store)) as database, database:
            database.execute("UPDATE grants SET until = 0, retry = 0")

    def age(self) -> None:
        """Let some minutes pass for the stored tokens."""
        with closing(sqlite3.connect(self._store)) as database, database:
            database.execute("UPDATE grants SET granted = granted - 120, refreshed = refreshed - 120")

    def login(self, user: str = "joe", password: str = "pw") -> bytes:
        """Return the proxy's answer."""
        with PopClient(self.daemon.endpoint()) as client:
            answer = client.login(user, password)
            if answer.startswith(b"+OK"):
                client.ok("QUIT")
            return answer


@pytest.fixture(scope="module")
def gateway(module_rundir: Path) -> Iterator[Gateway]:
    with ExitStack() as stack:
        made = Gateway(module_rundir, stack)
        yield made
        report = made.daemon.report()
        assert not any(secret in report for secret in (SECRET, *made.server.given, *made.server.consents))


def test_a_day_of_a_mailbox(gateway: Gateway) -> None:
    server = gateway.server
    assert [gateway.login() for _ in range(2)] == [IN] * 2
    assert gateway.login(password="wrong") == b"-ERR [AUTH] Authentication failed"
    assert len(server.given) == 1 == len(set(gateway.mail.logins)), "the token of the consent is used"

    gateway.expire()
    server.waits, asked = True, len(server.asked)
    with PopClient(gateway.daemon.endpoint()) as first, PopClient(gateway.daemon.endpoint()) as second:
        for client in (first, second):
            client.greeting()
            client.ok("USER joe")
            client.send(b"PASS pw\r\n")
        wait_for(lambda: len(server.asked) > asked, 10.0, "a refresh")
        server.go_on()
        assert [client.line() for client in (first, second)] == [IN] * 2
        for client in (first, second):
            client.ok("QUIT")
    assert len(server.asked) == asked + 1 and len(server.given) == 2, "one refresh for both"

    gateway.expire()
    server.consents.clear()
    asked = len(server.asked)
    assert [gateway.login() for _ in range(3)] == [NO_CONSENT] * 3 and len(server.asked) == asked + 1
    assert "gate: " in gateway.daemon.report() and "invalid_grant: Token has been expired or revoked." in (
        gateway.daemon.report())
    gateway.grant(JOE)
    assert gateway.login() == IN


def test_a_token_that_was_revoked_early(gateway: Gateway) -> None:
    """The client does not notice, unless the owner has withdrawn the consent, too."""
    server = gateway.server
    assert gateway.login() == IN
    gateway.age()
    server.owners.clear()
    asked, given = len(server.asked), len(server.given)
    assert gateway.login() == IN and gateway.mail.logins[-1] == server.given[given]
    [line] = gateway.daemon.log_lines("token_refused")
    assert f"backend='store' mailbox='{JOE}'" in line and "answer='-ERR [AUTH] Logon failure" in line
    assert gateway.login() == IN and len(server.asked) == asked + 1

    server.owners.clear()
    assert gateway.login().startswith(b"-ERR [AUTH] Logon failure"), "a fresh one is not replaced"
    gateway.age()
    server.consents.clear()
    assert gateway.login() == NO_CONSENT and len(server.asked) == asked + 2
    gateway.grant(JOE)
    gateway.age()
    server.owners.clear()
    server.next = [error("temporarily_unavailable", 503)]
    assert gateway.login().startswith(b"+OK 0 messages"), "softfail"
    gateway.expire()
    assert gateway.login() == IN


def test_ptestpdm_goes_the_whole_way(gateway: Gateway) -> None:
    def lines() -> list[str]:
        config = gateway.folder / "pproxy.conf"
        return run_tool("ptestpdm", "-c", config, "--backend", "joe", stdin="pw\n").stdout.splitlines()
    assert lines()[-2:] == ["token ok", "backend ok answer='+OK User successfully authenticated'"]
    gateway.expire()
    gateway.server.next = [error("temporarily_unavailable", 503)]
    assert lines()[-1].startswith("token failed why='gate: https://")
    gateway.expire()
    gateway.server.next = [error("invalid_grant")]
    assert lines()[-1].startswith("token refused why='gate: https://")
    gateway.expire()
    assert lines()[-1].startswith("backend ok")


def test_ptestpdm_tries_another_token_too(gateway: Gateway) -> None:
    def run() -> tuple[int, list[str]]:
        config = gateway.folder / "pproxy.conf"
        done = run_tool("ptestpdm", "-c", config, "--backend", "joe", stdin="pw\n")
        return done.returncode, done.stdout.splitlines()
    gateway.age()
    gateway.server.owners.clear()
    code, lines = run()
    assert (code, lines[-4], lines[-2]) == (0, "token ok", "token ok")
    assert lines[-3].startswith("backend refused why='-ERR [AUTH] Logon failure") and lines[-1].startswith("backend ok")
    gateway.server.owners.clear()
    code, lines = run()
    assert (code, lines[-1]) == (1, "token failed why='there is no other one'"), "a fresh one is not replaced"


def test_a_provider_that_is_down(gateway: Gateway) -> None:
    assert gateway.login("ann") == NO_CONSENT
    gateway.grant(ANN)
    assert gateway.login("ann") == IN
    gateway.expire()
    gateway.server.next = [error("temporarily_unavailable", 503)]
    assert gateway.login("ann").startswith(b"-ERR [SYS/TEMP]")
    assert gateway.login("joe").startswith(b"+OK 0 messages"), "softfail"
    assert "temporarily_unavailable" in gateway.daemon.report()
