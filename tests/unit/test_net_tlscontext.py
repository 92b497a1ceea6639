"""Certificates and contexts: what they say, who gets which, and what cannot be loaded."""

import contextlib
import ssl
import subprocess
from pathlib import Path

import pytest

from popular.errors import StartError
from popular.net.tls.context import KeyPair, read_certificate
from tests.harness.certificates import Authority, server_of

NAME = "mail.example.org"


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign(NAME)


def test_names_choose_certificates(authority: Authority, pair: KeyPair) -> None:
    pairs = [pair, authority.sign("*.example.net"), authority.sign(NAME, kind="rsa")]
    context = server_of(pairs)
    seen = {name: _names_shown(context, authority, name)
            for name in (NAME, "a.example.net", "A.Example.NET", "a.b.example.net", "unknown.example", None)}
    assert seen == {NAME: NAME, "a.example.net": "*.example.net", "A.Example.NET": "*.example.net",
                    "a.b.example.net": NAME, "unknown.example": NAME, None: NAME}


def test_what_a_certificate_says(authority: Authority) -> None:
    found = read_certificate(authority.sign("B.example.org", "*.a.example.org", days=40))
    assert found.names == ("*.a.example.org", "b.example.org")
    assert found.days_left() == 39
    assert read_certificate(authority.sign("old.example.org", days=0)).days_left() < 0


@pytest.mark.parametrize("damage, reason", [
    ("no certificate", "No such file"), ("no key", "No such file"), ("other key", "does not belong to certificate"),
    ("no pem", "text: it contains no certificate in PEM format"),
    ("no key in it", "it contains no private key in PEM format"),
    ("passphrase", "^key .*locked.key: it must not have a passphrase"),
])
def test_what_cannot_be_loaded_says_why(authority: Authority, pair: KeyPair, tmp_path: Path, damage: str,
                                        reason: str) -> None:
    text = tmp_path / "text"
    text.write_text("no certificate\n")
    if damage == "passphrase":
        locked = tmp_path / "locked.key"
        subprocess.run(["openssl", "pkey", "-in", pair.key, "-aes128", "-passout", "pass:secret", "-out", str(locked)],
                       check=True)
    bad = {"no certificate": KeyPair(str(tmp_path / "none"), pair.key),
           "no key": KeyPair(pair.certificate, str(tmp_path / "none")),
           "other key": KeyPair(pair.certificate, authority.sign("x.example.org").key),
           "no key in it": KeyPair(pair.certificate, pair.certificate),
           "no pem": KeyPair(str(text), str(text)),
           "passphrase": KeyPair(pair.certificate, str(tmp_path / "locked.key"))}[damage]
    with pytest.raises(StartError, match=reason) as caught:
        server_of([bad])
    assert bad.certificate in str(caught.value) or bad.key in str(caught.value)


def _names_shown(context: ssl.SSLContext, authority: Authority, name: str | None) -> str:
    """Return the first name of the certificate that a client sees who asks for `name`."""
    client = ssl.create_default_context(cafile=authority.cafile)
    client.check_hostname = False
    ends = (ssl.MemoryBIO(), ssl.MemoryBIO())
    ours = client.wrap_bio(ends[1], ends[0], server_hostname=name)
    theirs = context.wrap_bio(ends[0], ends[1], server_side=True)
    for end in (ours, theirs, ours, theirs, ours):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    shown = ours.getpeercert()
    assert shown
    return str(shown["subjectAltName"][0][1])
