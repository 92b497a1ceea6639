"""TLS toward clients: STLS and implicit, with real clients, and with peers that do not keep to it."""

import os
import poplib
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness import clients
from tests.harness.certificates import Authority, context_of
from tests.harness.control import refused, tell
from tests.harness.daemon import ROOT, Daemon, StartFailed
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, start_proxy, store
from tests.harness.system import wait_for

NAME = "mail.example.org"
NOWHERE = Endpoint("127.0.0.1", 1)    # out of reach: everybody sees an empty mailbox

Start = Callable[..., Daemon]


@pytest.fixture
def proxy(start: Start, rundir: Path, authority: Authority) -> Callable[..., Daemon]:
    """A function that starts a proxy whose one virtual server has TLS."""
    def make(tls: str, **more: object) -> Daemon:
        pair = authority.sign(NAME)
        vserv = {"tls": tls, "certificate": pair.certificate, "key": pair.key, **more}
        return start_proxy(start, rundir, store(NOWHERE), vserv=vserv)
    return make


def test_poplib_with_implicit_tls(proxy, authority: Authority) -> None:
    daemon = proxy("implicit")
    endpoint = daemon.endpoint()
    client = poplib.POP3_SSL(endpoint.host, endpoint.port, timeout=10, context=context_of(authority))
    assert "STLS" not in client.capa() and "USER" in client.capa()
    client.user(XENIA)
    client.pass_(PASSWORD)
    assert client.stat() == (0, 0)
    client.quit()
    assert "version='TLSv1.3'" in daemon.wait_log("tls_started")[0]


def test_poplib_with_stls(proxy, authority: Authority) -> None:
    daemon = proxy("starttls", plaintextauth="off")
    endpoint = daemon.endpoint()
    client = poplib.POP3(endpoint.host, endpoint.port, timeout=10)
    assert "STLS" in client.capa() and "USER" not in client.capa()
    with pytest.raises(poplib.error_proto, match="without TLS"):
        client.user(XENIA)
    client.stls(context_of(authority))
    assert "STLS" not in client.capa() and "USER" in client.capa()
    client.user(XENIA)
    client.pass_(PASSWORD)
    assert client.stat() == (0, 0)
    client.quit()


@pytest.mark.parametrize("value, is_let_in", [("on", True), ("local", True), ("off", False)])
def test_passwords_in_clear(proxy, pop: Callable[..., PopClient], value: str, is_let_in: bool) -> None:
    client = pop(proxy("starttls", plaintextauth=value).endpoint())
    client.greeting()
    assert client.command(f"USER {XENIA}").startswith(b"+OK") is is_let_in


def test_what_stands_behind_stls_is_never_obeyed(proxy, authority: Authority) -> None:
    """Injected commands must not be taken for the client's (CVE-2011-0411 and its kin)."""
    endpoint = proxy("starttls").endpoint()
    with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
        sock.recv(512)
        sock.sendall(b"STLS\r\nUSER mallory\r\n")
        assert sock.recv(512) == b"+OK begin TLS now\r\n"
        with context_of(authority).wrap_socket(sock, server_hostname=NAME) as tls:
            tls.sendall(b"PASS x\r\n")
            assert tls.recv(512) == b"-ERR USER first\r\n"


@pytest.mark.parametrize("octets", [b"USER joe\r\n", b"\x16\x03\x01", b"\x80" * 4096, b"\x00" * 10, b""])
def test_no_tls_on_the_port_for_it(proxy, octets: bytes) -> None:
    daemon = proxy("implicit")
    endpoint = daemon.endpoint()
    with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
        sock.sendall(octets)
        sock.shutdown(socket.SHUT_WR)
        rest = b"".join(iter(lambda: sock.recv(512), b""))
    assert b"+OK" not in rest and b"-ERR" not in rest
    assert "why=" in daemon.wait_log("tls_failed")[0]


