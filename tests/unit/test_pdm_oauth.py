"""The module oauth: its arguments, whose tokens it takes, and what it makes of a provider's answers."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.api import PROVEN, UNKNOWN, Answer, Found, Outcome
from popular.pdm.oauth.jwks import FAULT_PAUSE
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request

need_module("joserfc")
need_module("jwt")
need_module("urllib3")

from tests.harness import oauth  # noqa: E402    it needs joserfc

KEY = oauth.make_key("RS256", "first")
CONFIGURATION = "/.well-known/openid-configuration"
KEYS = ["discover={}" + CONFIGURATION, "audience=pop3"]
INTROSPECT = ["introspect={}/introspect", "clientid=popular", f"clientsecret={oauth.SECRET}"]
TOKENINFO = ["introspect={}/tokeninfo?access_token=", "method=get", "audience=pop3"]
USERINFO = ["introspect={}/userinfo", "method=bearer"]


@pytest.fixture
def provider() -> Iterator[oauth.Provider]:
    made = oauth.Provider([KEY])
    yield made
    made.close()


@pytest.fixture
def load(provider: oauth.Provider) -> Iterator[Callable[..., Any]]:
    """A function that makes a module; `{}` in its arguments is the provider's URL."""
    made: list[Any] = []

    def make(*args: str) -> Any:
        made.append(make_module("oauth", *(word.replace("{}", provider.issuer) for word in args)))
        made[-1].open()
        return made[-1]
    yield make
    for module in made:
        module.close()


def asked(module: Any, token: str, mechanism: str = "OAUTHBEARER", seconds: float = 10) -> Answer:
    answer = module.check(replace(make_request("joe", token).until(time.monotonic() + seconds), mechanism=mechanism))
    assert isinstance(answer, Answer) and (not token or token not in answer.why)
    return answer


def test_a_signed_token_is_verified_here(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module, end = load(*KEYS), int(time.time()) + 300
    for token in (provider.token(exp=end), provider.token(exp=end, nbf=None, aud=["x", "pop3"], scope=None)):
        answer = asked(module, token)
        assert (answer.outcome, answer.user, answer.found) == (Outcome.OK, "joe@example.org", None)
        assert answer.until == end
    assert provider.asked == [f"GET {CONFIGURATION}", "GET /keys"]


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"exp": 1}, "expired "), ({"nbf": 1 << 40, "exp": 1 << 40}, "claim "), ({"exp": None}, "there is no claim exp"),
    ({"nbf": int(time.time()) + 3000}, "not valid before "), ({"aud": "imap"}, "audience 'imap' is not among"),
    ({"iss": "https://evil.example.org"}, "issuer 'https://evil.example.org' is not among"), ({"iss": None}, "issuer"),
    ({"scope": "openid"}, "scope pop is missing"), ({"upn": None}, "claim upn is missing")]


@pytest.mark.parametrize("changes, why", REFUSALS, ids=[why for _, why in REFUSALS])
def test_a_signed_token_that_is_not_good(load: Callable[..., Any], provider: oauth.Provider, changes: dict[str, Any],
                                         why: str) -> None:
    module = load(*KEYS, "scope=pop", "userclaim=upn", "leeway=10s")
    good = {"upn": "Joe"}
    assert asked(module, provider.token(**good)).user == "Joe"
    answer = asked(module, provider.token(**{**good, **changes}))
    assert (answer.outcome, answer.why[:len(why)]) == (Outcome.DENIED, why)


