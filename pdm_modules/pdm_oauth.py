"""Database module `oauth`: bearer tokens of AUTH OAUTHBEARER and XOAUTH2, which their provider has signed or explains.

    oauth discover=https://id.example.org/.well-known/openid-configuration audience=pop3
    oauth introspect=https://id.example.org/introspect clientid=popular clientsecretfile=/etc/popular/oauth.secret

A signed token (JWT) is verified here, with the keys of the provider, if `discover` or `jwks` says where they are.
Of any other, the server of `introspect` is asked (RFC 7662; `method` has the two older ways).  OPTIONS has all
arguments.

The module only says whose a token is (`Answer.user`); the modules with records say where their mail is.  With
`backend` and `mailbox`, a pattern says it: then the module answers for everybody whom somebody has proven (PROVEN).

    OK        the token is good; for no longer than `until`: its end, or `cachetime` from now if that is sooner
    DENIED    it is not: expired, of somebody else's issuer, for another audience, badly signed, …
    FAILED    that cannot be told: no keys, a provider that does not answer, or with garbage
    UNKNOWN   a password, unless `aspassword` has it tried as a token

Runs in a PDM worker.  A failure does not close the module: its keys, and when they may be fetched again, are kept.
"""

import re
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from urllib.parse import quote, urlencode

from popular.pdm import records
from popular.pdm.api import PROVEN, UNKNOWN, Answer, Found, Outcome, PdmError, PdmModule, Request
from popular.pdm.databases.httpclient import HttpClient, HttpReply, HttpServer, Urls, server_of
from popular.pdm.drivers import driver
from popular.pdm.oauth.jwks import ALGORITHMS, KeyRing, PublicKey, keys_of
from popular.pdm.oauth.tokens import (
    Demands, TokenRefused, claims_of, excerpt, header_of, is_signed, moment_of, read_object, token_text)
from popular.pdm.options import (Bool, Choice, File, Id, Options, Setting, String, Time, Values, secret,
                                 secret_rows)
from popular.pdm.pattern import Pattern

MAX_DOCUMENT = 1 << 17    # octets of a set of keys, and of any other answer
MIN_PASSWORD = 32         # octets of a password that may be a token which is not signed

TOKENS = frozenset({"OAUTHBEARER", "XOAUTH2"})

_WELL_KNOWN = "/.well-known/openid-configuration"
_LOCAL = ("localhost", "127.0.0.1", "::1")
_NO_TOKEN = "-popular-check-"    # of a probe
_HEADERS = {"User-Agent": "POPular", "Accept": "application/json"}
_STATUSES = {"post": (200,), "get": (200, 400, 401), "bearer": (200, 401)}    # by which a server judges a token
_NOT_ACTIVE = "the provider says that it is not good"


@dataclass(frozen=True, slots=True)
class Words:
    """Texts separated by commas."""

    name: ClassVar[str] = "Words"
    wanted: ClassVar[str] = "a list of words, separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read `WORD,WORD,…`."""
        words = tuple(text.split(","))
        if not all(words) or " " in text:
            raise ValueError(self.wanted)
        return words

    def show(self, value: Sequence[str]) -> str:
        """Return the list."""
        return ",".join(value)


@dataclass(frozen=True, slots=True)
class Algorithms:
    """Algorithms of signatures, separated by commas."""

    name: ClassVar[str] = "Algorithms"
    wanted: ClassVar[str] = f"a list of {', '.join(ALGORITHMS)}, separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read `NAME,NAME,…`."""
        names = tuple(text.split(","))
        if not set(names) <= ALGORITHMS.keys():
            raise ValueError(self.wanted)
        return names

    def show(self, value: Sequence[str]) -> str:
        """Return the list."""
        return ",".join(value)


