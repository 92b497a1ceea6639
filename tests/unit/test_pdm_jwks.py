"""Keys of providers: which can be used, what each verifies, and when they are fetched."""

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.oauth.jwks import FAULT_PAUSE, FETCH_PAUSE, STALE_KEYS, KeyRing, PublicKey, keys_of
from popular.pdm.oauth.tokens import TokenRefused, claims_of, header_of
from tests.harness.needs import need_module

need_module("joserfc")
jwt: Any = need_module("jwt")

from joserfc.jwk import OctKey  # noqa: E402    perhaps missing

from tests.harness.oauth import make_key, signed, unsigned  # noqa: E402    likewise

ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")
RSA, EC, EC384, ED = (make_key(name, name) for name in ("RS256", "ES256", "ES384", "Ed25519"))
CLAIMS = {"iss": "https://id/1/v2.0", "tid": "1"}


def public(key: Any, **changes: object) -> dict[str, Any]:
    found = {**key.as_dict(private=False), **changes}
    return {name: value for name, value in found.items() if value is not None}


def read(*raw: object, algorithms: tuple[str, ...] = ALL) -> tuple[PublicKey, ...]:
    return keys_of(jwt, json.loads(json.dumps({"keys": raw})), algorithms)


@pytest.mark.parametrize("key, algorithms", [
    (RSA, "RS256 PS256"), (EC, "ES256"), (EC384, "ES384"), (ED, "EdDSA Ed25519")], ids=["rsa", "p256", "p384", "ed"])
def test_what_a_key_verifies_is_its_own_business(key: Any, algorithms: str) -> None:
    assert read(public(key))[0].algorithms == {*algorithms.split()}
    assert read(public(key, alg=algorithms.split()[0]))[0].algorithms == {algorithms.split()[0]}
    assert read(public(key, use="sig", key_ops=["verify"], x5c=["x"], x5u="http://evil/"))[0].kid == key.kid


@pytest.mark.parametrize("changes", [
    {"use": "enc"}, {"key_ops": ["encrypt"]}, {"key_ops": "verify"}, {"alg": "RSA-OAEP"}, {"alg": "HS256"},
    {"alg": "none"}, {"alg": []}, {"kty": "oct"}, {"kty": "EC"}, {"kty": None}, {"kty": ["RSA"]}, {"kid": 7},
    {"issuer": 7}, {"n": None}, {"n": 7}, {"n": ""}, {"n": "!"}, {"n": "AQAB"}, {"n": "x" * 5000}, {"e": "AA"},
    {"e": "x" * 300}], ids=str)
