"""What pproxy allows a client: time, tries, errors, line lengths, octets (spec 1.5; design 7)."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.fake_backend import Close, Expect, FakeBackend, Hold, ReadToEnd, Say, Step
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, FIRST_LINE, PASSWORD, PAUL, XENIA, StartProxy, script_for, store
from tests.harness.system import wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
TOO_LONG = 8.0                        # seconds: a limit of some hundred milliseconds did not work

Pop = Callable[..., PopClient]


@pytest.fixture
def no_mail() -> Iterator[dict[str, object]]:
    """The backend `store` whose pcheckd has mail for nobody."""
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        yield {**store(NOWHERE, check.endpoint)}


Backends = dict[str, object]


def ended(client: PopClient) -> bytes:
    """Return what comes until the proxy closes, which is soon."""
    before = time.monotonic()
    rest = client.rest()
    assert time.monotonic() - before < TOO_LONG
    return rest


def test_authtimeout_ends_a_silent_client(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), authtimeout="200ms")
    client = pop(daemon.endpoint())
    client.greeting()
    assert ended(client) == b""
    daemon.wait_log("session_end")


def test_authtimeout_ends_a_client_that_goes_on_talking(proxy: StartProxy, pop: Pop) -> None:
    client = pop(proxy(store(NOWHERE), authtimeout="300ms").endpoint())
    client.greeting()
    before = time.monotonic()
    with pytest.raises((AssertionError, OSError)):
        while True:
            client.ok("NOOP")
    assert 0.2 < time.monotonic() - before < TOO_LONG


def test_authtimeout_is_for_the_whole_login(proxy: StartProxy, pop: Pop) -> None:
    """A refusal does not start it anew, and the delay before a refusal does not outlast it."""
    client = pop(proxy(store(NOWHERE), authtimeout="1s", authdelay="10s").endpoint())
    before = time.monotonic()
    assert client.login(XENIA, "wrong").startswith(b"-ERR [AUTH]")
    assert ended(client) == b""
    assert time.monotonic() - before < TOO_LONG


def test_authtimeout_ends_with_the_login(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    with FakeBackend(script_for(XENIA, Hold(), Say(b"+OK later\r\n"), Close())) as fake:
        daemon = proxy(store(fake), authtimeout="1s")
        client = pop(daemon.endpoint())
        assert client.login(XENIA, PASSWORD) == FIRST_LINE
        other = pop(daemon.endpoint())    # ends by the limit, which so has passed for the first one too
        other.greeting()
        assert ended(other) == b""
        fake.release()
        assert client.line() == b"+OK later"


def test_without_authtimeout_the_idle_limit_holds(proxy: StartProxy, pop: Pop) -> None:
    client = pop(proxy(store(NOWHERE), authtimeout=0, idletimeout="200ms").endpoint())
    client.greeting()
    assert ended(client) == b""


def test_maxauthtries(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), maxauthtries=2)
    client = pop(daemon.endpoint())
    assert client.login(XENIA, "wrong").startswith(b"-ERR [AUTH]")
    client.ok(f"USER {XENIA}")
    client.err("PASS wrong again")
    assert ended(client) == b""
    daemon.wait_log("too_many_logins")


def test_maxauthtries_counts_refusals_of_the_backend(proxy: StartProxy, pop: Pop) -> None:
    refusing: list[Step] = [*script_for(PAUL)[:4], Say(b"-ERR [AUTH] no\r\n"), Close()]
    with FakeBackend(refusing) as fake:
        client = pop(proxy(store(fake), maxauthtries=2).endpoint())
        assert client.login(PAUL, PASSWORD) == b"-ERR [AUTH] no"
        client.ok(f"USER {PAUL}")
        assert client.command(f"PASS {PASSWORD}") == b"-ERR [AUTH] no"
        assert ended(client) == b""


@pytest.mark.parametrize("user", [XENIA, "nobody"])
def test_authdelay_grows_with_each_refusal(proxy: StartProxy, pop: Pop, user: str) -> None:
    client = pop(proxy(store(NOWHERE), authdelay="100ms").endpoint())
    client.greeting()
    for wanted in (0.1, 0.2, 0.4):
        client.ok(f"USER {user}")
        before = time.monotonic()
        client.err("PASS wrong")
        assert wanted <= time.monotonic() - before < TOO_LONG


def test_a_right_password_is_not_delayed(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    client = pop(proxy(no_mail, authdelay="15s").endpoint())
    before = time.monotonic()
    assert client.login(CASPER, PASSWORD).startswith(b"+OK")
    assert time.monotonic() - before < TOO_LONG


def test_idletimeout_in_the_empty_mailbox(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    client = pop(proxy(no_mail, idletimeout="1s").endpoint())
    client.login(CASPER, PASSWORD)
    assert client.command("STAT") == b"+OK 0 0"
    assert ended(client) == b""


def test_idletimeout_in_the_relay(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA, ReadToEnd())) as fake:
        client = pop(proxy(store(fake), idletimeout="1s").endpoint())
        assert client.login(XENIA, PASSWORD) == FIRST_LINE
        assert ended(client) == b""
        fake.result()


def test_idletimeout_is_about_silence_not_length(proxy: StartProxy, pop: Pop) -> None:
    noop: list[Step] = [Expect(b"NOOP\r\n"), Say(b"+OK\r\n")]
    with FakeBackend(script_for(XENIA, *noop * 200_000, Close())) as fake:
        client = pop(proxy(store(fake), idletimeout="1s").endpoint())
        client.login(XENIA, PASSWORD)
        before = time.monotonic()
        while time.monotonic() - before < 1.5:
            client.ok("NOOP")


def test_maxerrors_over_both_states(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    client = pop(proxy(no_mail, maxerrors=4).endpoint())
    client.greeting()
    client.err("WHAT")
    client.err("")                        # an empty line is one
    client.ok(f"USER {CASPER}")
    client.ok(f"PASS {PASSWORD}")
    client.err("RETR 1")
    client.err("DELE 1")
    assert ended(client) == b""


def test_errors_below_maxerrors_do_no_harm(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    client = pop(proxy(no_mail, maxerrors=4).endpoint())
    client.greeting()
    for _ in range(3):
        client.err("WHAT")
    client.ok(f"USER {CASPER}")
    client.ok(f"PASS {PASSWORD}")
    client.ok("QUIT")


@pytest.mark.parametrize("maxline", [255, 100])
def test_maxline(proxy: StartProxy, pop: Pop, maxline: int) -> None:
    client = pop(proxy(store(NOWHERE), maxline=maxline).endpoint())
    client.greeting()
    client.ok(b"USER " + b"x" * (maxline - 5))
    client.err(b"USER " + b"x" * (maxline - 4))
    client.ok("NOOP")


@pytest.mark.parametrize("line", [
    pytest.param(b"x" * 10_000, id="10000-octets"),
    pytest.param(b"x" * 254 + b" QUIT", id="command-behind-the-limit"),
    pytest.param(b"x" * 250 + b"\rQUIT\r" + b"QUIT\r" * 100, id="commands-behind-bare-cr"),
    pytest.param(b"QUIT" + b" " * 300, id="command-and-blanks"),
])
def test_an_over_long_line_is_refused_once_and_never_obeyed(proxy: StartProxy, pop: Pop, line: bytes) -> None:
    client = pop(proxy(store(NOWHERE)).endpoint())
    client.send(line + b"\r\nNOOP\r\nQUIT\r\n")
    client.greeting()
    answers = ended(client).split(b"\r\n")
    assert [answer.split(b" ")[0] for answer in answers] == [b"-ERR", b"+OK", b"+OK", b""]


def test_an_endless_line_ends_the_session(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE))
    client = pop(daemon.endpoint())
    client.greeting()
    with pytest.raises(OSError):
        while True:
            client.send(b"x" * 10_000)
    daemon.wait_log("session_end")


@pytest.mark.parametrize("data", [
    pytest.param(b"\0", id="nul-alone"),
    pytest.param(b"NO\0OP\r\n", id="in-a-command"),
    pytest.param(b"USER xenia\r\nPASS open\0sesame\r\n", id="in-a-password"),
    pytest.param(b"x" * 1000 + b"\0", id="in-an-over-long-line"),
])
def test_spec_1_5_nul_drops_the_connection_silently(proxy: StartProxy, pop: Pop, data: bytes) -> None:
    daemon = proxy(store(NOWHERE))
    client = pop(daemon.endpoint())
    client.greeting()
    client.send(data)
    assert ended(client) == b""
    daemon.wait_log(f" ADM 0035 null_byte_in_input ctx='client' len={len(data)} data='***'")    # may be a password


def test_spec_1_5_nul_in_the_empty_mailbox(proxy: StartProxy, pop: Pop, no_mail: Backends) -> None:
    daemon = proxy(no_mail)
    client = pop(daemon.endpoint())
    client.login(CASPER, PASSWORD)
    client.send(b"STAT\0\r\n")
    assert ended(client) == b""
    daemon.wait_log(r" ADM 0035 null_byte_in_input ctx='client' len=7 data='STAT\x00\x0d\x0a'")


MORE = b"NOOP and more\r\n" * 3000    # 45 KB that nobody will read


def test_the_last_refusal_arrives_whatever_the_client_still_sends(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), maxauthtries=1)
    for _ in range(10):
        client = pop(daemon.endpoint())
        client.send(b"USER x\r\nPASS wrong\r\n" + MORE)
        client.greeting()
        assert ended(client).split(b"\r\n")[1].startswith(b"-ERR [AUTH]")


def test_the_answer_to_quit_arrives_whatever_the_client_still_sends(proxy: StartProxy, pop: Pop,
                                                                    no_mail: Backends) -> None:
    daemon = proxy(no_mail)
    for _ in range(10):
        client = pop(daemon.endpoint())
        client.send(f"USER {CASPER}\r\nPASS {PASSWORD}\r\nQUIT\r\n".encode() + MORE)
        client.greeting()
        answers = ended(client).split(b"\r\n")
        assert len(answers) == 4 and all(answer.startswith(b"+OK") for answer in answers[:3])


def test_the_goodbye_of_a_backend_arrives_whatever_the_client_still_sends(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA, Expect(b"QUIT\r\n"), Say(b"+OK bye\r\n"), Close())) as fake:
        daemon = proxy(store(fake))
        for _ in range(10):
            client = pop(daemon.endpoint())
            assert client.login(XENIA, PASSWORD) == FIRST_LINE
            client.send(b"QUIT\r\n")
            assert client.line() == b"+OK bye"
            assert ended(client) == b""


def test_too_many_errors_are_told_whatever_the_client_still_sends(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), maxerrors=2)
    for _ in range(10):
        client = pop(daemon.endpoint())
        client.send(b"WHAT\r\nWHAT\r\n" + MORE)
        client.greeting()
        assert ended(client).count(b"-ERR") == 2


def test_spec_1_5_keepalive_on_both_legs(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA, Hold(), Close())) as fake:
        daemon = proxy(store(fake))
        client = pop(daemon.endpoint())
        client.login(XENIA, PASSWORD)
        legs = [(daemon.endpoint().port, client.sock.getsockname()[1]),
                (fake.sessions[0].peer[1], fake.endpoint.port)]
        for leg in legs:
            wait_for(lambda: keepalive_of(*leg), what=f"the keepalive timer of {leg}")    # first the last ACK must come
        fake.release()


def keepalive_of(local: int, remote: int) -> bool:
    """Tell whether the kernel runs a keepalive timer for a connection over loopback (proc(5): tr is 02)."""
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if (fields[1].endswith(f":{local:04X}") and fields[2].endswith(f":{remote:04X}")):
            return fields[5].startswith("02:")
    raise AssertionError("no such connection")


def test_a_client_that_never_reads_holds_up_nobody(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), authtimeout="500ms")
    deaf = pop(daemon.endpoint())
    deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.sock.setblocking(False)
    try:
        while True:
            deaf.send(b"CAPA\r\n" * 1000)
    except OSError:
        pass    # the proxy takes no more until its answers are read
    daemon.wait_log("session_end")
    other = pop(daemon.endpoint())
    other.greeting()
    other.ok("QUIT")
