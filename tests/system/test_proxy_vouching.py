"""Who hears +OK: somebody whose password was checked, by a module or by the backend, and nobody else.

With `module = any` and a pop3 backend it is the backend that checks passwords, so every path that ends without its
answer ends with -ERR [SYS/TEMP], whatever `softfail` says.
"""

import base64
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Close, FakeBackend, Hold, ReadLines, Reset, Say, Step
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.leaving import ClientsMayLeave
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, PAUL, XENIA, Lasting, StartLasting, StartProxy, script_for, store
from tests.harness.pstatus import status
from tests.harness.system import wait_for

Pop = Callable[..., PopClient]
StartOpen = Callable[..., Daemon]

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
GUESS = "a guess of somebody"
GREETING = Say(b"+OK POP3 ready\r\n")
UP_TO_PASS: Sequence[Step] = (GREETING, ReadLines(), Say(b"+OK\r\n"), ReadLines())
PASSES: Sequence[Step] = (*UP_TO_PASS, Say(b"+OK 1 message\r\n"), Close())

# A module of somebody's own, written for API 1.0: it knows one user, and says nothing of who has checked passwords.
OLD_MODULE = """
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule


class Module(PdmModule):
    API = (1, 0)

    def check(self, request):
        return Answer(Outcome.OK, Found("store", "pop3", "", request.user, {password}))
"""


@pytest.fixture
def open_proxy(start: Callable[..., Daemon]) -> StartOpen:
    """A function (backends, module, args, vserv, **variables) that starts a pproxy with one database module."""
    def start_one(backends: object, module: str = "any", args: object = "store protocol=pop3",
                  vserv: dict[str, object] | None = None, **variables: object) -> Daemon:
        return start("pproxy", {
            "pproxy": {"authdelay": 0, "sidprefix": "px", **variables},
            "vserv": {"main": {"address": "127.0.0.1:0", **(vserv or {})}},
            "backend": backends, "pdm": {"one": {"module": module, "args": args}}})
    return start_one


@pytest.fixture(scope="module")
def impatient(lasting: StartLasting) -> dict[str, Lasting]:
    """By `softfail`, proxies that do not wait for long."""
    return {softfail: lasting(f"softfail-{softfail}", softfail=softfail, logintimeout="300ms")
            for softfail in ("on", "off")}


SILENCES = [
    pytest.param([*UP_TO_PASS, Hold(), Close()], id="silent"),
    pytest.param([*UP_TO_PASS, Close()], id="closes"),
    pytest.param([*UP_TO_PASS, Reset()], id="resets"),
    pytest.param([*UP_TO_PASS, Say(b"+OKAY\r\n"), Close()], id="garbage"),
    pytest.param([*UP_TO_PASS, Say(b"+OK" + b"x" * 600 + b"\r\n"), Close()], id="over-long"),
    pytest.param([*UP_TO_PASS, Say(b"+OK\0\r\n"), Close()], id="nul"),
    pytest.param([*UP_TO_PASS, Say(b"+OK half a li"), Close()], id="half-a-line"),
]


@pytest.mark.parametrize("script", SILENCES)
@pytest.mark.parametrize("softfail", ["on", "off"])
def test_silence_after_the_password_is_no_yes(impatient: dict[str, Lasting], pop: Pop, script: Sequence[Step],
                                              softfail: str) -> None:
    """Also for a user whose password the database has checked: nobody knows what the backend would have said."""
    proxy = impatient[softfail]
    with proxy.before(script) as fake:
        client = pop(proxy.daemon.endpoint())
        assert client.login(PAUL, PASSWORD).startswith(b"-ERR [SYS/TEMP] ")
        client.err("STAT")
        client.ok(f"USER {PAUL}")
        proxy.wait_log("backend_failed")
        fake.release()


AHEAD = [
    pytest.param([GREETING, ReadLines(), Say(b"+OK\r\n+OK and more\r\n"), Hold(), Close()],
                 id="an-answer-that-was-there-before"),
    pytest.param([Say(b"+OK one\r\n+OK two\r\n"), ReadLines(), Say(b"+OK\r\n"), Hold(), Close()], id="two-greetings"),
]


