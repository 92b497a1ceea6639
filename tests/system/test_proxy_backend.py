"""pproxy toward backends that refuse, misbehave, or are not there (spec 0.2: soft failure; design 7)."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from popular.addresses import Endpoint
from popular.net.listen import resolve
from tests.harness.fake_backend import Close, Expect, FakeBackend, Hold, ReadLines, Reset, Say, Step
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import (
    CASPER, FIRST_LINE, GOODBYE, PASSWORD, PAUL, POP3_LOGIN, XENIA, Lasting, StartLasting, StartProxy, script_for,
    store)

Pop = Callable[..., PopClient]

GREETING = Say(b"+OK POP3 ready\r\n")
USER = Expect(b"USER paul@store\r\n")
PASS = Expect(b"PASS s3 cret\r\n")
OK = Say(b"+OK\r\n")
UP_TO_PASS = (GREETING, USER, OK, PASS)


@pytest.fixture(scope="module")
def patient(lasting: StartLasting) -> Lasting:
    """A proxy that waits for its backend."""
    return lasting("patient")


@pytest.fixture(scope="module")
def impatient(lasting: StartLasting) -> dict[str, Lasting]:
    """By `softfail`, proxies that do not wait for long."""
    return {softfail: lasting(f"softfail-{softfail}", softfail=softfail, logintimeout="300ms")
            for softfail in ("on", "off")}


def answer_to_pass(line: bytes) -> Sequence[Step]:
    """Return the script of a POP3 backend that answers PASS with `line`."""
    return (*UP_TO_PASS, Say(line + b"\r\n"), Close())


@pytest.mark.parametrize("answer, seen", [
    pytest.param(b"-ERR [AUTH] wrong", b"-ERR [AUTH] wrong", id="auth"),
    pytest.param(b"-ERR [IN-USE] mailbox locked", b"-ERR [IN-USE] mailbox locked", id="in-use"),
    pytest.param(b"-ERR [LOGIN-DELAY] come later", b"-ERR [LOGIN-DELAY] come later", id="login-delay"),
    pytest.param(b"-ERR [SYS/TEMP] broken", b"-ERR [SYS/TEMP] broken", id="sys-temp"),
    pytest.param(b"-ERR [SYS/PERM]", b"-ERR [SYS/PERM]", id="code-only"),
    pytest.param(b"-ERR no code", b"-ERR no code", id="no-code"),
    pytest.param(b"-ERR", b"-ERR", id="bare"),
    pytest.param(b"-ERR [AUTH] \x1b[2J\x07\xff", b"-ERR [AUTH] ?[2J?", id="terminal-codes"),
    pytest.param(b"-ERR \xff\xfb\x01telnet", b"-ERR ?telnet", id="iac"),
    pytest.param(b"-ERR one\rtwo", b"-ERR one?two", id="stray-cr"),
])
def test_a_refusal_of_the_backend_is_passed_on_clean(patient: Lasting, pop: Pop, answer: bytes, seen: bytes) -> None:
    scripts = [answer_to_pass(answer), script_for(PAUL)]
    with patient.before(lambda number: scripts[number]) as fake:
        client = pop(patient.daemon.endpoint())
        assert client.login(PAUL, PASSWORD) == seen
        fake.result(0)
        client.err("STAT")                              # still in AUTHORIZATION
        client.err(f"PASS {PASSWORD}")                  # and USER has to come again
        client.ok(f"USER {PAUL}")
        assert client.command(f"PASS {PASSWORD}") == FIRST_LINE
        assert client.command("STAT") == b"+OK 1 17"
        client.ok("QUIT")
        fake.result(1)
        assert len(patient.log_lines("backend_refused")) == 1


@pytest.mark.parametrize("line, seen", [
    pytest.param(b"+OK \x1b[2Jhello\xff", b"+OK ?[2Jhello?", id="terminal-codes"),
    pytest.param(b"+OK hello", b"+OK hello", id="plain"),
])
def test_the_greeting_after_pass_is_passed_on_clean(patient: Lasting, pop: Pop, line: bytes, seen: bytes) -> None:
    with patient.before(answer_to_pass(line)):
        assert pop(patient.daemon.endpoint()).login(PAUL, PASSWORD) == seen


def test_a_refusal_at_user_is_a_refusal(patient: Lasting, pop: Pop) -> None:
    with patient.before([GREETING, USER, Say(b"-ERR [SYS/TEMP] no such\r\n"), Close()]):
        assert pop(patient.daemon.endpoint()).login(PAUL, PASSWORD) == b"-ERR [SYS/TEMP] no such"


@pytest.mark.parametrize(("answers", "why"), [
    pytest.param([b"-ERR what?\r\n"], "it does not offer XCLIENT to us", id="no CAPA"),
    pytest.param([b"+OK\r\nTOP\r\n.\r\n"], "it does not offer XCLIENT to us", id="not offered"),
    pytest.param([b"+OK\r\nXCLIENT\r\n.\r\n", b"-ERR no\r\n"], "its answer to XCLIENT is -ERR no", id="refused"),
])
def test_a_login_goes_on_if_the_backend_does_not_take_the_client_s_address(
        proxy: StartProxy, pop: Pop, answers: list[bytes], why: str) -> None:
    script = [GREETING, *(step for answer in answers for step in (ReadLines(1), Say(answer))), *UP_TO_PASS[1:],
              Say(FIRST_LINE + b"\r\n"), Close()]
    with FakeBackend(script) as fake:
        daemon = proxy(store(fake, protocol="pop3", clientaddress="xclient"))
        assert pop(daemon.endpoint()).login(PAUL, PASSWORD) == FIRST_LINE
        [line] = daemon.wait_log("client_not_passed", count=1)
    assert " ADM 0258 client_not_passed backend='store' client='127.0.0.1:" in line and f"why='{why}" in line


@pytest.mark.parametrize("user", [XENIA, CASPER])
def test_a_refusal_of_pserv_is_a_refusal(proxy: StartProxy, pop: Pop, user: str) -> None:
    scripts: list[Sequence[Step]] = [[ReadLines(3), Say(b"-ERR [SYS/PERM] no such mailbox\r\n"), Close()],
                                     script_for(user)]
    with FakeBackend(lambda number: scripts[number]) as fake, FakePcheckd(always(Reply(b"+OK 2\n"))) as check:
        client = pop(proxy(store(fake, check.endpoint)).endpoint())
        assert client.login(user, PASSWORD) == b"-ERR [SYS/PERM] no such mailbox"
        client.ok(f"USER {user}")
        assert client.command(f"PASS {PASSWORD}") == FIRST_LINE


LONG = b"x" * 600

BROKEN = [
    pytest.param(XENIA, [Close()], id="xpop-closes-at-once"),
    pytest.param(XENIA, [ReadLines(1), Close()], id="xpop-closes-in-the-preamble"),
    pytest.param(XENIA, [ReadLines(3), Close()], id="xpop-closes-without-an-answer"),
    pytest.param(XENIA, [ReadLines(3), Reset()], id="xpop-resets"),
    pytest.param(XENIA, [ReadLines(3), Say(b"+OK half a li"), Close()], id="xpop-half-a-line"),
    pytest.param(XENIA, [ReadLines(3), Say(b"hello\r\n"), Close()], id="xpop-garbage"),
    pytest.param(XENIA, [ReadLines(3), Say(b"\r\n"), Close()], id="xpop-empty-line"),
    pytest.param(XENIA, [ReadLines(3), Say(b"+OK " + LONG + b"\r\n"), Close()], id="xpop-over-long"),
    pytest.param(XENIA, [ReadLines(3), Say(b"+OK\0\r\n"), Close()], id="xpop-nul"),
    pytest.param(XENIA, [ReadLines(3), Hold(), Close()], id="xpop-silent"),
    pytest.param(PAUL, [Close()], id="pop3-closes-at-once"),
    pytest.param(PAUL, [Hold(), Close()], id="pop3-no-greeting"),
    pytest.param(PAUL, [Say(b"+OK half a gree"), Hold(), Close()], id="pop3-half-a-greeting"),
    pytest.param(PAUL, [Say(b"220 smtp\r\n"), Close()], id="pop3-garbage-greeting"),
    pytest.param(PAUL, [Say(b"-ERR too many connections\r\n"), Close()], id="pop3-refuses-in-the-greeting"),
    pytest.param(PAUL, [Say(b"+OK " + LONG + b"\r\n"), Close()], id="pop3-over-long-greeting"),
    pytest.param(PAUL, [Say(b"x" * 200_000), Close()], id="pop3-endless-greeting"),
    pytest.param(PAUL, [Say(b"+OK\0\r\n"), Close()], id="pop3-nul-in-the-greeting"),
    pytest.param(PAUL, [GREETING, Close()], id="pop3-closes-before-user"),
    pytest.param(PAUL, [GREETING, USER, Close()], id="pop3-closes-after-user"),
    pytest.param(PAUL, [GREETING, USER, Reset()], id="pop3-resets-after-user"),
    pytest.param(PAUL, [GREETING, USER, Say(b"what?\r\n"), Close()], id="pop3-garbage-after-user"),
    pytest.param(PAUL, [*UP_TO_PASS, Close()], id="pop3-closes-after-pass"),
    pytest.param(PAUL, [*UP_TO_PASS, Hold(), Close()], id="pop3-silent-after-pass"),
    pytest.param(PAUL, [*UP_TO_PASS, Say(b"+OKAY\r\n"), Close()], id="pop3-garbage-after-pass"),
    pytest.param(PAUL, [*UP_TO_PASS, Say(b"+OK\0\r\n"), Close()], id="pop3-nul-after-pass"),
]


@pytest.mark.parametrize("user, script", BROKEN)
def test_a_broken_backend_with_softfail_off(impatient: dict[str, Lasting], pop: Pop, user: str,
                                            script: Sequence[Step]) -> None:
    proxy = impatient["off"]
    with proxy.before(script) as fake:
        client = pop(proxy.daemon.endpoint())
        answer = client.login(user, PASSWORD)
        assert answer.startswith(b"-ERR [SYS/TEMP] ") and str(fake.endpoint.port).encode() not in answer
        client.ok(f"USER {user}")    # still in AUTHORIZATION
        proxy.wait_log("backend_failed")
        fake.release()


@pytest.mark.parametrize("user, script", [case for case in BROKEN if "after-pass" not in str(case.id)])
def test_a_broken_backend_with_softfail_on(impatient: dict[str, Lasting], pop: Pop, user: str,
                                           script: Sequence[Step]) -> None:
    proxy = impatient["on"]
    with proxy.before(script) as fake:
        client = pop(proxy.daemon.endpoint())
        assert client.login(user, PASSWORD).startswith(b"+OK")
        assert client.command("STAT") == b"+OK 0 0"
        client.ok("QUIT")
        proxy.wait_log("soft_failure")
        fake.release()


def test_spec_1_5_nul_from_a_backend_is_logged(patient: Lasting, pop: Pop) -> None:
    with patient.before([ReadLines(3), Say(b"+OK\0\r\n"), Close()]):
        assert pop(patient.daemon.endpoint()).login(XENIA, PASSWORD).startswith(b"+OK")
        (line,) = patient.wait_log(" ADM 0035 null_byte_in_input ")
        assert r"ctx='backend' len=6 data='+OK\x00\x0d\x0a'" in line


@pytest.fixture
def refusing() -> Iterator[Endpoint]:
    """A port that is ours and refuses connections."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield Endpoint("127.0.0.1", reserved.getsockname()[1])


