"""An authorization server whose protocol is Authlib's, for tests of what others take a client of OAuth to be.

Only storing and consenting is ours.  Access tokens are signed (RFC 9068), their keys are published and can be changed;
refresh tokens are valid once.  For answers that no library gives, there is `authserver`.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Request, grants
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint, DeviceCodeGrant
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.jwk import KeySet

from tests.harness.authserver import CLIENT, SCOPE, SECRET, AuthServer, Form, Reply
from tests.harness.oauth import Key, make_key

REDIRECT = "http://localhost/back"
AUDIENCE = "pop3"

_CLIENT_AUTH = ["client_secret_post", "client_secret_basic"]


@dataclass
class AuthlibServer(AuthServer):
    """The server, over HTTPS as AuthServer."""

    keys: list[Key] = field(default_factory=lambda: [make_key("RS256", "first")])    # the first one signs
    given_tokens: list["_Token"] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.library = _Library(self)

    def answer(self, path: str, form: Form, authorization: str) -> Reply:
        """Return what Authlib answers a request with."""
        if path == "/keys":
            return Reply({"keys": [key.as_dict(private=False) for key in self.keys]})
        self.asked.append((path, form))
        request = _Request("POST", self.url + path, form, authorization)
        reply: Reply = (self.library.create_token_response(request) if path == "/token"
                        else self.library.create_endpoint_response(path.removeprefix("/"), request))
        return reply

    def browse(self, url: str, user: str) -> str:
        """Consent as a user with a browser does; return the URL to which the browser is sent."""
        request = _Request("GET", url, dict(parse_qsl(urlsplit(url).query)), "")
        grant = self.library.get_consent_grant(request, _User(user))
        reply: Reply = self.library.create_authorization_response(request, _User(user), grant)
        return reply.headers["Location"]

    def find(self, text: str) -> "_Token | None":
        """Return the access or refresh token that has this text."""
        return next((token for token in self.given_tokens if text in (token.access, token.refresh)), None)


@dataclass(frozen=True)
class _User:
    name: str

    def get_user_id(self) -> str:
        return self.name


class _Client:
    """The only client; it may do everything that POPular does."""

    def get_client_id(self) -> str:
        return CLIENT

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(word for word in scope.split() if word in SCOPE.split())

    def get_default_redirect_uri(self) -> str:
        return REDIRECT

    def check_redirect_uri(self, uri: str) -> bool:
        return uri == REDIRECT

    def check_client_secret(self, secret: str) -> bool:
        return secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method in _CLIENT_AUTH

    def check_response_type(self, kind: str) -> bool:
        return kind == "code"

    def check_grant_type(self, kind: str) -> bool:
        return True


@dataclass
class _Token:
    access: str
    refresh: str
    scope: str
    user: _User | None
    until: float
    is_void: bool = False

    def check_client(self, client: _Client) -> bool:
        return True

    def get_scope(self) -> str:
        return self.scope

    def get_expires_in(self) -> int:
        return int(self.until - time.time())

    def is_expired(self) -> bool:
        return self.until <= time.time()

    def is_revoked(self) -> bool:
        return self.is_void

    def get_user(self) -> _User | None:
        return self.user

    def get_client(self) -> _Client:
        return _Client()


@dataclass(frozen=True)
class _Code:
    """An authorization code, or the credential of a device."""

    request: Mapping[str, str]
    user: _User | None = None
    user_code: str = ""

    code_challenge = property(lambda self: self.request["code_challenge"])
    code_challenge_method = property(lambda self: self.request["code_challenge_method"])

    def get_redirect_uri(self) -> str:
        return self.request["redirect_uri"]

    def get_scope(self) -> str:
        return self.request["scope"]

    def get_client_id(self) -> str:
        return CLIENT

    def get_user_code(self) -> str:
        return self.user_code

    def is_expired(self) -> bool:
        return False


class _Request(OAuth2Request):    # type: ignore[misc]
    def __init__(self, method: str, url: str, form: Form, authorization: str) -> None:
        super().__init__(method, url, headers={"Authorization": authorization} if authorization else {})
        self.payload = BasicOAuth2Payload(dict(form))

    @property
    def args(self) -> Any:
        return self.payload.data

    @property
    def form(self) -> Any:
        return self.payload.data


class _Library(AuthorizationServer):    # type: ignore[misc]
    def __init__(self, owner: AuthlibServer) -> None:
        super().__init__(scopes_supported=SCOPE.split())
        self.owner, self.codes = owner, dict[str, _Code]()
        self.register_token_generator("default", _Signed(owner))
        self.register_grant(_ByCode, [CodeChallenge(required=True)])
        for grant in (_ByRefresh, _ByDevice, _Own):
            self.register_grant(grant)
        for endpoint in (_Device, _Introspection, _Revocation):
            self.register_endpoint(endpoint)

    def query_client(self, name: str) -> _Client | None:
        return _Client() if name == CLIENT else None

    def save_token(self, token: Mapping[str, Any], request: Any) -> None:
        self.owner.given.append(token["access_token"])
        self.owner.given_tokens.append(_Token(
            token["access_token"], token.get("refresh_token", ""), token["scope"], request.user,
            time.time() + token["expires_in"]))

    def send_signal(self, name: str, *words: object, **fields: object) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: _Request) -> _Request:
        return request

    def handle_response(self, status: int, body: object, headers: Any) -> Reply:
        return Reply(body, status, dict(headers))


class _Signed(JWTBearerTokenGenerator):    # type: ignore[misc]
    def __init__(self, owner: AuthlibServer) -> None:
        super().__init__(owner.url, refresh_token_generator=lambda **about: secrets.token_urlsafe(32),
                         expires_generator=lambda *about: owner.lifetime)
        self.owner = owner

    def get_jwks(self) -> Any:
        return KeySet([self.owner.keys[0]])

    def get_audiences(self, client: object, user: object, scope: object) -> str:
        return AUDIENCE

    def get_extra_claims(self, client: object, kind: object, user: _User | None, scope: object) -> dict[str, str]:
        return {"email": user.name} if user else {}


class _ByCode(grants.AuthorizationCodeGrant):    # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _CLIENT_AUTH

    def save_authorization_code(self, code: str, request: _Request) -> None:
        self.server.codes[code] = _Code(request.payload.data, request.user)

    def query_authorization_code(self, code: str, client: _Client) -> Any:
        return self.server.codes.get(code)

    def delete_authorization_code(self, code: _Code) -> None:
        self.server.codes = {name: one for name, one in self.server.codes.items() if one is not code}

    def authenticate_user(self, code: _Code) -> _User | None:
        return code.user


class _ByRefresh(grants.RefreshTokenGrant):    # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _CLIENT_AUTH
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, text: str) -> Any:
        token = self.server.owner.find(text)
        return None if token is None or token.is_void else token

    def authenticate_user(self, token: _Token) -> _User | None:
        return token.user

    def revoke_old_credential(self, token: _Token) -> None:
        token.is_void = True


class _ByDevice(DeviceCodeGrant):    # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _CLIENT_AUTH

    def query_device_credential(self, code: str) -> Any:
        return self.server.codes.get(code)

    def query_user_grant(self, user_code: str) -> tuple[_User, bool] | None:
        """Return who has typed the code, once as many polls have been answered as there shall be."""
        self.server.owner.polls -= 1
        return None if self.server.owner.polls >= 0 else (_User(self.server.owner.someone), True)

    def should_slow_down(self, code: _Code) -> bool:
        return False


class _Own(grants.ClientCredentialsGrant):    # type: ignore[misc]
    TOKEN_ENDPOINT_AUTH_METHODS = _CLIENT_AUTH


class _Device(DeviceAuthorizationEndpoint):    # type: ignore[misc]
    ENDPOINT_NAME = "device"
    CLIENT_AUTH_METHODS = _CLIENT_AUTH

    def get_verification_uri(self) -> str:
        return f"{self.server.owner.url}/link"

    def save_device_credential(self, client: str, scope: str, told: Mapping[str, str]) -> None:
        self.server.codes[told["device_code"]] = _Code({"scope": scope}, user_code=told["user_code"])


class _Introspection(IntrospectionEndpoint):    # type: ignore[misc]
    ENDPOINT_NAME = "introspect"
    CLIENT_AUTH_METHODS = _CLIENT_AUTH

    def check_permission(self, token: _Token, client: _Client, request: _Request) -> bool:
        return True

    def query_token(self, text: str, hint: str | None) -> _Token | None:
        token: _Token | None = self.server.owner.find(text)
        return token

    def introspect_token(self, token: _Token) -> dict[str, object]:
        return {"active": True, "client_id": CLIENT, "scope": token.scope, "exp": int(token.until),
                "iss": self.server.owner.url, "aud": AUDIENCE, "email": token.user.name if token.user else ""}


class _Revocation(RevocationEndpoint):    # type: ignore[misc]
    ENDPOINT_NAME = "revoke"
    CLIENT_AUTH_METHODS = _CLIENT_AUTH

    def query_token(self, text: str, hint: str | None) -> _Token | None:
        token: _Token | None = self.server.owner.find(text)
        return token

    def revoke_token(self, token: _Token, request: _Request) -> None:
        token.is_void = True
