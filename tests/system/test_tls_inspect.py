"""What TLS toward clients agrees on, seen with openssl s_client: versions, ciphers, certificates, sessions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness.certificates import Authority
from tests.harness.control import tell
from tests.harness.daemon import Daemon, Settings
from tests.harness.proxy import PASSWORD, XENIA, start_proxy, store
from tests.harness.sclient import Told, s_client, talking
from tests.harness.system import wait_for

NAME, OTHER = "mail.example.org", "pop.example.net"
NOWHERE = Endpoint("127.0.0.1", 1)
STARTTLS = ("-starttls", "pop3")
WAYS = pytest.mark.parametrize("tls, way", [("implicit", ()), ("starttls", STARTTLS)], ids=["implicit", "starttls"])
AES128, AES256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
GREETING = "+OK POPular ready"    # s_client shows it with -starttls too, when TLS has begun
TLS13_NAMES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")

Start = Callable[..., Daemon]


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> list[KeyPair]:
    """Certificates of both kinds for both names."""
    return [authority.sign(name, kind=kind) for name in (NAME, OTHER) for kind in ("ecdsa", "rsa")]


@pytest.fixture
def proxy(start: Start, rundir: Path, pairs: list[KeyPair]) -> Callable[..., Daemon]:
    """A function that starts a proxy with these certificates."""
    def make(tls: str = "implicit", *, backend: Endpoint = NOWHERE, name: str = "", **more: object) -> Daemon:
        vserv = {"tls": tls, "certificate": ", ".join(pair.certificate for pair in pairs),
                 "key": ", ".join(pair.key for pair in pairs), **more}
        return start_proxy(start, rundir, store(backend), vserv=vserv, name=name)
    return make


@pytest.fixture(scope="module")
def common(pairs: list[KeyPair]) -> Iterator[dict[str, Daemon]]:
    """A proxy with these certificates for each way, for tests that need no log or setting of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="popular-")))

        def start_one(program: str, settings: Settings, **more: Any) -> Daemon:
            return stack.enter_context(Daemon.start(program, settings, folder, **more))

        vserv = {"certificate": ", ".join(pair.certificate for pair in pairs),
                 "key": ", ".join(pair.key for pair in pairs)}
        daemons = {tls: start_proxy(start_one, folder, store(NOWHERE), vserv={"tls": tls, **vserv}, name=tls)
                   for tls in ("implicit", "starttls")}
        yield daemons
        assert [daemon.bugs() for daemon in daemons.values()] == [[], []]


def is_served(told: Told) -> bool:
    """Tell whether there was a session under TLS, up to its goodbye."""
    return told.code == 0 and "+OK bye" in told.text


