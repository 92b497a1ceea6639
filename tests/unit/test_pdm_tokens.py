"""What is read of tokens, whoever wrote them, and what their claims must be."""

import json
from typing import Any

import pytest

from popular.pdm.oauth.tokens import (
    MAX_HEADER, MAX_TOKEN, Demands, TokenHeader, TokenRefused, claims_of, decoded, excerpt, header_of, is_signed,
    moment_of, read_object, token_text)
from tests.harness.needs import need_module

need_module("joserfc")

from tests.harness.oauth import unsigned  # noqa: E402    it needs joserfc

NOW = 1_800_000_000.0
DEMANDS = Demands(("https://id.example.org",), ("pop3", "mail"), frozenset({"pop", "read"}), 60.0, "email")
GOOD = {"iss": "https://id.example.org", "aud": "pop3", "email": "joe@example.org", "scope": "pop read",
        "exp": NOW + 600, "nbf": NOW}


@pytest.mark.parametrize("octets, why", [
    (b"abc.DEF-_~+/==", ""), (b"a" * MAX_TOKEN, ""), (b"a" * (MAX_TOKEN + 1), "more than 16384 octets are no token"),
    (b"", "not a token"), (b"a b", "not a token"), (b"a\n", "not a token"), (b"=a", "not a token"),
    (b"\xff", "not a token"), (b"a\0", "not a token"), ("tökén".encode(), "not a token")])
def test_what_can_be_a_token(octets: bytes, why: str) -> None:
    if not why:
        assert token_text(octets) == octets.decode()
        return
    with pytest.raises(TokenRefused, match=f"^{why}$"):
        token_text(octets)


@pytest.mark.parametrize("token, wanted", [
    ("a.b.c", True), ("a.b.", True), ("a.b", False), ("abc", False), ("a.b.c.d", False), ("a.b.c.d.e", True),
    ("a.b.c=", False), ("a/.b.c", False), ("ya29.a0Af", False)])
def test_which_tokens_look_signed(token: str, wanted: bool) -> None:
    assert is_signed(token) is wanted


@pytest.mark.parametrize("header, wanted", [
    ({"alg": "RS256"}, TokenHeader("RS256", None)),
    ({"alg": "none", "kid": "", "typ": "JWT"}, TokenHeader("none", "")),    # the algorithms are compared elsewhere
    ({"alg": "ES256", "kid": "k", "typ": "application/at+jwt", "jku": "http://evil/", "jwk": {}, "x5u": "http://evil/",
      "x5c": ["x"], "zip": "DEF", "nonce": "x"}, TokenHeader("ES256", "k"))])
def test_headers(header: dict[str, Any], wanted: TokenHeader) -> None:
    assert header_of(unsigned(header, {})) == wanted


@pytest.mark.parametrize("header, why", [
    ({}, "not that of a signed token"), ({"alg": 1}, "not that of a signed token"), ({"alg": ["RS256"]}, "not that of"),
    ({"alg": "RS256", "kid": 7}, "not that of"), ({"alg": "RS256", "typ": None}, "not that of"),
    ({"alg": "RS256", "crit": ["exp"]}, "demands what is not known"), ({"alg": "RS256", "crit": None}, "demands what"),
    ({"alg": "RS256", "b64": False}, "demands what is not known"),
    ({"alg": "RS256", "typ": "dpop+jwt"}, "type 'dpop\\+jwt' is not that of an access token"),
    ({"alg": "RS256", "typ": "logout+jwt"}, "type 'logout\\+jwt' is not"),
    ([], "its header cannot be read"), (b"x", "cannot be read"), (b"\xff", "cannot be read"), (b'"RS256"', "cannot be"),
    (b'{"alg":NaN}', "cannot be read"), (b"[" * 2900, "cannot be read"), (b'{"a":' + b"9" * 2900 + b"}", "not that of"),
    ({"alg": "x" * MAX_HEADER}, "its header has more than 4096 octets")])
def test_headers_that_are_refused(header: object, why: str) -> None:
    with pytest.raises(TokenRefused, match=why):
        header_of(unsigned(header, {}))


def test_an_encrypted_token_is_refused_unread() -> None:
    with pytest.raises(TokenRefused, match="^an encrypted token$"):
        header_of(".".join([unsigned({"alg": "dir", "enc": "A128GCM", "zip": "DEF"}, b"x"), "x", "x"]))


@pytest.mark.parametrize("kind, good", [("at+jwt", True), ("Application/AT+JWT", True), ("JWT", False), ("", False)])
def test_only_access_tokens_by_profile(kind: str, good: bool) -> None:
    token = unsigned({"alg": "RS256", "typ": kind}, {})
    if good:
        assert header_of(token, is_profiled=True).algorithm == "RS256"
        return
    with pytest.raises(TokenRefused, match="is not that of an access token"):
        header_of(token, is_profiled=True)


