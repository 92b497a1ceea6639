"""The session of pproxy from greeting to goodbye, over every path, with scripted backends (spec 0.2, 8)."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Close, Expect, FakeBackend, HalfClose, Hold, ReadToEnd, Say
from tests.harness.fake_pcheckd import Behaviour, FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import (
    BAD, CASPER, FIRST_LINE, LOST, PASSWORD, PAUL, XENIA, StartProxy, script_for, store)
from tests.harness.system import title_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
NEW = always(Reply(b"+OK 2 new mail\n"))

Pop = Callable[..., PopClient]
PATHS = pytest.mark.parametrize("user", [CASPER, XENIA, PAUL])


@pytest.fixture
def has_mail() -> Iterator[Endpoint]:
    """A pcheckd that knows of new mail for everyone."""
    with FakePcheckd(NEW) as check:
        yield check.endpoint


def test_greeting_is_the_banner_of_the_virtual_server(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), vserv={"banner": '"mail # of example.org"'})
    assert pop(daemon.endpoint("main")).line() == b"+OK mail # of example.org"


def test_before_the_login(proxy: StartProxy, pop: Pop) -> None:
    client = pop(proxy(store(NOWHERE)).endpoint())
    client.greeting()
    assert b"PIPELINING" in client.multi("CAPA")
    client.ok("noop")
    client.err("STAT")
    client.err("PASS x")
    client.ok("QUIT")
    assert client.rest() == b""


def test_spec_9_2_capabilities_from_a_list(proxy: StartProxy, pop: Pop, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("TOP\nX-OURS yes\n")
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        daemon = proxy(store(NOWHERE, check.endpoint), vserv={"capa": "ours"}, capadir=tmp_path)
        client = pop(daemon.endpoint())
        client.greeting()
        assert client.multi("CAPA") == [b"TOP", b"X-OURS yes"]
        client.ok(f"USER {CASPER}")
        client.ok(f"PASS {PASSWORD}")
        assert client.multi("CAPA") == [b"TOP", b"X-OURS yes"]


@pytest.mark.parametrize("answer, event", [
    pytest.param(b"+OK 0 no mails\n", "mailbox_empty", id="state-0"),
    pytest.param(b"+OK 3 load too high\n", "store_overloaded", id="state-3"),
])
def test_spec_8_2_states_that_give_an_empty_mailbox(proxy: StartProxy, pop: Pop, answer: bytes, event: str) -> None:
    with FakeBackend(script_for(CASPER)) as fake, FakePcheckd(always(Reply(answer))) as check:
        daemon = proxy(store(fake, check.endpoint))
        client = pop(daemon.endpoint())
        assert client.login(CASPER, PASSWORD).startswith(b"+OK")
        assert client.command("STAT") == b"+OK 0 0"
        assert client.multi("LIST") == [] and client.multi("UIDL") == []
        client.err("RETR 1")
        client.ok("QUIT")
        assert [asked.data for asked in check.asked] == [b"*Mc/casper"]
        daemon.wait_log(event)
        assert fake.sessions == []


@pytest.mark.parametrize("behaviour", [
    pytest.param(always(Reply(b"+OK 1 mail\n")), id="state-1"),
    pytest.param(NEW, id="state-2"),
    pytest.param(always(), id="no-answer"),
    pytest.param(always(Reply(b"+OK 0 no mail\n", foreign=True)), id="forged"),
    pytest.param(always(Reply(b"+OK 0 no mail\n", foreign=True), Reply(b"+OK 2\n")), id="forged-before-the-true-one"),
    pytest.param(always(Reply(b"hello\n")), id="garbage"),
    pytest.param(always(Reply(b"-ERR no such mailbox\n")), id="err"),
])
def test_spec_8_2_answers_that_connect(proxy: StartProxy, pop: Pop, behaviour: Behaviour) -> None:
    with FakeBackend(script_for(CASPER)) as fake, FakePcheckd(behaviour) as check:
        daemon = proxy(store(fake, check.endpoint), checktimeout="20ms", checktries=2)
        client = pop(daemon.endpoint())
        assert client.login(CASPER, PASSWORD) == FIRST_LINE
        assert client.command("STAT") == b"+OK 1 17"
        client.ok("QUIT")
        assert fake.result().startswith(b"c/casper\r\n")


def test_a_stopped_pcheckd_costs_no_time(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(CASPER)) as fake:
        daemon = proxy(store(fake, NOWHERE), checktimeout="1m", checktries=3)
        assert pop(daemon.endpoint()).login(CASPER, PASSWORD) == FIRST_LINE
        daemon.wait_log("mailcheck_failed")


def test_xpop_asks_no_pcheckd(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake, FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        daemon = proxy(store(fake, check.endpoint))
        assert pop(daemon.endpoint()).login(XENIA, PASSWORD) == FIRST_LINE
        assert check.asked == []


def test_spec_8_1_the_three_lines(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        client = pop(proxy(store(fake)).endpoint())
        client.login(XENIA, PASSWORD)
        client.ok("STAT")
        client.ok("QUIT")
        assert re.fullmatch(rb"x/xenia\r\npx-[0-9]{12}-[0-9]+\r\n\r\nSTAT\r\nQUIT\r\n", fake.result())


@pytest.mark.parametrize("first_line", [
    b"+OK", b"+OK maildrop has 1 message", b"+OK  two  spaces ", b"+OK \xe4\xf6\xfc", b"+OK [X-CODE] text",
], ids=["bare", "text", "spaces", "8-bit", "code"])
def test_spec_8_1_first_line_is_passed_on_as_it_is(proxy: StartProxy, pop: Pop, first_line: bytes) -> None:
    with FakeBackend([*script_for(XENIA)[:1], Say(first_line + b"\r\n"), Close()]) as fake:
        assert pop(proxy(store(fake)).endpoint()).login(XENIA, PASSWORD) == first_line


@PATHS
def test_pipelined_commands_survive_the_login(proxy: StartProxy, pop: Pop, has_mail: Endpoint, user: str) -> None:
    with FakeBackend(script_for(user)) as fake:
        client = pop(proxy(store(fake, has_mail)).endpoint())
        client.send(f"CAPA\r\nUSER {user}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode())
        client.greeting()
        client.line()
        assert b"PIPELINING" in client.lines()
        lines = client.rest().split(b"\r\n")
        assert lines[0].startswith(b"+OK") and lines[1:] == [FIRST_LINE, b"+OK 1 17", b"+OK bye", b""]
        assert fake.result().endswith(b"\r\nSTAT\r\nQUIT\r\n")


def test_pipelined_commands_reach_the_empty_mailbox(proxy: StartProxy, pop: Pop) -> None:
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as check:
        client = pop(proxy(store(NOWHERE, check.endpoint)).endpoint())
        client.send(f"USER {CASPER}\r\nPASS {PASSWORD}\r\nSTAT\r\nLIST\r\nQUIT\r\n".encode())
        client.greeting()
        lines = client.rest().split(b"\r\n")
        assert all(line.startswith(b"+OK") for line in lines[:-2] if line != b".")
        assert lines[2] == b"+OK 0 0" and lines[4] == b"." and lines[6:] == [b""]


def test_pipelined_commands_survive_a_refusal(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        client = pop(proxy(store(fake)).endpoint())
        client.send(f"USER {XENIA}\r\nPASS no\r\nUSER {XENIA}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode())
        client.greeting()
        lines = client.rest().split(b"\r\n")
        assert lines[1].startswith(b"-ERR [AUTH]")
        assert lines[3:] == [FIRST_LINE, b"+OK 1 17", b"+OK bye", b""]


@PATHS
def test_octets_sent_one_by_one(proxy: StartProxy, pop: Pop, has_mail: Endpoint, user: str) -> None:
    with FakeBackend(script_for(user)) as fake:
        client = pop(proxy(store(fake, has_mail)).endpoint())
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in f"USER {user}\r\nPASS {PASSWORD}\r\nSTAT\r\nQUIT\r\n".encode():
            client.send(bytes((octet,)))
        client.greeting()
        assert client.rest().split(b"\r\n")[1:] == [FIRST_LINE, b"+OK 1 17", b"+OK bye", b""]


@PATHS
def test_what_the_backend_sends_with_its_first_line_arrives(proxy: StartProxy, pop: Pop, has_mail: Endpoint,
                                                            user: str) -> None:
    *login, last = script_for(user, Close())[:-1]
    assert isinstance(last, Say)
    with FakeBackend([*login, Say(last.data + b"+OK more\r\nand \xff octets"), Close()]) as fake:
        client = pop(proxy(store(fake, has_mail)).endpoint())
        client.send(f"USER {user}\r\nPASS {PASSWORD}\r\n".encode())
        client.greeting()
        assert client.rest().split(b"\r\n", 1)[1] == FIRST_LINE + b"\r\n+OK more\r\nand \xff octets"


@PATHS
def test_the_relay_changes_nothing(proxy: StartProxy, pop: Pop, has_mail: Endpoint, user: str) -> None:
    up = bytes(range(256)) * 4000
    down = bytes(reversed(range(256))) * 4000
    with FakeBackend(script_for(user, Expect(up), Say(down), Close())) as fake:
        client = pop(proxy(store(fake, has_mail)).endpoint())
        assert client.login(user, PASSWORD) == FIRST_LINE
        client.send(up)
        assert client.rest() == down
        assert fake.result().endswith(up)


@PATHS
def test_half_close_of_the_client_goes_through(proxy: StartProxy, pop: Pop, has_mail: Endpoint, user: str) -> None:
    with FakeBackend(script_for(user, ReadToEnd(), Say(b"+OK 1 17\r\n+OK bye\r\n"), Close())) as fake:
        client = pop(proxy(store(fake, has_mail)).endpoint())
        assert client.login(user, PASSWORD) == FIRST_LINE
        client.send(b"STAT\r\nQUIT\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert client.rest() == b"+OK 1 17\r\n+OK bye\r\n"
        assert fake.result().endswith(b"\r\nSTAT\r\nQUIT\r\n")


def test_half_close_of_the_backend_ends_the_session(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(XENIA, Say(b"+OK bye\r\n"), HalfClose(), ReadToEnd())) as fake:
        daemon = proxy(store(fake))
        client = pop(daemon.endpoint())
        assert client.login(XENIA, PASSWORD) == FIRST_LINE
        assert client.rest() == b"+OK bye\r\n"
        daemon.wait_log("session_end")
        fake.result()


def test_a_client_gone_in_mid_retr_ends_the_session(proxy: StartProxy, pop: Pop) -> None:
    block = b"x" * 998 + b"\r\n"
    with FakeBackend(script_for(XENIA, Expect(b"RETR 1\r\n"), Say(b"+OK\r\n" + block * 20_000), ReadToEnd())) as fake:
        daemon = proxy(store(fake))
        client = pop(daemon.endpoint())
        client.login(XENIA, PASSWORD)
        client.send(b"RETR 1\r\n")
        client.line()
        client.close()
        daemon.wait_log("session_end")
        wait_for(lambda: fake.sessions[0].done)    # reset while it sends, or closed after: it does not hang
        with FakeBackend(script_for(XENIA)):
            assert pop(daemon.endpoint()).line().startswith(b"+OK")


def test_a_refusal_tells_nothing_of_who_exists(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE))
    answers = set()
    for user in (XENIA, "nobody", "x" * 250, "../x", "\xe4"):
        client = pop(daemon.endpoint())
        answers.add(client.login(user, "wrong"))
        assert client.ok(f"USER {user}") == b"password please"
    (answer,) = answers
    assert answer.startswith(b"-ERR [AUTH] ")
    assert len(daemon.wait_log("login_refused", count=5)) == 5


def test_passwords_with_blanks_and_8_bit_octets(start: Callable[..., Daemon], rundir: Path, pop: Pop) -> None:
    (rundir / "users").write_bytes(b"joe:{PLAIN}  two \xfc blanks :store:xpop:joe\n")
    with FakeBackend(script_for(XENIA)) as fake:
        daemon = start("pproxy", {
            "vserv": {"main": {"address": "127.0.0.1:0"}}, "backend": store(fake),
            "pdm": {"users": {"module": "passwd", "args": rundir / "users"}}})
        assert pop(daemon.endpoint()).login("joe", b"  two \xfc blanks ") == FIRST_LINE


@pytest.mark.parametrize("user", [LOST, BAD])
def test_a_record_that_leads_nowhere_is_a_temporary_error(proxy: StartProxy, pop: Pop, user: str) -> None:
    daemon = proxy(store(NOWHERE))
    assert pop(daemon.endpoint()).login(user, PASSWORD).startswith(b"-ERR [SYS/TEMP] ")
    daemon.wait_log(" ADM ")


def test_any_takes_everyone_to_one_backend(start: Callable[..., Daemon], pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        daemon = start("pproxy", {
            "vserv": {"main": {"address": "127.0.0.1:0", "namespace": "org"}}, "backend": store(fake),
            "pdm": {"all": {"module": "any", "args": "store %n/%d/%l"}}})
        client = pop(daemon.endpoint())
        assert client.login("joe@example.org", "whatever") == FIRST_LINE
        client.ok("STAT")
        client.ok("QUIT")
        assert fake.result().startswith(b"org/example.org/joe\r\n")


def test_titles_show_state_and_session_and_no_password(proxy: StartProxy, pop: Pop) -> None:
    secret = "hush-hush-hush"
    with FakeBackend(script_for(XENIA, Hold(), Close())) as fake:
        daemon = proxy(store(fake))
        assert title_of(daemon.pid) == "pproxy: master"
        client = pop(daemon.endpoint())
        client.login(XENIA, secret)
        titles = wait_for(lambda: [title for pid in daemon.children() if " auth " in (title := title_of(pid))])
        assert re.fullmatch(r"pproxy: auth px-\d{12}-\d+ 127\.0\.0\.1", titles[0])
        client.ok(f"USER {XENIA}")
        client.ok(f"PASS {PASSWORD}")
        titles = wait_for(lambda: [title for pid in daemon.children() if " relay " in (title := title_of(pid))])
        assert re.fullmatch(r"pproxy: relay px-\d{12}-\d+ 127\.0\.0\.1", titles[0])
        shown = " ".join(title_of(pid) for pid in [daemon.pid, *daemon.children()]) + " ".join(daemon.log_lines())
        assert secret not in shown and PASSWORD not in shown
        fake.release()


def test_debug_writes_no_password_to_the_log(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(PAUL)) as fake:
        daemon = proxy(store(fake), options=["--debug"])
        client = pop(daemon.endpoint())
        client.greeting()
        client.err(f"PASS {PASSWORD}")
        client.err("hush-hush-hush")
        client.ok(f"USER {PAUL}")
        client.err("PASS wrong-password")
        client.ok(f"USER {PAUL}")
        client.ok(f"PASS {PASSWORD}")
        client.ok("STAT")
        client.ok("QUIT")
        text = "\n".join(daemon.wait_log("session_end") + daemon.log_lines())
        for secret in (PASSWORD, "hush", "wrong-password", "s3 cret"):
            assert secret not in text


def test_ipv6_on_all_legs(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(script_for(CASPER), host="::1") as fake, FakePcheckd(NEW, host="::1") as check:
        daemon = proxy(store(fake, check.endpoint, source="::1"), vserv={"address": "[::1]:0"})
        client = pop(daemon.endpoint())
        assert client.login(CASPER, PASSWORD) == FIRST_LINE
        client.ok("STAT")
        client.ok("QUIT")
        fake.result()
        assert len(check.asked) == 1
        assert "client='[::1]:" in daemon.wait_log("session_start")[0]


def test_two_virtual_servers_have_their_own_namespaces(start: Callable[..., Daemon], pop: Pop) -> None:
    with FakeBackend(script_for(XENIA)) as fake:
        daemon = start("pproxy", {
            "vserv": {"one": {"address": "127.0.0.1:0", "namespace": "one", "banner": "first"},
                      "two": {"address": "127.0.0.1:0", "namespace": "two", "banner": "second"}},
            "backend": store(fake), "pdm": {"all": {"module": "any", "args": "store %n/%u"}}})
        for number, owner in enumerate(("one", "two")):
            client = pop(daemon.endpoint(owner))
            client.login("joe", "x")
            client.ok("STAT")
            client.ok("QUIT")
            assert fake.result(number).startswith(owner.encode() + b"/joe\r\n")
