"""Logins at a real Dovecot by SASL, APOP, a master account and access tokens (`auth`, `masteruser` of backends)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot
from tests.harness.popclient import PopClient
from tests.harness.tokendovecot import MASTER, MASTER_PASSWORD, Introspection, strict_dovecot

TOKEN = "a-token-of-anna"
LONG = "a-token-of-anna-" + "x" * 900    # does not fit into the command
LOGINS = ("plain", "scram", "apop", "xoauth2", "oauthbearer")
MODULE = '''
from popular.pdm.api import NoConsent, PdmError, PdmModule


class Module(PdmModule):
    API = (1, 2)
    gives_tokens = True

    def token(self, user, backend, deadline, refused):
        if user == "ben":
            raise NoConsent("invalid_grant")
        if user == "carla":
            raise PdmError("the provider is away")
        return open(self.args[0]).read()
'''


@pytest.fixture(scope="module")
def folder(module_rundir: Path) -> Path:
    """A folder that Dovecot can enter when root starts it."""
    return module_rundir


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Who has signed the certificates."""
    return Authority.make(folder)


@pytest.fixture(scope="module")
def dovecot(folder: Path, authority: Authority) -> Iterator[Dovecot]:
    """A Dovecot that demands TLS; anna has a message."""
    users = {"anna": "inner secret", "ben": "x"}
    mechanisms = "plain scram-sha-256 scram-sha-1 apop xoauth2 oauthbearer"
    with (Introspection({TOKEN: "anna", LONG: "anna"}) as tokens,
          strict_dovecot(folder, authority, users, tokens, mechanisms) as server):
        (server.maildir("anna") / "new" / "1.test").write_bytes(b"Subject: x\n\nx\n")
        server.own("anna")
        yield server


@pytest.fixture(scope="module")
def pproxy(folder: Path, authority: Authority, dovecot: Dovecot) -> Iterator[Daemon]:
    """A proxy with a backend for each way to log in; users are called ACCOUNT-BACKEND."""
    modules = folder / "modules"
    modules.mkdir()
    (modules / "pdm_tokens.py").write_text(MODULE)
    (folder / "token").write_text(TOKEN)
    (folder / "master.secret").write_text(f"{MASTER_PASSWORD}\n")
    (folder / "master.secret").chmod(0o600)
    common = {"protocol": "pop3", "address": dovecot.endpoint, "tls": "starttls", "cafile": authority.cafile}
    master = {"masteruser": MASTER, "masterpasswordfile": folder / "master.secret"}
    (folder / "wrong.secret").write_text("wrong\n")
    (folder / "wrong.secret").chmod(0o600)
    backends = {how: {**common, "auth": how} for how in LOGINS}
    backends |= {"masterplain": {**common, "auth": "plain", **master}, "masteruser": {**common, **master}}
    backends["masterwrong"] = {**common, "auth": "plain", **master, "masterpasswordfile": folder / "wrong.secret"}
    users = [f"{name}-{backend}:{{PLAIN}}pw:{backend}:::{name}:{secret}\n" for backend in backends
             for name, secret in (("anna", "inner secret"), ("ben", "wrong"), ("carla", "x"))]
    (folder / "users").write_text("".join(users))
    settings: dict[str, dict[str, object]] = {
        "pproxy": {"authdelay": "10ms", "pdmdir": modules, "user": "root", "group": "root"},
        "vserv": {"main": {"address": "127.0.0.1:0"}}, "backend": {**backends},
        "pdm": {"users": {"module": "passwd", "args": folder / "users"},
                "tokens": {"module": "tokens", "args": folder / "token"}}}
    with Daemon.start("pproxy", settings, folder) as daemon:
        yield daemon


@pytest.fixture
def client(pproxy: Daemon) -> Iterator[PopClient]:
    """A connection to the proxy, greeting not yet read."""
    with PopClient(pproxy.endpoint()) as connection:
        yield connection


@pytest.mark.parametrize("backend", [*LOGINS, "masterplain", "masteruser"])
def test_a_user_is_logged_in(client, dovecot, backend):
    assert client.login(f"anna-{backend}", "pw") == b"+OK Logged in.", dovecot.log()
    assert client.ok("STAT").split()[0] == b"1"
    client.ok("QUIT")


@pytest.mark.parametrize("backend", ["plain", "scram", "apop"])
def test_a_wrong_password_is_refused(client, backend):
    assert client.login(f"ben-{backend}", "pw").startswith(b"-ERR [AUTH]")


def test_a_wrong_master_password_is_not_blamed_on_the_user(client, pproxy):
    assert client.login("anna-masterwrong", "pw") == b"-ERR [SYS/TEMP] Temporary problem, please try again later"
    assert "backend='masterwrong' mailbox='anna' answer='-ERR [AUTH] " in pproxy.wait_log("backend_refused")[-1]


def test_a_token_that_is_too_long_for_the_command(client, folder):
    (folder / "token").write_text(LONG)
    try:
        assert client.login("anna-oauthbearer", "pw") == b"+OK Logged in."
    finally:
        (folder / "token").write_text(TOKEN)
    client.ok("QUIT")


def test_a_token_that_is_refused(client, folder):
    (folder / "token").write_text("expired")
    try:
        assert client.login("anna-xoauth2", "pw").startswith(b"-ERR [AUTH]")
    finally:
        (folder / "token").write_text(TOKEN)


def test_without_consent_the_user_is_told_so(client, pproxy):
    assert client.login("ben-xoauth2", "pw") == (
        b"-ERR [AUTH] The owner of this mailbox has not allowed access to it, or has withdrawn that")
    assert "invalid_grant" in pproxy.report()


def test_without_a_token_the_backend_is_out_of_reach(client, pproxy):
    assert client.login("carla-xoauth2", "pw") == b"+OK 0 messages (0 octets)"    # softfail
    assert "no token for it: tokens: the provider is away" in pproxy.report()