@pytest.mark.parametrize("script", [*SILENCES, *AHEAD])
def test_silence_for_a_guess(open_proxy: StartOpen, pop: Pop, script: Sequence[Step]) -> None:
    with FakeBackend(script) as fake:
        daemon = open_proxy(store(fake, protocol="pop3", logintimeout="300ms"))
        client = pop(daemon.endpoint())
        assert client.login("joe", GUESS).startswith(b"-ERR [SYS/TEMP] ")
        client.err("STAT")
        client.ok("USER joe")
        daemon.wait_log("backend_failed")
        fake.release()


EARLY = [
    pytest.param([Close()], {}, {}, id="closes-at-once"),
    pytest.param([Say(b"-ERR too many\r\n"), Close()], {}, {}, id="refuses-everybody"),
    pytest.param([GREETING, ReadLines(), Close()], {}, {}, id="closes-after-user"),
    pytest.param([], {"drain": "on"}, {}, id="drained"),
    pytest.param([], {"enabled": "off"}, {}, id="backend-disabled"),
    pytest.param([], {}, {"enabled": "off"}, id="vserv-disabled"),
]


@pytest.mark.parametrize(("script", "backend", "vserv"), EARLY)
def test_nobody_has_vouched(open_proxy: StartOpen, pop: Pop, script: Sequence[Step], backend: dict[str, Any],
                            vserv: dict[str, object]) -> None:
    with FakeBackend(script) as fake:
        daemon = open_proxy(store(fake, protocol="pop3", **backend), vserv=vserv)
        client = pop(daemon.endpoint())
        assert client.login("joe", GUESS).startswith(b"-ERR [SYS/TEMP] ")
        client.err("STAT")
        client.ok("QUIT")
        daemon.wait_log("outcome='quit'")


@pytest.mark.parametrize(("script", "backend", "vserv"), EARLY)
def test_the_database_has_vouched(proxy: StartProxy, pop: Pop, script: Sequence[Step], backend: dict[str, Any],
                                  vserv: dict[str, object]) -> None:
    with FakeBackend(script) as fake:
        daemon = proxy(store(fake, **backend), vserv=vserv)
        client = pop(daemon.endpoint())
        assert client.login(PAUL, PASSWORD).startswith(b"+OK 0 messages")
        assert client.command("STAT") == b"+OK 0 0"


def test_out_of_reach_for_a_guess(open_proxy: StartOpen, pop: Pop) -> None:
    daemon = open_proxy(store(NOWHERE, protocol="pop3"))
    client = pop(daemon.endpoint())
    assert client.login("joe", GUESS).startswith(b"-ERR [SYS/TEMP] ")
    [line] = daemon.wait_log("backend_failed")
    assert f"client='{client.sock.getsockname()[0]}:{client.sock.getsockname()[1]}'" in line


def test_the_protocol_of_the_backend_decides_who_vouches(open_proxy: StartOpen, pop: Pop) -> None:
    """Without a protocol of its own, `any` fits both: where no backend checks passwords, any password is right."""
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        for protocol, answer in (("pop3", b"-ERR [SYS/TEMP] "), ("cxpop", b"+OK 0 messages")):
            daemon = open_proxy({"store": {"protocol": protocol, "address": NOWHERE, "checkport": check.endpoint.port}},
                                args="store %u")
            assert pop(daemon.endpoint()).login("joe", GUESS).startswith(answer)
            daemon.stop()


@pytest.mark.parametrize(("password", "answer"), [
    pytest.param("request.password", b"-ERR [SYS/TEMP] ", id="the-clients-own-password-goes-on"),
    pytest.param('b"another"', b"+OK 0 messages", id="the-backend-gets-another"),
])
def test_modules_that_do_not_say(open_proxy: StartOpen, pop: Pop, tmp_path: Path, password: str,
                                 answer: bytes) -> None:
    (tmp_path / "pdm_old.py").write_text(OLD_MODULE.format(password=password))
    daemon = open_proxy(store(NOWHERE, protocol="pop3"), "old", "", pdmdir=tmp_path)
    assert pop(daemon.endpoint()).login("joe", GUESS).startswith(answer)