OPTIONS = Options(
    Setting("discover", Urls(), None, "The URL of the provider's OpenID configuration, which says where its keys are; "
            "several are asked in turn until one answers."),
    Setting("jwks", Urls(), None, "The URL of the provider's keys, instead of `discover`."),
    Setting("issuer", Words(), None, "Who may have issued a token: its `iss` is one of these.  By default the URL of "
            f"`discover` without {_WELL_KNOWN}."),
    Setting("audience", Words(), (), "For whom a token must be: its `aud` has one of these.  Required with `discover` "
            "and `jwks`."),
    Setting("scope", Words(), (), "What a token must allow: its `scope` or `scp` has all of these."),
    Setting("algorithms", Algorithms(), ("RS256", "PS256", "ES256", "EdDSA", "Ed25519"), "The signatures that "
            "are good.  Each has one type of key; shared secrets are not possible."),
    Setting("rfc9068", Bool(), False, "Take only signed tokens whose type is at+jwt, with the claims of RFC 9068."),
    Setting("introspect", Urls(), None, "The URL that is asked about a token which is not verified here."),
    Setting("method", Choice("post", "get", "bearer"), "post", "How: `post` as in RFC 7662; `get` with the token "
            "appended to the URL, which must end so that it can be; `bearer` with the token as authorization, as for "
            "userinfo.  With the last two, any claims with status 200 make a token good."),
    Setting("clientid", String(), None, "Our own name at the server of `introspect`, with `clientsecret`."),
    *secret_rows("clientsecret", "secret of `clientid`"),
    Setting("userclaim", String(), "email", "The claim with the user's name."),
    Setting("leeway", Time(0, 600), 60.0, "How much the clocks may differ."),
    Setting("keytime", Time(60, 86_400), 3600.0, "How long keys are kept.  They are good for a day more if the "
            "provider is away, and fetched at once, but at most once a minute, if a token names another."),
    Setting("cachetime", Time(0, 86_400), 60.0, "How long an answer of `introspect` is kept, if answers are kept at "
            "all: so long a revoked token may still be good."),
    Setting("aspassword", Bool(), False, "Try a password as a token, too, if it looks like one: for clients without "
            "OAUTHBEARER and XOAUTH2."),
    Setting("backend", Id(), None, "The id of the backend, if a pattern says where mail is."),
    Setting("protocol", Choice("cxpop", "xpop"), None, "Without it, the backend's own."),
    Setting("mailbox", String(), None, "The mailbox, as a pattern.  Without it, the modules with records are asked."),
    Setting("timeout", Time(0.05, 60), 3.0, "Time to wait for one server."),
    Setting("cafile", File(), None, "The certificates of the authorities that may have signed those of the servers.  "
            "By default those that the system trusts."),
)


