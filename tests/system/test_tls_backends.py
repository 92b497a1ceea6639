"""TLS toward backends: pserv with certificates on both sides, a Dovecot that demands it, and some that fail."""

import poplib
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority, context_of
from tests.harness.control import refused, tell
from tests.harness.daemon import Daemon, StartFailed
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.fake_backend import Expect, FakeBackend, Say
from tests.harness.needs import lacking
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, PAUL, XENIA, start_proxy, store

NAME = "mail.example.org"
NOWHERE = Endpoint("127.0.0.1", 1)

Start = Callable[..., Daemon]


def test_tls_from_end_to_end(start: Start, rundir: Path, make_mailbox: Callable[..., Path], spool: Path,
                             authority: Authority) -> None:
    """A client under TLS, the proxy, and pserv, which lets in proxies with a certificate only."""
    text = b"Subject: much\r\n\r\n" + (b"y" * 70 + b"\r\n") * 20_000
    make_mailbox("x/xenia", new=[text])
    front, back, own = authority.sign(NAME), authority.sign("store.example.org"), authority.sign("proxy.example.org")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {
        "address": "127.0.0.1:0", "tls": "implicit", "certificate": back.certificate, "key": back.key,
        "clientca": authority.cafile}}})
    secured = {"tls": "implicit", "cafile": authority.cafile, "tlsname": "store.example.org"}
    with_own = {**secured, "certificate": own.certificate, "key": own.key}
    daemon = start_proxy(start, rundir, store(pserv.endpoint(), None, **with_own), vserv={
        "tls": "implicit", "certificate": front.certificate, "key": front.key})
    endpoint = daemon.endpoint()
    client = poplib.POP3_SSL(endpoint.host, endpoint.port, timeout=10, context=context_of(authority))
    client.user(XENIA)
    client.pass_(PASSWORD)
    _, lines, _ = client.retr(1)
    assert b"\r\n".join(lines) + b"\r\n" == text
    client.quit()
    assert "tls_started" in pserv.wait_log("tls_started")[0]


@pytest.mark.parametrize("tlsname", ["store.example.org", "other.example.org"])
def test_each_certificate_of_a_server_lets_in_the_same_proxies(
        start: Start, rundir: Path, make_mailbox: Callable[..., Path], spool: Path, authority: Authority,
        pop: Callable[..., PopClient], tlsname: str) -> None:
    make_mailbox("x/xenia", new=[b"Subject: x\r\n\r\n"])
    pairs = [authority.sign("store.example.org"), authority.sign("other.example.org")]
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {
        "address": "127.0.0.1:0", "tls": "implicit", "certificate": ", ".join(pair.certificate for pair in pairs),
        "key": ", ".join(pair.key for pair in pairs), "clientca": authority.cafile}}})
    own = authority.sign("proxy.example.org")
    secured = {"tls": "implicit", "cafile": authority.cafile, "tlsname": tlsname, "softfail": "off"}
    for number, (more, answer) in enumerate([({"certificate": own.certificate, "key": own.key}, b"+OK"),
                                             ({}, b"-ERR [SYS/TEMP]")]):
        daemon = start_proxy(start, rundir, store(pserv.endpoint(), None, **secured, **more), name=f"p{number}")
        client = pop(daemon.endpoint())
        client.greeting()
        client.ok(f"USER {XENIA}")
        assert client.command(f"PASS {PASSWORD}").startswith(answer)


def test_other_authorities_of_a_server_count_at_once(
        start: Start, rundir: Path, make_mailbox: Callable[..., Path], spool: Path, authority: Authority,
        pop: Callable[..., PopClient]) -> None:
    """They were ignored until the certificate itself was another one."""
    make_mailbox("x/xenia", new=[b"Subject: x\r\n\r\n"])
    back, own = authority.sign("store.example.org"), authority.sign("proxy.example.org")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {
        "address": "127.0.0.1:0", "tls": "implicit", "certificate": back.certificate, "key": back.key}}})
    secured = {"tls": "implicit", "cafile": authority.cafile, "tlsname": "store.example.org", "softfail": "off"}
    daemons = [start_proxy(start, rundir, store(pserv.endpoint(), None, **secured, **more), name=f"p{number}")
               for number, more in enumerate([{"certificate": own.certificate, "key": own.key}, {}])]

    def answers() -> list[bytes]:
        return [pop(daemon.endpoint()).login(XENIA, PASSWORD)[:4] for daemon in daemons]

    assert answers() == [b"+OK ", b"+OK "]
    tell(pserv, f"server set main clientca={authority.cafile}")
    assert answers() == [b"+OK ", b"-ERR"]
    assert "No such file" in refused(pserv, "server set main clientca=/no/such.pem").text


