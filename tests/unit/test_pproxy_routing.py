"""From a record to a backend: which records lead somewhere."""

from dataclasses import replace

import pytest

from popular.addresses import Endpoint
from popular.pdm.api import Answer, Found, Outcome
from popular.pdm.asking.chain import Step
from popular.pproxy.backends.backendlogin import Account, BackendLogin
from popular.pproxy.backends.routing import NoRoute, find_route, step_line
from popular.pproxy.objects import Backend


def backend(protocol: str) -> Backend:
    """A backend that is named after its protocol."""
    address = Endpoint("127.0.0.1", 1110)
    return Backend(protocol, protocol, address, address, None, True, False, True, 0.5, 3, 5.0, 10.0)


BACKENDS = {protocol: backend(protocol) for protocol in ("cxpop", "xpop", "pop3")}


def test_the_record_s_protocol_wins() -> None:
    route = find_route(BACKENDS, Found("cxpop", "pop3", user="joe", password=b"secret"))
    assert (route.backend.ident, route.protocol, route.where) == ("cxpop", "pop3", "joe")


def test_an_empty_protocol_is_the_backend_s() -> None:
    route = find_route(BACKENDS, Found("xpop", mailbox="3/2d/joe.doe", master=True))
    assert (route.protocol, route.where, route.master) == ("xpop", "3/2d/joe.doe", True)


@pytest.mark.parametrize(("found", "why"), [
    pytest.param(Found("nowhere", mailbox="a"), "no backend", id="unknown-backend"),
    pytest.param(Found("cxpop", "imap", mailbox="a"), "no protocol", id="unknown-protocol"),
    pytest.param(Found("cxpop"), "not well-formed", id="no-mailbox"),
    pytest.param(Found("xpop", mailbox="../joe"), "not well-formed", id="spec-2.4-dots"),
    pytest.param(Found("xpop", mailbox="/joe"), "not well-formed", id="spec-8.1-absolute"),
    pytest.param(Found("pop3", mailbox="joe"), "needs a user", id="pop3-without-user"),
])
def test_no_route(found: Found, why: str) -> None:
    with pytest.raises(NoRoute, match=why):
        find_route(BACKENDS, found)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(find_route(BACKENDS, Found("pop3", user="joe", password=b"secret")))


@pytest.mark.parametrize(("backend_", "verified", "password", "is_vouched"), [
    pytest.param("pop3", True, b"given", True, id="the-module-has-checked-it"),
    pytest.param("pop3", False, b"given", False, id="the-backend-will"),
    pytest.param("pop3", False, b"other", False, id="the-backend-will-check-another"),
    pytest.param("pop3", None, b"given", False, id="nobody-says-and-the-backend-could"),
    pytest.param("pop3", None, b"other", True, id="nobody-says-and-the-backend-could-not"),
    pytest.param("xpop", False, b"given", True, id="no-backend-checks-it"),
    pytest.param("cxpop", None, b"given", True, id="no-backend-checks-it-nor-says-so"),
])
def test_who_has_checked_the_password(backend_: str, verified: bool | None, password: bytes, is_vouched: bool) -> None:
    found = Found(backend_, "", "box", "joe", password, verified=verified)
    assert find_route(BACKENDS, found, b"given").is_vouched is is_vouched


NEEDS_NO_PASSWORD = [BackendLogin("user", Account("admin", b"x")), BackendLogin("external"), BackendLogin("xoauth2")]


@pytest.mark.parametrize("login", NEEDS_NO_PASSWORD, ids=lambda login: login.how)
def test_a_backend_that_gets_no_password_needs_somebody_else_to_check_it(login: BackendLogin) -> None:
    backends = {"pop3": replace(BACKENDS["pop3"], login=login)}
    route = find_route(backends, Found("pop3", user="joe", password=b"given", verified=True), b"given")
    assert (route.is_vouched, route.password, route.lacks_token) == (True, b"", login.takes_token)
    for verified in (False, None):
        with pytest.raises(NoRoute, match="no database module has checked it"):
            find_route(backends, Found("pop3", user="joe", password=b"given", verified=verified), b"given")
    assert find_route(backends, Found("pop3", user="joe", verified=False)).user == "joe"    # nobody logs in


@pytest.mark.parametrize(("how", "mechanism", "password"), [
    ("xoauth2", "OAUTHBEARER", b"token"), ("oauthbearer", "XOAUTH2", b"token"), ("oauthbearer", "EXTERNAL", b""),
    ("xoauth2", "SCRAM-SHA-256", b"")])
def test_only_a_token_of_the_client_is_passed_on(how: str, mechanism: str, password: bytes) -> None:
    backends = {"pop3": replace(BACKENDS["pop3"], login=BackendLogin(how))}
    route = find_route(backends, Found("pop3", user="joe"), b"token", mechanism)
    assert (route.password, route.lacks_token) == (password, not password)


@pytest.mark.parametrize(("found", "told"), [
    (Found("store", "", "joe"), ""), (Found("store", "", "joe", quota=0), " quota=0"),
    (Found("store", "", "joe", quota=500, maxnum=9), " quota=500 maxnum=9")])
def test_what_a_module_found_is_shown_with_its_quota(found: Found, told: str) -> None:
    assert step_line(Step("users", "sqlite", Answer(Outcome.OK, found)), "found") == (
        f"users found module='sqlite' backend='store' protocol='' mailbox='joe' user=''{told}")
