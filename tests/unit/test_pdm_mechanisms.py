"""Questions with a mechanism: which modules are asked, whom an answer names, and where their mail is."""

import time
from dataclasses import replace

import pytest

from popular.log.message import Message
from popular.pdm import records, secrets
from popular.pdm.api import PROVEN, UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.asking.cache import AnswerCache, Lifetimes
from popular.pdm.asking.chain import Chain
from tests.harness.pdm import make_module, make_request

PLACE = Found("store1", "cxpop", "3/2d/joe")
TOKEN = replace(make_request("joe", "T0ken"), mechanism="OAUTHBEARER", vserv="main")
OK, DENIED = Answer(Outcome.OK, PLACE), Answer(Outcome.DENIED, PLACE, "closed")
FAILED = Answer(Outcome.FAILED, why="down")


class Fake(PdmModule):
    """A module that gives one answer, and keeps what it was asked."""

    API = (1, 2)

    def __init__(self, answer: Answer, *mechanisms: str) -> None:
        super().__init__(answer.why or "fake", [])
        self.told, self.mechanisms = answer, frozenset(mechanisms)
        self.requests: list[Request] = []

    def check(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.told


def ignore(message: Message, **fields: object) -> None:
    """Log nothing."""


def lower(name: str) -> str:
    return name.lower().removesuffix("@example.org")


@pytest.mark.parametrize("mechanism, outcome", [
    ("", Outcome.OK), ("OAUTHBEARER", Outcome.OK), ("XOAUTH2", Outcome.UNKNOWN), (PROVEN, Outcome.UNKNOWN)])
def test_a_module_is_asked_for_passwords_and_what_it_says(mechanism: str, outcome: Outcome,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "verify_nothing", None)    # no hash is computed for a token
    module = Fake(OK, "OAUTHBEARER")
    assert Chain([module], 10, ignore).check(replace(TOKEN, mechanism=mechanism)).outcome is outcome
    assert len(module.requests) == (outcome is Outcome.OK)


def vouch(name: str, found: Found | None = None) -> Fake:
    """Return a module that takes a token and says whose it is."""
    return Fake(Answer(Outcome.OK, found, user=name), "OAUTHBEARER")


@pytest.mark.parametrize("user, name, outcome, named", [
    ("joe", "joe", Outcome.OK, "joe"), ("joe", "Joe@example.org", Outcome.OK, "joe"), ("", "JOE", Outcome.OK, "joe"),
    ("joe", "ann", Outcome.DENIED, ""), ("joe", "joe@example.com", Outcome.DENIED, ""),
    ("", "@example.org", Outcome.DENIED, "")])
@pytest.mark.parametrize("mechanism", ["OAUTHBEARER", ""])
def test_a_token_is_for_the_user_whom_it_names(user: str, name: str, outcome: Outcome, named: str,
                                               mechanism: str) -> None:
    users = Fake(OK if mechanism else UNKNOWN, PROVEN)
    chain = Chain([users, vouch(name, None if mechanism else PLACE)], 10, ignore)
    verdict = chain.check(replace(TOKEN, user=user, mechanism=mechanism), lower)
    assert (verdict.outcome, verdict.user) == (outcome, named)
    assert verdict.found == (PLACE if outcome is Outcome.OK else None)
    assert verdict.why == ("" if outcome is Outcome.OK else f"it belongs to user {lower(name)!a}")


def test_where_the_mail_of_its_user_is_is_asked_of_modules_that_take_what_is_proven() -> None:
    other, users, deadline = Fake(OK), Fake(OK, PROVEN, "XOAUTH2"), time.monotonic() + 5
    verdict = Chain([other, vouch("joe"), users], 10, ignore).check(TOKEN.until(deadline))
    assert (verdict.outcome, verdict.found, len(verdict.steps)) == (Outcome.OK, PLACE, 2)
    assert users.requests == [replace(TOKEN, password=b"", mechanism=PROVEN, deadline=deadline)]
    assert not other.requests


@pytest.mark.parametrize("answers, outcome, why", [
    ([UNKNOWN], Outcome.UNKNOWN, ""), ([DENIED, UNKNOWN], Outcome.DENIED, "closed"),
    ([FAILED, UNKNOWN], Outcome.FAILED, "down"), ([DENIED, FAILED, OK], Outcome.OK, ""), ([], Outcome.UNKNOWN, "")])
def test_what_those_say_counts(answers: list[Answer], outcome: Outcome, why: str) -> None:
    verdict = Chain([vouch("joe"), *(Fake(answer, PROVEN) for answer in answers)], 10, ignore).check(TOKEN)
    assert (verdict.outcome, verdict.why, verdict.user) == (outcome, why, "joe")


@pytest.mark.parametrize("answer", [
    Answer(Outcome.OK), Answer(Outcome.OK, user="joe\n"), Answer(Outcome.OK, user="x" * 256),
    Answer(Outcome.OK, PLACE)], ids=["nobody", "line end", "long", "a place, but nobody"])
def test_nobody_is_nobody(answer: Answer) -> None:
    verdict = Chain([Fake(answer, "OAUTHBEARER")], 10, ignore).check(replace(TOKEN, user=""))
    assert (verdict.outcome, verdict.found) == (Outcome.FAILED, None) and "invalid answer" in verdict.why


def test_a_record_has_rules_for_a_user_who_is_proven_too() -> None:
    request = replace(TOKEN, password=b"", mechanism=PROVEN)
    values = {"password": "$5$x$y", "backend": "store1", "mailbox": "j/joe"}
    assert records.answer_to(request, records.record_of(values)).outcome is Outcome.OK
    closed = records.answer_to(request, records.record_of({**values, "disabled": "moved"}))
    assert (closed.outcome, closed.why) == (Outcome.DENIED, "disabled: moved")
    assert PROVEN in make_module("passwd", "/dev/null").mechanisms


def test_the_same_octets_as_password_and_token_are_two_questions() -> None:
    cache = AnswerCache(16, Lifetimes(60, 60, 60))
    module = make_module("passwd", "/dev/null")
    cache.store(cache.place(module, TOKEN), Answer(Outcome.OK, user="joe"))
    kept = cache.find(cache.place(module, TOKEN))
    assert kept is not None and kept.answer.user == "joe"
    assert cache.find(cache.place(module, replace(TOKEN, mechanism=""))) is None
    cache.close()