@pytest.mark.parametrize("backend, why", [
    ({"tls": "implicit"}, "certificate verify failed: (unable|self-signed)"),
    ({"tls": "implicit", "cafile": "CA", "tlsname": "other.example"}, "Hostname mismatch"),
    ({"tls": "implicit", "cafile": "CA", "tlsname": "store.example.org"}, "certificate required|reset|closed"),
    ({"tls": "implicit", "verify": "off"}, "certificate required|reset|closed"),
    ({}, "reset|closed"),
])
def test_a_backend_that_cannot_be_trusted_or_does_not_trust_us(
        start: Start, rundir: Path, spool: Path, authority: Authority, pop: Callable[..., PopClient],
        backend: dict[str, str], why: str) -> None:
    back = authority.sign("store.example.org")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {
        "address": "127.0.0.1:0", "tls": "implicit", "certificate": back.certificate, "key": back.key,
        "clientca": authority.cafile}}})
    filled = {key: text.replace("CA", authority.cafile) for key, text in backend.items()}
    daemon = start_proxy(start, rundir, store(pserv.endpoint(), None, softfail="off", logintimeout="2s", **filled))
    client = pop(daemon.endpoint())
    client.greeting()
    client.ok(f"USER {XENIA}")
    assert b"[SYS/TEMP]" in client.command(f"PASS {PASSWORD}")
    assert re.search(why, daemon.wait_log("backend_failed")[0])


@pytest.mark.parametrize("answer, why", [
    (b"-ERR unknown\r\n", "its answer to STLS is -ERR"),
    (b"+OK\r\n+OK injected\r\n", "more after its answer to STLS"),
    (b"+OK\r\n", "TLS: "),
])
def test_stls_toward_a_backend_that_does_not_do_it(start: Start, rundir: Path, pop: Callable[..., PopClient],
                                                   answer: bytes, why: str) -> None:
    with FakeBackend([Say(b"+OK ready\r\n"), Expect(b"STLS\r\n"), Say(answer)]) as backend:
        daemon = start_proxy(start, rundir, store(backend, softfail="off", logintimeout="1s", tls="starttls",
                                                  protocol="pop3", verify="off"))
        client = pop(daemon.endpoint())
        client.greeting()
        client.ok(f"USER {PAUL}")
        assert b"[SYS/TEMP]" in client.command(f"PASS {PASSWORD}")
        assert why in daemon.wait_log("backend_failed")[0]


def test_a_dovecot_that_demands_tls(start: Start, rundir: Path, authority: Authority,
                                    pop: Callable[..., PopClient]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        try:
            dovecot = Dovecot.start(folder / "d", {"paul@store": "s3 cret"}, authority.sign(NAME))
        except NoDovecot as why:
            lacking(f"a Dovecot to use ({why})")
        with dovecot:
            other = {"protocol": "pop3", "source": "127.0.0.2"}    # what comes from its own address counts as safe
            plain = start_proxy(start, rundir, store(dovecot.endpoint, None, **other), name="plain")
            client = pop(plain.endpoint())
            client.greeting()
            client.ok(f"USER {PAUL}")
            assert client.command(f"PASS {PASSWORD}").startswith(b"-ERR")
            secured = {**other, "tls": "starttls", "cafile": authority.cafile, "tlsname": NAME}
            daemon = start_proxy(start, rundir, store(dovecot.endpoint, None, **secured))
            client = pop(daemon.endpoint())
            client.greeting()
            client.ok(f"USER {PAUL}")
            client.ok(f"PASS {PASSWORD}")
            assert client.ok("STAT") == b"0 0"
            client.ok("QUIT")
    finally:
        shutil.rmtree(folder)


def test_a_record_does_not_lead_around_tls(start: Start, rundir: Path, pop: Callable[..., PopClient]) -> None:
    """Its protocol counts, not the backend's, and nothing must be said in clear where TLS is wanted."""
    with FakeBackend([]) as backend:
        daemon = start_proxy(start, rundir, store(backend, softfail="off", tls="starttls", protocol="pop3"))
        client = pop(daemon.endpoint())
        client.greeting()
        client.ok(f"USER {XENIA}")
        assert b"[SYS/TEMP]" in client.command(f"PASS {PASSWORD}")
        assert "protocol xpop has no STLS" in daemon.wait_log("backend_failed")[0]
        assert backend.result() == b""


def test_xpop_has_no_stls(start: Start, rundir: Path) -> None:
    with pytest.raises(StartFailed) as caught:
        start_proxy(start, rundir, store(NOWHERE, tls="starttls"))
    assert "needs protocol = pop3, since no other has STLS" in caught.value.stderr
