"""popular.pproxy.policy: what a policy server is told, what its answers mean, and when it is left alone."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popular.config.store import FROM_COMMAND, Config, default_config, with_item, with_variable
from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.pdm.databases.httpclient import HttpReply, server_of
from popular.pproxy.main import why_no_policy
from popular.pproxy.policy.configured import policies_of, policy_mistakes
from popular.pproxy.policy.question import POLICY_MARK, LoginResult, PolicyAnswer, PolicyQuestion
from popular.pproxy.policy.server import (
    MAX_POLICY_ANSWER, MAX_MESSAGE, PolicyServers, password_hash, policy_answer, policy_json)
from popular.pproxy.policy.terms import PolicyTerms, PolicyUrl
from popular.pproxy.settings import SCHEMA
from tests.harness.certificates import Authority
from tests.harness.needs import need_module
from tests.harness.policy import NONCE, PolicySite

need_module("urllib3")

QUESTION = PolicyQuestion("main", b"joe", b"secret", "192.0.2.1", "px-1", True, 1e9)
PLAIN: dict[str, object] = {
    "login": "joe", "pwhash": "0000", "remote": "192.0.2.1", "device_id": "", "protocol": "pop3", "session_id": "px-1",
    "fail_type": "", "tls": True}
REJECTED = {"success": False, "policy_reject": True, "fail_type": "policy"}


# What is told

@pytest.mark.parametrize("changed, fields", [
    ({}, {}),
    ({"tls": False, "ip": "2001:db8::9"}, {"tls": False, "remote": "2001:db8::9"}),
    ({"user": 'ü"\\\x01'.encode()}, {"login": 'ü"\\\x01'}),
    ({"user": b"j\xff\xc3e\xf0\x9f\x92\xa9"}, {"login": "j\ufffd\ufffde\U0001f4a9"}),
    ({"user": b"\xed\xa0\x80"}, {"login": "\ufffd\ufffd\ufffd"}),
    ({"result": LoginResult(True)}, {"success": True, "policy_reject": False}),
    ({"result": LoginResult(False, "credentials")},
     {"success": False, "policy_reject": False, "fail_type": "credentials"}),
    ({"result": LoginResult(False, "policy", True)}, REJECTED),
], ids=["allow", "no TLS", "UTF-8", "not UTF-8", "surrogate", "success", "wrong", "policy"])
def test_the_json_is_that_of_dovecot(changed: dict[str, Any], fields: dict[str, object]) -> None:
    question = replace(QUESTION, **changed)
    told = json.loads(policy_json(question, b"n"))
    assert told == {**PLAIN, **fields, "pwhash": password_hash(b"n", question.user, question.password)}


@pytest.mark.parametrize("user, password", [(b"joe", b"secret"), (b"", b""), (b"j\xff", b"\0\xff"), (b"a" * 300, b"b")])
def test_the_hash_has_the_first_twelve_bits_of_the_digest(user: bytes, password: bytes) -> None:
    """As the shell makes it: printf 'NONCEUSER\\0PASSWORD' | sha256sum | cut -c1-3, in two octets."""
    digest = hashlib.sha256(b"".join([b"nonce", user, b"\0", password])).hexdigest()
    assert password_hash(b"nonce", user, password) == f"0{digest[:3]}"


def test_a_hash_that_dovecot_has_made() -> None:
    """What it sends with the defaults of hash_mech and hash_truncate."""
    assert password_hash(b"localized_random_string", b"joe", b"secret") == "0cf2"


# Packets

@pytest.mark.parametrize("result", [None, LoginResult(True), LoginResult(False, "policy", True)])
def test_a_question_comes_as_it_was_sent(result: LoginResult | None) -> None:
    question = replace(QUESTION, user=b"j\xff\"", password=b"\0\xfe", result=result)
    assert PolicyQuestion.unpacked(question.packed()) == question
    assert "secret" not in repr(QUESTION)


def test_the_longest_question_fits_into_a_packet() -> None:
    assert len(replace(QUESTION, user=b"\xff" * 8192, password=b"\xff" * 8192).packed()) < 40_000


@pytest.mark.parametrize("packet", [
    b"", b"{}", POLICY_MARK, POLICY_MARK + b"{}", POLICY_MARK + b"[" * 50_000, POLICY_MARK + b"\xff",
    QUESTION.packed().replace(b'"user":"6a6f65"', b'"user":"x"'),
    QUESTION.packed().replace(b'"user":"6a6f65"', b'"user":7'),
    QUESTION.packed().replace(b'"result":null', b'"result":[]'),
    QUESTION.packed().replace(b'"result":null', b'"result":7'),
    QUESTION.packed().replace(b'"deadline":1000000000.0', b'"deadline":null'),
])
def test_packets_that_cannot_be_read(packet: bytes) -> None:
    with pytest.raises(ValueError):
        PolicyQuestion.unpacked(packet)
    with pytest.raises(ValueError):
        PolicyAnswer.unpacked(packet)


# Answers

@pytest.mark.parametrize("body, meaning", [
    (b'{"status":0,"msg":""}', PolicyAnswer()),
    (b'{"status":-1,"msg":"too many"}', PolicyAnswer(-1, "too many")),
    (b' {"msg":"wait","status":5,"r_attrs":{}} ', PolicyAnswer(5, "wait")),
    (b'{"status":0,"msg":7}', PolicyAnswer()),
    (json.dumps({"status": 1, "msg": "x" * 1000}).encode(), PolicyAnswer(1, "x" * MAX_MESSAGE)),
    (b"", "its answer is not JSON"),
    (b"OK", "its answer is not JSON"),
    (b"[" * 10_000, "its answer is not JSON"),
    (b"\xff{}", "its answer is not JSON"),
    (b"{}", "its answer has no number as status"),
    (b"[]", "its answer has no number as status"),
    (b"null", "its answer has no number as status"),
    (b'{"status":true}', "its answer has no number as status"),
    (b'{"status":"0"}', "its answer has no number as status"),
    (b'{"status":0.5}', "its answer has no number as status"),
])
def test_what_an_answer_means(body: bytes, meaning: PolicyAnswer | str) -> None:
    reply = HttpReply(server_of("http://a/", ""), 200, {}, body)
    if isinstance(meaning, PolicyAnswer):
        assert policy_answer(reply) == meaning == PolicyAnswer.unpacked(meaning.packed())
        return
    with pytest.raises(ValueError, match=meaning):
        policy_answer(reply)
    with pytest.raises(ValueError, match=f"more than {MAX_POLICY_ANSWER} octets"):
        policy_answer(replace(reply, is_whole=False))


# Settings

def configured(vservs: dict[str, str], **variables: str) -> Config:
    """Return a configuration with the `policyurl` of virtual servers."""
    config = default_config(SCHEMA)
    for name, text in variables.items():
        config = with_variable(config, SCHEMA, name, text)
    for ident, url in vservs.items():
        config = with_item(config, SCHEMA, "vserv", ident, {"address": "127.0.0.1:0", "policyurl": url}, FROM_COMMAND)
    return config


@pytest.mark.parametrize("vservs, variables, policies", [
    ({"a": "", "b": ""}, {}, {}),
    ({"a": "", "b": "none", "c": "https://c/"}, {"policyurl": "http://d/", "policynoncefile": "/n"},
     {"a": PolicyTerms("http://d/", 2.0, 5.0, True, True, "/n"),
      "c": PolicyTerms("https://c/", 2.0, 5.0, True, True, "/n")}),
    ({"a": "http://a/"}, {"policycheck": "off", "policydelay": "0", "policyheaderfile": "/h", "policycafile": "/c"},
     {"a": PolicyTerms("http://a/", 2.0, 0.0, False, True, "", "/h", "/c")}),
    ({"a": "http://a/"}, {"policycheck": "off", "policyreport": "off"}, {}),
])
def test_who_asks_whom(vservs: dict[str, str], variables: dict[str, str], policies: dict[str, PolicyTerms]) -> None:
    config = configured(vservs, **variables)
    assert policies_of(config) == policies
    lacks = any(not terms.noncefile for terms in policies.values())
    assert [str(mistake) for mistake in policy_mistakes(config)] == (
        ["[pproxy] policynoncefile: is needed for the policyurl 'http://a/'"] if lacks else [])


@pytest.mark.parametrize("text, value", [
    ("http://a/", "http://a/"), ("https://[::1]:8443/p?x=1&", "https://[::1]:8443/p?x=1&"), ("none", ""),
    ("ftp://a/", None), ("http://joe:pw@a/", None), ("a:80", None), ("http://a/ b", None)])
def test_urls(text: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(ValueError, match="an http:// or https:// URL without a user, or none"):
            PolicyUrl().parse(text)
    else:
        assert PolicyUrl().parse(text) == value and PolicyUrl().parse(PolicyUrl().show(value)) == value


# A server

@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the test moves the clock."""
    ahead, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    return ahead


