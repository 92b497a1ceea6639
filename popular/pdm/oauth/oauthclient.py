"""An OAuth client (RFC 6749): how POPular is let into mailboxes at providers that take no passwords.

A provider gives a refresh token when the owner of a mailbox, or an administrator, consents in a browser: by the device
flow (RFC 8628), or by an authorization code with PKCE (RFC 7636).  With a refresh token, access tokens are got, which
are valid for an hour or so.

Runs in PDM workers, by the module `poauth`, and in the tool poauth.  What is asked of a provider raises NoConsent if it
refuses for good, and ProviderTrouble for everything else; the texts are for the log and hold no tokens or secrets.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from popular.pdm.api import NoConsent, PdmError
from popular.pdm.databases.httpclient import HTTP_SUCCESS, HttpClient, HttpReply, HttpServer, server_of

MAX_EXPLANATION = 300             # characters of a provider's explanation that are repeated
MAX_WAIT = 3600.0          # seconds of Retry-After that are believed
MAX_SECONDS = 86400.0      # of an access token's life that are believed
SHORT_SECONDS = 300.0      # its life, if the provider does not tell
DEVICE_INTERVAL = 5.0      # seconds between two questions of the device flow (RFC 8628)

PENDING, SLOW_DOWN = "authorization_pending", "slow_down"    # while the device flow waits for the user

# A new consent helps, asking again does not.  authorization_declined is Microsoft's access_denied.
_WITHDRAWN = ("invalid_grant", "access_denied", "authorization_declined", "expired_token", "interaction_required",
              "consent_required", "login_required")
# No other user would get a token either.
_COMMON = ("invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "server_error",
           "temporarily_unavailable", SLOW_DOWN)
_BUSY = 429
_ANY_STATUS = range(100, 600)
_SECRETS = ("refresh_token", "device_code", "code", "code_verifier", "token")    # in forms


class ProviderTrouble(PdmError):
    """A provider gives no token at the moment."""

    def __init__(self, text: str, error: str = "", *, is_common: bool = True, wait: float = 0.0) -> None:
        """`error` is the provider's code.  `is_common`: it concerns all users.  `wait` is how long to, in seconds."""
        super().__init__(text)
        self.error = error
        self.is_common = is_common
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Url:
    """The URL of a provider's server: an HTTPS server, as secrets are sent there."""

    name: ClassVar[str] = "Url"
    wanted: ClassVar[str] = "an https:// URL without a user"

    def parse(self, text: str) -> HttpServer:
        """Read one URL."""
        server = server_of(text, self.wanted)
        if not server.is_tls:
            raise ValueError(self.wanted)
        return server

    def show(self, value: HttpServer) -> str:
        """Return the URL."""
        return value.url