@pytest.fixture
def deaf() -> Iterator[Endpoint]:
    """A port that lets connections wait for ever: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield Endpoint("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize("place", ["refusing", "deaf"])
@pytest.mark.parametrize("user", [CASPER, XENIA, PAUL])
@pytest.mark.parametrize("softfail, answer, event", [
    pytest.param("on", b"+OK ", "soft_failure", id="softfail-on"),
    pytest.param("off", b"-ERR [SYS/TEMP] ", "backend_failed", id="softfail-off"),
])
def test_out_of_reach(proxy: StartProxy, pop: Pop, request: pytest.FixtureRequest, place: str, user: str,
                      softfail: str, answer: bytes, event: str) -> None:
    endpoint = request.getfixturevalue(place)
    with FakePcheckd(always(Reply(b"+OK 2 new mail\n"))) as check:
        daemon = proxy(store(endpoint, check.endpoint), softfail=softfail, connecttimeout="200ms")
        client = pop(daemon.endpoint())
        assert client.login(user, PASSWORD).startswith(answer)
        daemon.wait_log(event)
        assert (client.command("STAT") == b"+OK 0 0") is (softfail == "on")


@pytest.mark.parametrize("general, own, answer", [
    pytest.param("on", "off", b"-ERR [SYS/TEMP]", id="off-for-this-backend"),
    pytest.param("off", "on", b"+OK", id="on-for-this-backend"),
])
def test_a_backend_overrides_softfail(proxy: StartProxy, pop: Pop, refusing: Endpoint, general: str, own: str,
                                      answer: bytes) -> None:
    daemon = proxy(store(refusing, softfail=own), softfail=general)
    assert pop(daemon.endpoint()).login(XENIA, PASSWORD).startswith(answer)


def test_the_next_login_reaches_a_backend_that_came_back(proxy: StartProxy, pop: Pop) -> None:
    scripts: list[Sequence[Step]] = [[Close()], script_for(XENIA)]
    with FakeBackend(lambda number: scripts[number]) as fake:
        client = pop(proxy(store(fake), softfail="off").endpoint())
        assert client.login(XENIA, PASSWORD).startswith(b"-ERR [SYS/TEMP]")
        client.ok(f"USER {XENIA}")
        assert client.command(f"PASS {PASSWORD}") == FIRST_LINE


@pytest.mark.parametrize("what, event", [("vserv", "vserv_disabled"), ("backend", "backend_disabled")])
def test_disabled_parts_show_an_empty_mailbox(proxy: StartProxy, pop: Pop, what: str, event: str) -> None:
    with FakeBackend(script_for(CASPER)) as fake, FakePcheckd(always(Reply(b"+OK 2 new mail\n"))) as check:
        daemon = proxy(store(fake, check.endpoint, **({"enabled": "off"} if what == "backend" else {})),
                       vserv={"enabled": "off"} if what == "vserv" else {})
        for user in (CASPER, XENIA, PAUL):
            client = pop(daemon.endpoint())
            assert client.login(user, PASSWORD).startswith(b"+OK")
            assert client.command("STAT") == b"+OK 0 0"
        client = pop(daemon.endpoint())
        assert client.login(XENIA, "wrong").startswith(b"-ERR [AUTH]")    # disabled is not open to all
        daemon.wait_log(event, count=3)
        assert fake.sessions == [] and check.asked == []


def test_source_address(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(CASPER)) as fake, FakePcheckd(always(Reply(b"+OK 2 new mail\n"))) as check:
        daemon = proxy(store(fake, check.endpoint, source="127.0.0.9"))
        assert pop(daemon.endpoint()).login(CASPER, PASSWORD) == FIRST_LINE
        assert fake.sessions[0].peer[0] == "127.0.0.9" and check.asked[0].peer[0] == "127.0.0.9"


def test_a_slow_login_within_the_limits(proxy: StartProxy, pop: Pop) -> None:
    octets = b"+OK POP3 ready\r\n"
    slowly = [Say(octets[place:place + 1]) for place in range(len(octets))]
    with FakeBackend([*slowly, *POP3_LOGIN[1:], *GOODBYE]) as fake:
        client = pop(proxy(store(fake)).endpoint())
        assert client.login(PAUL, PASSWORD) == FIRST_LINE
        assert client.command("STAT") == b"+OK 1 17"
        client.ok("QUIT")
        fake.result()


def test_a_backend_by_name(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA), host=resolve(Endpoint("localhost", 0)).host) as fake:
        daemon = proxy(store(Endpoint("localhost", fake.endpoint.port)))
        assert pop(daemon.endpoint()).login(XENIA, PASSWORD) == FIRST_LINE


def test_nobody_else_is_held_up_by_a_backend_that_hangs(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend([ReadLines(3), Hold(), Close()]) as hanging:
        daemon = proxy({**store(hanging)}, vserv={"namespace": "org"})
        stuck = pop(daemon.endpoint())
        stuck.greeting()
        stuck.ok(f"USER {XENIA}")
        stuck.send(f"PASS {PASSWORD}\r\n".encode())
        hanging.wait_received(b"x/xenia")
        for _ in range(20):
            client = pop(daemon.endpoint())
            assert client.login(XENIA, "wrong").startswith(b"-ERR [AUTH]")
            client.ok("QUIT")
        hanging.release()