class Module(PdmModule):
    """The tokens of one provider."""

    API = (1, 2)
    blocking = True
    mechanisms = TOKENS

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        self._values = values = OPTIONS.parse(args)
        _prove(values)
        self._method = values.text("method")
        self._is_profiled = cast(bool, values["rfc9068"])
        self._demands = Demands(
            _issuers(values), cast(tuple[str, ...], values["audience"]),
            frozenset(cast(tuple[str, ...], values["scope"])), values.seconds("leeway"), values.text("userclaim"),
            self._is_profiled)
        self._has_keys = not values["discover"] is values["jwks"] is None
        self._mailbox: Pattern | None = None
        mailbox, backend = values.optional_text("mailbox"), values.optional_text("backend")
        if mailbox is not None and backend is not None:
            self._mailbox, self.backends, self.mechanisms = Pattern(mailbox), (backend,), TOKENS | {PROVEN}
        self._ring = KeyRing(self._fetch, values.seconds("keytime"))
        self._clients: dict[tuple[HttpServer, ...], HttpClient] = {}
        self._authorization: dict[str, str] = {}
        self._jwt: Any = None

    def open(self) -> None:
        """Load what reads keys and speaks HTTP, and the secret; raises PdmError."""
        driver("urllib3", "urllib3")
        if self._has_keys:
            self._jwt = driver("jwt", "PyJWT")
            if not self._jwt.algorithms.has_crypto:
                raise PdmError("needs the Python package cryptography, too")
        name = self._values.optional_text("clientid")
        if name is not None:
            pair = f"{quote(name, '')}:{quote(secret(self._values, 'clientsecret'), '')}"    # RFC 6749
            self._authorization = {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}

    def probe(self) -> None:
        """Fetch the keys, and ask about a token that does not exist; raises PdmError."""
        self.open()
        deadline = time.monotonic() + records.PROBE_SECONDS
        try:
            if self._has_keys:
                self._ring.prove(deadline)
            if self._values["introspect"] is not None:
                self._explained(_NO_TOKEN, deadline)
        except TokenRefused:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def describe(self) -> str:
        """Return the arguments; a secret that was given directly is masked."""
        return OPTIONS.describe(self.args)

    def find(self, user: str, namespace: str) -> Found | None:
        """Return the place that the pattern makes; without one, None: the module only knows tokens."""
        mailbox = None if self._mailbox is None else self._mailbox.mailbox(user, namespace)
        if mailbox is None:
            return None
        return Found(self.backends[0], self._values.optional_text("protocol") or "", mailbox, verified=True)

    def check(self, request: Request) -> Answer:
        """Say whose a token is or, with PROVEN, where their mail is."""
        if request.mechanism == PROVEN:
            found = self.find(request.user, request.namespace)
            return UNKNOWN if found is None else Answer(Outcome.OK, found)
        if not request.mechanism and not self._may_be_token(request.password):
            return UNKNOWN
        try:
            return self._judged(token_text(request.password), request.deadline)
        except TokenRefused as why:
            return Answer(Outcome.DENIED, why=str(why))
        except PdmError as why:
            return Answer(Outcome.FAILED, why=str(why))

    def _may_be_token(self, password: bytes) -> bool:
        """Tell whether a password is tried as a token, and perhaps sent to the provider."""
        if not self._values["aspassword"]:
            return False
        try:
            token = token_text(password)
        except TokenRefused:
            return False
        return is_signed(token) or self._values["introspect"] is not None and len(token) >= MIN_PASSWORD

    def _judged(self, token: str, deadline: float) -> Answer:
        """Return OK for a good token; raises TokenRefused and PdmError."""
        until = float("inf")
        if self._has_keys and is_signed(token):
            claims = self._verified(token, deadline)
        elif self._values["introspect"] is not None:
            claims = self._explained(token, deadline)
            self._demands.prove_issuer(claims, is_demanded=False)
            until = time.time() + self._values.seconds("cachetime")
        else:
            raise TokenRefused("it is not a signed token")
        user = self._demands.user_of(claims, time.time())
        expires = moment_of(claims, "exp")
        return Answer(Outcome.OK, until=until if expires is None else min(until, expires), user=user)

    def _verified(self, token: str, deadline: float) -> dict[str, Any]:
        """Return the claims of a token that was signed by the provider."""
        header, claims = header_of(token, is_profiled=self._is_profiled), claims_of(token)
        algorithms = cast(tuple[str, ...], self._values["algorithms"])
        if header.algorithm not in algorithms:
            raise TokenRefused(f"algorithm {excerpt(header.algorithm)} is not among algorithms=")
        self._demands.prove_issuer(claims, is_demanded=True)    # first: for another's tokens no keys are fetched
        self._ring.verify(self._jwt, token, header, claims, deadline)
        self._demands.prove_complete(claims)
        return claims

    def _fetch(self, deadline: float) -> tuple[PublicKey, ...]:
        """Return the provider's keys; raises PdmError."""
        servers = cast(tuple[HttpServer, ...] | None, self._values["jwks"])
        if servers is None:
            servers = (self._discovered(deadline),)
        reply = self._client(servers).ask("GET", _HEADERS, deadline)
        try:
            return keys_of(self._jwt, _document(reply), cast(tuple[str, ...], self._values["algorithms"]))
        except ValueError as why:
            raise PdmError(f"{reply.server.url}: {why}") from None

    def _discovered(self, deadline: float) -> HttpServer:
        """Return where the keys are, as the provider's configuration says; raises PdmError."""
        reply = self._client(cast(tuple[HttpServer, ...], self._values["discover"])).ask("GET", _HEADERS, deadline)
        try:
            document = _document(reply)
            issuer, url = document.get("issuer"), document.get("jwks_uri")
            if not isinstance(issuer, str) or not any(_is_named(issuer, each) for each in self._demands.issuers):
                raise ValueError(f"it is the configuration of issuer {excerpt(issuer)}")
            server = server_of(url if isinstance(url, str) else "", "it has no jwks_uri")
            if not _is_safe(server):
                raise ValueError("its jwks_uri is not https://")
        except ValueError as why:
            raise PdmError(f"{reply.server.url}: {why}") from None
        return server

    def _explained(self, token: str, deadline: float) -> dict[str, Any]:
        """Return what the server of `introspect` says of a good token; raises TokenRefused and PdmError."""
        headers, body, method, query = {**_HEADERS, **self._authorization}, None, "GET", ""
        match self._method:
            case "post":
                headers["Content-Type"], method = "application/x-www-form-urlencoded", "POST"
                body = urlencode({"token": token, "token_type_hint": "access_token"}).encode("ascii")
            case "get":
                query = quote(token, "")
            case _:
                headers["Authorization"] = f"Bearer {token}"
        reply = self._client(cast(tuple[HttpServer, ...], self._values["introspect"])).ask(
            method, headers, deadline, body, _STATUSES[self._method], query)
        if reply.status == 401:    # perhaps without a body
            raise TokenRefused(_NOT_ACTIVE)
        try:
            document = _document(reply)
            active = document.get("active") if method == "POST" else reply.status == 200
            if not isinstance(active, bool) or reply.status == 400 and not {"error", "error_description"} & {*document}:
                raise ValueError("the answer does not say whether the token is good")
        except ValueError as why:
            raise PdmError(f"{reply.server.url}: {why}") from None
        if not active:
            raise TokenRefused(_NOT_ACTIVE)
        return document

    def _client(self, servers: tuple[HttpServer, ...]) -> HttpClient:
        """Return the connections to some servers; raises PdmError."""
        if servers not in self._clients:
            self._clients[servers] = HttpClient(servers, self._values.seconds("timeout"),
                                                self._values.optional_text("cafile"), MAX_DOCUMENT)
        return self._clients[servers]


