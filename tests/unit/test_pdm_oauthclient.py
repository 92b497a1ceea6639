"""The OAuth client: what a provider's answers mean, those of the big ones among them, and how consent is got."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from popular.net.tls.context import KeyPair
from popular.pdm.api import NoConsent, PdmError
from popular.pdm.oauth.oauthclient import (
    PENDING, SLOW_DOWN, AppCredentials, OAuthClient, Provider, ProviderTrouble, Url)
from tests.harness.authserver import CLIENT, SCOPE, SECRET, AuthServer, Reply, error
from tests.harness.certificates import Authority
from tests.harness.needs import need_module

need_module("urllib3")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("localhost", stem="oauth")


@pytest.fixture
def server(pair: KeyPair) -> Iterator[AuthServer]:
    made = AuthServer(pair)
    yield made
    made.close()


def make_client(server: AuthServer, authority: Authority | None, secret: str = SECRET) -> OAuthClient:
    paths = ("token", "device", "authorize?theme=x", "revoke")
    token, device, authorize, revoke = (Url().parse(f"{server.url}/{path}") for path in paths)
    provider = Provider(token, SCOPE, device, authorize, revoke, "http://localhost/back")
    return OAuthClient(provider, AppCredentials(CLIENT, secret), 5.0, authority.cafile if authority else None)


def soon() -> float:
    return time.monotonic() + 10


# Of these an answer is trouble: for all users or one, with a time to wait.
TROUBLES: list[tuple[Reply, bool, float, str]] = [
    (Reply({}, 503, {"Retry-After": "120"}), True, 120, "HTTP status 503, not an OAuth answer"),
    (error("temporarily_unavailable", 503), True, 0, "HTTP status 503, temporarily_unavailable"),
    (error("invalid_grant", 500), True, 0, "HTTP status 500, invalid_grant"),
    (error("slow_down", 429), True, 0, "HTTP status 429, slow_down"),
    (Reply({"error": {"code": 429}}, 429, {"Retry-After": "Mon, 30 Nov 2026 12:00:00 GMT"}), True, 0, "not an OAuth"),
    (Reply({}, 429, {"Retry-After": "99999999"}), True, 3600, "HTTP status 429"),
    (error("invalid_client", 401), True, 0, "HTTP status 401, invalid_client"),
    (error("invalid_scope"), True, 0, "HTTP status 400, invalid_scope"),
    (error("invalid_request", description=f"wrong: {SECRET}"), False, 0, "HTTP status 400, invalid_request"),
    (error("invalid_request", description="wrong: my-refresh-token"), False, 0, "HTTP status 400, invalid_request"),
    (error("\x1b[2J"), True, 0, "HTTP status 400, not an OAuth answer"),
    (error("invalid_request", description="\x1b]0;\r\n  line\t" + "x" * 900), False, 0, "invalid_request: ]0; line xx"),
    (Reply(b"<html>"), True, 0, "not an OAuth answer"), (Reply(b"[" * 50_000), True, 0, "not an OAuth answer"),
    (Reply(b"\xff"), True, 0, "not an OAuth answer"), (Reply([1]), True, 0, "not an OAuth answer"),
    (Reply({"access_token": "a", "padding": "x" * 70_000, "token_type": "Bearer"}), True, 0, "not an OAuth answer"),
    (Reply({"access_token": "a\nb", "token_type": "Bearer"}), True, 0, "no bearer token in the answer"),
    (Reply({"access_token": "a", "token_type": "mac"}), True, 0, "no bearer token in the answer"),
    (Reply({"access_token": 7, "token_type": "Bearer"}), True, 0, "no bearer token in the answer"),
    (Reply({"location": "x"}, 302, {"Location": "https://elsewhere/"}), True, 0, "HTTP status 302"),
    (Reply(None), True, 0, "RemoteDisconnected|ProtocolError|Connection"),
]

# As Microsoft documents its answers.
MORE: dict[str, object] = {"error_codes": [700082], "timestamp": "2026-11-30 02:02:12Z", "trace_id": "255d1aef-8c98",
                           "correlation_id": "fb3d2015-bc17"}
TRACE = "\r\nTrace ID: 255d1aef-8c98\r\nCorrelation ID: fb3d2015-bc17\r\nTimestamp: 2026-11-30 02:02:12Z"
EXPIRED = "AADSTS700082: The refresh token has expired due to inactivity."
FACTORS = "AADSTS50076: Due to a configuration change, you must use multi-factor authentication."
KEYS = "AADSTS7000222: The provided client secret keys for app 'x' are expired."
NO_APP = "AADSTS700016: Application with identifier 'x' was not found in the directory 'y'."
MICROSOFT = [
    ("invalid_grant", 400, EXPIRED, True), ("interaction_required", 400, FACTORS, True),
    ("invalid_client", 401, KEYS, False), ("unauthorized_client", 400, NO_APP, False)]
# Google's have no more than this.
GOOGLE = [
    ("invalid_grant", 400, "Token has been expired or revoked.", True), ("invalid_grant", 400, "Bad Request", True),
    ("invalid_client", 401, "The OAuth client was not found.", False)]


def test_what_the_answers_of_a_provider_mean(server: AuthServer, authority: Authority) -> None:
    client = make_client(server, authority)
    for reply, is_common, wait, text in TROUBLES:
        server.next = [reply]
        with pytest.raises(ProviderTrouble, match=text) as caught:
            client.refreshed("my-refresh-token", soon())
        assert (caught.value.is_common, caught.value.wait) == (is_common, wait), reply
        told = str(caught.value)
        assert told.isprintable() and len(told) < 400 and SECRET not in told and "my-refresh-token" not in told
    for code, status, text, is_refused in (*MICROSOFT, *GOOGLE):
        is_google = (code, status, text, is_refused) in GOOGLE
        server.next = [Reply({"error": code, "error_description": text if is_google else text + TRACE,
                              **({} if is_google else MORE)}, status)]
        with pytest.raises(PdmError) as refused:
            client.refreshed("my-refresh-token", soon())
        assert isinstance(refused.value, NoConsent) is is_refused
        assert f"HTTP status {status}, {code}: {text}" in str(refused.value)


@pytest.mark.parametrize("told, seconds", [(3599, 3599), ("3599", 3599), (None, 300), (-1, 300), (True, 300),
                                           (1e30, 300), (999_999, 86400), ([], 300)])
def test_how_long_a_token_is_valid(server: AuthServer, authority: Authority, told: object, seconds: float) -> None:
    server.next = [Reply({"access_token": "a", "token_type": "bearer", "expires_in": told, "refresh_token": 7})]
    tokens = make_client(server, authority).refreshed("x", soon())
    assert (tokens.access, tokens.seconds, tokens.refresh) == ("a", seconds, "")


def test_servers_that_are_not_trusted_get_no_secrets(server: AuthServer) -> None:
    with pytest.raises(ProviderTrouble, match="its certificate: "):
        make_client(server, None).refreshed("x", soon())
    assert not server.asked


def test_a_refresh_token_is_never_sent_twice(server: AuthServer, authority: Authority) -> None:
    client = make_client(server, authority)
    for number in range(2):
        server.next = [Reply(None)]
        with pytest.raises(ProviderTrouble):
            client.refreshed("x", soon())
        assert len(server.asked) == 1 + 2 * number
        client.own(soon())


def test_consent_by_device(server: AuthServer, authority: Authority) -> None:
    client = make_client(server, authority)
    device = client.device(soon())
    assert (device.user_code, device.url, device.seconds, device.interval) == (
        "WDJB-MJHT", f"{server.url}/link", 600, 1)
    server.polls = 1
    server.next = [error(SLOW_DOWN)]
    for code in (SLOW_DOWN, PENDING):
        with pytest.raises(ProviderTrouble) as caught:
            client.device_tokens(device, soon())
        assert caught.value.error == code
    assert server.consents[client.device_tokens(device, soon()).refresh] == "joe"
    with pytest.raises(NoConsent, match="expired_token"):
        client.device_tokens(device, soon())
    for code in ("access_denied", "authorization_declined"):
        server.next = [error(code)]
        with pytest.raises(NoConsent, match=code):
            client.device_tokens(device, soon())
    server.next = [Reply({"device_code": "x"})]
    with pytest.raises(ProviderTrouble, match="no device_code, user_code or verification_uri"):
        client.device(soon())


def test_consent_by_code(server: AuthServer, authority: Authority) -> None:
    client, state, verifier = make_client(server, authority), "s" * 43, "v" * 43
    pasted = server.browse(client.browser_url("joe", state, verifier), "joe")
    with pytest.raises(NoConsent, match="invalid_grant"):
        client.code_tokens(pasted, state, "w" * 43, soon())
    pasted = server.browse(client.browser_url("joe", state, verifier), "joe")
    assert server.consents[client.code_tokens(f" {pasted}\n", state, verifier, soon()).refresh] == "joe"


@pytest.mark.parametrize("query, text", [
    ("code=x", "it lacks the state"), ("code=x&state=other", "it lacks the state"), ("", "it lacks the state"),
    ("state=s", "there is no code"), ("code=x&code=y&state=s", "there is no code"),
    ("error=access_denied&state=s", "the provider says access_denied")])
def test_urls_without_a_code(server: AuthServer, authority: Authority, query: str, text: str) -> None:
    with pytest.raises((ValueError, NoConsent), match=text):
        make_client(server, authority).code_tokens(f"http://localhost/back?{query}", "s", "v", soon())
    assert not server.asked


def test_revocation(server: AuthServer, authority: Authority) -> None:
    client, token = make_client(server, authority), server.consent("joe")
    assert client.revoke(token, soon()) and not server.consents
    server.next = [error("unsupported_token_type")]
    with pytest.raises(PdmError, match="unsupported_token_type"):
        client.revoke(token, soon())
    bare = OAuthClient(Provider(client.provider.token, ""), AppCredentials(CLIENT, ""), 5.0)
    assert not bare.revoke(token, soon())
    for call in (lambda: bare.device(soon()), lambda: bare.browser_url("joe", "s", "v")):
        with pytest.raises(PdmError, match="this provider "):
            call()


def test_the_url_for_browsers_shows_no_secret(server: AuthServer, authority: Authority) -> None:
    url = make_client(server, authority).browser_url("joe&x", "s", "v" * 43)
    assert SECRET not in url and "v" * 43 not in url and "login_hint=joe%26x" in urlsplit(url).query