@pytest.fixture
def site() -> Iterator[PolicySite]:
    with PolicySite() as site:
        yield site


@pytest.fixture
def servers(site: PolicySite, tmp_path: Path) -> Iterator[Callable[..., PolicyServers]]:
    """A function that makes what a worker has, with some terms changed; all are closed with the test."""
    made: list[PolicyServers] = []

    def make(**changed: Any) -> PolicyServers:
        nonce = tmp_path / "nonce"
        nonce.write_text(f"{NONCE}\n")
        nonce.chmod(0o600)
        terms = replace(PolicyTerms(site.url, 5.0, 1.0, True, True, str(nonce)), **changed)
        made.append(PolicyServers({"main": terms}, Log("test", FileSink(2))))
        return made[-1]
    yield make
    for one in made:
        one.close()


def ask(servers: PolicyServers, **changed: Any) -> PolicyAnswer:
    """Return the answer to a question."""
    packet = servers.reply(replace(QUESTION, deadline=time.monotonic() + 10.0, **changed).packed())
    assert packet is not None
    return PolicyAnswer.unpacked(packet)


def test_questions_and_reports_use_one_connection(site: PolicySite, servers: Callable[..., PolicyServers],
                                                  tmp_path: Path) -> None:
    header = tmp_path / "header"
    header.write_text("Authorization: Basic d2ZvcmNlOnN1cGVy\n")
    header.chmod(0o600)
    asked = servers(url=f"{site.url}p?x=1&", headerfile=str(header))
    site.allow(3, "slowly")
    assert ask(asked) == PolicyAnswer(3, "slowly")
    report = replace(QUESTION, deadline=time.monotonic() + 10.0, result=LoginResult(False, "policy", True))
    assert asked.reply(report.packed()) is None
    hashed = {**PLAIN, "pwhash": password_hash(NONCE.encode(), b"joe", b"secret")}
    assert site.bodies("allow") == [hashed] and site.bodies("report") == [{**hashed, **REJECTED}]
    [(_, headers, _), _] = site.told
    assert headers["Authorization"] == "Basic d2ZvcmNlOnN1cGVy" and headers["Content-Type"] == "application/json"
    assert site.connections == 1


