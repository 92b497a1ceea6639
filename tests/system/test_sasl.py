"""AUTH on a real proxy: what it offers in each state is what it can do, and other people's clients log in by it."""

import base64
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.pdm import libcrypt
from popular.pdm.proofs import ScramSecret
from tests.harness.capabilities import ODD, try_after_login, try_before_login
from tests.harness.certificates import Authority, context_of
from tests.harness.daemon import Daemon
from tests.harness.needs import need_program
from tests.harness.popclient import PopClient
from tests.harness.scramclient import ScramClient

PASSWORD = "sesame street"
NAME = "mail.example.org"
CLEAR, SCRAM, CRYPT = "clear", "scram", "crypt"    # users, by how their password is stored
ADMIN = "admin"

_FORMS = {
    CLEAR: f"{{PLAIN}}{PASSWORD}",
    SCRAM: ScramSecret.made("SCRAM-SHA-256", PASSWORD.encode(), b"salt of a user", 4096).stored,
    CRYPT: libcrypt.crypt(PASSWORD.encode(), "$5$rounds=1000$saltsalt"),
}
_CLEAR = "SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5"    # mechanisms that show nothing to others
_ALL = f"{_CLEAR}, PLAIN, LOGIN, OAUTHBEARER, XOAUTH2"
_DEFAULT = ["PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2"]
_VSERVS = {
    "all": {"saslmechanisms": _ALL, "masterseparator": '"*"'},
    "default": {},
    "none": {"saslmechanisms": "none"},
    "tls": {"saslmechanisms": _ALL, "plaintextauth": "off", "tls": "starttls"},
    "strict": {"plaintextauth": "off", "tls": "starttls"},
    "apop": {"saslmechanisms": "APOP"},
    "guarded": {"saslmechanisms": "SCRAM-SHA-256", "maxfailures": "2"},
    "certified": {"saslmechanisms": f"{_ALL}, EXTERNAL", "tls": "starttls", "certificateuser": "cn",
                  "userformat": "lower strip=example.org"},
    "mailed": {"saslmechanisms": "PLAIN, EXTERNAL", "tls": "starttls", "certificateuser": "email"},
}
TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
_MODULE = f"""
from popular.pdm.api import Answer, Outcome, PdmModule

class Module(PdmModule):
    API = (1, 2)
    mechanisms = frozenset(("OAUTHBEARER", "XOAUTH2"))

    def check(self, request):
        is_right = request.mechanism and request.password == b"{TOKEN}"
        return Answer(Outcome.OK, user="{CLEAR}") if is_right else Answer(Outcome.DENIED, why="bad token")
"""


@pytest.fixture(scope="module")
def daemon(authority: Authority, module_rundir: Path) -> Iterator[Daemon]:
    """A proxy with a virtual server for each case; its backend is disabled, so that all mailboxes are empty."""
    folder = module_rundir
    users, masters = folder / "users", folder / "masters"
    users.write_text("".join(sorted(f"{name}:{form}:store:xpop:box\n" for name, form in _FORMS.items())))
    masters.write_text(f"{ADMIN}@*:*:{{PLAIN}}of the master\n")
    (folder / "pdm_bearer.py").write_text(_MODULE)
    pair = authority.sign(NAME)
    tls = {"certificate": pair.certificate, "key": pair.key}
    for name in ("certified", "mailed"):
        _VSERVS[name]["clientca"] = authority.cafile
    with Daemon.start("pproxy", {
        "pproxy": {"authdelay": 0, "exempt": "none", "maxfailures": 0, "maxerrors": 100, "sidprefix": "px",
                   "debug": "on", "pdmdir": folder},
        "vserv": {name: {"address": "127.0.0.1:0", **values, **(tls if "tls" in values else {})}
                  for name, values in _VSERVS.items()},
        "backend": {"store": {"protocol": "xpop", "address": "127.0.0.1:1", "enabled": "off"}},
        "pdm": {"users": {"module": "passwd", "args": users}, "masters": {"module": "master", "args": masters},
                "tokens": {"module": "bearer"}},
    }, folder) as daemon:
        yield daemon
        log = "\n".join(daemon.log_lines())
        for secret in (PASSWORD, "of the master", TOKEN, encoded(f"\0{CLEAR}\0{PASSWORD}".encode()).decode()):
            assert secret not in log
        assert not daemon.bugs()


