"""What records say besides password and place, as clients and administrators meet it."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import store

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
ANSWERS = {"plain": b"+OK", "near": b"+OK", "here": b"+OK", "hard": b"-ERR [SYS/TEMP]", "broken": b"-ERR [SYS/TEMP]"}


def test_rules_of_records(start: Callable[..., Daemon], tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    database = sqlite3.connect(path)
    database.execute(f"CREATE TABLE users ({', '.join(NAMES)})")
    database.executemany(f"INSERT INTO users VALUES ({', '.join('?' * len(NAMES))})", USERS)
    database.commit()
    database.close()
    query = f"SELECT '{{PLAIN}}main' AS password, 'store' AS backend, user AS mailbox, {', '.join(NAMES[1:])} " \
            "FROM users WHERE user = :user"
    proxy = start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "on"}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)),
        "pdm": {"users": {"module": "sqlite", "args": f"{path} \"{query}\""}}})

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
