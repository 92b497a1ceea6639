"""PLAIN and LOGIN: the examples of RFC 4616, and what is refused."""

import pytest

from popular.errors import CommandRefused
from popular.sasl.mechanism import Credentials
from popular.sasl.plain import LoginMechanism, PlainMechanism
from tests.harness.memory import NoMeans


@pytest.mark.parametrize(("message", "credentials"), [
    pytest.param(b"\0tim\0tanstaaftanstaaf", Credentials("tim", b"tanstaaftanstaaf"), id="RFC 4616, first"),
    pytest.param(b"Ursel\0Kurt\0xipj3plmq", Credentials("Ursel", b"xipj3plmq", master="Kurt"), id="RFC 4616, second"),
    pytest.param(b"joe\0joe\0x", Credentials("joe", b"x"), id="both names the same"),
    pytest.param(b"\0j\xc3\xb6rg\0p\xe4 ss ", Credentials("j\u00f6rg", b"p\xe4 ss "), id="octets"),
    pytest.param(b"\0" + b"u" * 250 + b"\0" + b"p" * 250, Credentials("u" * 250, b"p" * 250), id="as long as may be"),
])
def test_rfc_4616_plain(message: bytes, credentials: Credentials) -> None:
    assert PlainMechanism("PLAIN", NoMeans()).step(message) == credentials


@pytest.mark.parametrize(("message", "why"), [
    pytest.param(b"", "two NUL", id="empty"),
    pytest.param(b"\0joe", "two NUL", id="one NUL"),
    pytest.param(b"\0joe\0x\0", "two NUL", id="three"),
    pytest.param(b"\0\0x", "no user name", id="no name"),
    pytest.param(b"\0joe\0", "no password", id="no password"),
    pytest.param(b"a\nb\0joe\0x", "control character", id="LF in the other name"),
    pytest.param(b"\0joe\0x\r\nDELE 1", "line end or NUL in password", id="a command in the password"),
    pytest.param(b"\0" + b"u" * 251 + b"\0x", "user name too long", id="name too long"),
    pytest.param(b"\0joe\0" + b"p" * 251, "password too long", id="password too long"),
])
def test_plain_refused(message: bytes, why: str) -> None:
    with pytest.raises(CommandRefused, match=why):
        PlainMechanism("PLAIN", NoMeans()).step(message)


def test_login() -> None:
    mechanism = LoginMechanism("LOGIN", NoMeans())
    assert mechanism.challenge == b"Username:"
    assert mechanism.step(b"joe") == b"Password:"
    assert mechanism.step(b"secret") == Credentials("joe", b"secret")


@pytest.mark.parametrize("responses", [[b""], [b"a\0b"], [b"joe", b""], [b"joe", b"a\0b"]])
def test_login_refused(responses: list[bytes]) -> None:
    mechanism = LoginMechanism("LOGIN", NoMeans())
    with pytest.raises(CommandRefused):
        for response in responses:
            mechanism.step(response)