def test_a_backend_that_delays_refusals(open_proxy: StartOpen, pop: Pop) -> None:
    """The dialogue that Dovecot's penalty makes: each refusal later, at last later than we wait."""
    refuse: Sequence[Step] = (*UP_TO_PASS, Say(b"-ERR [AUTH] Authentication failed.\r\n"), Close())
    scripts = [refuse, refuse, [*UP_TO_PASS, Hold(), Say(b"-ERR [AUTH] Authentication failed.\r\n"), Close()], PASSES]
    with FakeBackend(lambda number: scripts[number]) as fake:
        daemon = open_proxy(store(fake, protocol="pop3", logintimeout="500ms"))
        client = pop(daemon.endpoint())
        assert client.login("joe", GUESS) == b"-ERR [AUTH] Authentication failed."
        for seen in (b"-ERR [AUTH] ", b"-ERR [SYS/TEMP] "):
            client.ok("USER joe")
            assert client.command(f"PASS {GUESS}").startswith(seen)
        fake.release(2)
        assert pop(daemon.endpoint()).login("ann", "her password") == b"+OK 1 message"


def test_the_time_for_a_login_exceeds_the_penalty_of_dovecot(open_proxy: StartOpen, pop: Pop) -> None:
    from popular.pproxy.settings import SCHEMA
    values = {row.name: row.default for row in SCHEMA.settings}
    connect, login, whole, tries = (values[name] for name in (
        "connecttimeout", "logintimeout", "authtimeout", "maxauthtries"))
    assert isinstance(login, float) and login > 17 + 5
    assert isinstance(connect, float) and isinstance(whole, float) and isinstance(tries, int)
    assert tries * (connect + login) + 1 + 2 + 4 < whole, "a client hears of each try"


# Refusals of the backend

@pytest.fixture
def guesser(open_proxy: StartOpen) -> Iterator[Callable[[bytes], Daemon]]:
    """A function (answer) that returns a proxy whose backend gives this answer to every password."""
    backends = []

    def make(answer: bytes) -> Daemon:
        fake = FakeBackend([*UP_TO_PASS, Say(answer + b"\r\n"), Close()])
        backends.append(fake.__enter__())
        return open_proxy(store(fake, protocol="pop3"))

    yield make
    for fake in backends:
        fake.__exit__(None, None, None)


@pytest.mark.parametrize(("answer", "event"), [
    (b"-ERR [AUTH] no", "login_refused"),
    (b"-ERR no", "login_refused"),
    (b"-ERR [X-OWN] no", "login_refused"),
    (b"-ERR [IN-USE] locked", "backend_refused"),
    (b"-ERR [LOGIN-DELAY] wait", "backend_refused"),
    (b"-ERR [SYS/TEMP] broken", "backend_refused"),
    (b"-ERR [sys/perm] broken", "backend_refused"),
])
def test_a_guess_that_the_backend_refuses_is_logged_as_one(guesser: Callable[[bytes], Daemon], pop: Pop, answer: bytes,
                                                           event: str) -> None:
    daemon = guesser(answer)
    client = pop(daemon.endpoint())
    host, port = client.sock.getsockname()
    assert client.login("joe", GUESS) == answer
    [line] = daemon.wait_log(f" {event} ")
    assert f"client='{host}:{port}'" in line and GUESS not in line
    assert ("pdm='one'" in line) is (event == "login_refused")
    assert len(daemon.log_lines(" ERR ")) == 1


