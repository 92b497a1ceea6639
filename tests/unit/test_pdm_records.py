"""What modules of every database share: names that can be looked up, and the question of a probe."""

import time
from dataclasses import replace

import pytest

from popular.errors import PdmError
from popular.pdm.api import PROVEN, UNKNOWN, Answer, Found, Outcome
from popular.pdm.records import PROBE_SECONDS, answer_to, key_of, parse_record, probe_server, record_of, user_octets
from tests.harness.pdm import make_request


@pytest.mark.parametrize("user, octets, is_key", [
    ("joe", b"joe", True), ("j\udcffe", b"j\xffe", True), ("jöe", "jöe".encode(), True), ("a" * 255, b"a" * 255, True),
    ("a:b", b"a:b", False), ("#a", b"#a", False), ("", b"", False), ("' OR 1=1 --", b"' OR 1=1 --", True),
    ("a" * 256, None, False), ("ö" * 128, None, False), ("a\0b", None, False), ("a\nb", None, False),
    ("a\rb", None, False), ("a\ud800", None, False),
])
def test_names_that_can_be_looked_up(user, octets, is_key):
    assert user_octets(user) == octets
    assert key_of(user) == (octets if is_key else None)


def test_a_probe_asks_for_a_user_who_does_not_exist_and_does_not_wait_for_ever():
    asked = []
    probe_server(lambda request: asked.append(request) or UNKNOWN)
    probe_server(lambda request: asked.append(request) or Answer(Outcome.DENIED))
    assert len({request.user for request in asked}) == 1
    assert all(0 < request.deadline - time.monotonic() <= PROBE_SECONDS for request in asked)


def test_a_probe_tells_why_it_failed():
    with pytest.raises(PdmError, match="^out of order$"):
        probe_server(lambda request: Answer(Outcome.FAILED, why="out of order"))


# The backend checks the password

BY_BACKEND = {"password": "{BACKEND}", "backend": "store"}


@pytest.mark.parametrize("more, user", [({}, "joe"), ({"protocol": "pop3", "buser": "j@old"}, "j@old")])
def test_a_backend_can_be_left_to_check_the_password(more, user):
    answer = answer_to(make_request("joe", b"as it came"), record_of({**BY_BACKEND, **more}))
    assert (answer.outcome, answer.found) == (Outcome.OK, Found("store", "pop3", "", user, b"as it came"))
    assert answer.found.verified is False


def test_it_may_be_a_record_in_a_text():
    assert parse_record(b"{backend}:store:pop3::j:").found == Found("store", "pop3", "", "j")


@pytest.mark.parametrize("more", [
    {"protocol": "xpop"}, {"protocol": "cxpop"}, {"bpass": "x"}, {"passwords": "phone:{PLAIN}x"}])
def test_nobody_gets_in_unchecked(more):
    with pytest.raises(ValueError, match="{BACKEND}"):
        record_of({**BY_BACKEND, **more})


def test_what_is_no_password_never_gets_in():
    record = record_of(BY_BACKEND)
    request = make_request("joe", b"")
    assert answer_to(replace(request, mechanism="SCRAM-SHA-256"), record).outcome is Outcome.DENIED
    assert answer_to(replace(request, mechanism=PROVEN), record).found == Found("store", "pop3", "", "joe")


def test_while_the_mailbox_moves_the_old_server_checks_the_password():
    found = answer_to(make_request("joe", b"pw"), record_of({**BY_BACKEND, "from": "old"})).found
    assert found == Found("old", "pop3", "", "joe", b"pw", is_moving=True) and found.verified is False