def encoded(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def connected(daemon: Daemon, vserv: str) -> PopClient:
    """Return a client that has read the greeting."""
    client = PopClient(daemon.endpoint(vserv))
    client.greeting()
    return client


@pytest.mark.parametrize(("vserv", "clear", "secret"), [
    ("all", _ALL.split(", "), []), ("default", _DEFAULT, []), ("none", [], []), ("apop", [], []),
    ("tls", _CLEAR.split(", "), _ALL.split(", ")), ("strict", [], _DEFAULT),
    ("certified", _ALL.split(", "), [*_ALL.split(", "), "EXTERNAL"]),
])
def test_what_is_told_is_what_works(daemon: Daemon, authority: Authority, vserv: str, clear: list[str],
                                    secret: list[str]) -> None:
    """In each state: before STLS, after it, and in the mailbox."""
    odd = [words for words in ODD if vserv != "apop" or not words.startswith("APOP")]
    with connected(daemon, vserv) as client:
        caps = try_before_login(client, CLEAR, odd)
        assert caps.get("SASL", []) == clear
        if "STLS" in caps:
            client.ok("STLS")
            context = context_of(authority)
            if vserv == "certified":
                pair = authority.sign(CLEAR)
                context.load_cert_chain(pair.certificate, pair.key)
            client.sock = context.wrap_socket(client.sock)
            caps = try_before_login(client, CLEAR)
            assert caps.get("SASL", []) == secret and "STLS" not in caps
        client.ok(f"USER {CLEAR}")
        client.ok(f"PASS {PASSWORD}")
        assert try_after_login(client, 0) == {**caps, "IMPLEMENTATION": ["POPular"]}


_FITTING = {CLEAR: {"user", "plain", "login", "scram-sha-256", "scram-sha-1", "cram-md5"},
            SCRAM: {"user", "plain", "login", "scram-sha-256"}, CRYPT: {"user", "plain", "login"}}


def mpop(daemon: Daemon, vserv: str, user: str, password: str, mechanism: str, *tls: str) -> bool:
    """Log in with mpop (GNU SASL), which also checks the server; returns whether it was let in."""
    words = [need_program("mpop"), "--host=127.0.0.1", f"--port={daemon.endpoint(vserv).port}", f"--auth={mechanism}",
             *(tls or ["--tls=off"]), f"--user={user}", f"--passwordeval=echo '{password}'", "--auth-only",
             "--delivery=mbox,/dev/null", f"--uidls-file={daemon.rundir / 'uidls'}"]
    done = subprocess.run(words, capture_output=True, timeout=60)
    if done.returncode == 0:
        assert mechanism == "on" or f"mechanism='{mechanism.upper()}'" in daemon.wait_log(f"login user='{user}'")[-1]
    return done.returncode == 0


def mpop_version() -> tuple[int, ...]:
    """Return the version of mpop."""
    words = [need_program("mpop"), "--version"]
    output = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    return tuple(int(part) for part in output.split()[2].split(b"."))


@pytest.mark.parametrize("user", [CLEAR, SCRAM, CRYPT])
@pytest.mark.parametrize("mechanism", ["user", "plain", "login", "scram-sha-256", "scram-sha-1", "cram-md5"])
def test_mpop(daemon: Daemon, user: str, mechanism: str) -> None:
    """Whoever has a fitting form gets in."""
    assert mpop(daemon, "all", user, PASSWORD, mechanism) is (mechanism in _FITTING[user])


@pytest.mark.parametrize("mechanism", ["oauthbearer", "xoauth2"])
def test_mpop_with_tokens(daemon: Daemon, mechanism: str) -> None:
    assert mpop(daemon, "default", CLEAR, TOKEN, mechanism)
    assert not mpop(daemon, "default", CLEAR, PASSWORD, mechanism)


def test_mpop_with_a_certificate(daemon: Daemon, authority: Authority) -> None:
    pair = authority.sign(CLEAR)
    tls = ("--tls=on", "--tls-starttls=on", f"--tls-trust-file={authority.cafile}", f"--tls-host-override={NAME}",
           f"--tls-cert-file={pair.certificate}", f"--tls-key-file={pair.key}")
    assert mpop(daemon, "certified", CLEAR, PASSWORD, "external", *tls)
    assert not mpop(daemon, "certified", CRYPT, PASSWORD, "external", *tls)
    if mpop_version() < (1, 4, 20):    # later ones give up under TLS, before they send anything, if there is no -PLUS
        assert mpop(daemon, "certified", SCRAM, PASSWORD, "on", *tls[:4])    # the best that is offered


def test_mpop_with_apop(daemon: Daemon) -> None:
    assert mpop(daemon, "apop", CLEAR, PASSWORD, "apop")


@pytest.mark.parametrize("words", [
    pytest.param(["curl", "-sS", "--max-time", "40", "-u", f"{CLEAR}:{PASSWORD}"], id="PLAIN"),
    pytest.param(["curl", "-sS", "--max-time", "40", "-u", f"{CLEAR}:{PASSWORD}", "--login-options", "AUTH=LOGIN"],
                 id="LOGIN"),
    pytest.param(["curl", "-sS", "--max-time", "40", "-u", f"{CLEAR}:{PASSWORD}", "--login-options", "AUTH=CRAM-MD5"],
                 id="CRAM-MD5"),
    pytest.param(["curl", "-sS", "--max-time", "40", "-u", f"{CLEAR}:", "--oauth2-bearer", TOKEN], id="OAUTHBEARER"),
])
def test_curl(daemon: Daemon, words: list[str], request: pytest.FixtureRequest) -> None:
    need_program("curl")
    mechanism = request.node.callspec.id
    endpoint = daemon.endpoint("default" if mechanism == "PLAIN" else "all")
    subprocess.run([*words, f"pop3://127.0.0.1:{endpoint.port}/"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert f"mechanism='{mechanism}'" in daemon.wait_log("mechanism=")[-1]


def bearer(name: str, token: str) -> str:
    """Return the command with a message of OAUTHBEARER."""
    message = f"n,{name},\1host=h\1auth=Bearer {token}\1\1"
    return f"AUTH OAUTHBEARER {encoded(message.encode()).decode()}"


def test_a_token_names_its_user(daemon: Daemon) -> None:
    for name in ("", f"a={CLEAR}"):
        with connected(daemon, "all") as client:
            client.ok(bearer(name, TOKEN))
            assert f"user='{CLEAR}'" in daemon.wait_log("mechanism='OAUTHBEARER'")[-1]
    with connected(daemon, "all") as client:
        for name, token, why in (("", "x", "bad token"), (f"a={CRYPT}", TOKEN, "it belongs to user")):
            assert client.command(bearer(name, token)) == b"+ " + encoded(b'{"status":"invalid_token"}')
            assert client.command(encoded(b"\1")).startswith(b"-ERR [AUTH] ")
            assert why in daemon.wait_log("login_refused")[-1]


def test_certificates(daemon: Daemon, authority: Authority) -> None:
    """A user in it logs in as themselves, not as another; without one, or without a user, there is no EXTERNAL."""
    for name, words, answer in (
            (CLEAR, "AUTH EXTERNAL =", b"+OK"), (CLEAR, f"AUTH EXTERNAL {encoded(CLEAR.encode()).decode()}", b"+OK"),
            (CLEAR, f"AUTH EXTERNAL {encoded(CRYPT.encode()).decode()}", b"-ERR [AUTH]"),
            ("nobody", "AUTH EXTERNAL =", b"-ERR [AUTH]"), ("", "AUTH EXTERNAL =", b"-ERR no such mechanism")):
        context = context_of(authority)
        if name:
            pair = authority.sign(name)
            context.load_cert_chain(pair.certificate, pair.key)
        with connected(daemon, "certified") as client:
            client.ok("STLS")
            client.sock = context.wrap_socket(client.sock)
            assert client.command(words).startswith(answer), (name, words)


def test_a_certificate_without_the_wanted_name_is_logged(daemon: Daemon, authority: Authority) -> None:
    pair = authority.sign("somebody")
    context = context_of(authority)
    context.load_cert_chain(pair.certificate, pair.key)
    with connected(daemon, "mailed") as client:
        client.ok("STLS")
        client.sock = context.wrap_socket(client.sock)
        assert client.err("AUTH EXTERNAL =") == b"no such mechanism"
    assert " ERR 026e certificate_unnamed client='127.0.0.1:" in daemon.log_lines("wanted='email'")[-1]
    with connected(daemon, "mailed") as client:
        client.ok("STLS")
        client.sock = context_of(authority).wrap_socket(client.sock)
        client.ok("CAPA")
    assert len(daemon.log_lines("certificate_unnamed")) == 1, "who has none is not logged"


def test_auth_in_clear_is_told_that_it_needs_tls(daemon: Daemon) -> None:
    for vserv, answer in (("strict", b"no such mechanism without TLS"), ("none", b"unknown command")):
        with connected(daemon, vserv) as client:
            assert "SASL" not in dict(line.decode().partition(" ")[::2] for line in client.multi("CAPA"))
            for words in ("AUTH PLAIN", f"AUTH PLAIN {encoded(b'x').decode()}", "AUTH", "AUTH X"):
                assert client.err(words) == answer, (vserv, words)


def test_another_spelling_of_the_own_name_is_no_master_user(daemon: Daemon, authority: Authority) -> None:
    """Clients put the name into their account's settings in one spelling, and certificates have another."""
    context, name = context_of(authority), f"{CLEAR}@example.org"
    pair = authority.sign(name)
    context.load_cert_chain(pair.certificate, pair.key)
    right, wrong = (encoded(f"{CLEAR}\0{name}\0{password}".encode()).decode() for password in (PASSWORD, "wrong"))
    for words, answer in (
            (f"AUTH EXTERNAL {encoded(CLEAR.upper().encode()).decode()}", b"+OK"),
            (f"AUTH PLAIN {right}", b"+OK"), (f"AUTH PLAIN {wrong}", b"-ERR [AUTH]")):
        with connected(daemon, "certified") as client:
            client.ok("STLS")
            client.sock = context.wrap_socket(client.sock)
            assert client.command(words).startswith(answer), words
    assert "why='wrong password'" in daemon.wait_log("login_refused")[-1]


def test_apop(daemon: Daemon) -> None:
    """The timestamp is another one each time, and wanted by APOP only."""
    stamps = set()
    for user, password, answer in ((CLEAR, PASSWORD, b"+OK"), (CLEAR, "x", b"-ERR [AUTH]"),
                                   (SCRAM, PASSWORD, b"-ERR [AUTH]"), ("nobody", "x", b"-ERR [AUTH]")):
        with PopClient(daemon.endpoint("apop")) as client:
            stamp = client.greeting().rpartition(b" ")[2]
            assert stamp.startswith(b"<") and stamp.endswith(b"@px>")
            digest = hashlib.md5(stamp + password.encode()).hexdigest()
            assert client.command(f"APOP {user} {digest.upper()}").startswith(b"-ERR APOP needs")
            assert client.command(f"APOP {user} {digest}").startswith(answer)
            stamps.add(stamp)
    assert len(stamps) == 4
    with PopClient(daemon.endpoint("all")) as client:
        assert b"<" not in client.greeting()
        client.err("APOP joe 0123456789abcdef0123456789abcdef")


def test_masters(daemon: Daemon) -> None:
    """By an authorization id, and by a name before the separator; the log names who it was."""
    plain = encoded(f"{CRYPT}\0{ADMIN}\0of the master".encode()).decode()
    for words in ([f"AUTH PLAIN {plain}"], [f"USER {ADMIN}*{CRYPT}", "PASS of the master"]):
        with connected(daemon, "all") as client:
            for word in words:
                client.ok(word)
            assert "master='admin'" in daemon.wait_log(f" login user='{CRYPT}'")[-1]
    for master, password in ((ADMIN, PASSWORD), (CLEAR, PASSWORD), (CRYPT, "of the master"), ("", "of the master")):
        with connected(daemon, "all") as client:
            client.err(f"AUTH PLAIN {encoded(f'{CRYPT}|{master}|{password}'.replace('|', chr(0)).encode()).decode()}")
    assert f"user='{CRYPT}'" in daemon.wait_log(f"no master user \\x27{CLEAR}\\x27")[0]


def scram(client: PopClient, exchange: ScramClient) -> bytes:
    """Go through an exchange up to the server's verdict; returns its last answer."""
    challenge = client.command(b"AUTH SCRAM-SHA-256 " + encoded(exchange.first))
    final = exchange.final(base64.b64decode(challenge.removeprefix(b"+ ")))
    return client.command(encoded(final))


def test_a_server_proves_itself_before_the_client_is_let_in(daemon: Daemon) -> None:
    with connected(daemon, "all") as client:
        exchange = ScramClient(SCRAM, PASSWORD)
        assert scram(client, exchange) == b"+ " + encoded(exchange.verdict)
        client.err("*")    # as if that had been wrong
        exchange = ScramClient(ADMIN, "of the master", header=f"n,a={CRYPT},")
        assert scram(client, exchange) == b"+ " + encoded(exchange.verdict)
        client.send(b"\r\nSTAT\r\n")    # pipelined
        assert (client.line()[:3], client.line()) == (b"+OK", b"+OK 0 0")


def test_nobody_learns_who_exists(daemon: Daemon) -> None:
    """A salt for each name, always the same one."""
    told: dict[str, bytes] = {}
    for _ in range(2):
        with connected(daemon, "all") as client:
            for user in (CLEAR, CRYPT, "nobody", "no_body"):
                challenge = client.command(b"AUTH SCRAM-SHA-256 " + encoded(ScramClient(user, "x").first))
                salt = base64.b64decode(challenge.removeprefix(b"+ ")).partition(b",")[2]
                assert told.setdefault(user, salt) == salt and salt.endswith(b",i=15000")
                client.err("*")
    assert len(set(told.values())) == len(told)


def test_failed_exchanges_are_failed_logins(daemon: Daemon) -> None:
    with connected(daemon, "all") as client:
        for user in (SCRAM, CRYPT, "nobody"):
            assert scram(client, ScramClient(user, "wrong")).startswith(b"-ERR [AUTH] Authentication failed")
        assert client.rest() == b""
        assert f"login_refused user='{CRYPT}'" in daemon.wait_log("why='no stored password fits SCRAM-SHA-256'")[-1]
    daemon.wait_log("too_many_logins")


def test_the_limit_of_failed_logins_holds_before_a_salt_is_told(daemon: Daemon) -> None:
    with connected(daemon, "guarded") as client:
        for _ in range(2):
            assert scram(client, ScramClient(SCRAM, "wrong")).startswith(b"-ERR [AUTH]")
        answer = client.command(b"AUTH SCRAM-SHA-256 " + encoded(ScramClient(SCRAM, PASSWORD).first))
        assert answer.startswith(b"-ERR [SYS/TEMP] Too many failed logins") and client.rest() == b""


def test_endless_exchanges_end(daemon: Daemon) -> None:
    with connected(daemon, "all") as client:
        first = b"AUTH SCRAM-SHA-256 " + encoded(ScramClient(SCRAM, "x").first) + b"\r\n*\r\n"
        client.send(first * 101)
        assert client.rest().count(b"+ ") == 100    # maxerrors


def test_cut_exchanges_leave_nothing(daemon: Daemon) -> None:
    with connected(daemon, "all") as client:
        client.command("AUTH PLAIN")
        client.send(encoded(f"\0{CLEAR}\0{PASSWORD}".encode()))    # without a line end
    daemon.wait_log("outcome='no login: closed'")