def test_a_password_of_the_database_that_a_backend_refuses_is_no_guess(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend([*UP_TO_PASS, Say(b"-ERR [AUTH] no\r\n"), Close()]) as fake:
        daemon = proxy(store(fake))
        assert pop(daemon.endpoint()).login(PAUL, PASSWORD) == b"-ERR [AUTH] no"
        assert "client='127.0.0.1:" in daemon.wait_log(" backend_refused ")[0]
        assert not daemon.log_lines("login_refused")


class SlowBackend(socketserver.StreamRequestHandler):
    """Lets in whoever has `PASSWORD`, and thinks about guesses until the test ends."""

    def handle(self) -> None:
        self.wfile.write(b"+OK ready\r\n")
        self.rfile.readline()
        self.wfile.write(b"+OK\r\n")
        if self.rfile.readline() == f"PASS {PASSWORD}\r\n".encode():
            self.wfile.write(b"+OK 1 message\r\n")
        self.rfile.read()


class SlowBackends(ClientsMayLeave, socketserver.ThreadingTCPServer):
    """Ends with its clients."""

    daemon_threads, block_on_close = True, False


def test_guesses_do_not_use_up_the_sessions_of_a_user(open_proxy: StartOpen, pop: Pop) -> None:
    with SlowBackends(("127.0.0.1", 0), SlowBackend) as server, ExitStack() as end:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        end.callback(thread.join)
        end.callback(server.shutdown)
        daemon = open_proxy(store(Endpoint("127.0.0.1", server.server_address[1])), usersessions=1,
                            exempt="none", vserv={"logindelay": "60s"})
        guess, owner, second = pop(daemon.endpoint()), pop(daemon.endpoint()), pop(daemon.endpoint())
        guess.greeting()
        guess.send(f"USER joe\r\nPASS {GUESS}\r\n".encode())
        wait_for(lambda: any(slot["state"] == "connecting" for slot in status(daemon)["slots"]))
        assert owner.login("joe", PASSWORD) == b"+OK 1 message"
        assert second.login("joe", PASSWORD) == b"-ERR [IN-USE] Too many sessions", "now the password was right"


SECRET = b"s3 cret"    # PAUL's password at the backend


@pytest.mark.parametrize("answer", [
    pytest.param(b"-ERR [AUTH] bad password 's3 cret'", id="literal"),
    pytest.param(b"-ERR wrong: S3 CRET", id="upper-case"),
    pytest.param(b"-ERR [s3 cret] no", id="as-a-code"),
    pytest.param(b"-ERR [AUTH s3 cret] no", id="in-a-code"),
    pytest.param(b"-ERR [AUTH] 3 cret", id="most-of-it"),
    pytest.param(b"-ERR [AUTH] " + base64.b64encode(SECRET), id="base64"),
    pytest.param(b"-ERR [AUTH] " + base64.b64encode(b"\0paul@store\0" + SECRET), id="base64-plain"),
    pytest.param(b"-ERR [AUTH] " + base64.b64encode(b"\0paul@store1\0" + SECRET), id="base64-plain-1"),
    pytest.param(b"-ERR [AUTH] " + base64.b64encode(b"\0paul@store12\0" + SECRET), id="base64-plain-2"),
    pytest.param(b"-ERR [AUTH] " + SECRET.hex().upper().encode(), id="hex"),
    pytest.param(b"-ERR [AUTH] s3%20cret", id="percent"),
    pytest.param(b"+OK welcome, s3 cret", id="in-the-welcome"),
    pytest.param(b"what is s3 cret", id="garbage"),
    pytest.param(b"+OK s3 cret\0", id="nul"),
    pytest.param(b"-ERR [AUTH] s3 cret" + b"x" * 600, id="over-long"),
])
def test_a_password_that_a_backend_repeats_is_shown_to_nobody(proxy: StartProxy, pop: Pop, answer: bytes) -> None:
    with FakeBackend([*UP_TO_PASS, Say(answer + b"\r\n"), Close()]) as fake:
        daemon = proxy(store(fake), debug="on")
        client = pop(daemon.endpoint())
        seen = client.login(PAUL, PASSWORD)
        client.sock.close()
        daemon.wait_log(" session_end ")
        log = daemon.logfile.read_bytes() + daemon.stderr().encode()
        told = seen + b"\n" + log
        assert seen.startswith(b"+OK" if answer.startswith(b"+OK w") else b"-ERR")
        lower = told.lower()
        for leak in (SECRET, b"3 cret", base64.b64encode(SECRET)[:8].lower(), SECRET.hex().encode(), b"s3%20cret",
                     *(base64.b64encode(b"\0paul@store" + pad + b"\0" + SECRET)[-8:].lower()
                       for pad in (b"", b"1", b"12"))):
            assert leak not in lower, told


def test_a_user_of_xpop_is_not_affected(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        assert pop(proxy(store(fake)).endpoint()).login(XENIA, PASSWORD).startswith(b"+OK 1 message")
