"""SCRAM from the client's side (RFC 5802, RFC 7677), without channel binding.

Runs in the children of pproxy, loaded in the master if a backend needs it, since hashlib and hmac bring OpenSSL.
Raises ServerFault.
"""

import binascii
import hashlib
import hmac
import os
import re

from popular.sasl.client import ClientMechanism, ServerFault, escaped
from popular.sasl.mechanism import Credentials
from popular.sasl.saslprep import prepared

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}    # the stronger first
MOST_ITERATIONS = 200_000    # that a server may have us compute: about 0.1 s

_NONCE_OCTETS = 18
_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([0-9]{1,9})(?:,.*)?", re.DOTALL)
_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,.*)?", re.DOTALL)


class ScramClient(ClientMechanism):
    """One exchange."""

    def __init__(self, name: str, credentials: Credentials, nonce: bytes = b"") -> None:
        """Begin an exchange; `nonce` is for tests."""
        super().__init__(name, credentials)
        self.is_proven = False
        self._hash = HASHES[name]
        self._nonce = nonce or binascii.b2a_base64(os.urandom(_NONCE_OCTETS), newline=False)
        self._header = b"n," + (b"a=" + escaped(self.wanted) if self.wanted else b"") + b","
        self._bare = b"n=" + escaped(self.own) + b",r=" + self._nonce
        self._signature = b""    # that the server must show

    def initial(self) -> bytes:
        """Return the client's first message."""
        return self._header + self._bare

    def step(self, challenge: bytes) -> bytes:
        """Answer the server's first message with the proof, and its final one with nothing."""
        return self._finish(challenge) if self._signature else self._prove(challenge)

    def _prove(self, first: bytes) -> bytes:
        match = _FIRST.fullmatch(first)
        if match is None:
            raise ServerFault("not the first message of a SCRAM server")
        nonce, salt, iterations = match[1], _octets(match[2]), int(match[3])
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ServerFault("the server does not use our nonce")
        if not 0 < iterations <= MOST_ITERATIONS:
            raise ServerFault(f"the server wants {iterations} iterations, and at most {MOST_ITERATIONS} are allowed")
        salted = hashlib.pbkdf2_hmac(self._hash, prepared(self.secret), salt, iterations)
        client_key = self._hmac(salted, b"Client Key")
        bare = b"c=" + _base64(self._header) + b",r=" + nonce
        messages = b",".join((self._bare, first, bare))
        signature = self._hmac(hashlib.new(self._hash, client_key).digest(), messages)
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), messages)
        return bare + b",p=" + _base64(bytes(one ^ other for one, other in zip(client_key, signature, strict=True)))

    def _finish(self, final: bytes) -> bytes:
        match = _FINAL.fullmatch(final)
        if match is None or not hmac.compare_digest(_octets(match[1]), self._signature):
            raise ServerFault("the server has not shown that it knows the password")
        self.is_proven = True
        return b""

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _base64(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False)


def _octets(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise ServerFault("not base64") from None