def test_tls_on_the_plain_port(proxy) -> None:
    endpoint = proxy("starttls").endpoint()
    with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
        sock.recv(512)
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500)
        assert sock.recv(512) == b""    # a NUL: dropped without a word (spec 1.5)


def test_a_client_that_does_not_shake_hands_has_no_longer_than_for_a_login(
        start: Start, rundir: Path, authority: Authority) -> None:
    pair = authority.sign(NAME)
    daemon = start_proxy(start, rundir, store(NOWHERE), authtimeout="300ms", vserv={
        "tls": "implicit", "certificate": pair.certificate, "key": pair.key})
    endpoint = daemon.endpoint()
    with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
        assert sock.recv(512) == b""
    assert "why='timeout'" in daemon.wait_log("tls_failed")[0]


def test_mail_through_the_relay(start: Start, rundir: Path, spool: Path, make_mailbox: Callable[..., Path],
                                authority: Authority) -> None:
    text = b"Subject: much\r\n\r\n" + (b"y" * 70 + b"\r\n") * 40_000
    make_mailbox("x/xenia", new=[text, text])
    pair = authority.sign(NAME)
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    endpoint = start_proxy(start, rundir, store(pserv.endpoint()), vserv={
        "tls": "implicit", "certificate": pair.certificate, "key": pair.key}).endpoint()
    client = poplib.POP3_SSL(endpoint.host, endpoint.port, timeout=10, context=context_of(authority))
    client.user(XENIA)
    client.pass_(PASSWORD)
    assert client.stat() == (2, 2 * len(text))
    for number in (1, 2):
        _, lines, _ = client.retr(number)
        assert b"\r\n".join(lines) + b"\r\n" == text
    client.quit()


@pytest.mark.parametrize("name, tls", [
    ("getmail", "implicit"),    # it has no STLS
    *((name, tls) for name in ("poplib", "curl", "mpop", "fetchmail") for tls in ("implicit", "starttls"))])
def test_real_clients_fetch_under_tls(start: Start, make_mailbox: Callable[..., Path], spool: Path, open_folder: Path,
                                      name: str, tls: str) -> None:
    """All verify the certificate, which is for localhost."""
    authority = Authority.make(open_folder)
    pair = authority.sign("localhost")
    head = b"Return-Path: <a@example.org>\r\nFrom: a@example.org\r\nSubject: hello\r\n\r\n"
    text = head + b"some words in a line\r\n" * 2_000
    make_mailbox("x/xenia", new=[text, text])
    (open_folder / "users").write_text(f"joe:{{PLAIN}}{clients.PASSWORD}:store:xpop:x/xenia\n")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    daemon = start("pproxy", {
        "vserv": {"main": {"address": "127.0.0.1:0", "tls": tls, "certificate": pair.certificate, "key": pair.key,
                           "plaintextauth": "off"}},
        "backend": store(pserv.endpoint()), "pdm": {"users": {"module": "passwd", "args": open_folder / "users"}}})
    home = open_folder / "home"
    home.mkdir(mode=0o777)
    home.chmod(0o777)
    account = clients.Account(daemon.endpoint(), "joe", home, tls, authority.cafile, "localhost")
    assert clients.CLIENTS[name].fetch(account, keep=True) == [text, text]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everyone can enter: clients of root work as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.usefixtures("by_exec")
def test_no_tls_no_code_of_it(start: Start, rundir: Path) -> None:
    daemon = start_proxy(start, rundir, store(NOWHERE))
    assert "_ssl" not in Path(f"/proc/{daemon.pid}/maps").read_text()


