"""Logins at pop3 backends by SASL, APOP and a master account, as scripted backends see them."""

import base64
import socket
from collections.abc import Sequence

import pytest

from popular.errors import BackendError
from popular.net.wire import Wire
from popular.pop3.response import Response
from popular.pproxy.backends.backendlogin import Account, BackendLogin
from popular.pproxy.backends.link import BackendRefused, Unanswered
from tests.harness.fake_backend import Close, Expect, FakeBackend, Say, Step

MASTER = Account("admin", b"master secret")
GREETING = Response(True, "", "POP3 server ready <1896.697170952@dbc.mtview.ca.us>")
OK = Say(b"+OK Logged in.\r\n")
TOKEN = b"t" * 1200


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


def line(*words: bytes) -> Expect:
    return Expect(b" ".join(words) + b"\r\n")


def wire_to(fake: FakeBackend) -> Wire:
    sock = socket.create_connection((fake.endpoint.host, fake.endpoint.port))
    sock.setblocking(False)
    return Wire(sock, idle=10.0, maxline=510)


def log_in(login: BackendLogin, script: Sequence[Step], secret: bytes = b"tanstaaf", user: str = "mrose") -> bytes:
    with FakeBackend(script) as fake:
        wire = wire_to(fake)
        try:
            return login.log_in(wire, GREETING, user, secret)
        finally:
            wire.close()
            fake.result()


@pytest.mark.parametrize(("login", "script"), [
    pytest.param(BackendLogin("apop"), [line(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"), OK],
                 id="APOP, the example of RFC 1939"),
    pytest.param(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")), OK], id="PLAIN"),
    pytest.param(BackendLogin("plain", MASTER),
                 [line(b"AUTH PLAIN", b64(b"mrose\0admin\0master secret")), OK], id="PLAIN by a master"),
    pytest.param(BackendLogin("user", MASTER),
                 [line(b"USER mrose*admin"), Say(b"+OK\r\n"), line(b"PASS master secret"), OK],
                 id="USER by a master, as Dovecot has it"),
    pytest.param(BackendLogin("external"), [line(b"AUTH EXTERNAL", b64(b"mrose")), OK], id="EXTERNAL"),
    pytest.param(BackendLogin("xoauth2"),
                 [line(b"AUTH XOAUTH2", b64(b"user=mrose\1auth=Bearer tanstaaf\1\1")), OK], id="XOAUTH2"),
])
def test_accepted(login: BackendLogin, script: list[Step]) -> None:
    assert log_in(login, script) == b"+OK Logged in."


def test_what_is_too_long_for_the_command_waits_for_a_challenge() -> None:
    message = b64(b"n,a=mrose,\1auth=Bearer " + TOKEN + b"\1\1")
    assert log_in(BackendLogin("oauthbearer"),
                  [line(b"AUTH OAUTHBEARER"), Say(b"+ \r\n"), line(message), OK], TOKEN) == b"+OK Logged in."


@pytest.mark.parametrize("challenge", [b"+ ", b"+"])
def test_the_reason_of_a_refused_token_is_acknowledged(challenge: bytes) -> None:
    with pytest.raises(BackendRefused) as refused:
        log_in(BackendLogin("oauthbearer"), [
            line(b"AUTH OAUTHBEARER", b64(b"n,a=mrose,\1auth=Bearer tanstaaf\1\1")),
            Say(challenge + (b64(b'{"status":"401"}') if challenge.endswith(b" ") else b"") + b"\r\n"),
            line(b64(b"\1")), Say(b"-ERR [AUTH] no\r\n")])
    assert refused.value.answer == Response(False, "AUTH", "no")


def test_scram_is_the_strongest_that_is_offered() -> None:
    caps = Say(b"+OK\r\nTOP\r\nSASL PLAIN SCRAM-SHA-1 SCRAM-SHA-256\r\n.\r\n")
    with pytest.raises(Unanswered, match="AUTH SCRAM-SHA-256"):
        log_in(BackendLogin.loaded("scram", Account()), [line(b"CAPA"), caps, Close()])


@pytest.mark.parametrize(("login", "script", "kind"), [
    pytest.param(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")),
                                         Say(b"-ERR [AUTH] wrong\r\n")], BackendRefused, id="refused"),
    pytest.param(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")), Close()], Unanswered,
                 id="closed"),
    pytest.param(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")), Say(b"+ more\r\n")],
                 Unanswered, id="asks for more"),
    pytest.param(BackendLogin("xoauth2"), [line(b"AUTH XOAUTH2", b64(b"user=mrose\1auth=Bearer tanstaaf\1\1")),
                                           *[Say(b"+ \r\n"), line(b"")] * 4], Unanswered, id="asks without end"),
    pytest.param(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")), Say(b"+ !\r\n")], Unanswered,
                 id="no base64"),
    pytest.param(BackendLogin("apop"), [line(b"APOP mrose c4c9334bac560ecc979e58001b3e22fb"), Close()], Unanswered,
                 id="APOP, closed"),
    pytest.param(BackendLogin.loaded("scram", Account()), [line(b"CAPA"), Say(b"+OK\r\nSASL PLAIN\r\n.\r\n")],
                 BackendError, id="no SCRAM"),
    pytest.param(BackendLogin.loaded("scram", Account()), [line(b"CAPA"), Say(b"+OK\r\n" + b"X\r\n" * 101)],
                 BackendError, id="endless CAPA"),
])
def test_not_accepted(login: BackendLogin, script: list[Step], kind: type[BackendError]) -> None:
    with pytest.raises(BackendError) as failed:
        log_in(login, script)
    assert type(failed.value) is kind


def test_a_backend_without_timestamp_has_no_apop() -> None:
    with FakeBackend([Close()]) as fake:
        wire = wire_to(fake)
        with pytest.raises(BackendError, match="no timestamp"):
            BackendLogin("apop").log_in(wire, Response(True, "", "ready"), "joe", b"x")
        wire.close()


@pytest.mark.parametrize("echo", [b"tanstaaf", b64(b"\0mrose\0tanstaaf")])
def test_a_repeated_secret_is_withheld(echo: bytes) -> None:
    with pytest.raises(BackendRefused) as refused:
        log_in(BackendLogin("plain"), [line(b"AUTH PLAIN", b64(b"\0mrose\0tanstaaf")), Say(b"-ERR " + echo + b"\r\n")])
    assert "withheld" in str(refused.value)
