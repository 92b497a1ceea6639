"""The chain: both passes, the verdict table, and what happens when a module misbehaves."""

import os
import signal
import threading
import time
from typing import Any

import pytest

from popular.errors import PdmError
from popular.log.message import Message
from popular.pdm import messages, secrets
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule
from popular.pdm.asking.chain import Chain, Verdict
from popular.pdm.asking.runner import ModuleRunner
from tests.harness.pdm import make_request

PLACE = Found("store1", "cxpop", "3/2d/joe")
OTHER = Found("store2", "xpop", "joe")
ANSWERS = {
    "unknown": UNKNOWN,
    "denied": Answer(Outcome.DENIED, PLACE, "wrong password"),
    "ok": Answer(Outcome.OK, PLACE),
    "failed": Answer(Outcome.FAILED, why="the database is away"),
}


class Fake(PdmModule):
    """A module that answers as told, and keeps what it was asked."""

    def __init__(self, check="unknown", auth="unknown", ident="fake", opening=None, namespaces=()):
        super().__init__(ident, [])
        self.name, self.namespaces = "fake", frozenset(namespaces)
        self.answers = {"check": check, "auth": auth}
        self.opening = opening
        self.calls: list[str] = []

    def open(self):
        self.calls.append("open")
        if self.opening is not None:
            raise self.opening

    def close(self):
        self.calls.append("close")

    def check(self, request):
        return self.answer("check", request)

    def auth(self, request, found):
        self.found = found
        return self.answer("auth", request)

    def answer(self, call, request):
        self.calls.append(call)
        self.request = request
        told = self.answers[call]
        if isinstance(told, BaseException):
            raise told
        return told() if callable(told) else ANSWERS.get(told, told) if isinstance(told, str) else told


class Notes(list):
    """What the chain noted: (name, fields)."""

    def __call__(self, message, **fields):
        assert isinstance(message, Message) and set(fields) == set(message.fields.split())
        self.append((message.name, fields))


