"""An OAuth provider for tests: it signs tokens, publishes its keys, and explains tokens over HTTP or HTTPS.

Signatures are made by the package joserfc, which is not the one that POPular verifies them with.  The two providers
whose formats are imitated answer as their documentation says.

One thread for each connection; `close` ends them all.

    python -m tests.harness.oauth NAME FOLDER     serve https://NAME until killed, with ca.pem and a token in FOLDER
"""

import json
import secrets
import socket
import sys
import threading
import time
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from popular.net.tls.context import KeyPair
from tests.harness.certificates import Authority, server_of
from tests.harness.leaving import ClientsMayLeave

CLIENT, SECRET = "popular", "s3cret:of/POPular"    # who may ask about tokens

Key = RSAKey | ECKey | OKPKey
_MAKERS: Mapping[str, Callable[[Any], Key]] = {
    "RS256": lambda more: RSAKey.generate_key(2048, more), "PS256": lambda more: RSAKey.generate_key(2048, more),
    "ES256": lambda more: ECKey.generate_key("P-256", more), "ES384": lambda more: ECKey.generate_key("P-384", more),
    "Ed25519": lambda more: OKPKey.generate_key("Ed25519", more)}


def make_key(algorithm: str, kid: str | None = None) -> Key:
    """Return a new private key for an algorithm."""
    return _MAKERS[algorithm]({} if kid is None else {"kid": kid})


def signed(claims: object, key: Any, algorithm: str, **header: object) -> str:
    """Return a token, whether it makes sense or not; the header may be overridden."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    fields = {"alg": algorithm, **({"kid": key.kid} if key.kid else {}), **header}
    fields = {name: value for name, value in fields.items() if value is not None}
    with warnings.catch_warnings(action="ignore"):    # of names of algorithms that are going out of use
        return jws.serialize_compact(fields, payload, key, registry=_ANYTHING)


def unsigned(header: object, claims: object, signature: bytes = b"") -> str:
    """Return what has the form of a token; octets are taken as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join(urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, signature))


_ANYTHING = jws.JWSRegistry(algorithms=["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519"],
                            strict_check_header=False)


@dataclass
class Answer:
    """What a path is answered with; without a body, never."""

    body: bytes | None
    status: int = 200


@dataclass
class Provider:
    """A provider; `keys` are published, and the first one signs."""

    keys: list[Key]
    pair: KeyPair | None = None                                        # for HTTPS
    port: int = 0                                                      # 0: any
    name: str = ""                                                     # of the host; empty: this one
    documents: dict[str, Answer] = field(default_factory=dict)         # by path, instead of the right ones
    tokens: dict[str, dict[str, object]] = field(default_factory=dict)    # claims of tokens that are not signed
    asked: list[str] = field(default_factory=list)                     # methods and paths

    def __post_init__(self) -> None:
        self._connections: list[socket.socket] = []
        provider = self

        class Handler(_Handler):
            owner = provider
        self._server = _Server(("127.0.0.1", self.port), Handler)
        if self.pair is not None:
            self._server.socket = server_of([self.pair]).wrap_socket(self._server.socket, server_side=True,
                                                                     do_handshake_on_connect=False)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def issuer(self) -> str:
        """The name of the provider, and the beginning of its URLs."""
        if self.name:
            return f"https://{self.name}"
        port = self._server.server_address[1]
        return f"https://localhost:{port}" if self.pair is not None else f"http://127.0.0.1:{port}"

    def claims(self, **changed: object) -> dict[str, object]:
        """Return the claims of a good token; None leaves one out."""
        now = int(time.time())
        good = {"iss": self.issuer, "aud": "pop3", "sub": "4711", "email": "joe@example.org", "exp": now + 600,
                "iat": now, "nbf": now, "scope": "openid pop", "client_id": "phone", "jti": secrets.token_hex(4)}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(self, *, algorithm: str = "RS256", **changed: object) -> str:
        """Return a signed token with these claims."""
        return signed(self.claims(**changed), self.keys[0], algorithm, typ="at+jwt")

    def opaque(self, **changed: object) -> str:
        """Return a token that only this provider understands."""
        token = secrets.token_urlsafe(32)
        self.tokens[token] = self.claims(**changed)
        return token

    def close(self) -> None:
        """End all connections and threads."""
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:    # gone
                pass
        self._server.server_close()

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: str) -> Answer:
        """Return what a request is answered with."""
        url = urlsplit(target)
        self.asked.append(f"{method} {url.path}")
        if url.path in self.documents:
            return self.documents[url.path]
        match method, url.path:
            case "GET", "/.well-known/openid-configuration":
                return _json({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"})
            case "GET", "/keys":
                return _json({"keys": [key.as_dict(private=False) for key in self.keys]})
            case "POST", "/introspect":
                return self._introspect(headers, parse_qs(body))
            case "GET", "/tokeninfo":
                return self._tokeninfo(parse_qs(url.query).get("access_token", [""])[0])
            case "GET", "/userinfo":
                return self._userinfo(headers.get("Authorization", ""))
        return Answer(b"not found", 404)

    def wait(self) -> None:
        """Do not answer, until the provider is closed."""
        self._ended.wait()

    def meet(self, connection: socket.socket) -> None:
        """Remember a connection, to be ended."""
        self._connections.append(connection)

    def _introspect(self, headers: Mapping[str, str], form: Mapping[str, list[str]]) -> Answer:
        wanted = b64encode(f"{CLIENT}:{SECRET.replace(':', '%3A').replace('/', '%2F')}".encode()).decode()
        if headers.get("Authorization") != f"Basic {wanted}":
            return _json({"error": "invalid_client"}, 401)
        claims = self.tokens.get(form.get("token", [""])[0])
        return _json({"active": False} if claims is None else {"active": True, **claims})

    def _tokeninfo(self, token: str) -> Answer:
        """Answer as Google's tokeninfo: numbers and truth are texts."""
        claims = self.tokens.get(token)
        if claims is None:
            return _json({"error": "invalid_token", "error_description": "Invalid Value"}, 400)
        return _json({"azp": "phone", "aud": claims["aud"], "scope": claims["scope"], "exp": str(claims["exp"]),
                      "expires_in": "599", "email": claims["email"], "email_verified": "true", "access_type": "online"})

    def _userinfo(self, authorization: str) -> Answer:
        claims = self.tokens.get(authorization.removeprefix("Bearer "))
        if claims is None:
            return Answer(b"", 401)
        return _json({"sub": claims["sub"], "email": claims["email"], "email_verified": True})


class _Server(ClientsMayLeave, ThreadingHTTPServer):
    daemon_threads = False


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    owner: Provider

    def setup(self) -> None:
        self.owner.meet(self.request)
        super().setup()

    def do_GET(self) -> None:
        self._reply()

    def do_POST(self) -> None:
        self._reply()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        answer = self.owner.answer(self.command, self.path, dict(self.headers), body)
        if answer.body is None:
            self.owner.wait()
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _json(document: object, status: int = 200) -> Answer:
    return Answer(json.dumps(document).encode(), status)


def _serve(name: str, folder: Path) -> None:
    """Serve a provider until this process is killed."""
    authority = Authority.make(folder)
    provider = Provider([make_key("RS256", "first")], authority.sign(name), 443, name)
    (folder / "token").write_text(provider.token() + "\n")
    provider.wait()


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]))