@dataclass(frozen=True, slots=True)
class Provider:
    """Where a provider is asked, and for what."""

    token: HttpServer
    scope: str
    device: HttpServer | None = None       # None: it has no device flow
    authorize: HttpServer | None = None    # for browsers; None: it gives no authorization codes
    revoke: HttpServer | None = None       # None: tokens cannot be revoked
    redirect: str = ""                     # where the browser is sent with the code
    more: tuple[tuple[str, str], ...] = ()    # in the query of `authorize`


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """What the provider knows this application by."""

    client: str
    secret: str = field(repr=False)    # empty: it has none
    is_basic: bool = False             # sent as HTTP Basic authentication, not in the form


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a provider has given."""

    access: str = field(repr=False)
    seconds: float                      # how long `access` is valid
    refresh: str = field(repr=False)    # empty: the one that was used remains valid


@dataclass(frozen=True, slots=True)
class Device:
    """The beginning of a device flow."""

    code: str = field(repr=False)
    user_code: str    # to be typed by the user at `url`
    url: str
    seconds: float    # until it is void
    interval: float   # seconds between two questions


class OAuthClient:
    """One application at one provider."""

    def __init__(self, provider: Provider, credentials: AppCredentials, timeout: float,
                 cafile: str | None = None) -> None:
        """Give the provider at most `timeout` seconds for an answer; `cafile` as in HttpClient."""
        self.provider = provider
        self._credentials = credentials
        self._timeout, self._cafile = timeout, cafile

    def refreshed(self, refresh: str, deadline: float) -> Tokens:
        """Return an access token for a refresh token."""
        return self._tokens({"grant_type": "refresh_token", "refresh_token": refresh, "scope": self.provider.scope},
                            deadline)

    def own(self, deadline: float) -> Tokens:
        """Return an access token of the application itself."""
        return self._tokens({"grant_type": "client_credentials", "scope": self.provider.scope}, deadline)

    def device(self, deadline: float) -> Device:
        """Begin a device flow."""
        if self.provider.device is None:
            raise PdmError("this provider has no device flow")
        told = self._asked(self.provider.device, {"scope": self.provider.scope}, deadline)
        code, user_code = _text(told, "device_code"), _text(told, "user_code")
        url = _text(told, "verification_uri") or _text(told, "verification_url")    # the latter is Google's
        if not (code and user_code and url):
            raise ProviderTrouble(
                f"{self.provider.device.url}: no device_code, user_code or verification_uri in the answer")
        return Device(code, user_code, url, _seconds(told.get("expires_in"), SHORT_SECONDS),
                      _seconds(told.get("interval"), DEVICE_INTERVAL))

    def device_tokens(self, device: Device, deadline: float) -> Tokens:
        """Return the tokens once the user has consented; before, raises ProviderTrouble with PENDING or SLOW_DOWN."""
        return self._tokens({"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device.code},
                            deadline)

    def browser_url(self, user: str, state: str, verifier: str) -> str:
        """Return the URL at which `user` consents with a browser; raises PdmError if the provider has none.

        `state` and `verifier` are secrets of this attempt, of at least 43 letters and digits.
        """
        if self.provider.authorize is None:
            raise PdmError("this provider gives no authorization codes")
        from hashlib import sha256    # here, because it loads OpenSSL

        challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = urlencode([
            ("client_id", self._credentials.client), ("response_type", "code"),
            ("redirect_uri", self.provider.redirect), ("scope", self.provider.scope), ("state", state),
            ("code_challenge", challenge), ("code_challenge_method", "S256"), ("login_hint", user),
            *self.provider.more])
        url = self.provider.authorize.url
        return f"{url}{'&' if '?' in url else '?'}{query}"

    def code_tokens(self, pasted: str, state: str, verifier: str, deadline: float) -> Tokens:
        """Return the tokens for the URL to which the browser was sent; raises ValueError if it is not that."""
        code = _code_in(pasted, state)
        return self._tokens({"grant_type": "authorization_code", "code": code, "code_verifier": verifier,
                             "redirect_uri": self.provider.redirect}, deadline)

    def revoke(self, refresh: str, deadline: float) -> bool:
        """Have a refresh token revoked (RFC 7009); returns False if the provider offers no way."""
        if self.provider.revoke is None:
            return False
        form = {"token": refresh, "token_type_hint": "refresh_token"}
        reply = self._sent(self.provider.revoke, form, deadline)
        if reply.status not in HTTP_SUCCESS:
            raise self._fault(reply, form)
        return True

    def _tokens(self, form: Mapping[str, str], deadline: float) -> Tokens:
        told = self._asked(self.provider.token, form, deadline)
        access, kind = _text(told, "access_token"), _text(told, "token_type")
        if not access or kind.lower() != "bearer":
            raise ProviderTrouble(f"{self.provider.token.url}: no bearer token in the answer")
        return Tokens(access, min(_seconds(told.get("expires_in"), SHORT_SECONDS), MAX_SECONDS),
                      _text(told, "refresh_token"))

    def _asked(self, server: HttpServer, form: Mapping[str, str], deadline: float) -> Mapping[str, Any]:
        """Return the object that a server answers with."""
        reply = self._sent(server, form, deadline)
        told = _document(reply)
        if reply.status not in HTTP_SUCCESS or not told:
            raise self._fault(reply, form)
        return told

    def _sent(self, server: HttpServer, form: Mapping[str, str], deadline: float) -> HttpReply:
        """Return a server's answer, whatever its status.

        The connection is always a new one: of a question over a kept one, it may be unknown whether it has arrived, and
        a refresh token that is used twice looks stolen.
        """
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json",
                   "User-Agent": "POPular"}
        fields = dict(form)
        if self._credentials.is_basic:
            pair = ":".join(map(quote_plus, (self._credentials.client, self._credentials.secret)))
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            fields["client_id"] = self._credentials.client
            if self._credentials.secret:
                fields["client_secret"] = self._credentials.secret
        client = HttpClient((server,), self._timeout, self._cafile)
        try:
            return client.ask("POST", headers, deadline, urlencode(fields).encode(), _ANY_STATUS)
        except PdmError as why:
            raise ProviderTrouble(str(why)) from None
        finally:
            client.close()

    def _fault(self, reply: HttpReply, form: Mapping[str, str]) -> PdmError:
        """Return what an answer without a token means."""
        told = _document(reply)
        error, more = _text(told, "error"), _explanation(told)
        if any(secret in more for secret in (self._credentials.secret, *map(form.get, _SECRETS)) if secret):
            more = ""
        status = "" if reply.status in HTTP_SUCCESS else f"HTTP status {reply.status}, "
        text = f"{reply.server.url}: {status}{error or 'not an OAuth answer'}{f': {more}' if more else ''}"
        is_down = reply.status >= 500 or reply.status == _BUSY
        if error in _WITHDRAWN and not is_down:
            return NoConsent(text)
        return ProviderTrouble(text, error, is_common=is_down or not error or error in _COMMON, wait=_wait(reply))


def _document(reply: HttpReply) -> Mapping[str, Any]:
    """Return the object in an answer; an empty one if there is none."""
    try:
        found = json.loads(reply.body) if reply.is_whole else None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _text(told: Mapping[str, Any], name: str) -> str:
    """Return a printable text in an answer; empty if there is none."""
    found = told.get(name)
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else ""


def _explanation(told: Mapping[str, Any]) -> str:
    found = told.get("error_description")
    if not isinstance(found, str):
        return ""
    return " ".join("".join(char if char.isprintable() else " " for char in found).split())[:MAX_EXPLANATION]


def _seconds(found: object, default: float) -> float:
    """Return a number of seconds, which some servers write as a text."""
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10:
        found = int(found)
    return float(found) if isinstance(found, int) and not isinstance(found, bool) and 0 < found < 1e9 else default


def _wait(reply: HttpReply) -> float:
    """Return the seconds of Retry-After; 0 if it is missing, or a date."""
    told = reply.headers.get("retry-after", [""])[0].strip()
    return min(float(told), MAX_WAIT) if told.isascii() and told.isdigit() and len(told) < 10 else 0.0


def _code_in(pasted: str, state: str) -> str:
    """Return the authorization code in a URL; raises ValueError with what is wrong, and NoConsent."""
    query = parse_qs(urlsplit(pasted.strip()).query)
    told = {name: values[0] for name, values in query.items() if len(values) == 1}
    if error := _text(told, "error"):
        raise NoConsent(f"the provider says {error}")
    if told.get("state") != state:
        raise ValueError("this is not the URL to which the browser was sent: it lacks the state of this attempt")
    if not (code := _text(told, "code")):
        raise ValueError("there is no code in this URL")
    return code
