"""A client of SCRAM for tests (RFC 5802), written for them alone; mpop is one that others have written."""

import base64
import hashlib
import hmac
from dataclasses import dataclass


@dataclass(slots=True)
class ScramClient:
    """One exchange."""

    user: str
    password: str
    algorithm: str = "sha256"
    header: str = "n,,"
    nonce: str = "rOprNGfwEbeRWgbNEkqO"
    binding: bytes = b""    # data of a channel binding
    signature: bytes = b""

    @property
    def first(self) -> bytes:
        """The first message."""
        return f"{self.header}n={self.user},r={self.nonce}".encode()

    def final(self, server_first: bytes) -> bytes:
        """Return the final message; from then on the server's `signature` is known."""
        nonce, salt, iterations = (part.partition("=")[2] for part in server_first.decode().split(","))
        salted = hashlib.pbkdf2_hmac(self.algorithm, self.password.encode(), base64.b64decode(salt), int(iterations))
        bare = f"c={base64.b64encode(self.header.encode() + self.binding).decode()},r={nonce}"
        message = b",".join((self.first.removeprefix(self.header.encode()), server_first, bare.encode()))
        key = self._hmac(salted, b"Client Key")
        stored = hashlib.new(self.algorithm, key).digest()
        proof = bytes(ours ^ theirs for ours, theirs in zip(key, self._hmac(stored, message)))
        self.signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    @property
    def verdict(self) -> bytes:
        """What the server must say in the end."""
        return b"v=" + base64.b64encode(self.signature)

    def shown(self, public: bytes) -> bytes:
        """Return what a server asks a database about this client; `public` is `ITERATIONS,SALT` (popular.pdm.proofs).
        """
        iterations, _, salt = public.partition(b",")
        server_first = b"r=%bserver,s=%b,i=%b" % (self.nonce.encode(), salt, iterations)
        bare, _, proof = self.final(server_first).rpartition(b",p=")
        return b",".join((public, proof, self.first.removeprefix(self.header.encode()), server_first, bare))

    def _hmac(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self.algorithm).digest()