@WAYS
@pytest.mark.parametrize("option, version", [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_versions_that_are_spoken(common, tls: str, way: tuple[str, ...], option: str, version: str) -> None:
    told = s_client(common[tls].endpoint(), *way, option)
    assert is_served(told), told.text
    assert told.agreed[0] == version


@WAYS
@pytest.mark.parametrize("option, tlsmin", [("-tls1", "1.2"), ("-tls1_1", "1.2"), ("-tls1_2", "1.3")])
def test_versions_that_are_not(proxy, tls: str, way: tuple[str, ...], option: str, tlsmin: str) -> None:
    more = {} if tlsmin == "1.2" else {"tlsmin": tlsmin}    # 1.2 when not set
    daemon = proxy(tls, **more)
    told = s_client(daemon.endpoint(), *way, option, "-cipher", "DEFAULT@SECLEVEL=0")    # else 1.1 is not offered
    assert told.code == 1 and "alert protocol version" in told.text, told.text
    assert "why='unsupported protocol'" in daemon.wait_log("tls_failed")[0]
    assert is_served(s_client(daemon.endpoint(), *way, "-tls1_3"))


def test_ciphers_are_those_that_are_set(proxy) -> None:
    endpoint = proxy(tlsciphers=AES128).endpoint()
    for offered in (AES128, f"{AES256}:{AES128}"):
        told = s_client(endpoint, "-tls1_2", "-cipher", offered)
        assert is_served(told) and told.agreed == ("TLSv1.2", AES128)
    told = s_client(endpoint, "-tls1_2", "-cipher", AES256)
    assert told.code == 1 and "alert handshake failure" in told.text and told.agreed == ("(NONE)", "(NONE)")
    assert is_served(s_client(endpoint, "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"))    # those of 1.3 stay


@pytest.mark.parametrize("offered", ["ALL:COMPLEMENTOFALL:!kRSA:!AESGCM:!CHACHA20@SECLEVEL=0", "aNULL@SECLEVEL=0",
                                     "kRSA@SECLEVEL=0"], ids=["CBC and CCM", "anonymous", "no forward secrecy"])
def test_weak_ciphers_are_refused_unless_they_are_wanted(proxy, offered: str) -> None:
    options = ("-tls1_2", "-cipher", offered)
    told = s_client(proxy().endpoint(), *options)
    assert told.code == 1 and "alert handshake failure" in told.text, told.text
    assert is_served(s_client(proxy(name="weak", tlsciphers="ALL:COMPLEMENTOFALL@SECLEVEL=0").endpoint(), *options))


def test_the_server_chooses_the_cipher(common) -> None:
    endpoint = common["implicit"].endpoint()
    chosen = {s_client(endpoint, "-tls1_2", "-cipher", offered).agreed
              for offered in (f"{AES128}:{AES256}", f"{AES256}:{AES128}")}
    assert len(chosen) == 1 and ("(NONE)", "(NONE)") not in chosen


@pytest.mark.parametrize("suite", TLS13_NAMES)
def test_each_cipher_of_1_3(common, suite: str) -> None:
    told = s_client(common["implicit"].endpoint(), "-tls1_3", "-ciphersuites", suite)
    assert is_served(told) and told.agreed == ("TLSv1.3", suite)


OFFERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("ECDSA", ("-tls1_2", "-cipher", AES128)), ("ECDSA", ("-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256")),
    ("ECDSA", ("-tls1_2",)), ("ECDSA", ("-tls1_3",)),
    ("RSA-PSS", ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")),
    ("RSA-PSS", ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:ecdsa_secp384r1_sha384")),
)


@WAYS
@pytest.mark.parametrize("asked, shown", [
    (("-servername", NAME), NAME), (("-servername", OTHER), OTHER), (("-servername", "unknown.example"), NAME),
    (("-noservername",), NAME)], ids=["first", "second", "unknown", "none"])
def test_certificates_by_name_and_kind(common, authority: Authority, tls: str, way: tuple[str, ...],
                                       asked: tuple[str, ...], shown: str) -> None:
    """The name picks the certificate, the client's offer its kind; who takes both gets ECDSA."""
    endpoint = common[tls].endpoint()
    for kind, offer in OFFERS:
        told = s_client(endpoint, *way, *asked, *offer, "-CAfile", authority.cafile, "-verify_return_error")
        assert is_served(told), told.text
        assert (told.subject, told.signature) == (shown, kind), offer


@WAYS
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name", [NAME, OTHER])
def test_sessions_are_resumed_by_other_children(common, tmp_path: Path, tls: str, way: tuple[str, ...], version: str,
                                                name: str) -> None:
    """Also after HUP, when no certificate was changed, and for the name that SNI changes to."""
    daemon = common[tls]    # a child serves one session
    ticket, endpoint = tmp_path / "session", daemon.endpoint()
    before = len(daemon.log_lines("tls_started"))
    options = (*way, version, "-servername", name)
    told = s_client(endpoint, *options, "-sess_out", str(ticket))
    assert is_served(told) and not told.is_resumed and told.subject == name
    for number in range(3):
        if number == 1:
            tell(daemon, "reopen")
        told = s_client(endpoint, *options, "-sess_in", str(ticket))
        assert is_served(told) and told.is_resumed, told.text
    lines = daemon.wait_log("tls_started", count=before + 4)[before:]
    assert [line.rpartition(" ")[2] for line in lines] == ["resumed=0", "resumed=1", "resumed=1", "resumed=1"]
    assert len({line.split()[4] for line in lines}) == 4    # process ids


def test_no_session_of_another_daemon_is_resumed(proxy, start: Start, rundir: Path, tmp_path: Path,
                                                 pairs: list[KeyPair]) -> None:
    ticket = tmp_path / "session"
    assert is_served(s_client(proxy().endpoint(), "-servername", NAME, "-sess_out", str(ticket)))
    other = start_proxy(start, rundir, store(NOWHERE), name="other", vserv={
        "tls": "implicit", "certificate": pairs[0].certificate, "key": pairs[0].key})
    told = s_client(other.endpoint(), "-servername", NAME, "-sess_in", str(ticket))
    assert is_served(told) and not told.is_resumed


@WAYS
def test_renegotiation_is_refused(proxy, tls: str, way: tuple[str, ...]) -> None:
    daemon = proxy(tls)
    with talking(daemon.endpoint(), *way, "-tls1_2") as client:
        client.await_text(GREETING)
        client.say("NOOP")
        client.await_text("+OK")
        client.say("R")
        client.await_text("RENEGOTIATING")
        told = client.end()
    assert told.code == 1 and "no renegotiation" in told.text and "verify return" not in told.text
    assert "no login: reset" in daemon.wait_log("session_end")[0]
    assert len(daemon.log_lines("tls_started")) == 1
    assert is_served(s_client(daemon.endpoint(), *way, "-tls1_2"))


@WAYS
@pytest.mark.parametrize("command", ["k", "K"])
def test_keys_are_changed_when_a_client_wants_it(common, tls: str, way: tuple[str, ...], command: str) -> None:
    """An update of keys (RFC 8446 section 4.6.3), its own or of both sides, does not disturb the session."""
    with talking(common[tls].endpoint(), *way, "-tls1_3") as client:
        client.await_text(GREETING)
        for _ in range(3):
            client.say(command)
            client.await_text("KEYUPDATE")
            client.say("NOOP")
            client.await_text("+OK")
        client.say("quit")    # QUIT would be s_client's own Q
        client.await_text("+OK bye")
        assert client.end().code == 0


@WAYS
def test_what_else_is_agreed_on(common, tls: str, way: tuple[str, ...]) -> None:
    endpoint = common[tls].endpoint()
    old = s_client(endpoint, *way, "-tls1_2", "-alpn", "pop3,h2", "-comp").text
    for line in ("Secure Renegotiation IS supported", "Compression: NONE", "Extended master secret: yes",
                 "No ALPN negotiated"):
        assert line in old, line
    new = s_client(endpoint, *way, "-tls1_3", "-comp", "-early_data", "/dev/null").text
    assert "Compression: NONE" in new and "Max Early Data: 0" in new


@WAYS
def test_a_whole_session(proxy, start: Start, make_mailbox: Callable[..., Path], spool: Path, authority: Authority,
                         tls: str, way: tuple[str, ...]) -> None:
    text = b"Subject: hello\r\n\r\n" + b"some words in a line\r\n" * 1_000
    make_mailbox("x/xenia", new=[text])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    daemon = proxy(tls, backend=pserv.endpoint(), plaintextauth="off")
    told = s_client(daemon.endpoint(), *way, "-quiet", "-CAfile", authority.cafile, "-verify_return_error",
                    text=f"USER {XENIA}\nPASS {PASSWORD}\nSTAT\nRETR 1\nDELE 1\nQUIT\n")
    assert told.code == 0 and text.decode() in told.text, told.text
    assert f"+OK 1 {len(text)}\r\n" in told.text
    wait_for(lambda: not list(spool.glob("x/xenia/*/*")), what="the end of the message")