def _prove(values: Values) -> None:
    """Raise ValueError for arguments that do not fit together."""
    given = {row.name for row in OPTIONS.rows if values[row.name] not in (None, ())}
    if {"discover", "jwks"} <= given:
        raise ValueError("give discover or jwks, not both")
    if not {"discover", "jwks", "introspect"} & given:
        raise ValueError("discover, jwks or introspect is missing")
    if {"discover", "jwks"} & given and "audience" not in given:
        raise ValueError("audience is missing: without it, tokens for any other service would be good")
    if ("clientid" in given) is not bool({"clientsecret", "clientsecretfile"} & given):
        raise ValueError("clientid and clientsecret, or clientid and clientsecretfile, belong together")
    if "clientid" in given and ("introspect" not in given or values.text("method") != "post"):
        raise ValueError("clientid is for introspect with method=post only")
    if ("backend" in given) is not ("mailbox" in given):
        raise ValueError("backend and mailbox belong together")
    for name in ("discover", "jwks", "introspect"):
        for server in cast(tuple[HttpServer, ...] | None, values[name]) or ():
            if not _is_safe(server):
                raise ValueError(f"{name}: {server.url} must begin with https://")


def _issuers(values: Values) -> tuple[str, ...]:
    """Return who may issue tokens; raises ValueError if nobody may."""
    issuers = cast(tuple[str, ...] | None, values["issuer"])
    if issuers is not None:
        return issuers
    servers = cast(tuple[HttpServer, ...] | None, values["discover"]) or ()
    if values["jwks"] is not None or not all(server.url.endswith(_WELL_KNOWN) for server in servers):
        raise ValueError("issuer is missing")
    return tuple(server.url.removesuffix(_WELL_KNOWN) for server in servers)


def _is_safe(server: HttpServer) -> bool:
    """Tell whether nobody on the way can read or change what is sent."""
    return server.is_tls or server.host in _LOCAL


def _is_named(template: str, issuer: str) -> bool:
    """Tell whether a provider's name for itself, perhaps one for many tenants, has the form of `issuer`."""
    return re.fullmatch(re.escape(template).replace(r"\{tenantid\}", "[^/]+"), issuer) is not None


def _document(reply: HttpReply) -> dict[str, Any]:
    """Return the object in an answer; raises ValueError."""
    if not reply.is_whole:
        raise ValueError(f"the answer has more than {MAX_DOCUMENT} octets")
    try:
        return read_object(reply.body)
    except ValueError:
        raise ValueError("the answer is not a JSON object") from None