@pytest.fixture
def int_of_a_daemon():
    """INT as masters and children have it, where no KeyboardInterrupt is ^C."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def dummies(monkeypatch):
    """How often the work of a verification was done for nobody."""
    calls: list[bytes] = []
    monkeypatch.setattr(secrets, "verify_nothing", calls.append)
    return calls


def asked(modules, notes, request=None, timeout=10.0):
    return Chain(modules, timeout, notes).check(request or make_request("joe"))


@pytest.mark.parametrize("checks, auths, outcome, module", [
    # one pass
    ("ok", "-", "ok", 0),
    ("unknown", "-", "unknown", None),
    ("denied", "unknown", "denied", 0),
    ("failed", "-", "failed", 0),
    ("unknown ok", "- -", "ok", 1),
    ("failed ok", "- -", "ok", 1),
    ("denied ok", "- -", "ok", 1),
    ("ok failed", "- -", "ok", 0),
    # FAILED is not UNKNOWN and not DENIED
    ("unknown failed", "- -", "failed", 1),
    ("failed unknown", "- -", "failed", 0),
    ("denied failed", "unknown unknown", "failed", 1),
    ("failed denied", "unknown unknown", "failed", 0),
    # the second pass
    ("denied unknown", "unknown ok", "ok", 1),
    ("denied denied", "unknown unknown", "denied", 0),
    ("denied unknown", "ok failed", "ok", 0),
    ("denied unknown", "failed ok", "ok", 1),
    ("denied unknown", "unknown failed", "failed", 1),
    ("denied unknown", "unknown denied", "denied", 0),
    ("failed denied", "unknown ok", "ok", 1),
    ("unknown unknown", "ok ok", "unknown", None),
    ("failed unknown", "ok ok", "failed", 0),
])
def test_spec_7_1_verdicts(checks, auths, outcome, module, notes, dummies):
    modules = [Fake(check, auth, ident=f"m{number}")
               for number, (check, auth) in enumerate(zip(checks.split(), auths.split()))]
    verdict = asked(modules, notes)
    assert verdict.outcome is Outcome(outcome)
    assert verdict.module == ("" if module is None else f"m{module}")
    assert verdict.found == (PLACE if outcome == "ok" else None)
    assert len(dummies) == (outcome == "unknown")


def test_spec_7_1_modules_are_asked_in_order_until_one_grants_access(notes):
    modules = [Fake("unknown"), Fake("ok"), Fake("ok")]
    assert asked(modules, notes).outcome is Outcome.OK
    assert [module.calls for module in modules] == [["open", "check"], ["open", "check"], []]


def test_spec_7_1_a_refusal_leads_to_a_second_round_over_all_modules(notes):
    modules = [Fake("unknown"), Fake("denied"), Fake("unknown", Answer(Outcome.OK, OTHER)), Fake("unknown")]
    verdict = asked(modules, notes)
    assert verdict == Verdict(Outcome.OK, OTHER, "fake")
    assert [module.calls[1:] for module in modules] == [["check", "auth"]] * 3 + [["check"]]
    assert modules[0].found == PLACE


def test_spec_7_1_a_module_is_given_ip_protocol_namespace_user_and_password(notes):
    module = Fake("ok")
    asked([module], notes, make_request("joe", "pw", ip="10.0.0.1", protocol="pop3", namespace="a.org"))
    request = module.request
    assert (request.user, request.password, request.ip, request.protocol, request.namespace) == (
        "joe", b"pw", "10.0.0.1", "pop3", "a.org")
    assert "pw" not in repr(request)


def test_the_identity_is_that_of_the_first_denial_that_has_one(notes):
    modules = [Fake(Answer(Outcome.DENIED)), Fake("denied", "ok"), Fake(Answer(Outcome.DENIED, OTHER))]
    assert asked(modules, notes).found == PLACE
    assert modules[0].found == PLACE


def test_without_an_identity_there_is_no_second_pass(notes):
    module = Fake(Answer(Outcome.DENIED, why="closed"), "ok")
    assert asked([module], notes) == Verdict(Outcome.DENIED, None, "fake", "closed")
    assert "auth" not in module.calls


def test_who_vouches_without_saying_where_means_the_identity(notes):
    assert asked([Fake("denied", Answer(Outcome.OK))], notes).found == PLACE


def test_no_modules_know_nobody(notes):
    assert asked([], notes) == Verdict(Outcome.UNKNOWN)


@pytest.mark.parametrize("error, why", [
    pytest.param(PdmError("users.cdb is cut short"), "users.cdb is cut short", id="PdmError"),
    pytest.param(FileNotFoundError(2, "No such file or directory", "/etc/x"), "No such file or directory: /etc/x",
                 id="OSError"),
    pytest.param(OSError(5, "Input/output error"), "Input/output error", id="OSError without a file"),
    pytest.param(ValueError("secret"), "ValueError at ", id="the text of others is not logged"),
    pytest.param(OSError("secret"), "OSError at ", id="OSError of text"),
    pytest.param(SystemExit("secret"), "SystemExit at ", id="exits"),
    pytest.param(KeyboardInterrupt("secret"), "KeyboardInterrupt at ", id="interrupts"),
    pytest.param(GeneratorExit("secret"), "GeneratorExit at ", id="ends a generator"),
    pytest.param(BaseException("secret"), "BaseException at ", id="panics"),
])
@pytest.mark.parametrize("call", ["open", "check", "auth"])
def test_an_exception_is_a_failure_with_type_and_place(error, why, call, notes, int_of_a_daemon):
    module = Fake(check=error if call == "check" else "denied", auth=error, opening=error if call == "open" else None)
    verdict = asked([module], notes)
    assert verdict.outcome is Outcome.FAILED and verdict.module == "fake"
    name, fields = notes[0]
    assert (name, fields["module"], fields["user"]) == ("pdm_failed", "fake", "joe")
    assert fields["why"].startswith(why) and "secret" not in fields["why"] and fields["why"] == verdict.why
    if " at " in why:
        assert f"{__file__}:" in fields["why"]


def test_a_failed_module_is_closed_and_opened_again_for_the_next_question(notes):
    module = Fake(check=OSError(5, "Input/output error"), opening=None)
    chain = Chain([module], 10.0, notes)
    assert chain.check(make_request("joe")).outcome is Outcome.FAILED
    module.answers["check"] = "ok"
    assert chain.check(make_request("joe")).outcome is Outcome.OK
    assert chain.check(make_request("joe")).outcome is Outcome.OK
    chain.close()
    chain.close()
    assert module.calls == ["open", "check", "close", "open", "check", "check", "close"]


def test_a_module_that_cannot_be_opened_is_tried_again(notes):
    module = Fake("ok", opening=ConnectionRefusedError(111, "Connection refused"))
    chain = Chain([module], 10.0, notes)
    assert chain.check(make_request("joe")) == Verdict(Outcome.FAILED, None, "fake", "Connection refused")
    module.opening = None
    assert chain.check(make_request("joe")).outcome is Outcome.OK
    assert module.calls == ["open", "close", "open", "check"]


def test_a_module_that_cannot_be_closed_is_noted(notes):
    class Stuck(Fake):
        def close(self):
            return 1 // 0
    module = Stuck("ok")
    chain = Chain([module], 10.0, notes)
    chain.check(make_request("joe"))
    chain.close()
    assert notes[0][0] == "pdm_failed" and notes[0][1]["why"].startswith("close: ZeroDivisionError at ")


def test_nothing_is_opened_before_the_first_question_nor_used_over_a_fork(notes, monkeypatch):
    module = Fake("ok")
    chain = Chain([module], 10.0, notes)
    assert module.calls == []
    chain.check(make_request("joe"))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    chain.check(make_request("joe"))
    assert module.calls == ["open", "check", "open", "check"]


def test_a_failed_answer_is_noted_with_its_reason(notes):
    asked([Fake("failed")], notes)
    assert notes == [("pdm_failed", {"module": "fake", "user": "joe", "why": "the database is away"})]


def found(**fields):
    return Answer(Outcome.OK, Found(**{"backend": "s", "mailbox": "m", **fields}))


def untyped(*parts: Any) -> Answer:
    """An answer of a module that knows no types."""
    return Answer(*parts)


@pytest.mark.parametrize("answer", [
    pytest.param(found(), id="mailbox only"),
    pytest.param(found(protocol="cxpop"), id="cxpop"),
    pytest.param(found(protocol="pop3", mailbox="", user="joe x", password=b"\xff \xfe"), id="pop3"),
    pytest.param(found(mailbox="", user="joe"), id="user only"),
    pytest.param(found(mailbox="", user="j\udcff" + "o" * 248, password=b"x" * 250), id="at the limits"),
])
def test_good_answers(answer, notes):
    assert asked([Fake(answer)], notes).found == answer.found
    assert notes == []


@pytest.mark.parametrize("answer", [
    pytest.param(lambda: None, id="None"),
    pytest.param(lambda: True, id="True"),
    pytest.param(untyped("ok", PLACE), id="outcome of text"),
    pytest.param(Answer(Outcome.OK), id="OK without a place"),
    pytest.param(untyped(Outcome.OK, {"backend": "s"}), id="a dict"),
    pytest.param(untyped(Outcome.DENIED, PLACE, b"why"), id="reason in octets"),
    pytest.param(found(backend=""), id="no backend"),
    pytest.param(found(backend="a b"), id="backend no id"),
    pytest.param(found(backend="a\n"), id="backend with a line end"),
    pytest.param(found(backend=None), id="backend None"),
    pytest.param(found(protocol="imap"), id="unknown protocol"),
    pytest.param(found(protocol="XPOP"), id="protocol in capitals"),
    pytest.param(found(mailbox=""), id="nowhere"),
    pytest.param(found(mailbox="", protocol="xpop", user="joe"), id="xpop without a mailbox"),
    pytest.param(found(protocol="pop3"), id="pop3 without a user"),
    pytest.param(found(mailbox="/abs"), id="absolute mailbox"),
    pytest.param(found(mailbox="a/../b"), id="mailbox upward"),
    pytest.param(found(mailbox="a b"), id="mailbox with a space"),
    pytest.param(found(mailbox="a\r\nb"), id="mailbox with line ends"),
    pytest.param(found(mailbox=b"a"), id="mailbox in octets"),
    pytest.param(found(user="a\r\nDELE 1"), id="user with line ends"),
    pytest.param(found(user="a\0"), id="user with NUL"),
    pytest.param(found(user="ü" * 125 + "x"), id="long user"),
    pytest.param(found(user="\ud800"), id="user that cannot be sent"),
    pytest.param(found(user="a", password=b"x\ny"), id="password with LF"),
    pytest.param(found(user="a", password=b"x\ry"), id="password with CR"),
    pytest.param(found(user="a", password=b"x\0"), id="password with NUL"),
    pytest.param(found(user="a", password=b"x" * 251), id="long password"),
    pytest.param(found(user="a", password="text"), id="password of text"),
    pytest.param(found(master=1), id="master a number"),
    pytest.param(found(verified=1), id="verified a number"),
    pytest.param(Answer(Outcome.DENIED, Found("a b", "", "m")), id="denied with a wrong place"),
])
def test_an_answer_that_is_not_well_formed_is_a_failure(answer, notes):
    verdict = asked([Fake(answer, "ok")], notes)
    assert verdict.outcome is Outcome.FAILED and verdict.found is None
    assert [name for name, _ in notes] == ["pdm_invalid_answer"]
    assert "x\n" not in notes[0][1]["why"] and "text" not in notes[0][1]["why"]


@pytest.mark.parametrize("password", [b"x\r", b"x\0", b"x" * 251])
def test_a_refusal_may_have_a_password_that_no_backend_takes(notes, password):
    refusal = Answer(Outcome.DENIED, Found("s", "pop3", "", "joe", password), "wrong password")
    assert asked([Fake(refusal)], notes).outcome is Outcome.DENIED and notes == []


def test_the_second_pass_is_checked_too(notes):
    assert asked([Fake("denied", found(backend="../x"))], notes).outcome is Outcome.FAILED
    assert asked([Fake("denied", lambda: None)], notes).outcome is Outcome.FAILED


def test_a_module_that_waits_is_cut_off(notes):
    module = Fake(lambda: threading.Event().wait(30))
    began = time.monotonic()
    chain = Chain([module], 0.05, notes)
    assert chain.check(make_request("joe")) == Verdict(Outcome.FAILED, None, "fake", "no answer within 0.05 s")
    assert time.monotonic() - began < 5
    module.answers["check"] = "ok"
    assert chain.check(make_request("joe")).outcome is Outcome.OK
    assert module.calls == ["open", "check", "close", "open", "check"]


def test_a_module_is_told_the_deadline(notes):
    module = Fake("ok")
    before = time.monotonic()
    asked([module], notes, timeout=7.0)
    assert before + 7 <= module.request.deadline <= time.monotonic() + 7
    asked([module], notes, timeout=0)
    assert module.request.deadline == float("inf")


def test_a_slow_answer_is_noted(notes, monkeypatch):
    monkeypatch.setattr("popular.pdm.asking.runner.SLOW_SECONDS", -1.0)
    asked([Fake("ok")], notes)
    assert notes[0][0] == messages.PDM_SLOW.name and notes[0][1]["seconds"] >= 0


def test_describe_gives_lines_that_make_the_modules_anew(notes):
    modules = [Fake(ident="a", namespaces=["y", "x"]), Fake(ident="b")]
    modules[0].args = ["/etc/my users"]
    assert Chain(modules, 1.0, notes).describe() == ["a fake '/etc/my users' namespace=x,y", "b fake"]


def test_a_module_cannot_swallow_the_alarm_as_an_exception(notes):
    def stubborn():
        try:
            threading.Event().wait(30)
        except Exception:
            return ANSWERS["ok"]
    assert asked([Fake(stubborn)], notes, timeout=0.02).outcome is Outcome.FAILED


@pytest.mark.parametrize("told", ["unknown", "denied", "ok"])
def test_a_module_that_swallows_the_alarm_has_failed_whatever_it_says(notes, told):
    def stubborn():
        try:
            threading.Event().wait(30)
        except BaseException:    # as a bare `except:` does
            return ANSWERS[told]
    verdict = asked([Fake(stubborn)], notes, timeout=0.02)
    assert (verdict.outcome, verdict.why) == (Outcome.FAILED, "no answer within 0.02 s")


def test_an_interruption_by_whoever_runs_a_tool_is_none_of_the_module_s(notes):
    with pytest.raises(KeyboardInterrupt):
        asked([Fake(KeyboardInterrupt())], notes)


def test_outside_the_main_thread_there_is_no_alarm(notes):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(asked([Fake("ok")], notes)))
    thread.start()
    thread.join()
    assert verdicts[0].outcome is Outcome.OK


@pytest.mark.parametrize("opening", [None, PdmError("no driver")])
def test_a_module_that_is_opened_before_the_first_question(opening):
    module = Fake("ok", opening=opening)
    runner = ModuleRunner(module, 10.0, lambda message, **fields: None)
    runner.prepare()
    assert module.calls == (["open"] if opening is None else ["open", "close"])
    answer = runner.answer(make_request("joe"))
    assert (answer.outcome, answer.why) == ((Outcome.OK, "") if opening is None else (Outcome.FAILED, "no driver"))
    assert module.calls.count("open") == (1 if opening is None else 2)
