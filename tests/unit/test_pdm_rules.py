"""Rules of a record: who may log in, from where, until when, and with which passwords."""

import time
from dataclasses import replace
from typing import Any

import pytest

from popular.pdm.api import Answer, Found, Outcome, Request
from popular.pdm.asking.question import pack_answer, unpack_answer
from popular.pdm.asking.validation import fault_of
from popular.pdm.records import accepted, answer_to, record_of
from popular.pdm.rules import MAX_PASSWORDS
from tests.harness.pdm import make_request

VALUES = {"password": "{PLAIN}secret", "backend": "store", "mailbox": "joe"}
PLACE = Found("store", mailbox="joe", verified=True)


def asked(values: dict[str, str], password: str = "secret", *, ip: str = "192.0.2.7", vserv: str = "main") -> Answer:
    request = make_request("joe", password, ip=ip)
    request = Request(request.user, request.password, request.ip, request.protocol, request.namespace, vserv=vserv)
    return answer_to(request, record_of({**VALUES, **values}))


@pytest.mark.parametrize(("values", "objection"), [
    ({}, ""),
    ({"disabled": ""}, ""),
    ({"disabled": "f"}, ""),
    ({"disabled": "0"}, ""),
    ({"disabled": "No"}, ""),
    ({"disabled": "1"}, "disabled: 1"),
    ({"disabled": "has not paid"}, "disabled: has not paid"),
    ({"until": "99999999999"}, ""),
    ({"until": "1"}, "expired"),
    ({"until": "2020-01-31"}, "expired"),
    ({"until": "2999-01-31"}, ""),
    ({"until": "2020-01-31T12:00:00+01:00"}, "expired"),
    ({"until": "2999-01-31 12:00:00"}, ""),
    ({"networks": "192.0.2.0/24"}, ""),
    ({"networks": "10.0.0.0/8, 2001:db8::/32 192.0.2.7"}, ""),
    ({"networks": "192.0.2.1/24"}, ""),
    ({"networks": "10.0.0.0/8,::/0"}, "not allowed from this address"),
    ({"vservs": "main"}, ""),
    ({"vservs": "other, main"}, ""),
    ({"vservs": "other"}, "not allowed at virtual server main"),
    ({"color": "red"}, ""),
])
def test_rules(values: dict[str, str], objection: str) -> None:
    answer = asked(values)
    assert answer == (Answer(Outcome.DENIED, PLACE, objection) if objection else Answer(Outcome.OK, PLACE))
    assert asked(values, "wrong") == Answer(Outcome.DENIED, PLACE, "wrong password"), "who guesses learns nothing"
    assert accepted(make_request("joe", ip="192.0.2.7"), record_of({**VALUES, **values, "vservs": ""})).outcome is (
        answer.outcome if not values.get("vservs") else Outcome.OK)


def test_the_day_of_until_is_the_last_one() -> None:
    now = time.gmtime()
    today = time.strftime("%Y-%m-%d", now)
    assert asked({"until": today}).outcome is Outcome.OK


@pytest.mark.parametrize(("values", "why"), [
    ({"until": "tomorrow"}, "until: neither"),
    ({"until": "-1"}, "until: neither"),
    ({"networks": "10.0.0.0/33"}, "networks: not a list"),
    ({"networks": "example.org"}, "networks: not a list"),
    ({"softfail": "maybe"}, "softfail: neither on nor off"),
    ({"sessions": "many"}, "sessions: not a number"),
    ({"sessions": "-1"}, "sessions: not a number"),
    ({"quota": "1.5"}, "quota: not a number"),
    ({"quota": "١"}, "quota: not a number"),
    ({"maxnum": "9" * 10}, "maxnum: not a number of at most 9 digits"),
    ({"missing": "Create"}, "missing: not one of empty, create, refuse"),
    ({"passwords": "{PLAIN}x"}, "passwords: a line is not LABEL:HASH"),
    ({"passwords": f"{'x' * 65}:{{PLAIN}}x"}, "passwords: a line is not LABEL:HASH"),
    ({"passwords": "phone:"}, "passwords: a line is not LABEL:HASH"),
    ({"passwords": "x:{PLAIN}x\n" * (MAX_PASSWORDS + 1)}, "passwords: there are more than 20"),
    ({"password": ""}, "no password"),
])
def test_a_rule_that_cannot_be_read_lets_nobody_in(values: dict[str, str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        asked(values)


@pytest.mark.parametrize(("password", "label"), [("secret", ""), ("abc", "phone"), ("d:e f", "my laptop"), ("", None),
                                                 ("wrong", None)])
def test_several_passwords(password: str, label: str | None) -> None:
    answer = asked({"passwords": "phone:{PLAIN}abc\r\n\nmy laptop:{PLAIN}d:e f\n"}, password)
    assert answer.outcome is (Outcome.DENIED if label is None else Outcome.OK)
    assert answer.found is not None and answer.found.label == (label or "")


def test_only_passwords_of_devices() -> None:
    values = {"password": "", "passwords": "phone:{PLAIN}abc"}
    assert asked(values, "abc").outcome is Outcome.OK
    assert [asked(values, wrong).outcome for wrong in ("", "*", "secret")] == [Outcome.DENIED] * 3


@pytest.mark.parametrize(("text", "wanted"), [("", None), ("on", True), ("OFF", False), ("1", True), ("False", False)])
def test_softfail(text: str, wanted: bool | None) -> None:
    found = asked({"softfail": text}).found
    assert found is not None and found.softfail is wanted


@pytest.mark.parametrize(("values", "wanted"), [
    ({}, PLACE),
    ({"sessions": "", "missing": "", "quota": "", "maxnum": "", "softfail": ""}, PLACE),
    ({"sessions": "3", "missing": "create"}, replace(PLACE, sessions=3, missing="create")),
    ({"quota": "100", "maxnum": "0"}, replace(PLACE, quota=100, maxnum=0)),
    ({"from": "", "protocol": "xpop"}, replace(PLACE, protocol="xpop")),
    ({"from": "old", "protocol": "xpop"},
     replace(PLACE, backend="old", user="joe", password=b"secret", is_moving=True)),
    ({"from": "old", "buser": "j.doe", "bpass": "other"},
     replace(PLACE, backend="old", user="j.doe", password=b"other", is_moving=True)),
])
def test_what_is_part_of_the_place(values: dict[str, str], wanted: Found) -> None:
    answer = asked(values)
    assert answer == Answer(Outcome.OK, wanted) and fault_of(answer) == ""
    assert unpack_answer(pack_answer(answer)) == answer


@pytest.mark.parametrize("values", [
    {"sessions": -1}, {"sessions": "3"}, {"missing": "perhaps"}, {"missing": None}, {"quota": -1}, {"maxnum": "1"},
    {"is_moving": 1},
])
def test_what_a_module_says_of_the_place_is_checked(values: dict[str, Any]) -> None:
    assert fault_of(Answer(Outcome.OK, replace(PLACE, **values)))


def test_an_answer_says_how_long_it_is_true():
    assert asked({"until": "99999999999"}).until == 99999999999.0
    assert asked({}).until == float("inf")


@pytest.mark.parametrize(("until", "fault"), [
    (1, ""), (1.5, ""), (float("inf"), ""), ("tomorrow", "until is not a moment"), (None, "until is not a moment"),
    (float("nan"), "until is not a moment")])
def test_until_is_checked(until: Any, fault: str) -> None:
    assert fault_of(Answer(Outcome.OK, PLACE, until=until)) == fault
