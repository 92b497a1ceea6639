"""Whether what a client has shown, without its password, fits what a database stores.

In a request with one of these mechanisms `password` is:

    SCRAM-SHA-1, SCRAM-SHA-256    `ITERATIONS,SALT,PROOF,AUTHMESSAGE` as in RFC 5802 section 3; empty: the client has
                                  said who they are, and needs the salt
    CRAM-MD5, APOP                `DIGEST CHALLENGE`, in hex and as it was sent (RFC 2195, RFC 1939 section 7)

Stored forms that fit: {PLAIN}, {CLEAR} and {CLEARTEXT} all of them, and the secrets {SCRAM-SHA-1} and {SCRAM-SHA-256},
which are `ITERATIONS,SALT,STOREDKEY,SERVERKEY`, as in Dovecot.

Runs in the process that asks, which loads it when it is first needed (`popular.pdm.secrets`).  Raises ValueError for a
stored form that cannot be used; its text never holds the form itself.
"""

import binascii
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from popular.pdm.secrets import compare_digest, password_in
from popular.sasl.saslprep import prepared

ITERATIONS = 15_000           # of new secrets (RFC 7677 section 4)
MAX_ITERATIONS = 1_000_000    # that we compute for one login
SALT_OCTETS = 16

_HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256"}
_STORED = re.compile(r"\{(SCRAM-SHA-(?:1|256))\}([0-9]{1,9}),([A-Za-z0-9+/=]{4,1024}),([A-Za-z0-9+/=]{28,44}),"
                     r"([A-Za-z0-9+/=]{28,44})", re.ASCII | re.IGNORECASE)
_SHOWN = re.compile(rb"([0-9]{1,9}),([A-Za-z0-9+/=]+),([A-Za-z0-9+/=]+),(.+)", re.DOTALL)
_DIGEST = re.compile(rb"([0-9a-f]{32}) (.+)", re.DOTALL)
_BLOCK = 64                   # octets of all these hashes
_INNER, _OUTER = (bytes(octet ^ pad for octet in range(256)) for pad in (0x36, 0x5c))