def test_a_certificate_is_replaced_at_hup(proxy, authority: Authority) -> None:
    daemon = proxy("implicit")
    endpoint = daemon.endpoint()

    def serial() -> str:
        with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
            with context_of(authority).wrap_socket(sock, server_hostname=NAME) as tls:
                return str(tls.getpeercert()["serialNumber"])    # type: ignore[index]

    first = serial()
    authority.sign(NAME)
    tell(daemon, "reopen", "sync")
    second = serial()
    assert second != first
    pem = authority.folder / f"{NAME}-ecdsa.pem"
    good = pem.read_text()
    pem.write_text("damaged")
    reply = refused(daemon, "reopen")
    assert reply.text == "not everything could be done"
    assert reply.lines[0].startswith("main: ") and "the certificate that was read before stays" in reply.lines[0]
    assert "words='reopen' why='main: " in daemon.wait_log("command_failed")[0]
    assert serial() == second
    assert "certificate_kept" in daemon.wait_log("certificate_kept")[0]
    pem.write_text(good)
    tell(daemon, "reopen")


def test_a_reload_reads_certificates_anew_those_of_commands_too(proxy, authority: Authority) -> None:
    daemon = proxy("implicit")
    pairs = {"main": authority.sign(NAME), "added": authority.sign("added.example.org", days=10)}
    tell(daemon, f"vserv add added 127.0.0.1:0 tls=implicit certificate={pairs['added'].certificate} "
         f"key={pairs['added'].key}")
    before = {line.split()[0]: line for line in tell(daemon, "show certificates")[0].lines}
    authority.sign(NAME, days=20)
    authority.sign("added.example.org", days=30)
    reply = tell(daemon, "reload")[0]
    assert (reply.text, reply.lines) == ("reloaded, no setting changed", ())
    after = {line.split()[0]: line for line in tell(daemon, "show certificates")[0].lines}
    assert before["main"] != after["main"] and "days=19" in after["main"]
    assert before["added"] != after["added"] and "days=29" in after["added"]
    Path(pairs["added"].certificate).write_text("damaged")
    [line] = tell(daemon, "reload")[0].lines
    assert line.startswith("warning: added: ") and line.endswith("the certificate that was read before stays in use")


def test_a_key_that_does_not_fit_is_no_change_but_a_refusal(proxy, authority: Authority) -> None:
    daemon = proxy("implicit")
    other = authority.sign("other.example.org")
    [before] = tell(daemon, "show certificates")
    assert "key" in refused(daemon, f"vserv set main key={other.key}").text
    assert tell(daemon, "show certificates") == [before]
    assert tell(daemon, "vserv list")[0].lines[0].count(other.key) == 0


def test_the_log_that_cannot_be_opened_anew_is_a_failure_of_reopen(proxy) -> None:
    daemon = proxy("implicit")
    daemon.logfile.rename(daemon.logfile.with_suffix(".old"))
    daemon.logfile.mkdir()
    try:
        assert str(daemon.logfile) in refused(daemon, "reopen").lines[0]
    finally:
        daemon.logfile.rmdir()
        daemon.logfile.with_suffix(".old").rename(daemon.logfile)
    assert daemon.wait_log("log_not_reopened") and daemon.wait_log("command_failed")


def test_certificates_are_shown_and_their_end_is_told(start: Start, rundir: Path, authority: Authority) -> None:
    pairs = [authority.sign(NAME, "pop.example.org"), authority.sign("*.example.net", kind="rsa", days=20)]
    daemon = start_proxy(start, rundir, store(NOWHERE), vserv={
        "tls": "starttls", "certificate": ", ".join(pair.certificate for pair in pairs),
        "key": ", ".join(pair.key for pair in pairs), "tlsmin": "1.3", "tlsciphers": "ECDHE+AESGCM"})
    [reply] = tell(daemon, "show certificates")
    assert [line.split()[2] for line in reply.lines] == ["days=29", "days=19"]
    assert reply.lines[0].startswith("main file=") and "names='mail.example.org pop.example.org'" in reply.lines[0]
    [line] = daemon.wait_log("certificate_ends")
    assert "days=19" in line and "names='*.example.net'" in line


