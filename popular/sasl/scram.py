"""SCRAM (RFC 5802, RFC 7677): client and server show each other that they know a password, which nobody sends.

This is the conversation only.  Whether the client's proof is right says whoever has the stored secret
(`popular.pdm.proofs`); that also makes the server's signature.  Runs in the children of pproxy.  Raises CommandRefused.
"""

import binascii
import os
import re

from popular.errors import CommandRefused
from popular.sasl.mechanism import Credentials, Means, Mechanism, sasl_name

_NONCE_OCTETS = 18
_MAX_MESSAGE = 4096    # octets from the client: a question to a PDM worker has room for both messages
_FIRST = re.compile(rb"((n|y|p=[A-Za-z0-9.-]+),(?:a=([^,]+))?,)(n=([^,]+),r=([\x21-\x2b\x2d-\x7e]{1,512})(?:,.*)?)",
                    re.DOTALL)
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?),p=([A-Za-z0-9+/=]+)", re.DOTALL)


class ScramMechanism(Mechanism):
    """One exchange of SCRAM with whatever hash, without channel binding."""

    def __init__(self, name: str, means: Means) -> None:
        """Begin an exchange."""
        super().__init__(name, means)
        self._user = self._master = ""
        self._header = self._nonce = self._salt = self._messages = b""

    def step(self, response: bytes) -> bytes | Credentials:
        """Read the client's first message, then its final one."""
        if len(response) > _MAX_MESSAGE:
            raise CommandRefused("message too long")
        return self._final(response) if self._nonce else self._first(response)

    def accepted(self, proof: bytes) -> bytes:
        """Return the server's signature."""
        return b"v=" + _base64(proof)

    def _first(self, message: bytes) -> bytes:
        match = _FIRST.fullmatch(message)
        if match is None:
            raise CommandRefused(f"not the first message of {self.name}")
        self._header, binding, wanted, bare, own, nonce = match.groups()
        if binding.startswith(b"p="):
            raise CommandRefused("no channel binding without a mechanism for it")
        self._user = sasl_name(own)
        if wanted is not None and wanted != own:
            self._user, self._master = sasl_name(wanted), self._user
        self._salt = self.means.salt(Credentials(self._user, b"", self.name, self._master, self.name))
        iterations, _, salt = self._salt.partition(b",")
        self._nonce = nonce + _new_nonce()
        first = b"r=%b,s=%b,i=%b" % (self._nonce, salt, iterations)
        self._messages = bare + b"," + first
        return first

    def _final(self, message: bytes) -> Credentials:
        match = _FINAL.fullmatch(message)
        if match is None:
            raise CommandRefused(f"not the final message of {self.name}")
        bare, binding, nonce, proof = match.groups()
        if binding != _base64(self._header) or nonce != self._nonce:
            raise CommandRefused("the final message does not belong to the first")
        try:
            binascii.a2b_base64(proof, strict_mode=True)
        except binascii.Error:
            raise CommandRefused("the proof is not base64") from None
        shown = b",".join((self._salt, proof, self._messages, bare))
        return Credentials(self._user, shown, self.name, self._master)


def _new_nonce() -> bytes:
    return _base64(os.urandom(_NONCE_OCTETS))


def _base64(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False)
