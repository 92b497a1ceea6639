"""Bearer tokens and what is said of them: their text, the header of a signed one, and what its claims must be.

A token may be anything that somebody has typed, and what a provider answers may be garbage: both are bounded, and
nothing of a token but a few names in its header and claims gets into a text for the log, cut and quoted.

Pure functions, used by the database module `oauth` in a PDM worker.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from popular.errors import PopularError

MAX_TOKEN = 16_384    # octets; a question to a worker has room for more
MAX_HEADER = 4_096    # octets of the first part of a signed token
MAX_USER = 255        # characters

_SHOWN = 64           # characters of a value from outside in a text for the log
_OPAQUE = re.compile(rb"[A-Za-z0-9._~+/-]+=*")     # RFC 6750
_SIGNED = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_ENCRYPTED = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){4}", re.ASCII)
_TYPES = {"": "", "jwt": "", "at+jwt": "at+jwt", "application/at+jwt": "at+jwt"}
_DEMANDED = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")    # RFC 9068


class TokenRefused(PopularError):
    """Why a token is not good, for the log; the text has nothing secret."""


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """What the header of a signed token says of its signature."""

    algorithm: str
    kid: str | None    # the id of the key


@dataclass(frozen=True, slots=True)
class Demands:
    """What the claims about a token must be."""

    issuers: Sequence[str]      # one of them; empty: any
    audiences: Sequence[str]    # one of them; empty: any
    scopes: frozenset[str]      # all of them
    leeway: float               # seconds by which clocks may differ
    userclaim: str              # the name of the claim with the user's name
    is_profiled: bool = False   # only access tokens of RFC 9068

    def user_of(self, claims: Mapping[str, Any], now: float) -> str:
        """Return the user's name; `now` is in seconds since 1970.  Raises TokenRefused."""
        expires, begins = moment_of(claims, "exp"), moment_of(claims, "nbf")
        if expires is not None and now >= expires + self.leeway:
            raise TokenRefused(f"expired {now - expires:.0f} s ago")
        if begins is not None and now < begins - self.leeway:
            raise TokenRefused(f"not valid before {begins - now:.0f} s from now")
        if self.audiences and not set(self.audiences) & set(_words(claims.get("aud"), is_list=True)):
            raise TokenRefused(f"audience {excerpt(claims.get('aud'))} is not among audience=")
        scopes = {word for name in ("scope", "scp") for word in _words(claims.get(name))}
        if missing := self.scopes - scopes:
            raise TokenRefused(f"scope {min(missing)} is missing")
        if claims.get("cnf") is not None:
            raise TokenRefused("it is bound to a key, which no client can show here")
        return self._name(claims)

    def prove_issuer(self, claims: Mapping[str, Any], *, is_demanded: bool) -> None:
        """Raise TokenRefused for another issuer, and if `is_demanded` for none."""
        issuer = claims.get("iss")
        if self.issuers and issuer not in self.issuers and (is_demanded or issuer is not None):
            raise TokenRefused(f"issuer {excerpt(issuer)} is not among issuer=")

    def prove_complete(self, claims: Mapping[str, Any]) -> None:
        """Raise TokenRefused for a signed token that has no end or, if it must be as in RFC 9068, lacks a claim."""
        for name in _DEMANDED if self.is_profiled else ("exp",):
            if claims.get(name) is None:
                raise TokenRefused(f"there is no claim {name}")

    def _name(self, claims: Mapping[str, Any]) -> str:
        user = claims.get(self.userclaim)
        if not isinstance(user, str) or not user or len(user) > MAX_USER or not user.isprintable():
            raise TokenRefused(f"claim {self.userclaim} is {excerpt(user)}, not the name of a user")
        if self.userclaim == "email" and claims.get("email_verified") in (False, "false"):
            raise TokenRefused("its email address is not verified")
        return user


def token_text(octets: bytes) -> str:
    """Return a token as text; raises TokenRefused if none can look like this."""
    if len(octets) > MAX_TOKEN:
        raise TokenRefused(f"more than {MAX_TOKEN} octets are no token")
    if _OPAQUE.fullmatch(octets) is None:
        raise TokenRefused("not a token")
    return octets.decode("ascii")


def is_signed(token: str) -> bool:
    """Tell whether a token has the form of a signed or encrypted JWT; others mean something to their issuer only."""
    return (_SIGNED.fullmatch(token) or _ENCRYPTED.fullmatch(token)) is not None


def header_of(token: str, *, is_profiled: bool = False) -> TokenHeader:
    """Return what the header of a signed token says, whoever wrote it; raises TokenRefused.

    Of where a key could be found (jku, x5u, jwk, x5c), nothing is read.
    """
    if _SIGNED.fullmatch(token) is None:
        raise TokenRefused("an encrypted token")
    raw = token.partition(".")[0]
    if len(raw) > MAX_HEADER:
        raise TokenRefused(f"its header has more than {MAX_HEADER} octets")
    header = _part(raw, "header")
    if "crit" in header or "b64" in header:
        raise TokenRefused("its header demands what is not known here (crit)")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)) or not isinstance(kind, str):
        raise TokenRefused("its header is not that of a signed token")
    if kind.lower() not in _TYPES or is_profiled and _TYPES[kind.lower()] != "at+jwt":
        raise TokenRefused(f"type {excerpt(kind)} is not that of an access token")
    return TokenHeader(algorithm, kid)


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a signed token, whether or not the signature is right; raises TokenRefused."""
    return _part(token.split(".")[1], "claims")


def read_object(octets: bytes) -> dict[str, Any]:
    """Return a JSON object; raises ValueError for anything else, and for numbers that are none."""
    try:
        found = json.loads(octets, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def moment_of(claims: Mapping[str, Any], name: str) -> float | None:
    """Return a claim that is a moment, in seconds since 1970, None without it; raises TokenRefused.

    Some providers write digits in quotes.
    """
    found = claims.get(name)
    if isinstance(found, str) and re.fullmatch("[0-9]{1,12}", found, re.ASCII):
        return float(found)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not -1e12 < found < 1e12:
        raise TokenRefused(f"claim {name} is {excerpt(found)}, not a moment")
    return float(found)


def excerpt(value: object) -> str:
    """Return a value from outside for the log."""
    match value:
        case None:
            return "missing"
        case str() | bool() | int() | float():
            text = str(value)
        case list():
            text = ",".join(word if isinstance(word, str) else type(word).__name__ for word in value)
        case _:
            return type(value).__name__
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def decoded(part: str) -> bytes:
    """Return the octets in a part of a token; raises TokenRefused."""
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenRefused("a part of it is cut") from None


def _part(raw: str, what: str) -> dict[str, Any]:
    """Return the object in a part of a token; raises TokenRefused."""
    try:
        return read_object(decoded(raw))
    except ValueError:
        raise TokenRefused(f"its {what} cannot be read") from None


def _words(value: Any, *, is_list: bool = False) -> list[str]:
    """Return the words of a claim: a list, or a text, which `is_list` says is a single word."""
    if isinstance(value, str):
        return [value] if is_list else value.split(" ")
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")
