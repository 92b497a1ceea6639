"""Other people's clients log in by every mechanism and read mail that lies behind the proxy, in each kind of backend.

The backends are pserv (XPOP), a Dovecot that the proxy enters as a master user, and the same Dovecot, entered with
OAUTHBEARER; it demands TLS.  MEETINGS is the table of who is seen to do what; test_sasl.py and test_clients.py have
more of the same clients, at an empty mailbox and with USER and PASS.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.certificates import Authority
from tests.harness.clients import PASSWORD
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.saslclients import CLIENTS, SUBJECT, TOKENS, Login, thunderbird
from tests.harness.site import deliver, record
from tests.harness.tokendovecot import MASTER, MASTER_PASSWORD, Introspection, strict_dovecot

pytestmark = pytest.mark.limit(120)

KINDS = ("xpop", "master", "token")
# By mechanism: the clients that log in by it to a mailbox in a backend of each kind, in the order of KINDS.
MEETINGS = {
    "USER": ("mpop", "mutt", "perl thunderbird"),
    "APOP": ("perl", "fetchmail mpop", "curl"),
    "PLAIN": ("mpop thunderbird", "curl perl", "mutt"),
    "LOGIN": ("perl", "mpop thunderbird", "curl"),
    "CRAM-MD5": ("curl mutt", "thunderbird", "fetchmail mpop"),
    "SCRAM-SHA-1": ("mutt", "perl", "mpop"),
    "SCRAM-SHA-256": ("mpop", "perl", "mutt"),
    "EXTERNAL": ("perl", "curl thunderbird", "mpop"),
    "XOAUTH2": ("mutt", "thunderbird", "mpop"),
    "OAUTHBEARER": ("curl", "mpop", "mutt"),
}
_CELLS = [(mechanism, kind, client) for mechanism, row in MEETINGS.items() for kind, clients in zip(KINDS, row)
          for client in clients.split()]
_SASL = ", ".join(name for name in MEETINGS if name != "USER")
_MODULE = """
from popular.pdm.api import Answer, Outcome, PdmModule

class Module(PdmModule):
    API = (1, 2)
    mechanisms = frozenset(("OAUTHBEARER", "XOAUTH2"))
    gives_tokens = True

    def check(self, request):
        user = request.password.decode().removeprefix("token-of-")
        return Answer(Outcome.OK, user=user) if user in self.args else Answer(Outcome.DENIED, why="bad token")

    def token(self, user, backend, deadline, refused):
        return "given-to-" + user
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short name that everybody can enter."""
    made = Path(tempfile.mkdtemp(prefix="popular-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Who has signed all certificates."""
    return Authority.make(folder)


@pytest.fixture(scope="module")
def daemon(folder: Path, authority: Authority) -> Iterator[Daemon]:
    """A proxy before all backends; the user joe-KIND has one message."""
    message = f"From: ann@example.org\nSubject: {SUBJECT}\n\nCome soon.\n".encode()
    (folder / "spool").mkdir()
    deliver(folder / "spool", "box", message)
    users = [record("joe-xpop", PASSWORD, "xpop", "box"), record("joe-master", PASSWORD, "master", login=("joe", "")),
             record("joe-token", PASSWORD, "token", login=("joe", ""))]
    (folder / "pwfile").write_text("".join(f"{line}\n" for line in sorted(users)))
    (folder / "master.secret").write_text(MASTER_PASSWORD)
    (folder / "master.secret").chmod(0o600)
    (folder / "pdm_bearer.py").write_text(_MODULE)
    pair = authority.sign("127.0.0.1")
    with ExitStack() as stack:
        tokens = stack.enter_context(Introspection({"token-of-joe-token": "joe", "given-to-joe": "joe"}))
        dovecot = stack.enter_context(
            strict_dovecot(folder, authority, {"joe": "inner secret"}, tokens, "plain oauthbearer"))
        (dovecot.maildir("joe") / "new" / "1.test").write_bytes(message)
        dovecot.own("joe")
        pserv = stack.enter_context(Daemon.start("pserv", {
            "pserv": {"mailboxdir": folder / "spool"}, "server": {"main": {"address": "127.0.0.1:0"}}}, folder))
        pop3 = {"protocol": "pop3", "address": dovecot.endpoint, "tls": "starttls", "cafile": authority.cafile,
                "softfail": "off"}
        yield stack.enter_context(Daemon.start("pproxy", {
            "pproxy": {"authdelay": 0, "sidprefix": "px", "pdmdir": folder, "user": "root", "group": "root"},
            "vserv": {"main": {
                "address": "127.0.0.1:0", "saslmechanisms": _SASL, "tls": "starttls", "certificate": pair.certificate,
                "key": pair.key, "clientca": authority.cafile, "certificateuser": "cn"}},
            "backend": {
                "xpop": {"protocol": "xpop", "address": pserv.endpoint(), "softfail": "off"},
                "master": {**pop3, "auth": "plain", "masteruser": MASTER,
                           "masterpasswordfile": folder / "master.secret"},
                "token": {**pop3, "auth": "oauthbearer"}},
            "pdm": {"users": {"module": "passwd", "args": folder / "pwfile"},
                    "tokens": {"module": "bearer", "args": " ".join(f"joe-{kind}" for kind in KINDS)}}}, folder))