@pytest.mark.parametrize("claims", [
    b"", b"[]", b"[" * 12_000, b'{"a":' * 2000, b'{"exp":Infinity}', b"\x1f\x8b", b"9" * 9000])
def test_claims_that_cannot_be_read(claims: bytes) -> None:
    with pytest.raises(TokenRefused, match="its claims cannot be read"):
        claims_of(f"a.{unsigned({}, claims).split('.')[1] or 'e30'[:2]}.")


def test_parts_that_are_cut() -> None:
    with pytest.raises(TokenRefused, match="cut"):
        decoded("abcde")


@pytest.mark.parametrize("changes", [
    {}, {"aud": ["x", "mail"]}, {"scope": None, "scp": "read other pop"}, {"scope": "pop", "scp": ["read"]},
    {"exp": NOW - 59}, {"nbf": NOW + 60}, {"exp": None, "nbf": None}, {"exp": str(int(NOW + 1))},
    {"email_verified": True}, {"email_verified": "true"}])
def test_good_claims(changes: dict[str, Any]) -> None:
    assert DEMANDS.user_of({**GOOD, **changes}, NOW) == "joe@example.org"


@pytest.mark.parametrize("changes, why", [
    ({"exp": NOW - 60}, "expired 60 s ago"), ({"nbf": NOW + 61}, "not valid before 61 s from now"),
    ({"exp": True}, "claim exp is 'True', not a moment"), ({"exp": "soon"}, "claim exp is 'soon', not a moment"),
    ({"exp": float("inf")}, "claim exp is 'inf', not a moment"), ({"nbf": [1]}, "claim nbf is 'int', not a moment"),
    ({"exp": 10 ** 400}, "claim exp is '1000000.*', not a moment"),
    ({"aud": None}, "audience missing is not among audience="), ({"aud": "pop3 mail"}, "audience 'pop3 mail' is not"),
    ({"aud": ["imap", {}]}, "audience 'imap,dict' is not"), ({"aud": {"pop3": 1}}, "audience dict is not"),
    ({"scope": "pop"}, "scope read is missing"), ({"scope": None}, "scope pop is missing"), ({"scope": 7}, "scope pop"),
    ({"scope": "popread"}, "scope pop is missing"),
    ({"cnf": {"jkt": "x"}}, "it is bound to a key"),
    ({"email": None}, "claim email is missing, not the name of a user"), ({"email": ""}, "claim email is '', not"),
    ({"email": 7}, "claim email is '7', not"), ({"email": "joe\n"}, r"claim email is 'joe\\n', not"),
    ({"email": "j" * 256}, "claim email is 'jj+\\.\\.\\.', not"), ({"email": ["joe"]}, "claim email is 'joe', not"),
    ({"email_verified": False}, "its email address is not verified"), ({"email_verified": "false"}, "its email")])
def test_claims_that_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused, match=f"^{why}"):
        DEMANDS.user_of({**GOOD, **changes}, NOW)


@pytest.mark.parametrize("issuer, is_demanded, good", [
    ("https://id.example.org", True, True), (None, True, False), (None, False, True), ("https://evil", False, False),
    ("https://id.example.org/", True, False), (["https://id.example.org"], True, False)])
def test_issuers(issuer: object, is_demanded: bool, good: bool) -> None:
    if good:
        DEMANDS.prove_issuer({"iss": issuer}, is_demanded=is_demanded)
        return
    with pytest.raises(TokenRefused, match=r"^issuer .* is not among issuer=$"):
        DEMANDS.prove_issuer({"iss": issuer}, is_demanded=is_demanded)


@pytest.mark.parametrize("missing", ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"])
def test_what_a_signed_token_must_say(missing: str) -> None:
    claims = {**GOOD, "sub": "1", "client_id": "phone", "iat": NOW, "jti": "x"}
    profiled = Demands((), (), frozenset(), 0, "email", is_profiled=True)
    profiled.prove_complete(claims)
    del claims[missing]
    with pytest.raises(TokenRefused, match=f"^there is no claim {missing}$"):
        profiled.prove_complete(claims)
    if missing != "exp":
        DEMANDS.prove_complete(claims)


def test_what_is_shown_of_a_value_is_short_and_plain() -> None:
    assert excerpt("a" * 65) == f"'{'a' * 64}...'" and excerpt("é\r\n") == r"'\xe9\r\n'" and excerpt(None) == "missing"
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert excerpt(deep) == "'list'"
    while deep:    # freed from outside to inside, as a C stack may be small
        deep = deep.pop()


def test_only_objects_are_read() -> None:
    assert read_object(b'{"a": [1]}') == {"a": [1]} and moment_of({"exp": 1.5}, "exp") == 1.5
    for octets in (b"1", b"", b'{"a":NaN}', json.dumps("x").encode(), b"{" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(ValueError):
            read_object(octets)
