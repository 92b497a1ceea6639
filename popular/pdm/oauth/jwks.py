"""The public keys of a provider (RFC 7517), and the signatures of tokens that they verify.

The key decides what it can verify: each algorithm has one type of key, and is used only if the configuration and the
key allow it.  So nobody can have a public key taken for a shared secret, and there is no `none`.

`KeyRing` keeps the keys in the process that asks, fetches them again when they are old, and when a token names a key
that is not there, as after a rotation, but then only so often: anybody can invent names of keys.

Used by the database module `oauth`, in a PDM worker.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from popular.errors import PdmError
from popular.pdm.oauth.tokens import TokenHeader, TokenRefused, decoded, excerpt

MAX_KEYS = 100
MIN_RSA, MAX_RSA = 2048, 8192    # bits

FETCH_PAUSE = 60.0     # seconds after keys came, in which a token with an unknown key fetches none
FAULT_PAUSE = 2.0      # seconds after they could not be had
STALE_KEYS = 86_400.0    # seconds beyond their lifetime for which keys are good if the provider is away

# Type and curve of the keys of each algorithm.
ALGORITHMS: Mapping[str, tuple[str, str]] = MappingProxyType({
    "RS256": ("RSA", ""), "RS384": ("RSA", ""), "RS512": ("RSA", ""),
    "PS256": ("RSA", ""), "PS384": ("RSA", ""), "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"), "Ed25519": ("OKP", "Ed25519"),    # two names of one (RFC 9864)
})

_PACKAGE_NAMES = {"Ed25519": "EdDSA"}    # where PyJWT has another
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}    # the public ones
_LONGEST = {"n": MAX_RSA // 6 + 4, "e": 8}                                      # characters; others
_LONG = 100


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key, and what it verifies."""

    kid: str | None
    algorithms: frozenset[str]
    issuer: str    # of the tokens that it signs, perhaps with {tenantid}; empty: any
    key: Any       # of the package cryptography

    def fits(self, header: TokenHeader, claims: Mapping[str, Any]) -> bool:
        """Tell whether a token may have been signed with it."""
        issuers = {"", claims.get("iss"), str(claims.get("iss"))}
        return (header.kid in (None, self.kid) and header.algorithm in self.algorithms
                and self.issuer.replace("{tenantid}", str(claims.get("tid"))) in issuers)


def keys_of(jwt: Any, document: Mapping[str, Any], algorithms: Sequence[str]) -> tuple[PublicKey, ...]:
    """Return the keys of a set that can verify one of `algorithms`, read by the package `jwt`; others are ignored.

    Raises ValueError if it is no set, or has none.
    """
    raw = document.get("keys")
    if not isinstance(raw, list) or len(raw) > MAX_KEYS:
        raise ValueError(f"not a set of at most {MAX_KEYS} keys")
    found = [key for each in raw if isinstance(each, dict) and (key := _read(jwt, each, algorithms)) is not None]
    if not found:
        raise ValueError(f"it has no key for {', '.join(algorithms)}")
    return tuple(found)


class KeyRing:
    """The keys of one provider, as this process knows them."""

    def __init__(self, fetch: Callable[[float], tuple[PublicKey, ...]], lifetime: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """Have `fetch(deadline)` bring keys, or raise PdmError; they are fetched again after `lifetime` seconds."""
        self._fetch = fetch
        self._lifetime = lifetime
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._come = self._tried = -float("inf")    # when keys came, and when they were fetched last
        self._fault = ""                            # why none came then

    def verify(self, jwt: Any, token: str, header: TokenHeader, claims: Mapping[str, Any], deadline: float) -> None:
        """Verify the signature of a token with this header and these claims, which may be a forger's.

        Raises TokenRefused if the signature is not that of a key here, and PdmError if that cannot be told.
        """
        self._keep_fresh(deadline)
        keys = self._fitting(header, claims)
        is_good = _is_verified(jwt, token, header.algorithm, keys)
        if not is_good and (header.kid is None or not keys):    # perhaps it is signed with a new key
            if self._may_fetch():
                self._renew(deadline)
                keys = self._fitting(header, claims)
                is_good = _is_verified(jwt, token, header.algorithm, keys)
            elif self._fault:
                raise PdmError(self._fault)
        if not is_good:
            kid = "" if header.kid is None else f" {excerpt(header.kid)}"
            raise TokenRefused("its signature is wrong" if keys else
                               f"the provider has no key{kid} for {header.algorithm}")

    def prove(self, deadline: float) -> None:
        """Fetch the keys if there are none; raises PdmError."""
        self._keep_fresh(deadline)

    def _keep_fresh(self, deadline: float) -> None:
        """Have keys that are not too old; raises PdmError."""
        age = self._clock() - self._come
        if age < self._lifetime:
            return
        is_usable = age < self._lifetime + STALE_KEYS
        if self._may_fetch():
            try:
                self._renew(deadline)
            except PdmError:
                if not is_usable:
                    raise
        elif not is_usable:
            raise PdmError(self._fault)

    def _may_fetch(self) -> bool:
        return self._clock() - self._tried >= (FAULT_PAUSE if self._fault else FETCH_PAUSE)

    def _renew(self, deadline: float) -> None:
        try:
            self._keys = self._fetch(deadline)
            self._come, self._fault = self._clock(), ""
        except PdmError as why:
            self._fault = str(why)
            raise
        finally:
            self._tried = self._clock()

    def _fitting(self, header: TokenHeader, claims: Mapping[str, Any]) -> list[PublicKey]:
        return [key for key in self._keys if key.fits(header, claims)]


def _read(jwt: Any, raw: Mapping[str, Any], algorithms: Sequence[str]) -> PublicKey | None:
    """Return one key, of which only the public members are read; None if it cannot be used here."""
    kind, curve = str(raw.get("kty")), raw.get("crv", "")
    usable = frozenset(name for name in algorithms
                       if ALGORITHMS[name] == (kind, curve) and raw.get("alg", name) == name)
    uses, kid, issuer = raw.get("key_ops", ["verify"]), raw.get("kid"), raw.get("issuer", "")
    if (not usable or raw.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses
            or not (kid is None or isinstance(kid, str)) or not isinstance(issuer, str)):
        return None
    members = {name: raw.get(name) for name in _MEMBERS[kind]}
    if not all(isinstance(text, str) and len(text) <= _LONGEST.get(name, _LONG) for name, text in members.items()):
        return None
    reader = {"RSA": "RSAAlgorithm", "EC": "ECAlgorithm", "OKP": "OKPAlgorithm"}[kind]
    try:
        key = getattr(jwt.algorithms, reader).from_jwk(json.dumps({"kty": kind, **members}))
    except Exception:    # whatever the package makes of numbers that are no key
        return None
    if kind == "RSA" and not MIN_RSA <= key.key_size <= MAX_RSA:
        return None
    return PublicKey(kid, usable, issuer, key)


def _is_verified(jwt: Any, token: str, algorithm: str, keys: Sequence[PublicKey]) -> bool:
    """Tell whether a token was signed with one of `keys`, all of which are for `algorithm`."""
    if not keys:
        return False
    text, _, signature = token.rpartition(".")
    octets = decoded(signature)
    verifier = jwt.algorithms.get_default_algorithms()[_PACKAGE_NAMES.get(algorithm, algorithm)]
    return any(verifier.verify(text.encode("ascii"), key.key, octets) for key in keys)