@pytest.mark.parametrize("vserv, told", [
    ({"tls": "implicit"}, "[vserv] main: tls = implicit needs 'certificate'"),
    ({"tls": "implicit", "certificate": "/no/such.pem"}, "certificate /no/such.pem: No such file"),
    ({"tls": "implicit", "certificate": "PEM", "key": "KEY, KEY"}, "'certificate' names 1 files, 'key' 2: each needs"),
    ({"tls": "implicit", "certificate": "PEM", "key": "KEY", "tlsciphers": "NONE"}, "ciphers NONE"),
    ({"tls": "implicit", "certificate": "mail.pem"}, "/mail.pem: No such file"),
])
def test_mistakes_are_told_before_the_start(start: Start, rundir: Path, authority: Authority,
                                            vserv: dict[str, str], told: str) -> None:
    pair = authority.sign(NAME)
    filled = {key: text.replace("PEM", pair.certificate).replace("KEY", pair.key) for key, text in vserv.items()}
    with pytest.raises(StartFailed) as caught:
        start_proxy(start, rundir, store(NOWHERE), vserv=filled)
    assert caught.value.code == 78
    assert told in caught.value.stderr


def test_what_is_read_beside_certificates_at_hup_may_be_gone(
        start: Start, rundir: Path, tmp_path: Path, authority: Authority) -> None:
    pair = authority.sign(NAME)
    shutil.copytree(ROOT / "pdm_modules", tmp_path / "modules")
    daemon = start_proxy(start, rundir, store(NOWHERE), pdmdir=tmp_path / "modules", vserv={
        "tls": "starttls", "certificate": pair.certificate, "key": pair.key})
    (tmp_path / "modules/pdm_passwd.py").chmod(0o666)    # what is unsafe has no second in the installed folder
    assert "pdm_passwd" in refused(daemon, "reopen").lines[0]
    assert "pdm_passwd" in daemon.wait_log("files_not_read")[0]
    endpoint = daemon.endpoint()
    client = poplib.POP3(endpoint.host, endpoint.port, timeout=10)
    client.user(XENIA)
    client.pass_(PASSWORD)
    client.quit()


def test_certificates_are_replaced_under_load(start: Start, rundir: Path, authority: Authority) -> None:
    """Twenty new certificates, each fifth time a broken file, while clients come and go: no session fails."""
    pairs = [authority.sign(NAME, stem=f"swap{number}") for number in range(2)]
    used = rundir / "used.pem"
    used.write_text(both_of(pairs[0]))
    daemon = start_proxy(start, rundir, store(NOWHERE), minspare=4, maxspare=8, vserv={
        "tls": "implicit", "certificate": used})
    endpoint, context = daemon.endpoint(), context_of(authority)
    done, failures, is_over = [0] * 4, [], threading.Event()

    def come_and_go(number: int) -> None:
        while not is_over.is_set():
            try:
                with socket.create_connection((endpoint.host, endpoint.port), 10) as sock:
                    with context.wrap_socket(sock, server_hostname=NAME) as tls:
                        for line in (b"", b"NOOP\r\n", b"QUIT\r\n"):
                            tls.sendall(line)
                            assert tls.recv(512).startswith(b"+OK")
                done[number] += 1
            except (OSError, AssertionError) as why:
                failures.append(why)
                return

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            fresh = used.with_suffix(".new")
            fresh.write_text("broken\n" if number % 5 == 4 else both_of(pairs[number % 2]))
            os.rename(fresh, used)
            before = sum(done)
            daemon.signal(signal.SIGHUP)
            wait_for(lambda: failures or sum(done) > before + 2, 20.0, "sessions after the change")
    finally:
        is_over.set()
        for thread in threads:
            thread.join(20)
    assert not failures
    assert daemon.wait_log("certificate_kept")


def both_of(pair: KeyPair) -> str:
    """Return certificate and key as one PEM text."""
    return Path(pair.certificate).read_text() + Path(pair.key).read_text()
