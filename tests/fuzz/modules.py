"""What database modules read of others: a line of Dovecot's, an answer of a program or an HTTP server, a token."""

import contextlib
from base64 import urlsafe_b64encode
from importlib import import_module
from typing import Any

from pdm_modules import pdm_dovecot, pdm_exec, pdm_http
from popular.errors import PdmError
from popular.pdm import records
from popular.pdm.api import Outcome
from popular.pdm.asking.validation import fault_of
from popular.pdm.oauth.jwks import ALGORITHMS, keys_of
from popular.pdm.oauth.tokens import (
    Demands, TokenRefused, claims_of, decoded, header_of, is_signed, moment_of, read_object, token_text)
from tests.harness.pdm import make_request

REQUEST = make_request("joe", b"secret", ip="192.0.2.7")
DOVECOT = pdm_dovecot.Module("id", ["file=/f", "backend=main", "backends=h=one", "mailbox=%{home}"])
HTTP = pdm_http.Module("id", ["url=http://h/", "backends=192.0.2.1:110=one"])

DEMANDS = Demands(("https://id.example.org",), ("pop3",), frozenset({"pop"}), 60.0, "email")
NOW = 1_800_000_000.0


def dovecot_line(data: bytes) -> None:
    """The rest of a user's line in a passwd-file: nobody gets in without a password, or ValueError."""
    with contextlib.suppress(ValueError):
        record = DOVECOT._record(REQUEST, *pdm_dovecot._parsed(b"joe:" + data))
        answer = records.answer_to(REQUEST, record)
        assert answer.outcome is not Outcome.OK or data.startswith(b"{")
        fault_of(answer)


def program_answer(data: bytes) -> None:
    """A line that a program has written: texts by their names, or PdmError."""
    with contextlib.suppress(PdmError):
        values = pdm_exec._values(data, 1)
        assert values["outcome"] and all(isinstance(value, str) for value in values.values())


def http_headers(data: bytes) -> None:
    """Headers of an HTTP server: nobody gets in without Auth-Status: OK."""
    told: dict[str, list[str]] = {}
    for line in data.decode("latin-1").split("\n"):
        name, _, value = line.partition(":")
        told.setdefault(name.lower(), []).append(value)
    with contextlib.suppress(ValueError):
        answer = HTTP._answer(REQUEST, told)
        assert answer.outcome is not Outcome.OK or told["auth-status"][0].strip() == "OK"
        fault_of(answer)


def token(data: bytes) -> None:
    """What a client sends as a token: the parts of one that looks signed, or TokenRefused."""
    with contextlib.suppress(TokenRefused):
        text = token_text(data)
        if is_signed(text):
            header = header_of(text)
            assert isinstance(claims_of(text), dict) and isinstance(header.algorithm, str)
            decoded(text.rpartition(".")[2])


def token_parts(data: bytes) -> None:
    """Header and claims of a token, in a line each: TokenRefused, or a user with all that is demanded."""
    header, _, claims = data.partition(b"\n")
    text = ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (header, claims, b"x"))
    with contextlib.suppress(TokenRefused):
        header_of(text, is_profiled=len(data) % 2 == 1)
        found = claims_of(text)
        user = _judged(found)
        assert user == found["email"] and user.isprintable() and found.get("cnf") is None
        assert "pop3" in found["aud"] and (moment_of(found, "exp") or NOW) > NOW - 60


def token_explained(data: bytes) -> None:
    """An answer about a token: ValueError, TokenRefused, or a user."""
    with contextlib.suppress(ValueError, TokenRefused):
        assert _judged(read_object(data))


def key_set(data: bytes) -> None:
    """The keys of a provider: ValueError, or keys of a size that is safe, each for algorithms of its type."""
    with contextlib.suppress(ValueError):
        for key in keys_of(import_module("jwt"), read_object(data), tuple(ALGORITHMS)):
            assert key.algorithms and 256 <= getattr(key.key, "key_size", 256) <= 8192
            assert len({ALGORITHMS[name] for name in key.algorithms}) == 1


def _judged(claims: dict[str, Any]) -> str:
    DEMANDS.prove_issuer(claims, is_demanded=True)
    DEMANDS.prove_complete(claims)
    return DEMANDS.user_of(claims, NOW)