@pytest.mark.parametrize("text, name, value", [
    ("s3cret\n", "X-API-Key", "s3cret"), ("X-Key:a:b ü", "X-Key", "a:b Ã¼"), ("a b: c\n", "", ""),
    ("a: \x7f\n", "", "")])
def test_the_header(site: PolicySite, servers: Callable[..., PolicyServers], tmp_path: Path, text: str, name: str,
                    value: str) -> None:
    header = tmp_path / "header"
    header.write_text(text)
    header.chmod(0o600)
    answer = ask(servers(headerfile=str(header)))
    assert answer.has_failed is not bool(name)
    if name:
        assert site.told[0][1][name] == value
    else:
        assert site.told == []


@pytest.mark.parametrize("http, body", [
    (302, b'{"status":-1}'), (404, b'{"status":-1}'), (500, b""), (200, b"x" * (1 << 20)), (200, b"garbage")])
def test_an_answer_that_is_none(site: PolicySite, servers: Callable[..., PolicyServers],
                                clock: list[float], capfd: pytest.CaptureFixture[str], http: int,
                                body: bytes) -> None:
    """The login goes on, the log has one line, and the next login asks again, however often this happens."""
    asked = servers()
    site.allow(http=http, body=body)
    for seconds in (8.0, 0.5, 8.0, 0.5, 0.0):
        assert ask(asked) == PolicyAnswer(has_failed=True)
        clock[0] += seconds
    assert len(site.told) == 5
    assert capfd.readouterr().err.count("policy_failed") == 1
    site.allow(-1)
    assert ask(asked) == PolicyAnswer(-1)


def test_a_server_that_does_not_answer_is_left_alone(site: PolicySite, servers: Callable[..., PolicyServers],
                                                     clock: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    asked = servers(timeout=0.2)
    site.freeze()
    assert [ask(asked).has_failed for _ in range(6)] == [True] * 6
    assert len(site.told) == 3
    site.allow(-1)
    assert ask(asked).has_failed
    clock[0] += 11.0
    assert [ask(asked) for _ in range(2)] == [PolicyAnswer(-1)] * 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if "policy_failed" in line]
    assert f"url='{site.url}'" in line and "why='no answer within 0.2 s'" in line


def test_what_comes_too_late_or_has_no_policy_any_more(site: PolicySite,
                                                       servers: Callable[..., PolicyServers]) -> None:
    asked = servers()
    for deadline in (0.0, float("nan")):
        assert asked.reply(replace(QUESTION, deadline=deadline).packed()) is None
    site.allow(-1)
    assert ask(asked, vserv="removed") == PolicyAnswer()
    assert site.told == []


@pytest.mark.parametrize("mode", [0o644, None])
def test_a_nonce_that_cannot_be_read(servers: Callable[..., PolicyServers], site: PolicySite, tmp_path: Path,
                                     mode: int | None) -> None:
    asked = servers()
    if mode is None:
        (tmp_path / "nonce").unlink()
    else:
        (tmp_path / "nonce").chmod(mode)
    asked.prepare()
    assert ask(asked).has_failed and site.told == []
    why = "No such file or directory" if mode is None else "can be read by everybody"
    [mistake] = why_no_policy(asked.policies["main"])
    assert str(mistake).startswith(f"[pproxy] policyurl: {tmp_path}/nonce: {why}")


def test_the_certificate_of_the_server_is_checked(authority: Authority, servers: Callable[..., PolicyServers],
                                                  capfd: pytest.CaptureFixture[str]) -> None:
    with PolicySite(authority.sign("localhost")) as site:
        site.allow(-1)
        assert ask(servers(url=site.url)) == PolicyAnswer(has_failed=True)
        assert "why='its certificate: " in capfd.readouterr().err and site.told == []
        assert ask(servers(url=site.url, cafile=str(authority.cafile))) == PolicyAnswer(-1)
