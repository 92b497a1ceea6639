"""HAProxy in front and Dovecot behind: all three know the same client, by the PROXY protocol and by XCLIENT."""

import re
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority, context_of
from tests.harness.daemon import Daemon
from tests.harness.dovecot import Dovecot, NoDovecot, find_dovecot
from tests.harness.metrics import scrape, where
from tests.harness.needs import lacking, need_program
from tests.harness.popclient import PopClient
from tests.harness.ports import free_port
from tests.harness.site import record
from tests.harness.system import die_with_parent, end_family, wait_for

INNER = "inner secret"
RECORDS = [    # at Dovecot, anna is announced by XCLIENT and hans by a PROXY header
    record("anna", "pw", "said", "", ("anna", INNER)),
    record("hans", "pw", "told", "", ("hans", INNER)),
    record("mallory", "pw", "said", "", ("anna", "a guess")),
]
_LOGIN = re.compile("Login: |Logged in: ")    # in the words of Dovecot 2.3, and 2.4
CLIENT, OTHER = "127.0.2.1", "127.0.2.2"

_DOVECOT = """
login_trusted_networks = 127.0.0.1
haproxy_trusted_networks = 127.0.0.1
service pop3-login {{
  inet_listener haproxied {{
    port = PORT
    haproxy = yes
  }}
}}
"""

# What balances: name, options of its port, the virtual server behind it, options toward that.
WAYS = {
    "v1": ("", "main", "send-proxy"),
    "v2": ("", "main", "send-proxy-v2 proxy-v2-options crc32c,unique-id"),
    "passthrough": ("", "tls", "send-proxy-v2 proxy-v2-options crc32c"),
    "offload": ("ssl crt PEM verify optional ca-file CA", "offloaded",
                "send-proxy-v2-ssl-cn proxy-v2-options crc32c,authority,unique-id"),
}
_GLOBAL = """
global
    maxconn 100
    log stdout format raw local0
defaults
    mode tcp
    log global
    option tcplog
    option log-health-checks
    unique-id-format lb-%ci-%cp
    timeout connect 5s
    timeout check 30s
    timeout client 1m
    timeout server 1m
"""
_WAY = """
listen NAME
    bind 127.0.0.1:PORT OPTIONS
    option tcp-check
    tcp-check connect default LINGER
    CHECK
    default-server inter 500ms fall 2 rise 1
    server proxy ADDRESS SENDING check
"""
_CHECK = """tcp-check expect string +OK
    tcp-check send QUIT\\r\\n"""


@dataclass(frozen=True, slots=True)
class Balancer:
    """A running HAProxy."""

    ports: dict[str, int]
    log: Path

    def endpoint(self, way: str) -> Endpoint:
        """Return where clients connect."""
        return Endpoint("127.0.0.1", self.ports[way])


@pytest.fixture(scope="module")
def folder(module_rundir: Path) -> Path:
    """A folder that Dovecot can enter when root starts it."""
    return module_rundir


@pytest.fixture(scope="module")
def dovecot(folder: Path) -> Iterator[tuple[Dovecot, int]]:
    """A Dovecot that trusts us, and the port on which it expects PROXY headers."""
    port = free_port()
    try:
        server = Dovecot.start(folder / "dovecot", {"anna": INNER, "hans": INNER},
                               more=_DOVECOT.replace("PORT", str(port)))
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with server:
        yield server, port


@pytest.fixture(scope="module")
def daemon(folder: Path, authority: Authority, dovecot: tuple[Dovecot, int]) -> Iterator[Daemon]:
    """The proxy between them."""
    (folder / "users").write_text("".join(f"{line}\n" for line in sorted(RECORDS)))
    server, port = dovecot
    pair = authority.sign("pop.example.org")
    vserv = {"address": "127.0.0.1:0", "proxyprotocol": "on", "trusted": "127.0.0.1"}
    with Daemon.start("pproxy", {
            "pproxy": {"authdelay": 0, "sidprefix": "px", "metrics": "127.0.0.1:0", "maxfailures": 0, "peerlines": 0},
            "vserv": {"main": vserv, "named": {**vserv, "proxyprotocol": "off"},
                      "offloaded": {**vserv, "plaintextauth": "off"},
                      "tls": {**vserv, "tls": "implicit", "certificate": pair.certificate, "key": pair.key}},
            "backend": {"said": {"protocol": "pop3", "address": server.endpoint, "clientaddress": "xclient"},
                        "told": {"protocol": "pop3", "address": f"127.0.0.1:{port}", "clientaddress": "proxy"}},
            "pdm": {"users": {"module": "passwd", "args": folder / "users"}}}, folder) as running:
        yield running


@pytest.fixture(scope="module")
def balancer(folder: Path, authority: Authority, daemon: Daemon) -> Iterator[Balancer]:
    """The HAProxy before it, which has found all ways good."""
    program = need_program("haproxy")
    pair = authority.sign("lb.example.org")
    (folder / "lb.pem").write_text(Path(pair.certificate).read_text() + Path(pair.key).read_text())
    ports = {way: free_port() for way in WAYS}
    text = _GLOBAL
    for way, (options, owner, sending) in WAYS.items():
        is_clear = owner != "tls"
        for word, value in (("NAME", way), ("PORT", ports[way]), ("OPTIONS", options), ("PEM", folder / "lb.pem"),
                            ("CA", authority.cafile), ("ADDRESS", daemon.endpoint(owner)), ("SENDING", sending),
                            ("CHECK", _CHECK if is_clear else ""), ("LINGER", "linger" if is_clear else "")):
            text = text if word != "NAME" else text + _WAY
            text = text.replace(word, str(value))
    (folder / "haproxy.cfg").write_text(text)
    log = folder / "haproxy.log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, "-db", "-f", folder / "haproxy.cfg"], stdout=output, stderr=output,
                                   stdin=subprocess.DEVNULL, cwd="/", preexec_fn=die_with_parent)
    try:
        wait_for(lambda: process.poll() is not None or scrape(where(daemon)).get(
            "health_checks_total", program="pproxy") >= len(WAYS), 20.0, "health checks")
        assert process.poll() is None, log.read_text()
        yield Balancer(ports, log)
    finally:
        end_family(process)