@dataclass(frozen=True, slots=True)
class ScramSecret:
    """What a server needs to know of a password for SCRAM."""

    mechanism: str    # SCRAM-SHA-1 or SCRAM-SHA-256
    iterations: int
    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)

    @classmethod
    def parse(cls, stored: str) -> "ScramSecret | None":
        """Read a stored form; returns None for one of another kind."""
        if not stored[:7].upper() == "{SCRAM-":
            return None
        match = _STORED.fullmatch(stored)
        if match is None:
            raise ValueError("the SCRAM secret is damaged, or of a kind that is not known")
        mechanism, iterations = match[1].upper(), int(match[2])
        salt, stored_key, server_key = (_octets(part.encode()) for part in match.groups()[2:])
        size = hashlib.new(_HASHES[mechanism]).digest_size
        if not 0 < iterations <= MAX_ITERATIONS:
            raise ValueError(f"the SCRAM secret has not 1 to {MAX_ITERATIONS} iterations")
        if len(stored_key) != size or len(server_key) != size:
            raise ValueError("a key of the SCRAM secret has a wrong length")
        return cls(mechanism, iterations, salt, stored_key, server_key)

    @classmethod
    def made(cls, mechanism: str, password: bytes, salt: bytes = b"", iterations: int = ITERATIONS) -> "ScramSecret":
        """Return the secret of a password, with a random salt unless one is given."""
        name, salt = _HASHES[mechanism], salt or os.urandom(SALT_OCTETS)
        salted = hashlib.pbkdf2_hmac(name, prepared(password), salt, iterations)
        stored_key = hashlib.new(name, hmac(name, salted, b"Client Key")).digest()
        return cls(mechanism, iterations, salt, stored_key, hmac(name, salted, b"Server Key"))

    @property
    def stored(self) -> str:
        """The stored form."""
        parts = (_base64(octets).decode() for octets in (self.salt, self.stored_key, self.server_key))
        return f"{{{self.mechanism}}}{self.iterations},{','.join(parts)}"

    @property
    def public(self) -> bytes:
        """What the client may know: `ITERATIONS,SALT`."""
        return b"%d,%b" % (self.iterations, _base64(self.salt))

    def is_of(self, password: bytes) -> bool:
        """Tell whether this is the secret of a password."""
        made = self.made(self.mechanism, password, self.salt, self.iterations)
        return compare_digest(made.stored_key, self.stored_key)

    def signature(self, proof: bytes, message: bytes) -> bytes:
        """Return the server's signature under an exchange; empty if the client's proof is wrong."""
        name = _HASHES[self.mechanism]
        expected = hmac(name, self.stored_key, message)
        if len(proof) != len(expected):
            return b""
        client_key = bytes(ours ^ theirs for ours, theirs in zip(expected, proof))
        if not compare_digest(hashlib.new(name, client_key).digest(), self.stored_key):
            return b""
        return hmac(name, self.server_key, message)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What stored forms say of what a client has shown."""

    is_right: bool = False
    label: str = ""                            # of the form that fits
    proof: bytes = field(default=b"", repr=False)    # for the server: its signature, or `ITERATIONS,SALT` if asked
    why: str = ""                              # it is wrong


def judge(mechanism: str, shown: bytes, forms: Sequence[tuple[str, str]]) -> Judgement:
    """Compare what a client has shown with all `forms` of the user, given with labels."""
    if mechanism in _HASHES:
        return _judge_scram(mechanism, shown, forms)
    match = _DIGEST.fullmatch(shown)
    if match is None:
        raise ValueError(f"not a proof of {mechanism}")
    fits = False
    for label, stored in forms:
        secret = password_in(stored)
        if secret is None:
            continue
        fits = True
        digest, challenge = match.groups()
        if mechanism == "CRAM-MD5":
            made = [hmac("md5", secret, challenge)]
        else:    # clients that know UTF8 USER prepare the password (RFC 6856 section 2.2)
            made = [hashlib.md5(challenge + each, usedforsecurity=False).digest()
                    for each in dict.fromkeys((secret, prepared(secret)))]
        if any(compare_digest(one.hex().encode(), digest) for one in made):
            return Judgement(True, label)
    return _wrong(mechanism, fits)


def _judge_scram(mechanism: str, shown: bytes, forms: Sequence[tuple[str, str]]) -> Judgement:
    match = _SHOWN.fullmatch(shown)
    if match is None and shown:
        raise ValueError(f"not a proof of {mechanism}")
    fits = False
    for label, stored in forms:
        secret, clear = ScramSecret.parse(stored), password_in(stored)
        if match is None:
            if secret is not None and secret.mechanism == mechanism:
                return Judgement(proof=secret.public, why="the salt was asked for")
            continue
        iterations, salt, proof, message = int(match[1]), _octets(match[2]), _octets(match[3]), match[4]
        if clear is not None and iterations <= MAX_ITERATIONS:
            secret = ScramSecret.made(mechanism, clear, salt, iterations)
        if secret is None or (secret.mechanism, secret.iterations, secret.salt) != (mechanism, iterations, salt):
            continue
        fits = True
        if signature := secret.signature(proof, message):
            return Judgement(True, label, signature)
    return _wrong(mechanism, fits)


def _wrong(mechanism: str, fits: bool) -> Judgement:
    return Judgement(why="wrong password" if fits else f"no stored password fits {mechanism}")


def hmac(name: str, key: bytes, text: bytes) -> bytes:
    """Return the keyed digest (RFC 2104); Python's module of this name is one more to load."""
    if len(key) > _BLOCK:
        key = hashlib.new(name, key, usedforsecurity=False).digest()
    padded = key.ljust(_BLOCK, b"\0")
    inner = hashlib.new(name, padded.translate(_INNER) + text, usedforsecurity=False).digest()
    return hashlib.new(name, padded.translate(_OUTER) + inner, usedforsecurity=False).digest()


def _octets(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise ValueError("not in base64") from None


def _base64(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False)
