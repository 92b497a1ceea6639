"""OAUTHBEARER, XOAUTH2 and EXTERNAL: the examples of their documents, and what is refused."""

import pytest

from popular.errors import CommandRefused
from popular.sasl.external import ExternalMechanism
from popular.sasl.mechanism import Credentials
from popular.sasl.oauth import OAuthBearerMechanism, XOAuth2Mechanism
from tests.harness.memory import NoMeans

TOKEN = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


@pytest.mark.parametrize(("message", "user"), [
    pytest.param(b"n,a=user@example.com,\1host=server.example.com\1port=143\1auth=Bearer " + TOKEN + b"\1\1",
                 "user@example.com", id="RFC 7628 section 4"),
    pytest.param(b"n,,\1auth=bearer " + TOKEN + b"\1port=110\1\1", "", id="no name"),
    pytest.param(b"y,a=a=2Cb=3D,\1auth=BEARER  " + TOKEN + b"\1\1", "a,b=", id="escaped"),
])
def test_rfc_7628_oauthbearer(message: bytes, user: str) -> None:
    mechanism = OAuthBearerMechanism("OAUTHBEARER", NoMeans())
    assert mechanism.step(message) == Credentials(user, TOKEN, "OAUTHBEARER")
    assert mechanism.refused() == b'{"status":"invalid_token"}'


@pytest.mark.parametrize("message", [
    b"", b"\1", b"n,a=user,\1\1", b"n,,\1auth=\1\1", b"n,,\1auth=Bearer \1\1", b"n,,\1auth=Basic " + TOKEN + b"\1\1",
    b"n,,\1auth=Bearer " + TOKEN + b"\1", b"p=tls-unique,,\1auth=Bearer " + TOKEN + b"\1\1",
    b"n,a=j=oe,\1auth=Bearer " + TOKEN + b"\1\1", b"n,a=j\noe,\1auth=Bearer " + TOKEN + b"\1\1",
    b"n,,\1auth=Bearer a\0b\1\1"])
def test_oauthbearer_refused(message: bytes) -> None:
    with pytest.raises(CommandRefused):
        OAuthBearerMechanism("OAUTHBEARER", NoMeans()).step(message)


def test_xoauth2_as_google_has_it() -> None:
    token = b"ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    mechanism = XOAuth2Mechanism("XOAUTH2", NoMeans())
    message = b"user=someuser@example.com\1auth=Bearer " + token + b"\1\1"
    assert mechanism.step(message) == Credentials("someuser@example.com", token, "XOAUTH2")
    for wrong in (b"", message[:-1], message.replace(b"Bearer", b"Basic"), message.replace(b"someuser", b"some\nuser")):
        with pytest.raises(CommandRefused):
            mechanism.step(wrong)


@pytest.mark.parametrize(("response", "credentials"), [
    (b"", Credentials("joe", b"", "EXTERNAL")), (b"joe", Credentials("joe", b"", "EXTERNAL")),
    (b"ann", Credentials("ann", b"", "EXTERNAL", "joe"))])
def test_external(response: bytes, credentials: Credentials) -> None:
    """The certificate is that of joe."""
    assert ExternalMechanism("EXTERNAL", NoMeans()).step(response) == credentials
