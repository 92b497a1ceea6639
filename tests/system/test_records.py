"""What records say besides password and place, as clients and administrators meet it."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import tell
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Close, Expect, FakeBackend, Say
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.site import MailSite

NAMES = ("user", "passwords", "disabled", "until", "networks", "vservs", "softfail")
USERS = (
    ("plain", "phone:{PLAIN}app\nlaptop:{PLAIN}second", "", "", "", "", ""),
    ("closed", "", "has not paid", "", "", "", ""),
    ("late", "", "", "2020-01-01", "", "", ""),
    ("near", "", "", "", "127.0.0.0/8", "", ""),
    ("far", "", "", "", "192.0.2.0/24", "", ""),
    ("here", "", "", "", "", "main", ""),
    ("there", "", "", "", "", "elsewhere", ""),
    ("hard", "", "", "", "", "", "off"),
    ("broken", "", "", "whenever", "", "", ""),
)
POP3 = (Say(b"+OK hello\r\n"), Expect(b"USER joe\r\n"), Say(b"+OK\r\n"), Expect(b"PASS main\r\n"),
        Say(b"+OK 3 messages\r\n"), Expect(b"QUIT\r\n"), Say(b"+OK bye\r\n"), Close())
ANSWERS = {"plain": b"+OK", "near": b"+OK", "here": b"+OK", "hard": b"-ERR [SYS/TEMP]", "broken": b"-ERR [SYS/TEMP]"}


@pytest.fixture
def users(tmp_path: Path) -> Callable[..., str]:
    """A function that makes a database of users with the password `main`; returns the arguments of its module."""
    def make(names: Sequence[str], rows: Sequence[Sequence[str]], backend: str = "store") -> str:
        path = tmp_path / "users.db"
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"CREATE TABLE users ({', '.join(names)})")
            database.executemany(f"INSERT INTO users VALUES ({', '.join('?' * len(names))})", rows)
        return f"{path} \"SELECT '{{PLAIN}}main' AS password, '{backend}' AS backend, user AS mailbox, " \
               f"{', '.join(names[1:])} FROM users WHERE user = :user\""
    return make


def test_rules_of_records(start: Callable[..., Daemon], users: Callable[..., str]) -> None:
    proxy = start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "on"}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)),
        "pdm": {"users": {"module": "sqlite", "args": users(NAMES, USERS)}}})

    def login(user: str, password: str) -> bytes:
        with PopClient(proxy.endpoint()) as client:
            return client.login(user, password)

    found = {user: login(user, "main") for user, *_ in USERS}
    wanted = {user: ANSWERS.get(user, b"-ERR [AUTH]") for user, *_ in USERS}
    assert {user: found[user].startswith(wanted[user]) for user in found} == dict.fromkeys(found, True), found
    refused = [line.split("user='")[1] for line in proxy.log_lines("login_refused")]
    assert {line.split("'")[0]: line.split("why=")[1] for line in refused} == {
        "closed": "'disabled: has not paid'", "late": "'expired'", "far": "'not allowed from this address'",
        "there": "'not allowed at virtual server main'"}
    assert proxy.log_lines("app_password") == []
    assert login("plain", "second").startswith(b"+OK")
    [line] = proxy.log_lines("app_password")
    assert "user='plain' label='laptop' client='127.0.0.1:" in line


def test_most_sessions_at_once(start: Callable[..., Daemon], users: Callable[..., str], tmp_path: Path) -> None:
    args = users(("user COLLATE NOCASE", "sessions"), [("joe", "1"), ("zoe", "0")])
    master = tmp_path / "master"
    master.write_text("*:*:{PLAIN}support\n")
    proxy = start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "on"},
        "vserv": {"main": {"address": "127.0.0.1:0"}, "other": {"address": "127.0.0.1:0", "namespace": "other"}},
        "backend": store(Endpoint("127.0.0.1", 1)),
        "pdm": {"users": {"module": "sqlite", "args": args}, "master": {"module": "master", "args": master}}})
    with ExitStack() as stack:
        def connect(vserv: str = "main") -> PopClient:
            return stack.enter_context(PopClient(proxy.endpoint(vserv)))

        guess, first, second, third = connect(), connect(), connect(), connect()
        assert guess.login("joe", "guessed").startswith(b"-ERR [AUTH]")
        assert connect().login("joe", "support").startswith(b"+OK")
        assert first.login("joe", "main").startswith(b"+OK"), "a master session does not count"
        assert second.login("joe", "main") == b"-ERR [IN-USE] Too many sessions"
        [line] = proxy.log_lines("too_many_sessions")
        assert "user='joe' namespace='default' sessions=1 client='127.0.0.1:" in line
        second.ok("USER JOE")
        assert second.command("PASS main") == b"-ERR [IN-USE] Too many sessions", "the same mailbox"
        second.ok("USER zoe")
        second.ok("PASS main")
        assert third.login("zoe", "main").startswith(b"+OK")
        assert connect("other").login("joe", "main").startswith(b"+OK"), "another user of this name"
        first.ok("QUIT")
        assert connect().login("joe", "main").startswith(b"+OK"), "the first session has ended"


@pytest.mark.parametrize(("rule", "answer", "is_made"), [
    ("empty", b"+OK 0 messages", False), ("create", b"+OK 0 messages", True),
    ("refuse", b"-ERR [SYS/PERM] no such mailbox", False)])
@pytest.mark.parametrize("backend", ["cxpop", "xpop"])
def test_a_user_without_mailbox(rundir: Path, spool: Path, users: Callable[..., str], rule: str, answer: bytes,
                                is_made: bool, backend: str) -> None:
    missing = "create" if rule == "refuse" else "refuse"    # what everybody else gets
    variables: dict[str, dict[str, object]] = {"pserv": {"missing": missing}, "pcheckd": {"missing": missing}}
    args = users(("user", "missing"), [("joe", rule)], backend)
    with MailSite(rundir, spool, (), variables=variables, module={"module": "sqlite", "args": args}) as site:
        with PopClient(site.pproxy.endpoint("main")) as client:
            assert client.login("joe", "main").startswith(answer)
    assert (spool / "joe/new").is_dir() is is_made


def test_the_former_server_serves_who_still_moves(start: Callable[..., Daemon], users: Callable[..., str]) -> None:
    args = users(("user", "[from]"), [("joe", "old"), ("zoe", ""), ("max", "none")])
    with FakeBackend(POP3) as old:
        proxy = start("pproxy", {
            "pproxy": {"authdelay": 0, "softfail": "off"}, "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {**store(Endpoint("127.0.0.1", 1)), "old": {"protocol": "pop3", "address": old.endpoint}},
            "pdm": {"users": {"module": "sqlite", "args": args}}})
        with PopClient(proxy.endpoint()) as client:
            assert client.login("joe", "guessed").startswith(b"-ERR [AUTH]")
            client.ok("USER joe")
            assert client.command("PASS main") == b"+OK 3 messages"
            client.ok("QUIT")
        with PopClient(proxy.endpoint()) as client:
            assert client.login("zoe", "main").startswith(b"-ERR [SYS/TEMP]"), "served by the store, which is away"
        with PopClient(proxy.endpoint()) as client:
            assert client.login("max", "main").startswith(b"-ERR [IN-USE] The mailbox is being moved")
        assert "user='max' namespace='default' pdm='users' client='" in proxy.log_lines("mailbox_held")[0]
        [reply] = tell(proxy, "user find joe")
        assert reply.lines[1].startswith("default users route backend='old' protocol='pop3'")
        old.result()