def test_useless_keys(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^it has no key for RS256, PS256, "):
        read(public(RSA, **changes))
    assert len(read(public(RSA, **changes), 7, None, [], public(EC))) == 1


@pytest.mark.parametrize("key, changes", [
    (EC, {"crv": "P-384"}), (EC, {"crv": "secp256k1"}), (EC, {"x": "AAAA"}), (EC, {"y": None}),
    (ED, {"crv": "X25519"}), (ED, {"x": "AAAA"}), (RSA, {"n": "yQ" + "7" * 168 + "Q"}),
    (OctKey.import_key("secret-secret-secret-secret-secret"), {"k": "c2VjcmV0"})], ids=str)
def test_other_useless_keys(key: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^it has no key for"):
        read(public(key, **changes))


@pytest.mark.parametrize("document", [
    {}, {"keys": {}}, {"keys": None}, {"keys": [{}] * 101}], ids=["empty", "object", "none", "many"])
def test_what_is_no_set(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="^not a set of at most 100 keys"):
        keys_of(jwt, document, ALL)


def test_a_private_key_is_read_as_a_public_one() -> None:
    assert not hasattr(read(RSA.as_dict(private=True))[0].key, "private_numbers")


class Clock:
    """A clock, and a provider whose keys change."""

    def __init__(self, *keys: Any) -> None:
        self.now, self.keys, self.fetches = 1000.0, keys, 0
        self.is_away = False
        self.ring = KeyRing(self.fetch, 3600.0, lambda: self.now)

    def fetch(self, deadline: float) -> tuple[PublicKey, ...]:
        assert deadline == 7.5
        self.fetches += 1
        if self.is_away:
            raise PdmError("down")
        return read(*map(public, self.keys))

    def why(self, token: str) -> str:
        """Return why a token is refused; "failed" if that cannot be told."""
        try:
            self.ring.verify(jwt, token, header_of(token), claims_of(token), 7.5)
        except TokenRefused as why:
            return str(why)
        except PdmError as why:
            return f"failed: {why}"
        return ""


@pytest.mark.parametrize("key, algorithm", [
    (RSA, "RS256"), (RSA, "PS256"), (EC, "ES256"), (EC384, "ES384"), (ED, "EdDSA"), (ED, "Ed25519")])
def test_signatures(key: Any, algorithm: str) -> None:
    clock = Clock(RSA, EC, EC384, ED)
    token = signed(CLAIMS, key, algorithm)
    assert clock.why(token) == "" and clock.why(signed(CLAIMS, key, algorithm, kid=None)) == ""
    other = make_key(algorithm if algorithm != "EdDSA" else "Ed25519", key.kid)
    head, claims, signature = token.split(".")
    for forged in (signed(CLAIMS, other, algorithm), f"{head}.{claims}.", f"{head}.{claims}.AAAA",
                   f"{head}.{unsigned({}, {'email': 'ann'}).split('.')[1]}.{signature}"):
        assert clock.why(forged) == "its signature is wrong"
    assert clock.fetches == 1


def hashed(secret: bytes) -> str:
    """Return a token that somebody has signed with a shared secret, who took a public key for one."""
    text = unsigned({"alg": "HS256", "kid": "RS256"}, CLAIMS).removesuffix(".")
    digest = hmac.digest(secret, text.encode(), "sha256")
    return f"{text}.{urlsafe_b64encode(digest).decode().rstrip('=')}"


FORGERIES = [
    # the public key as a secret, in each form that libraries have taken
    *((hashed(secret), "no key 'RS256' for HS256")
      for secret in (RSA.as_pem(private=False), json.dumps(public(RSA)).encode(), b"")),
    (unsigned({"alg": "none", "kid": "RS256"}, CLAIMS), "no key 'RS256' for none"),
    (unsigned({"alg": "None"}, CLAIMS), "no key for None"),
    (signed(CLAIMS, EC, "ES256", kid="RS256"), "no key 'RS256' for ES256"),
    (signed(CLAIMS, RSA, "RS256", kid="../../etc/passwd"), "no key '../../etc/passwd' for RS256"),
    (signed(CLAIMS, RSA, "RS256", kid="' OR 1=1 --"), "no key \"' OR 1=1 --\" for RS256"),
    (signed(CLAIMS, RSA, "RS256", kid="RS256\0"), r"no key 'RS256\x00' for RS256"),
    (signed(CLAIMS, RSA, "RS256", kid=""), "no key '' for RS256")]


@pytest.mark.parametrize("token, why", FORGERIES, ids=[why for _, why in FORGERIES])
def test_forgeries(token: str, why: str) -> None:
    assert Clock(RSA, EC).why(token).removeprefix("the provider has ") == why


def test_a_key_in_the_token_itself_is_not_looked_at() -> None:
    own = make_key("RS256", "own")
    token = signed(CLAIMS, own, "RS256", jwk=public(own), jku="http://127.0.0.1:1/", x5u="http://127.0.0.1:1/")
    assert Clock(RSA).why(token) == "the provider has no key 'own' for RS256"


@pytest.mark.parametrize("issuer, why", [
    ("https://id/{tenantid}/v2.0", ""), ("https://id/1/v2.0", ""), ("", ""),
    ("https://id/2/v2.0", "the provider has no key 'RS256' for RS256")])
def test_a_key_of_one_tenant_signs_for_no_other(issuer: str, why: str) -> None:
    ring = KeyRing(lambda deadline: read(public(RSA, issuer=issuer)), 3600.0)
    token, verify = signed(CLAIMS, RSA, "RS256"), ring.verify
    if not why:
        verify(jwt, token, header_of(token), CLAIMS, 0.0)
        return
    with pytest.raises(TokenRefused, match=why):
        verify(jwt, token, header_of(token), CLAIMS, 0.0)


@pytest.mark.parametrize("header", [{}, {"kid": None}], ids=["kid", "no kid"])
def test_after_a_rotation_the_keys_are_fetched_at_once_and_then_not_for_a_while(header: dict[str, Any]) -> None:
    new = make_key("RS256", "new")
    clock, token = Clock(RSA), signed(CLAIMS, new, "RS256", **header)
    assert clock.why(signed(CLAIMS, RSA, "RS256")) == "" and clock.why(token) != ""
    clock.keys = (new,)
    clock.now += FETCH_PAUSE - 1
    assert clock.why(token) != "" and clock.fetches == 1
    clock.now += 1
    assert clock.why(token) == "" and clock.fetches == 2
    assert clock.why(signed(CLAIMS, RSA, "RS256")) == "the provider has no key 'RS256' for RS256"
    assert clock.fetches == 2


def test_without_keys_nothing_can_be_told_and_not_every_question_tries() -> None:
    clock, token = Clock(RSA), signed(CLAIMS, RSA, "RS256")
    clock.is_away = True
    for fetches in (1, 1, 2):
        assert clock.why(token) == "failed: down" and clock.fetches == fetches
        clock.now += FAULT_PAUSE / 2
    clock.is_away = False
    clock.now += FAULT_PAUSE
    assert clock.why(token) == "" and clock.fetches == 3


def test_old_keys_are_good_while_the_provider_is_away_but_not_for_ever() -> None:
    clock, token, unknown = Clock(RSA), signed(CLAIMS, RSA, "RS256"), signed(CLAIMS, RSA, "RS256", kid="new")
    assert clock.why(token) == ""
    clock.is_away = True
    clock.now += 3600
    assert clock.why(token) == "" and clock.fetches == 2
    assert clock.why(unknown) == "failed: down" and clock.fetches == 2
    clock.now += FAULT_PAUSE
    assert clock.why(unknown) == "failed: down" and clock.fetches == 3
    clock.now += STALE_KEYS
    assert clock.why(token) == "failed: down"
    clock.is_away = False
    clock.now += FAULT_PAUSE
    assert clock.why(token) == ""