def login_of(daemon: Daemon, authority: Authority, folder: Path, user: str, mechanism: str) -> Login:
    """Return what a client has to know."""
    secret = f"token-of-{user}" if mechanism in TOKENS else PASSWORD
    login = Login(daemon.endpoint(), user, secret, mechanism, folder)
    if mechanism != "EXTERNAL":
        return login
    return Login(daemon.endpoint(), user, secret, mechanism, folder, authority, authority.sign(user))


@pytest.mark.parametrize(("mechanism", "kind", "client"), _CELLS)
def test_a_client_reads_its_mail(daemon: Daemon, authority: Authority, folder: Path, mechanism: str, kind: str,
                                 client: str) -> None:
    user, count = f"joe-{kind}", len(daemon.log_lines("login user="))
    assert CLIENTS[client](login_of(daemon, authority, folder, user, mechanism)), daemon.report()[-3000:]
    line = daemon.wait_log("login user=", count=count + 1)[-1]
    assert f"user='{user}'" in line and f"backend='{kind}'" in line
    assert f"mechanism='{mechanism}'" in line


@pytest.mark.parametrize(("mechanism", "client"), [
    ("USER", "fetchmail"), ("CRAM-MD5", "curl"), ("LOGIN", "perl"), ("SCRAM-SHA-256", "mpop"),
    ("SCRAM-SHA-256", "mutt"), ("OAUTHBEARER", "mutt"), ("EXTERNAL", "curl"), ("XOAUTH2", "thunderbird")])
def test_a_stranger_is_refused(daemon: Daemon, authority: Authority, folder: Path, mechanism: str,
                               client: str) -> None:
    count = len(daemon.log_lines("login_refused"))
    assert not CLIENTS[client](login_of(daemon, authority, folder, "nobody", mechanism))
    daemon.wait_log("login_refused", count=count + 1)


def test_exchanges_that_break_off(daemon: Daemon, authority: Authority, folder: Path) -> None:
    """After the command, after a challenge, and within an answer; nobody waits for the rest."""
    count = len(daemon.log_lines("outcome='no login: closed'"))
    names = [name for name in MEETINGS if name not in ("USER", "APOP", "EXTERNAL")]
    for name in names:
        for words in (f"AUTH {name}", f"AUTH {name}\r\n", f"AUTH {name}\r\nbixhPWpvZSxuPWpv"):
            with PopClient(daemon.endpoint()) as client:
                client.greeting()
                client.send(words.encode())
                if "\r\n" in words:
                    assert client.line().startswith(b"+ ")
    daemon.wait_log("outcome='no login: closed'", count=count + 3 * len(names))
    assert thunderbird(login_of(daemon, authority, folder, "joe-xpop", "PLAIN"))
    assert not daemon.bugs()


def test_exchanges_without_end(daemon: Daemon) -> None:
    """Answers that mean nothing end each exchange, and in the end the session; so does a line without end."""
    for name in (name for name in MEETINGS if name not in ("USER", "APOP", "EXTERNAL")):
        with PopClient(daemon.endpoint()) as client:
            client.greeting()
            client.send(f"AUTH {name}\r\nbm90aGluZw==\r\nbm90aGluZw==\r\n".encode() * 100)
            assert b"+OK" not in client.rest()
    with PopClient(daemon.endpoint()) as client:
        client.greeting()
        client.command("AUTH PLAIN")
        client.send(b"A" * 1_000_000 + b"\r\n")
        assert b"+OK" not in client.rest()
    assert not daemon.bugs()
