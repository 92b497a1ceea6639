"""SASL from the client's side: the examples of the RFCs, and servers that cannot be trusted."""

import pytest

from popular.sasl.client import ClientMechanism, ExternalClient, PlainClient, ServerFault, TokenClient
from popular.sasl.mechanism import Credentials
from popular.sasl.scramclient import MOST_ITERATIONS, ScramClient

TOKEN = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
USER = Credentials("user", b"pencil")
SHA1 = ("SCRAM-SHA-1", b"fyko+d2lbbFgONRv9qkxdawL")
SHA256 = ("SCRAM-SHA-256", b"rOprNGfwEbeRWgbNEkqO")
SHA1_FIRST = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
SHA256_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


@pytest.mark.parametrize(("mechanism", "message"), [
    pytest.param(PlainClient("PLAIN", Credentials("tim", b"tanstaaftanstaaf")), b"\0tim\0tanstaaftanstaaf",
                 id="RFC 4616, 1"),
    pytest.param(PlainClient("PLAIN", Credentials("Ursel", b"xipj3plmq", master="Kurt")), b"Ursel\0Kurt\0xipj3plmq",
                 id="RFC 4616, 2"),
    pytest.param(ExternalClient("EXTERNAL", Credentials("fred@example.com", b"")), b"fred@example.com", id="EXTERNAL"),
    pytest.param(TokenClient("OAUTHBEARER", Credentials("user@example.com", TOKEN)),
                 b"n,a=user@example.com,\1auth=Bearer " + TOKEN + b"\1\1", id="RFC 7628, 4.1, without host and port"),
    pytest.param(TokenClient("OAUTHBEARER", Credentials("a,b=c", b"t")), b"n,a=a=2Cb=3Dc,\1auth=Bearer t\1\1",
                 id="OAUTHBEARER with odd signs"),
    pytest.param(TokenClient("XOAUTH2", Credentials("someuser@example.com", b"ya29.vF9dft4qmTc2Nvb3Rlcg")),
                 b"user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2Nvb3Rlcg\1\1", id="XOAUTH2"),
    pytest.param(ScramClient(SHA1[0], Credentials("joe", b"x", master="ad,min"), b"n0"), b"n,a=joe,n=ad=2Cmin,r=n0",
                 id="SCRAM for another user"),
])
def test_first_messages(mechanism: ClientMechanism, message: bytes) -> None:
    assert mechanism.initial() == message


@pytest.mark.parametrize(("name", "answer"), [("XOAUTH2", b""), ("OAUTHBEARER", b"\1")])
def test_the_reason_of_a_refusal_is_acknowledged(name: str, answer: bytes) -> None:
    assert TokenClient(name, USER).step(b'{"status":"401"}') == answer


def test_plain_has_no_more_to_say() -> None:
    with pytest.raises(ServerFault):
        PlainClient("PLAIN", USER).step(b"")


@pytest.mark.parametrize(("names", "first", "proof", "final"), [
    pytest.param(SHA1, SHA1_FIRST,
                 b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                 b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", id="RFC 5802, 5"),
    pytest.param(SHA256, SHA256_FIRST,
                 b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                 b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                 b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", id="RFC 7677, 3"),
])
def test_scram(names: tuple[str, bytes], first: bytes, proof: bytes, final: bytes) -> None:
    mechanism = ScramClient(names[0], USER, names[1])
    assert mechanism.initial() == b"n,,n=user,r=" + names[1]
    assert mechanism.step(first) == proof
    assert not mechanism.is_proven
    assert mechanism.step(final) == b""
    assert mechanism.is_proven


@pytest.mark.parametrize("challenges", [
    pytest.param([b""], id="nothing"),
    pytest.param([b"r=other,s=QSXCR+Q6sek8bf92,i=4096"], id="another nonce"),
    pytest.param([b"r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096"], id="no nonce of its own"),
    pytest.param([SHA1_FIRST.replace(b"4096", b"0")], id="no iteration"),
    pytest.param([SHA1_FIRST.replace(b"4096", str(MOST_ITERATIONS + 1).encode())], id="too many iterations"),
    pytest.param([SHA1_FIRST.replace(b"QSXCR+Q6sek8bf92", b"Q")], id="no base64"),
    pytest.param([b"m=x," + SHA1_FIRST], id="an extension that must be understood"),
    pytest.param([SHA1_FIRST, b"e=other-error"], id="an error"),
    pytest.param([SHA1_FIRST, b"v=xmF9pqV8S7suAoZWja4dJRkFsKQ="], id="a wrong signature"),
    pytest.param([SHA1_FIRST, SHA1_FIRST], id="the same again"),
])
def test_scram_servers_that_cannot_be_trusted(challenges: list[bytes]) -> None:
    mechanism = ScramClient(SHA1[0], USER, SHA1[1])
    with pytest.raises(ServerFault):
        for challenge in challenges:
            mechanism.step(challenge)
    assert not mechanism.is_proven
