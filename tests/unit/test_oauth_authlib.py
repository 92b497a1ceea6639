"""What POPular asks a provider and what it makes of the answers, with a provider whose protocol is Authlib's."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popular.net.tls.context import KeyPair
from popular.pdm.api import Answer, NoConsent, Outcome
from popular.pdm.oauth.oauthclient import PENDING, ProviderTrouble
from tests.harness.authserver import CLIENT, SECRET
from tests.harness.certificates import Authority
from tests.harness.needs import need_module
from tests.harness.oauth import make_key
from tests.harness.pdm import make_module, make_request
from tests.harness.tokenmodule import JOE, Load, loading

need_module("authlib")
need_module("cryptography")
need_module("urllib3")

from tests.harness.authlibserver import AUDIENCE, AuthlibServer    # noqa: E402    # as Authlib may be missing


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("localhost", stem="authlib")


@pytest.fixture
def server(pair: KeyPair) -> Iterator[AuthlibServer]:
    made = AuthlibServer(pair)
    yield made
    made.close()


@pytest.fixture
def load(server: AuthlibServer, authority: Authority, tmp_path: Path) -> Iterator[Load]:
    with loading(server, authority.cafile, tmp_path) as make:
        yield make


def soon() -> float:
    return time.monotonic() + 10


@pytest.mark.parametrize("words", [[], ["clientauth=basic"]], ids=["form", "basic"])
def test_consent_by_device_refresh_and_revocation(load: Load, server: AuthlibServer, words: list[str]) -> None:
    client = load(*words)._gateway.client
    server.someone, server.polls = JOE, 1
    device = client.device(soon())
    with pytest.raises(ProviderTrouble) as pending:
        client.device_tokens(device, soon())
    assert pending.value.error == PENDING and device.url == f"{server.url}/link" and device.interval == 5
    first = client.device_tokens(device, soon())
    second = client.refreshed(first.refresh, soon())
    assert second.access != first.access and second.seconds == 3600 and second.refresh not in ("", first.refresh)
    with pytest.raises(NoConsent, match="invalid_grant"):
        client.refreshed(first.refresh, soon())
    assert client.revoke(second.refresh, soon())
    with pytest.raises(NoConsent, match="invalid_grant"):
        client.refreshed(second.refresh, soon())


def test_consent_by_code_with_pkce(load: Load, server: AuthlibServer) -> None:
    client, state, verifier = load()._gateway.client, "s" * 43, "v" * 43
    for wrong in (True, False):
        back = server.browse(client.browser_url(JOE, state, verifier), JOE)
        if wrong:
            with pytest.raises(NoConsent, match="invalid_grant"):
                client.code_tokens(back, state, "x" * 43, soon())
            continue
        tokens = client.code_tokens(back, state, verifier, soon())
        assert tokens.refresh and server.given == [tokens.access]
        with pytest.raises(NoConsent, match="invalid_grant"):    # twice
            client.code_tokens(back, state, verifier, soon())


def test_a_token_of_the_application(load: Load, server: AuthlibServer) -> None:
    assert load("grant=client_credentials")._gateway.client.own(soon()).access == server.given[0]


def asked(module: Any, token: str) -> Answer:
    """Return what the module oauth says of a token."""
    request = replace(make_request("joe", token), mechanism="OAUTHBEARER", deadline=soon())
    answer = module.check(request)
    assert isinstance(answer, Answer)
    return answer


def test_signed_tokens_whose_keys_rotate(load: Load, server: AuthlibServer, authority: Authority,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    client = load()._gateway.client
    module = make_module("oauth", f"jwks={server.url}/keys", f"issuer={server.url}", f"audience={AUDIENCE}",
                         f"cafile={authority.cafile}", "scope=https://mail.example.org/pop")
    module.open()
    server.someone = JOE

    def token() -> str:
        server.polls = 0
        return str(client.device_tokens(client.device(soon()), soon()).access)

    try:
        first = token()
        answer = asked(module, first)
        assert (answer.outcome, answer.user) == (Outcome.OK, JOE), answer.why
        server.keys.insert(0, make_key("RS256", "second"))
        monkeypatch.setattr(module._ring, "_tried", -float("inf"))    # or they are not asked for again so soon
        assert [asked(module, each).outcome for each in (token(), first)] == [Outcome.OK] * 2
        assert asked(module, first[:-8] + "AAAAAAAA").outcome is Outcome.DENIED
    finally:
        module.close()


def test_tokens_are_explained_and_revoked(load: Load, server: AuthlibServer, authority: Authority) -> None:
    client = load()._gateway.client
    module = make_module("oauth", f"introspect={server.url}/introspect", f"clientid={CLIENT}",
                         f"clientsecret={SECRET}", f"audience={AUDIENCE}", f"cafile={authority.cafile}")
    module.open()
    server.someone = JOE
    try:
        tokens = client.device_tokens(client.device(soon()), soon())
        answer = asked(module, tokens.access)
        assert (answer.outcome, answer.user) == (Outcome.OK, JOE), answer.why
        assert client.revoke(tokens.refresh, soon())
        assert asked(module, tokens.access).outcome is Outcome.DENIED
    finally:
        module.close()
