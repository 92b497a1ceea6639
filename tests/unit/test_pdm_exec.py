"""The module exec: what a program is asked and may answer, and how it begins and ends."""

import errno
import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pdm.libcrypt import crypt
from tests.harness.pdm import make_module, make_request

OK = '{"id": 1, "outcome": "ok", "backend": "store1", "mailbox": "m"}'
HASH = crypt(b"secret", "$5$rounds=1000$saltsalt")


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that makes a module whose program is a shell script; all are closed with the test."""
    made = []

    def make(script: str, *words: str) -> Any:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        made.append(make_module("exec", f"program={path}", *words))
        return made[-1]

    yield make
    for module in made:
        module.close()
        module.close()


def saying(answer: str) -> str:
    """Return a script that gives one answer and waits for the end of questions."""
    return f"read -r question\nprintf '%s\\n' {shlex.quote(answer)}\nexec cat >/dev/null"


@pytest.mark.parametrize("args, why", [
    ([], "'program' is missing: the program"), (["program=users.py"], "does not begin with /"),
    (["program=/p", "arguments='"], "No closing quotation"), (["/p"], "argument 1 is not KEY=VALUE"),
])
def test_wrong_arguments(args, why):
    with pytest.raises(PdmError, match=why):
        make_module("exec", *args)


def test_a_question(program, tmp_path):
    module = program(f'read -r question\nprintf "%s\\n" "$question" "$@" > {tmp_path}/asked\n'
                     f"echo '{OK}'\nexec cat >/dev/null", "arguments=one 'two words'")
    module.check(make_request("jö e", b"a\"\\ \xff\n", ip="2001:db8::1", namespace="example.org"))
    question, *arguments = (tmp_path / "asked").read_text().splitlines()
    assert arguments == ["one", "two words"]
    assert question.isascii() and json.loads(question) == {
        "id": 1, "ask": "check", "user": "jö e", "password": "a\"\\ \udcff\n", "ip": "2001:db8::1", "protocol": "pop3",
        "namespace": "example.org", "vserv": ""}


@pytest.mark.parametrize("answer, expected", [
    (OK, Answer(Outcome.OK, Found("store1", "", "m"))),
    ('{"id": 1, "outcome": "found", "password": "%s", "backend": "store1", "mailbox": 7, "protocol": null}' % HASH,
     Answer(Outcome.OK, Found("store1", "", "7"))),
    ('{"id": 1, "outcome": "found", "password": "*", "backend": "store1", "mailbox": "m"}',
     Answer(Outcome.DENIED, Found("store1", "", "m"), "wrong password")),
    ('{"id": 1, "outcome": "ok", "backend": "s", "protocol": "pop3", "buser": "j", "bpass": "\\udcff"}',
     Answer(Outcome.OK, Found("s", "pop3", "", "j", b"\xff"))),
    ('{"id": 1, "outcome": "ok", "backend": "s", "mailbox": "m", "disabled": "moved"}',
     Answer(Outcome.DENIED, Found("s", "", "m"), "disabled: moved")),
    ('{"id": 1, "outcome": "ok", "backend": "s", "mailbox": "m", "softfail": false}',
     Answer(Outcome.OK, Found("s", "", "m", softfail=False))),
    ('{"id": 1, "outcome": "denied", "why": "no"}', Answer(Outcome.DENIED, why="no")),
    ('{"id": 1, "outcome": "unknown"}', UNKNOWN),
    ('{"id": 1, "outcome": "failed", "why": "tired"}', Answer(Outcome.FAILED, why="tired")),
    ('{"id": 1, "outcome": "found", "backend": "s"}', Answer(Outcome.FAILED, why="the record has no password")),
])
def test_answers(program, answer, expected):
    assert program(saying(answer)).check(make_request("joe")) == expected


@pytest.mark.parametrize("answer, why", [
    ("", "an answer is no line of JSON"), ("{", "an answer is no line of JSON"), ("[" * 60_000, "is no line of JSON"),
    ("[]", "is no object with the id 1"), ('{"outcome": "ok"}', "is no object with the id 1"),
    ('{"id": 2, "outcome": "ok"}', "is no object with the id 1"), ('{"id": 1}', "no outcome that is known"),
    ('{"id": 1, "outcome": ["ok"]}', "no outcome that is known"), ('{"id": 1, "outcome": "OK"}', "no outcome"),
    ('{"id": 1, "outcome": "ok", "backend": ["s"]}', "the value of backend in an answer is neither a text nor"),
    (OK + " " * 70_000, "more than 65536 octets"),
    (OK + "\n" + OK, "is no line of JSON"),
])
def test_what_is_no_answer(program, answer, why):
    module = program(saying(answer))
    with pytest.raises(PdmError, match=why):
        module.check(make_request("joe"))


def test_the_label_of_a_password(program):
    answer = program(saying('{"id": 1, "outcome": "ok", "backend": "s", "mailbox": "m", "label": "phone"}')).check(
        make_request("joe"))
    assert (answer.outcome, answer.found.label) == (Outcome.OK, "phone")


def test_users_are_found(program):
    module = program(saying('{"id": 1, "outcome": "found", "backend": "s", "mailbox": "m"}'))
    assert module.find("joe", "ns") == Found("s", "", "m")
    assert program(saying('{"id": 1, "outcome": "unknown"}')).find("joe", "ns") is None
    with pytest.raises(PdmError, match="^tired$"):
        program(saying('{"id": 1, "outcome": "failed", "why": "tired"}')).find("joe", "ns")


@pytest.mark.parametrize("user", ["j\udcffe", "a\0b", "x" * 10_000, "\ud800", "a\nb"])
def test_names_that_are_no_text_are_not_asked_for(user):
    assert make_module("exec", "program=/nowhere").check(make_request(user)) == UNKNOWN


def test_one_program_answers_many_questions_and_is_started_again_when_it_has_ended(program, tmp_path):
    module = program(f"echo x >> {tmp_path}/started\nfor id in 1 2 3; do read -r question || exit\n"
                     'echo "{\\"id\\": $id, \\"outcome\\": \\"unknown\\"}"; done')
    for _ in range(7):
        assert module.check(make_request("joe")) == UNKNOWN
    assert (tmp_path / "started").read_text() == "x\n" * 3


def test_a_program_that_ends_without_an_answer(program):
    with pytest.raises(PdmError, match="it has ended instead of answering"):
        program("exit 0").check(make_request("joe"))


def test_a_late_program_is_killed(program):
    module = program("trap '' TERM\nread -r question\nwhile :; do read -r line || :; done", "timeout=200ms")
    began = time.monotonic()
    with pytest.raises(PdmError, match=r"no answer within 0\.2 s"):
        module.check(make_request("joe"))
    assert time.monotonic() - began < 2


def test_a_program_ends_with_its_module(program, tmp_path):
    module = program(f"while read -r line; do :; done\necho end > {tmp_path}/ended")
    module.open()
    module.close()
    assert (tmp_path / "ended").read_text() == "end\n"


def test_no_descriptor_is_left_when_they_are_used_up(program, monkeypatch):
    module = program("exit 0")
    before = os.listdir("/proc/self/fd")
    pipes = iter([os.pipe])
    monkeypatch.setattr(os, "pipe", lambda: next(pipes, no_pipe)())
    with pytest.raises(OSError, match="Too many open files"):
        module.open()
    assert os.listdir("/proc/self/fd") == before


def no_pipe() -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_programs_that_may_not_be_started(program, tmp_path):
    module = program("exit 0")
    for mode, why in ((0o644, "Permission denied"), (0o757, "can be written by everybody"),
                      (0o775, "nobody else may write to it")):
        (tmp_path / "program").chmod(mode)
        with pytest.raises(PdmError, match=why):
            module.open()
    (tmp_path / "program").unlink()
    with pytest.raises(PdmError, match="No such file"):
        module.probe()