def test_signatures_that_are_not_good(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module, claims = load(*KEYS, "algorithms=RS256,ES256"), provider.claims()
    for token, why in (
            (oauth.unsigned({"alg": "none"}, claims), "algorithm 'none' is not among algorithms="),
            (oauth.unsigned({"alg": "HS256", "kid": "first"}, claims), "algorithm 'HS256' is not among algorithms="),
            (oauth.signed(claims, KEY, "PS256"), "algorithm 'PS256' is not among algorithms="),
            (oauth.signed(claims, oauth.make_key("RS256", "first"), "RS256"), "its signature is wrong"),
            (oauth.signed(claims, KEY, "RS256", kid="x"), "the provider has no key 'x' for RS256"),
            (oauth.signed(claims, KEY, "RS256", kid="x", jku=f"{provider.issuer}/evil"), "the provider has no key 'x'"),
            (oauth.unsigned({"alg": "RS256", "crit": ["x"], "x": 1}, claims), "its header demands what is not known"),
            (oauth.signed(claims, KEY, "RS256", typ="dpop+jwt"), "type 'dpop+jwt' is not that of an access token"),
            (oauth.signed(b"[" * 5000, KEY, "RS256"), "its claims cannot be read"),
            ("a.b.c.d.e", "an encrypted token"), ("opaque", "it is not a signed token"), ("", "not a token"),
            ("x" * 20_000, "more than 16384 octets are no token")):
        answer = asked(module, token)
        assert answer.outcome is Outcome.DENIED and answer.why.startswith(why), (why, answer)
    assert provider.asked == [f"GET {CONFIGURATION}", "GET /keys"]


def test_only_tokens_of_the_profile(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module = load(*KEYS, "rfc9068=yes")
    assert asked(module, provider.token()).outcome is Outcome.OK
    assert asked(module, provider.token(jti=None)).why == "there is no claim jti"
    assert asked(module, oauth.signed(provider.claims(), KEY, "RS256", typ="JWT")).outcome is Outcome.DENIED


@pytest.mark.parametrize("body, status, why", [
    (b"", 200, "not a JSON object"), (b"[]", 200, "not a JSON object"), (b"{}", 200, "not a set of at most 100 keys"),
    (b"[" * 100_000, 200, "not a JSON object"), (b'{"keys":[]}', 200, "it has no key for RS256, "),
    (b"{}", 500, "HTTP status 500"), (b"", 302, "HTTP status 302"),
    (b" " * 200_000, 200, "the answer has more than 131072 octets")], ids=range(8))
def test_keys_that_cannot_be_had(load: Callable[..., Any], provider: oauth.Provider, body: bytes, status: int,
                                 why: str) -> None:
    module, token = load("jwks={}/keys", "issuer={}", "audience=pop3"), provider.token()
    provider.documents["/keys"] = oauth.Answer(body, status)
    for _ in range(2):
        answer = asked(module, token)
        assert answer.outcome is Outcome.FAILED and why in answer.why, answer
    assert provider.asked == ["GET /keys"]    # the failure is remembered for a moment


@pytest.mark.parametrize("document, why", [
    (b'{"issuer": "https://evil", "jwks_uri": "http://127.0.0.1/"}', "the configuration of issuer 'https://evil'"),
    (b'{"jwks_uri": "http://127.0.0.1/"}', "the configuration of issuer missing"),
    (b'{"issuer": "ISSUER"}', "it has no jwks_uri"), (b'{"issuer": "ISSUER", "jwks_uri": "ftp://x/"}', "no jwks_uri"),
    (b'{"issuer": "ISSUER", "jwks_uri": "http://keys.example.org/"}', "its jwks_uri is not https://"),
    (b"garbage", "not a JSON object")], ids=range(6))
def test_configurations_that_are_not_good(load: Callable[..., Any], provider: oauth.Provider, document: bytes,
                                          why: str) -> None:
    provider.documents[CONFIGURATION] = oauth.Answer(document.replace(b"ISSUER", provider.issuer.encode()))
    answer = asked(load(*KEYS), provider.token())
    assert answer.outcome is Outcome.FAILED and why in answer.why


@pytest.mark.parametrize("words", [KEYS, INTROSPECT, USERINFO], ids=["keys", "introspect", "userinfo"])
def test_a_provider_that_is_slow_or_away(load: Callable[..., Any], provider: oauth.Provider, words: list[str]) -> None:
    module, token = load(*words, "timeout=100ms"), provider.token()
    for path in (CONFIGURATION, "/introspect", "/userinfo"):
        provider.documents[path] = oauth.Answer(None)
    began = time.monotonic()
    answer = asked(module, token)
    assert answer.outcome is Outcome.FAILED and "no answer within 0.1 s" in answer.why
    assert time.monotonic() - began < FAULT_PAUSE
    provider.close()
    again = load(*words)
    assert "Connection refused" in asked(again, token).why
    with pytest.raises(PdmError, match="Connection refused"):
        again.probe()


def test_keys_survive_that_the_module_is_closed(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module = load(*KEYS)
    module.probe()
    module.open()
    assert asked(module, provider.token()).outcome is Outcome.OK
    assert provider.asked == [f"GET {CONFIGURATION}", "GET /keys"]


@pytest.mark.parametrize("words", [INTROSPECT, TOKENINFO, USERINFO], ids=["introspect", "tokeninfo", "userinfo"])
def test_the_provider_explains_a_token(load: Callable[..., Any], provider: oauth.Provider, words: list[str]) -> None:
    module, now = load(*words, "cachetime=30s"), time.time()
    answer = asked(module, provider.opaque(), "XOAUTH2")
    assert (answer.outcome, answer.user) == (Outcome.OK, "joe@example.org")
    assert now + 29 <= answer.until <= time.time() + 30
    for token in ("unknown", provider.token(), "a/b+c=="):
        assert asked(module, token) == Answer(Outcome.DENIED, why="the provider says that it is not good")
    assert len(provider.asked) == 4
    module.probe()


def test_what_the_provider_says_is_judged_too(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module, end = load(*INTROSPECT, "audience=pop3", "issuer={}", "scope=pop"), int(time.time()) + 5
    assert asked(module, provider.opaque(exp=end)).until == end
    assert asked(module, provider.opaque(exp=None, iss=None)).outcome is Outcome.OK
    for changes, why in (({"exp": end - 1000}, "expired"), ({"aud": "imap"}, "audience"), ({"scope": "x"}, "scope"),
                         ({"iss": "https://evil"}, "issuer"), ({"cnf": {}}, "it is bound to a key"),
                         ({"email": None}, "claim email is missing"), ({"email_verified": False}, "its email address")):
        answer = asked(module, provider.opaque(**changes))
        assert answer.outcome is Outcome.DENIED and answer.why.startswith(why), answer
    google = load(*TOKENINFO)
    assert asked(google, provider.opaque(exp=end)).until == end
    assert asked(google, provider.opaque(aud="imap")).why == "audience 'imap' is not among audience="


@pytest.mark.parametrize("words, path, body, status, why", [
    (INTROSPECT, "/introspect", b"{}", 200, "does not say whether"),
    (INTROSPECT, "/introspect", b'{"active": "true"}', 200, "does not say whether"),
    (INTROSPECT, "/introspect", b'{"active": 1}', 200, "does not say whether"),
    (INTROSPECT, "/introspect", b"x", 200, "not a JSON object"),
    (INTROSPECT, "/introspect", b'{"error": "invalid_client"}', 401, "HTTP status 401"),
    (INTROSPECT, "/introspect", b'{"active": false}', 400, "HTTP status 400"),
    (INTROSPECT, "/introspect", b'{"active": true, "x": "' + b"x" * 200_000, 200, "more than 131072 octets"),
    (TOKENINFO, "/tokeninfo", b"{}", 400, "does not say whether"), (TOKENINFO, "/tokeninfo", b"Bad", 400, "not a JSON"),
    (TOKENINFO, "/tokeninfo", b"{}", 403, "HTTP status 403"), (USERINFO, "/userinfo", b"{}", 400, "HTTP status 400"),
    (USERINFO, "/userinfo", b"", 503, "HTTP status 503")], ids=range(12))
def test_explanations_that_are_none(load: Callable[..., Any], provider: oauth.Provider, words: list[str], path: str,
                                    body: bytes, status: int, why: str) -> None:
    provider.documents[path] = oauth.Answer(body, status)
    answer = asked(load(*words), provider.opaque())
    assert answer.outcome is Outcome.FAILED and why in answer.why and oauth.SECRET not in answer.why


def test_signed_tokens_are_verified_and_others_explained(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module = load(*KEYS, *INTROSPECT)
    for token in (provider.token(), provider.opaque()):
        assert asked(module, token).outcome is Outcome.OK
    assert provider.asked == [f"GET {CONFIGURATION}", "GET /keys", "POST /introspect"]


def test_the_formats_of_microsoft(load: Callable[..., Any], provider: oauth.Provider) -> None:
    tenant = "9122040d-6c67-4c5b-b112-36a304b66dad"
    issuer = f"{provider.issuer}/{tenant}/v2.0"
    provider.documents["/common" + CONFIGURATION] = oauth.Answer(
        f'{{"issuer": "{provider.issuer}/{{tenantid}}/v2.0", "jwks_uri": "{provider.issuer}/keys"}}'.encode())
    module = load("discover={}/common" + CONFIGURATION, f"issuer={issuer}", "audience=api://popular,app",
                  "userclaim=preferred_username", "scope=POP.AccessAsUser.All")
    claims = provider.claims(iss=issuer, aud="app", scope=None, scp="POP.AccessAsUser.All User.Read", ver="2.0",
                             tid=tenant, email=None, preferred_username="Joe@Example.org", azp="x", uti="x", rh="0.x")
    answer = asked(module, oauth.signed(claims, KEY, "RS256", typ="JWT", x5t=KEY.kid))
    assert (answer.outcome, answer.user) == (Outcome.OK, "Joe@Example.org")
    other = f"{provider.issuer}/another-tenant/v2.0"
    assert "is not among issuer=" in asked(module, oauth.signed({**claims, "iss": other}, KEY, "RS256")).why


@pytest.mark.parametrize("password, outcome", [("hunter2", "unknown"), ("a b" * 20, "unknown"), ("x" * 31, "unknown"),
                                               ("x" * 32, "denied"), ("", "unknown"), ("token", "ok")])
def test_a_password_may_be_a_token(load: Callable[..., Any], provider: oauth.Provider, password: str,
                                   outcome: str) -> None:
    password = provider.opaque() if password == "token" else password
    assert asked(load(*INTROSPECT, "aspassword=yes"), password, "").outcome.value == outcome
    assert len(provider.asked) == (outcome != "unknown")
    assert asked(load(*INTROSPECT), password, "") == UNKNOWN


def test_only_signed_tokens_are_passwords_if_no_others_are_good(load: Callable[..., Any],
                                                                provider: oauth.Provider) -> None:
    module = load(*KEYS, "aspassword=yes")
    assert asked(module, provider.token(), "").user == "joe@example.org"
    assert asked(module, "x" * 64, "") == UNKNOWN


def test_a_pattern_says_where_mail_is(load: Callable[..., Any], provider: oauth.Provider) -> None:
    module = load(*KEYS, "backend=store1", "mailbox=%1h/%u", "protocol=cxpop")
    assert module.mechanisms == {"OAUTHBEARER", "XOAUTH2", PROVEN} and module.backends == ("store1",)
    place = Found("store1", "cxpop", "8/joe", verified=True)
    assert asked(module, "", PROVEN) == Answer(Outcome.OK, place) and module.find("joe", "x") == place
    assert module.find("../joe", "x") is None and asked(module, "hunter2", "") == UNKNOWN
    other = load(*KEYS)
    assert other.mechanisms == {"OAUTHBEARER", "XOAUTH2"} and other.find("joe", "x") is None


@pytest.mark.parametrize("words, why", [
    ("", "discover, jwks or introspect is missing"), ("discover=https://a/ jwks=https://b/", "not both"),
    ("discover=https://id/.well-known/openid-configuration", "audience is missing"),
    ("jwks=https://id/keys audience=x", "issuer is missing"), ("discover=https://id/ audience=x", "issuer is missing"),
    ("jwks=http://id/keys audience=x issuer=y", "jwks: http://id/keys must begin with https://"),
    ("introspect=http://id/x", "must begin with https://"), ("introspect=ftp://id/x", "introspect: "),
    ("introspect=https://id/ clientid=x", "belong together"), ("introspect=https://id/ clientsecret=x", "together"),
    ("introspect=https://id/ method=bearer clientid=x clientsecret=y", "clientid is for introspect with method=post"),
    ("introspect=https://id/ backend=x", "backend and mailbox belong together"),
    ("introspect=https://id/ backend=x mailbox=%q", "%q is unknown"), ("introspect=https://id/ audience=", "audience:"),
    ("jwks=https://id/k issuer=x audience=x algorithms=HS256", "algorithms: "),
    ("jwks=https://id/k issuer=x audience=x algorithms=none", "algorithms: ")])
def test_wrong_arguments(words: str, why: str) -> None:
    with pytest.raises(PdmError, match=why):
        make_module("oauth", *words.split())


def test_the_secret_is_not_shown(tmp_path: Any) -> None:
    words = ["introspect=https://id.example.org/x", "clientid=popular", "clientsecret=s3cret"]
    assert make_module("oauth", *words).describe() == " ".join([*words[:2], "'clientsecret=***'"])
    module = make_module("oauth", *words[:2], f"clientsecretfile={tmp_path}/secret")
    with pytest.raises(PdmError, match="No such file"):
        module.open()


def test_what_drivers_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import jwt

    module = make_module("oauth", "jwks=https://id/k", "issuer=x", "audience=x")
    monkeypatch.setattr(jwt.algorithms, "has_crypto", False)
    with pytest.raises(PdmError, match="^needs the Python package cryptography, too"):
        module.open()
