"""The module http: its arguments, what it sends to a server, and what it makes of every answer."""

import time

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, CannotFind, Found, Outcome
from tests.harness.fake_backend import Close, FakeBackend, Hold, ReadLines, ReadToEnd, Say, Step
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request

need_module("urllib3")

LINES = 12    # of a question without a header of the administrator's
BACKENDS = "backends=10.0.0.5:110=store1,[2001:db8::5]:110=store2,mail.example.org:110=store3"
SERVER = "Auth-Server: 10.0.0.5\r\nAuth-Port: 110\r\n"
OK = f"Auth-Status: OK\r\n{SERVER}"
JOE = Found("store1", "pop3", "", "joe", b"secret", verified=True)


def answer(headers: str, *, status: str = "200 OK", body: str = "") -> Say:
    """Return a step that sends an answer."""
    return Say(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode("latin-1"))


def exchange(headers: str, **more: str) -> list[Step]:
    """Return the steps of one question and its answer."""
    return [ReadLines(LINES), answer(headers, **more)]


@pytest.fixture
def module():
    """A function that makes a module for some servers; all are closed with the test."""
    made = []

    def load(*servers, args=(BACKENDS,)):
        urls = ",".join(f"http://{server.endpoint}/auth?x=1" for server in servers)
        made.append(make_module("http", f"url={urls}", *args))
        made[-1].open()
        return made[-1]
    yield load
    for one in made:
        one.close()
        one.close()


@pytest.fixture
def ask(module):
    """A function that asks a module about joe at a server that gives one answer."""
    def asked(headers, user="joe", password="secret", **more):
        with FakeBackend([*exchange(headers, **more), ReadToEnd()]) as server:
            made = module(server)
            try:
                return made.check(make_request(user, password))
            finally:
                made.close()
    return asked


# Arguments

@pytest.mark.parametrize("args, why", [
    ([], "'url' is missing: the URL that is asked"),
    (["url=ftp://a/"], "url: 'ftp://a/' is not a list of http:// or https:// URLs"),
    (["url=http://joe:pw@a/"], "is not a list of http:// or https:// URLs without a user"),
    (["url=http://a/,"], "is not a list"),
    (["url=http://a:x/"], "is not a list"),
    (["url=http://a/#b"], "is not a list"),
    (["url=http:///auth"], "is not a list"),
    (["url=http://a/b c"], "is not a list"),
    (["url=http://a/", "backends=10.0.0.5=store"], "backends: '10.0.0.5=store' is not a list of ADDRESS:PORT=ID"),
    (["url=http://a/", "backends=10.0.0.5:110="], "is not a list of ADDRESS:PORT=ID"),
    (["url=http://a/", "backends=10.0.0.5:110=a,10.0.0.5:110=b"], "is not a list of ADDRESS:PORT=ID"),
    (["url=http://a/", "header=X-Key"], "belong together"),
    (["url=http://a/", "secretfile=/s"], "belong together"),
    (["url=http://a/", "header=X Key", "secret=s"], "cannot be the name of a header"),
    (["url=http://a/", "secretfile=s"], "does not begin with /"),
    (["url=http://a/", "timeuot=3s"], "did you mean 'timeout'"),
    (["http://a/"], "argument 1 is not KEY=VALUE"),
])
def test_wrong_arguments(args, why):
    with pytest.raises(PdmError) as caught:
        make_module("http", *args)
    assert why in str(caught.value)


def test_backends_and_secrets_of_the_arguments():
    made = make_module("http", "url=https://[::1]:8443/a,http://b", BACKENDS, "header=X-Key", "secret=geheim")
    assert made.backends == ("store1", "store2", "store3") and made.blocking
    assert made.describe() == f"'url=https://[::1]:8443/a,http://b' '{BACKENDS}' header=X-Key 'secret=***'"


@pytest.mark.parametrize("mode, why", [(0o644, "can be read by everybody"), (0o600, "")])
def test_the_secret_is_in_a_file_that_not_everybody_reads(tmp_path, module, mode, why):
    path = tmp_path / "secret"
    path.write_text("geheim\n")
    path.chmod(mode)
    with FakeBackend([ReadLines(LINES + 1), answer(OK), ReadToEnd()]) as server:
        args = (BACKENDS, "header=X-Auth-Key", f"secretfile={path}")
        if why:
            with pytest.raises(PdmError, match=why):
                module(server, args=args)
            return
        made = module(server, args=args)
        assert made.check(make_request("joe")).outcome is Outcome.OK
        made.close()
        assert b"\r\nX-Auth-Key: geheim\r\n" in server.result()


# What is sent