@pytest.fixture
def come(balancer: Balancer, authority: Authority) -> Iterator[Callable[..., PopClient]]:
    """A function (way, source, certificate) that connects a client from an address of this host."""
    clients = []

    def connect(way: str, source: str = CLIENT, **more: Any) -> PopClient:
        client = PopClient(balancer.endpoint(way), source=source)
        clients.append(client)
        if way in ("passthrough", "offload"):
            context = context_of(authority)
            if more:
                context.load_cert_chain(more["pair"].certificate, more["pair"].key)
            client.sock = context.wrap_socket(client.sock, server_hostname="pop.example.org")
        return client

    yield connect
    for client in clients:
        client.close()


@pytest.mark.parametrize("user", ["anna", "hans"])
@pytest.mark.parametrize("way", WAYS)
def test_all_three_know_the_client(daemon: Daemon, dovecot: tuple[Dovecot, int], balancer: Balancer,
                                   come: Callable[..., PopClient], way: str, user: str) -> None:
    client = come(way)
    port = client.sock.getsockname()[1]
    assert client.login(user, "pw") == b"+OK Logged in."
    client.ok("QUIT")
    client.close()
    mine, server = f"client='{CLIENT}:{port}'", dovecot[0]
    [login] = wait_for(lambda: [line for line in daemon.log_lines(" login ") if mine in line])
    whose = login.split()[4] if user == "anna" else "<hans>"    # XCLIENT has room for the session id
    line = wait_for(lambda: [line for line in server.log().splitlines() if _LOGIN.search(line) and whose in line], 10.0,
                    "the login in Dovecot's log")[-1]
    assert f"rip={CLIENT}," in line
    if user == "hans" and find_dovecot().language == "2.3":    # later ones call every client of this host secured
        assert ("secured" in line) is (way in ("passthrough", "offload"))
    wait_for(lambda: f"{CLIENT}:{port} " in balancer.log.read_text(), 10.0, "the session in HAProxy's log")
    [named] = [line for line in daemon.log_lines("client_named") if mine in line]
    assert ("tls='TLSv1.3'" in named) is (way == "offload")
    assert (f" id='lb-{CLIENT}-{port}'" in named) is (way in ("v2", "offload"))


def test_what_haproxy_says_of_the_client_s_certificate(daemon: Daemon, come: Callable[..., PopClient],
                                                       authority: Authority) -> None:
    client = come("offload", pair=authority.sign("joe.example.org"))
    port = client.sock.getsockname()[1]
    assert client.login("hans", "pw") == b"+OK Logged in."
    [named] = [line for line in daemon.log_lines("client_named") if f"client='{CLIENT}:{port}'" in line]
    assert " certificate='joe.example.org' authority='pop.example.org'" in named


def test_health_checks_make_no_noise(daemon: Daemon, balancer: Balancer) -> None:
    def count() -> float:
        return scrape(where(daemon)).get("health_checks_total", program="pproxy")

    wait_for(lambda: len(daemon.log_lines(" session_start ")) == len(daemon.log_lines(" session_end ")), 10.0,
             "the end of earlier sessions")
    lines, before = daemon.log_lines(), count()
    sessions = scrape(where(daemon)).get("sessions_total", program="pproxy")
    wait_for(lambda: count() >= before + 2 * len(WAYS), 20.0, "more health checks")
    assert daemon.log_lines() == lines
    assert scrape(where(daemon)).get("sessions_total", program="pproxy") == sessions
    assert "DOWN" not in balancer.log.read_text()


def test_one_who_guesses_does_not_slow_another(come: Callable[..., PopClient]) -> None:
    """Dovecot lets addresses wait that have guessed wrong; without the client's address everybody would."""
    guesses = [come("v2", OTHER) for _ in range(5)]
    for guess in guesses:
        guess.greeting()
        guess.ok("USER mallory")
        guess.send(b"PASS pw\r\n")
    assert [guess.line()[:11] for guess in guesses] == [b"-ERR [AUTH]"] * len(guesses)
    late, quick = come("v2", OTHER), come("v2", CLIENT)
    for client in late, quick:
        client.greeting()
        client.ok("USER anna")
        client.send(b"PASS pw\r\n")
    assert quick.line() == b"+OK Logged in."
    assert not select.select([late.sock], [], [], 0)[0], "the other still waits"


def test_a_dovecot_before_us_names_its_client(folder: Path, daemon: Daemon, dovecot: tuple[Dovecot, int]) -> None:
    """It sees the offer in our greeting, and we tell the Dovecot behind us."""
    port = daemon.endpoint("named").port
    with Dovecot.start(folder / "front", {"anna": f"pw::::::proxy=y host=127.0.0.1 port={port}"}) as front:
        with PopClient(front.endpoint, source="127.0.2.3") as client:
            mine = f"client='127.0.2.3:{client.sock.getsockname()[1]}'"
            assert client.login("anna", "pw") == b"+OK Logged in."
    [named] = [line for line in daemon.log_lines("client_named") if mine in line]
    assert " id=''" not in named
    assert "rip=127.0.2.3," in dovecot[0].log()
