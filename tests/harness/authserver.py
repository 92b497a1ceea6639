"""An OAuth authorization server for tests, over HTTPS: tokens, consent by code and by device, revocation.

It checks what RFC 6749, 7009, 7636 and 8628 have a server check, and can be told to answer wrongly; `authlibserver` is
one that others have written.  One thread for each connection; `close` ends them.
"""

import json
import secrets
import threading
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus, urlsplit

from popular.net.tls.context import KeyPair
from tests.harness.certificates import server_of
from tests.harness.leaving import ClientsMayLeave

CLIENT, SECRET = "4711-popular", "s3cret:of/POPular"
SCOPE = "https://mail.example.org/pop offline"

Form = Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What a request is answered with; without a body, never."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class AuthServer:
    """The server; its fields may be changed at any time."""

    pair: KeyPair
    lifetime: int = 3600      # of access tokens, in seconds
    rotates: bool = False     # a refresh token is valid once; the answer has the next one
    polls: int = 0            # how often a device still has to ask until its user has consented
    waits: bool = False       # do not answer before `go_on`
    someone: str = "joe"      # the user who types the code of a device
    next: list[Reply] = field(default_factory=list)               # instead of the right answers, each once
    consents: dict[str, str] = field(default_factory=dict)        # users by refresh token
    codes: dict[str, tuple[str, Form]] = field(default_factory=dict)     # users and queries by authorization code
    devices: dict[str, str] = field(default_factory=dict)         # users by device code
    given: list[str] = field(default_factory=list)                # access tokens
    owners: dict[str, str] = field(default_factory=dict)          # users by access token
    asked: list[tuple[str, Form]] = field(default_factory=list)   # paths and forms

    def __post_init__(self) -> None:
        owner = self

        class Handler(_Handler):
            server_of_tests = owner
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.socket = server_of([self.pair]).wrap_socket(self._server.socket, server_side=True,
                                                                 do_handshake_on_connect=False)
        self.arrived, self._open = threading.Semaphore(0), threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        """The beginning of its URLs."""
        return f"https://localhost:{self._server.server_address[1]}"

    def words(self, *more: str, secretfile: str) -> list[str]:
        """Return arguments of the module `poauth` for this server, and `more`."""
        return [f"tokenurl={self.url}/token", f"deviceurl={self.url}/device", f"authurl={self.url}/authorize?theme=x",
                f"revokeurl={self.url}/revoke", "redirect=http://localhost/back", f"clientid={CLIENT}",
                f"secretfile={secretfile}", f"scope={SCOPE}", "backends=store", *more]

    def consent(self, user: str) -> str:
        """Return a refresh token."""
        token = f"refresh-{secrets.token_hex(8)}"
        self.consents[token] = user
        return token

    def browse(self, url: str, user: str) -> str:
        """Consent as a user with a browser does; return the URL to which the browser is sent."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert query["client_id"] == CLIENT and query["response_type"] == "code" and query["scope"] == SCOPE
        assert query["code_challenge_method"] == "S256" and query["theme"] == "x" and query["login_hint"] == user
        code = secrets.token_hex(8)
        self.codes[code] = user, query
        return f"{query['redirect_uri']}?code={code}&state={query['state']}"

    def go_on(self) -> None:
        """Answer those who wait, and all later questions at once."""
        self.waits = False
        self._open.set()

    def close(self) -> None:
        """End all threads."""
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, form: Form, authorization: str) -> Reply:
        """Return what a request is answered with."""
        self.asked.append((path, form))
        self.arrived.release()
        if self.waits:
            self._open.wait()
        if self.next:
            return self.next.pop(0)
        if authorization:
            name, _, secret = b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            pair = unquote_plus(name), unquote_plus(secret)
        else:
            pair = form.get("client_id", ""), form.get("client_secret", "")
        if pair != (CLIENT, SECRET):
            return error("invalid_client", 401)
        match path:
            case "/token":
                return self._token(form)
            case "/device":
                code = secrets.token_hex(8)
                self.devices[code] = self.someone
                return Reply({"device_code": code, "user_code": "WDJB-MJHT", "verification_uri": f"{self.url}/link",
                              "expires_in": 600, "interval": 1})
            case "/revoke":
                self.consents.pop(form["token"], None)
                return Reply({})
        return Reply({"error": "not found"}, 404)

    def _token(self, form: Form) -> Reply:
        match form.get("grant_type"):
            case "refresh_token":
                return self._refreshed(form["refresh_token"])
            case "client_credentials":
                return self._tokens("", "")
            case "authorization_code":
                user, query = self.codes.pop(form["code"], ("", {}))
                challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
                if (query.get("code_challenge"), query.get("redirect_uri")) != (challenge, form["redirect_uri"]):
                    return error("invalid_grant")
                return self._tokens(user, self.consent(user))
            case "urn:ietf:params:oauth:grant-type:device_code":
                if form["device_code"] not in self.devices:
                    return error("expired_token")
                if self.polls:
                    self.polls -= 1
                    return error("authorization_pending")
                user = self.devices.pop(form["device_code"])
                return self._tokens(user, self.consent(user))
        return error("unsupported_grant_type")

    def _refreshed(self, token: str) -> Reply:
        if token not in self.consents:
            return error("invalid_grant", description="Token has been expired or revoked.")
        user = self.consents[token]
        if not self.rotates:
            return self._tokens(user, "")
        del self.consents[token]
        return self._tokens(user, self.consent(user))

    def _tokens(self, user: str, refresh: str) -> Reply:
        token = f"access-{len(self.given)}-{secrets.token_hex(8)}"
        self.given.append(token)
        self.owners[token] = user
        more = {"refresh_token": refresh} if refresh else {}
        return Reply({"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime, **more})


def error(code: str, status: int = 400, description: str = "") -> Reply:
    """Return a refusal."""
    return Reply({"error": code, **({"error_description": description} if description else {})}, status)


class _Server(ClientsMayLeave, ThreadingHTTPServer):
    daemon_threads = False


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_of_tests: AuthServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        form = {name: value for name, [value] in parse_qs(body, strict_parsing=True).items()}
        self._reply(self.server_of_tests.answer(self.path, form, self.headers.get("Authorization", "")))

    def _reply(self, reply: Reply) -> None:
        if reply.body is None:
            self.close_connection = True
            return
        octets = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    def do_GET(self) -> None:
        self._reply(self.server_of_tests.answer(self.path, {}, ""))

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""