def test_a_question_has_the_headers_of_nginx(module):
    with FakeBackend([*exchange(OK), ReadToEnd()]) as server:
        made = module(server)
        made.check(make_request("jo e%ü\udcff", b"a b%\x01\r\n+~\x7f\xff", ip="2001:db8::9", namespace="example.org"))
        made.close()
        lines = server.result().split(b"\r\n")
        host = str(server.endpoint).encode()
    assert lines[0] == b"GET /auth?x=1 HTTP/1.1" and lines[-2:] == [b"", b""]
    assert set(lines[1:-2]) == {
        b"Host: " + host, b"Accept-Encoding: identity", b"User-Agent: POPular", b"Auth-Method: plain",
        b"Auth-User: jo%20e%25\xc3\xbc\xff", b"Auth-Pass: a%20b%25%01%0D%0A+~\x7f\xff", b"Auth-Protocol: pop3",
        b"Auth-Login-Attempt: 1", b"Client-IP: 2001:db8::9", b"X-POPular-Namespace: example.org"}


@pytest.mark.parametrize("user", ["a" * 10_000, "a\0b", "a\r\nAuth-Status: OK", "a\ud800"])
def test_names_that_no_client_can_send_are_not_asked_for(module, user):
    with FakeBackend([]) as server:
        assert module(server).check(make_request(user)) == UNKNOWN
        assert server.sessions == []


# Answers

@pytest.mark.parametrize("headers, found", [
    (OK, JOE),
    (f"auth-status: OK\r\n{SERVER.lower()}", JOE),
    (f"{OK}Auth-User: joe@store\r\nAuth-Pass: s%20 \xff\r\nAuth-Wait: 3\r\n",
     Found("store1", "pop3", "", "joe@store", b"s%20 \xff", verified=True)),
    ("Auth-Status: OK\r\nAuth-Server: 2001:DB8:0::5\r\nAuth-Port: 110\r\n",
     Found("store2", "pop3", "", "joe", b"secret", verified=True)),
    ("Auth-Status: OK\r\nAuth-Server: [2001:db8::5]\r\nAuth-Port: 110\r\n",
     Found("store2", "pop3", "", "joe", b"secret", verified=True)),
    ("Auth-Status: OK\r\nAuth-Server: Mail.example.org\r\nAuth-Port: 110\r\n",
     Found("store3", "pop3", "", "joe", b"secret", verified=True)),
    ("Auth-Status: OK\r\nX-POPular-Backend: other\r\n", Found("other", "pop3", "", "joe", b"secret", verified=True)),
    (f"{OK}X-POPular-Mailbox: 3/2d/joe\r\n", Found("store1", "", "3/2d/joe", verified=True)),
    (f"{OK}X-POPular-Mailbox: 3/2d/joe\r\nX-POPular-Protocol: cxpop\r\nX-POPular-Other: x\r\n",
     Found("store1", "cxpop", "3/2d/joe", verified=True)),
])
def test_accepted(ask, headers, found):
    assert ask(headers) == Answer(Outcome.OK, found)
    assert ask(headers, status="204 No Content").outcome is Outcome.OK
    assert ask(headers, body="x" * 10_000).found.verified is True


@pytest.mark.parametrize("headers, outcome, why", [
    ("Auth-Status: Invalid login or password\r\nAuth-Wait: 3\r\n", "denied", "Invalid login or password"),
    (f"Auth-Status: ok\r\n{SERVER}", "denied", "ok"),
    ("Auth-Status: Mailbox closed\r\nAuth-Error-Code: 535 5.7.0\r\n", "denied", "Mailbox closed"),
    ("Auth-Status: Try later\r\nAuth-Error-Code: 451 4.3.0\r\n", "failed", "Try later"),
    ("Auth-Status: WAIT\r\nAuth-Wait: 1\r\n", "failed", "WAIT"),
    (SERVER, "failed", "no Auth-Status in the answer"),
    ("Auth-Status: \r\n", "failed", "no Auth-Status in the answer"),
    (f"{OK}Auth-Status: no\r\n", "failed", "several headers auth-status in the answer"),
    (f"{OK}Auth-Pass: {'x' * 5000}\r\n", "failed", "the header auth-pass of the answer has more than 4096 octets"),
    ("Auth-Status: OK\r\n", "failed", "neither X-POPular-Backend nor Auth-Server and Auth-Port"),
    ("Auth-Status: OK\r\nAuth-Server: 10.0.0.5\r\n", "failed", "neither X-POPular-Backend nor Auth-Server and"),
    ("Auth-Status: OK\r\nAuth-Server: 10.0.0.5\r\nAuth-Port: 111\r\n", "failed",
     "Auth-Server '10.0.0.5' with Auth-Port '111' is not among backends="),
    ("Auth-Status: OK\r\nAuth-Server: 10.0.0.6\r\nAuth-Port: 110\r\n", "failed", "is not among backends="),
    ("Auth-Status: OK\r\nAuth-Server: 10.0.0.5\r\nAuth-Port: \xb2\r\n", "failed", "is not among backends="),
])
def test_refused_or_failed(ask, headers, outcome, why):
    told = ask(headers)
    assert (told.outcome, told.found) == (Outcome(outcome), None)
    assert why in told.why


