"""The module poauth: when tokens are refreshed, by whom, and what comes of a provider's refusals and failures."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popular.net.tls.context import KeyPair
from popular.pdm.api import UNKNOWN, NoConsent, PdmError
from popular.pdm.oauth import gateway
from popular.pdm.oauth.oauthclient import Tokens
from popular.pdm.timelimit import TimeUp
from tests.harness.authserver import AuthServer, Reply, error
from tests.harness.certificates import Authority
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request
from tests.harness.tokenmodule import ANN, JOE, Load, grant, loading, store_of, token

need_module("cryptography")
need_module("urllib3")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("localhost", stem="oauth")


@pytest.fixture
def server(pair: KeyPair) -> Iterator[AuthServer]:
    made = AuthServer(pair)
    yield made
    made.close()


@pytest.fixture
def load(server: AuthServer, authority: Authority, tmp_path: Path) -> Iterator[Load]:
    with loading(server, authority.cafile, tmp_path) as make:
        yield make


def later(monkeypatch: pytest.MonkeyPatch, module: Any, seconds: float) -> None:
    """Let time pass."""
    def clock() -> float:
        return now() + seconds
    now = time.time
    monkeypatch.setattr(gateway, "time", SimpleNamespace(time=clock, monotonic=time.monotonic, sleep=time.sleep))
    store_of(module)._clock = clock


def test_it_knows_no_users(load: Load) -> None:
    module = load()
    assert module.check(make_request("joe")) == UNKNOWN and module.find("joe", "default") is None
    assert module.backends == ("store",) and module.gives_tokens and module.blocking


def test_a_token_is_got_once_and_refreshed_before_it_expires(load: Load, server: AuthServer,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    module, other = load(), load()
    refresh = grant(module, server)
    first = token(module, "Joe@Example.ORG")
    assert [token(one) for one in (module, other, module)] == [first] * 3 == [server.given[0]] * 3
    [(path, form)] = server.asked
    assert (path, form["grant_type"], form["refresh_token"]) == ("/token", "refresh_token", refresh)
    later(monkeypatch, module, 3600 - 290)
    assert [token(module), token(module)] == [server.given[1]] * 2
    kept = store_of(module).find(JOE)
    assert kept is not None and kept.generation == 3 and kept.trouble == ""


def test_a_token_that_a_backend_refuses_is_replaced_once(load: Load, server: AuthServer,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server, seconds=3600)
    first = token(module)
    assert token(module, refused=first) == first and not server.asked, "a fresh one: another would not help"
    later(monkeypatch, module, 61)
    assert token(module) == first and token(module, refused="older") == first and not server.asked
    second = token(module, refused=first)
    assert [second] == server.given and token(module) == second
    assert token(module, refused=first) == second, "another session has had it replaced"
    assert token(module, refused=second) == second and len(server.asked) == 1
    later(monkeypatch, module, 122)
    server.consents.clear()
    for _ in range(2):
        with pytest.raises(NoConsent, match="invalid_grant"):
            token(module, refused=second)
    assert len(server.asked) == 2


def test_a_refused_token_does_not_stand_in_for_a_fresh_one(load: Load, server: AuthServer,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server, seconds=3600)
    later(monkeypatch, module, 61)
    server.next = [error("temporarily_unavailable", 503)]
    for _ in range(2):
        with pytest.raises(PdmError, match="temporarily_unavailable"):
            token(module, refused=f"first-of-{JOE}")
    assert len(server.asked) == 1 and token(module) == f"first-of-{JOE}", "others may try it"


def test_tokens_are_for_the_user_and_backend(load: Load, server: AuthServer) -> None:
    module = load()
    grant(module, server, seconds=3600)
    assert token(module) == f"first-of-{JOE}"
    for user in (ANN, "", "joe", "joe@example.org\0", "joe@example.org\udcff", "x" * 10_000, "%", "\n",
                 "' OR 1=1 --"):
        with pytest.raises(NoConsent, match="no consent was given for user"):
            token(module, user)
    with pytest.raises(NoConsent, match="backend 'other' is not among backends="):
        module.token(JOE, "other", time.monotonic() + 9, "")
    with pytest.raises(NoConsent):    # another module's users, though the store is the same
        token(load(ident="other"))
    assert not server.asked


def test_refresh_tokens_rotate(load: Load, server: AuthServer) -> None:
    server.rotates, server.lifetime = True, 20
    module = load()
    tokens = [grant(module, server)]
    for number in range(3):
        assert token(module) == server.given[number]
        tokens.append(store_of(module).refresh_token(JOE))
        assert list(server.consents) == tokens[-1:]
    assert len(set(tokens)) == 4


@pytest.mark.parametrize("ended", [KeyboardInterrupt, TimeUp, MemoryError])
def test_no_refresh_token_is_lost_if_a_worker_ends(load: Load, server: AuthServer, monkeypatch: pytest.MonkeyPatch,
                                                   ended: type[BaseException]) -> None:
    server.rotates = True
    module, other = load(), load()
    grant(module, server)
    keep = store_of(module).keep

    def die(*args: object) -> None:
        keep(*args)
        raise ended
    monkeypatch.setattr(store_of(module), "keep", die)    # between store and answer
    with pytest.raises(ended):
        token(module)
    assert token(other) == server.given[0] and len(server.asked) == 1

    monkeypatch.setattr(module._gateway.client, "refreshed", raise_this(ended))    # before the question
    later(monkeypatch, module, 4000)
    with pytest.raises(ended):
        token(module)
    store_of(other)._clock = store_of(module)._clock
    assert token(other) == server.given[1], "the claim was given back"


def raise_this(why: type[BaseException]) -> Callable[..., Any]:
    def call(*args: object) -> None:
        raise why
    return call


def test_the_claim_of_a_worker_that_was_killed_expires(load: Load, server: AuthServer,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server)
    assert store_of(module).claim(store_of(module).find(JOE), 7.0) is not None
    with pytest.raises(PdmError, match="another session has begun to refresh the token"):
        token(module, seconds=0.1)
    later(monkeypatch, module, 7.1)
    assert token(module) == server.given[0]
    assert store_of(module).claim(store_of(module).find(JOE), 7.0) is not None
    later(monkeypatch, module, -5000)    # the clock was wrong: a claim from the future does not count
    assert store_of(module).claim(store_of(module).find(JOE), 7.0) is not None


@pytest.mark.parametrize("seconds", [0, 200], ids=["expired", "about to expire"])
def test_many_want_a_token_and_one_refreshes_it(load: Load, server: AuthServer, monkeypatch: pytest.MonkeyPatch,
                                                seconds: float) -> None:
    grant(load(), server, seconds=seconds)
    server.waits = True
    looked = threading.Semaphore(0)

    def sleep(pause: float) -> None:
        looked.release()
        time.sleep(pause)
    monkeypatch.setattr(gateway, "time", SimpleNamespace(time=time.time, monotonic=time.monotonic, sleep=sleep))
    found: list[str] = []

    def work() -> None:
        module = make()
        found.append(token(module))
        module.close()
    words = load().args

    def make() -> Any:
        module = make_module("poauth", *words, ident="gate")
        module.open()
        return module
    threads = [threading.Thread(target=work)]
    threads[0].start()
    server.arrived.acquire()
    threads += [threading.Thread(target=work) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    if seconds:    # they use what is valid still
        for thread in threads[1:]:
            thread.join()
        assert found == [f"first-of-{JOE}"] * 3
    else:
        for _ in threads[1:]:
            looked.acquire()
    server.go_on()
    for thread in threads:
        thread.join()
    assert found[-1] == server.given[0] and len(server.given) == 1 == len(server.asked)
    assert set(found) == ({f"first-of-{JOE}", server.given[0]} if seconds else {server.given[0]})


def test_consent_was_withdrawn(load: Load, server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server)
    server.consents.clear()
    for _ in range(3):
        with pytest.raises(NoConsent, match="HTTP status 400, invalid_grant: Token has been expired or revoked"):
            token(module)
    assert len(server.asked) == 1, "it is not asked again at each login"
    kept = store_of(module).find(JOE)
    assert kept is not None and kept.is_refused
    later(monkeypatch, module, 601)
    with pytest.raises(NoConsent):
        token(module)
    assert len(server.asked) == 2
    grant(module, server)
    assert token(module) == server.given[0]


@pytest.mark.parametrize("reply, is_common, wait", [
    (Reply({}, 503, {"Retry-After": "120"}), True, 120), (error("invalid_request"), False, 1)], ids=["all", "one user"])
def test_a_provider_in_trouble(load: Load, server: AuthServer, monkeypatch: pytest.MonkeyPatch, reply: Reply,
                               is_common: bool, wait: float) -> None:
    module = load()
    grant(module, server)
    grant(module, server, ANN)
    server.next = [reply]
    with pytest.raises(PdmError, match=f"HTTP status {reply.status}"):
        token(module)
    with pytest.raises(PdmError, match=rf"HTTP status {reply.status}.* \(will be asked again in {wait:.0f} s\)"):
        token(module)
    assert len(server.asked) == 1
    if is_common:
        with pytest.raises(PdmError, match="asked again"):
            token(module, ANN)
    else:
        assert token(module, ANN) == server.given[0]
    later(monkeypatch, module, wait + 0.1)
    assert token(module) == server.given[-1]
    assert token(module, ANN) in server.given and store_of(module).find("").failures == 0


def test_a_provider_that_stays_down_is_asked_less_and_less(load: Load, server: AuthServer,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    module = load()
    grant(module, server, seconds=4000 + 200)
    passed, waits = 4000.0, []
    for _ in range(9):
        later(monkeypatch, module, passed)
        server.next = [error("server_error", 500)]
        assert token(module) == f"first-of-{JOE}", "it is valid still"
        waits.append(store_of(module).find("").retry - time.time() - passed)
        passed += waits[-1] + 0.001
        if passed > 4160:
            break
    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, 32, 60, 60][:len(waits)] and len(waits) >= 7


def test_a_slow_provider(load: Load, server: AuthServer) -> None:
    module = load("timeout=60")
    grant(module, server)
    server.waits = True
    began = time.monotonic()
    with pytest.raises(PdmError, match="no answer within"):
        token(module, seconds=1.2)
    assert time.monotonic() - began < 5 and store_of(module).find("").failures == 1


def test_a_question_for_which_no_time_is_left_is_not_asked(load: Load, server: AuthServer) -> None:
    module = load()
    grant(module, server)
    with pytest.raises(PdmError, match="too little time was left"):
        token(module, seconds=0.9)
    grant(module, server, seconds=200)
    assert token(module, seconds=0.9) == f"first-of-{JOE}" and not server.asked
    assert token(module) == server.given[0]


def test_what_comes_late_changes_nothing(load: Load, server: AuthServer) -> None:
    module = load()
    grant(module, server)
    store = store_of(module)
    old = store.find(JOE)
    assert store.claim(old, 7.0) is not None
    grant(module, server, seconds=3600)    # a new consent meanwhile
    new = store.find(JOE)
    store.put_off(old, JOE, 600.0, "refused", is_refused=True)
    store.keep(old, Tokens("late", 3600.0, "late"))
    assert store.find(JOE) == new and token(module) == f"first-of-{JOE}"


@pytest.mark.parametrize("column", ["until", "retry"])
def test_a_clock_that_was_wrong_does_no_harm(load: Load, server: AuthServer, column: str) -> None:
    module = load()
    grant(module, server)
    store_of(module)._run(f"UPDATE grants SET {column} = ?", time.time() + 1e6)
    assert token(module) == server.given[0]


def test_the_application_has_a_token_of_its_own(load: Load, server: AuthServer) -> None:
    module = load("grant=client_credentials")
    assert [token(module, user) for user in ("joe", "ann", "joe")] == [server.given[0]] * 3
    assert [form["grant_type"] for _, form in server.asked] == ["client_credentials"]
    assert store_of(module).users() == []


def test_client_authentication_by_http(load: Load, server: AuthServer) -> None:
    module = load("clientauth=basic")
    grant(module, server)
    assert token(module) == server.given[0] and "client_secret" not in server.asked[0][1]


@pytest.mark.parametrize("words, text", [
    ("provider=google backends=g", "clientid"), ("provider=google clientid=x", "backends"),
    ("provider=google backends=g clientid=x tenant=common", "tenant: only with provider=microsoft"),
    ("provider=microsoft backends=g clientid=x tenant=a/b", "tenant: only with"),
    ("provider=microsoft backends=g clientid=x grant=client_credentials", "tenant: needed with"),
    ("backends=g clientid=x", "tokenurl: needed with provider=custom"),
    ("backends=g clientid=x tokenurl=http://localhost/", "not an https:// URL"),
    ("backends=g clientid=x tokenurl=https://h/ authurl=https://h/a", "redirect: needed"),
    ("provider=google backends=g,,h clientid=x", "a list of ids"),
    ("provider=google backends=g clientid=x secret=a secretfile=/b", "not both"),
])
def test_wrong_arguments(words: str, text: str) -> None:
    with pytest.raises(PdmError, match=text):
        make_module("poauth", *words.split())


def test_the_big_providers() -> None:
    words = ["backends=g", "clientid=x"]
    google, microsoft = (make_module("poauth", f"provider={name}", *words).provider for name in ("google", "microsoft"))
    assert google.token.url == "https://oauth2.googleapis.com/token" and google.device is None
    assert google.scope == "https://mail.google.com/"
    assert google.more == (("access_type", "offline"), ("prompt", "consent"))
    assert microsoft.token.url == "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    assert microsoft.scope == "https://outlook.office.com/POP.AccessAsUser.All offline_access"
    own = make_module("poauth", "provider=microsoft", "tenant=example.com", "grant=client_credentials", "secret=hidden",
                      *words)
    assert own.provider.token.path == "/example.com/oauth2/v2.0/token" and "hidden" not in own.describe()
    assert own.provider.scope == "https://outlook.office365.com/.default"