def test_rules_and_a_label_of_the_record(ask):
    told = ask(f"{OK}X-POPular-Label: phone\r\nX-POPular-Networks: 127.0.0.0/8\r\nX-POPular-Softfail: off\r\n")
    assert (told.outcome, told.found.label, told.found.softfail) == (Outcome.OK, "phone", False)
    assert ask(f"{OK}X-POPular-Disabled: moved\r\n") == Answer(Outcome.DENIED, JOE, "disabled: moved")
    assert ask(f"{OK}X-POPular-Until: soon\r\n").outcome is Outcome.FAILED


def test_a_refusal_may_tell_the_mailbox_for_master_passwords(ask):
    told = ask(f"Auth-Status: no\r\n{SERVER}X-POPular-Mailbox: 3/2d/joe\r\n")
    assert told == Answer(Outcome.DENIED, Found("store1", "", "3/2d/joe", verified=True), "no")


@pytest.mark.parametrize("status", ["401 Unauthorized", "302 Found", "500 Internal Server Error"])
def test_another_status_is_a_failure(ask, status):
    with pytest.raises(PdmError, match="HTTP status"):
        ask(f"{OK}Location: http://127.0.0.1:1/\r\n", status=status)


@pytest.mark.parametrize("octets", [
    b"", b"HTTP", b"+OK POP3 server ready\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"\x15\x03\x01\x00\x02\x02\x46"], ids=["nothing", "cut", "pop3", "headers", "long", "tls"])
def test_what_is_no_answer_is_a_failure(module, octets):
    with FakeBackend([ReadLines(LINES), Say(octets), Close()]) as server:
        with pytest.raises(PdmError) as caught:
            module(server).check(make_request("joe"))
    assert str(caught.value).startswith(f"http://{server.endpoint}/auth?x=1: ")
    assert "secret" not in str(caught.value) and "POP3" not in str(caught.value)


def test_a_long_body_is_not_read_to_its_end(module):
    step = Say(f"HTTP/1.1 200 OK\r\n{OK}Content-Length: 1000000\r\n\r\n".encode() + b"x" * 100_000)
    with FakeBackend([ReadLines(LINES), step, ReadToEnd()]) as server:
        made = module(server)
        assert made.check(make_request("joe")) == made.check(make_request("joe")) == Answer(Outcome.OK, JOE)
        assert len(server.sessions) == 2    # the connection is not kept
        made.close()


# Connections and servers

def test_one_connection_is_kept_and_made_anew_when_the_server_has_closed_it(module):
    script = [[*exchange(OK), *exchange(OK), ReadLines(LINES), Close()], [*exchange(OK), ReadToEnd()]]
    with FakeBackend(lambda number: script[number]) as server:
        made = module(server)
        for _ in range(3):
            assert made.check(make_request("joe")) == Answer(Outcome.OK, JOE)
        assert len(server.sessions) == 2
        made.close()


def test_a_fresh_connection_that_is_closed_is_not_tried_again(module):
    with FakeBackend([ReadLines(LINES), Close()]) as server:
        with pytest.raises(PdmError):
            module(server).check(make_request("joe"))
        assert len(server.sessions) == 1


def test_the_next_server_is_asked_and_stays_the_first(module):
    with FakeBackend([*exchange("", status="503 Busy"), ReadToEnd()]) as one:
        with FakeBackend([*exchange(OK), *exchange(OK), ReadToEnd()]) as two:
            made = module(one, two)
            assert made.check(make_request("joe")) == made.check(make_request("joe")) == Answer(Outcome.OK, JOE)
            assert (len(one.sessions), len(two.sessions)) == (1, 1)
            made.close()


def test_a_silent_server_costs_no_more_than_the_timeout(module):
    with FakeBackend([ReadLines(LINES), Hold()]) as one, FakeBackend([*exchange(OK), ReadToEnd()]) as two:
        made = module(one, two, args=(BACKENDS, "timeout=100ms"))
        assert made.check(make_request("joe")) == Answer(Outcome.OK, JOE)
        made.close()


def test_nobody_waits_beyond_the_deadline(module):
    with FakeBackend([ReadLines(LINES), Hold()]) as one, FakeBackend([]) as two:
        made = module(one, two)
        began = time.monotonic()
        with pytest.raises(PdmError) as caught:
            made.check(make_request("joe").until(began + 0.2))
        made.close()
    assert str(caught.value) == (f"http://{one.endpoint}/auth?x=1: no answer within 0.2 s; "
                                 f"http://{two.endpoint}/auth?x=1: no time was left")
    assert 0.2 <= time.monotonic() - began < 2


def test_probe_tells_what_is_wrong(module):
    with FakeBackend([*exchange("Auth-Status: no\r\n"), ReadToEnd()]) as server:
        made = module(server)
        made.close()
        made.probe()
        assert b"\r\nAuth-User: -popular-check-\r\n" in server.result()
    with pytest.raises(PdmError, match="Connection refused"):
        made.probe()


def test_a_cafile_that_is_missing_is_named():
    with pytest.raises(PdmError, match="^cafile: No such file"):
        make_module("http", "url=https://localhost/", "cafile=/nowhere/ca.pem").open()


def test_nobody_is_found_without_a_password():
    with pytest.raises(CannotFind):
        make_module("http", "url=http://localhost/").find("joe", "example.org")
