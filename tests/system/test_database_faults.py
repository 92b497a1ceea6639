"""Database servers that are killed, stopped and restarted while many users log in."""

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.databases import Database, UserRow, kinds, launched
from tests.harness.databases.promises import Promise
from tests.harness.loginstream import Kind, LoginStream, Part
from tests.harness.proxy import store
from tests.harness.pstatus import status
from tests.harness.system import descendants_of, descriptors_of, title_of, wait_for

SERVERS = ("http", "ldap", "mysql", "pgsql", "redis")
WORKERS = 2
LINKS = 2        # connections that a worker may have and need not have at any moment
RATE = 100       # sessions a second, if the machine can
COUNT, LONG_COUNT = 6, 60    # sessions of each kind in each part
ROUNDS = 20      # parts until everybody gets in again, on a busy machine
TIMEOUT = 2.0    # seconds: pdmtimeout
MARGIN = 1.5     # seconds beyond

JOE = UserRow("joe", "joe's secret", mailbox="j/joe")
LOCAL = "of the other joe"    # who is in a file

# What each kind of user may hear, whatever happens.
ALLOWED = {
    "right": {"+OK", "[SYS/TEMP]"}, "wrong": {"[AUTH]", "[SYS/TEMP]"}, "unknown": {"[AUTH]", "[SYS/TEMP]"},
    "local": {"+OK"}, "local wrong": {"[AUTH]"},
    "cached": {"+OK"}, "cached wrong": {"[AUTH]", "[SYS/TEMP]"},
}


@pytest.fixture(scope="module", params=SERVERS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A server with one user."""
    with launched(kinds()[request.param]) as (server, _):
        server.add(JOE)
        yield server


@pytest.fixture
def proxies(start: Callable[..., Daemon], rundir: Path, database: Database) -> list[Daemon]:
    """A proxy without a cache and one with it; both also have a virtual server whose users are in a file."""
    users = rundir / "users"
    users.write_text(f"joe:{{PLAIN}}{LOCAL}:store:xpop:j/joe\n")
    remote = " ".join(_quoted(word) for word in [*database.words(), "namespace=default"])

    def launch(name: str, **variables: object) -> Daemon:
        return start("pproxy", {
            "pproxy": {"authdelay": 0, "maxauthtries": 1, "pdmtimeout": f"{round(TIMEOUT * 1000)}ms",
                       "pdmworkers": WORKERS, **variables},
            "vserv": {"main": {"address": "127.0.0.1:0"}, "local": {"address": "127.0.0.1:0", "namespace": "local"}},
            "backend": store(Endpoint("127.0.0.1", 1), enabled="off"),    # its users see an empty mailbox
            "pdm": {"remote": {"module": database.module, "args": remote},
                    "local": {"module": "passwd", "args": f"{users} namespace=local"}},
        }, name=name)

    return [launch("pproxy"), launch("cached", cache=100, cachetime="1s")]


def test_logins_while_the_server_fails(database: Database, proxies: list[Daemon],
                                       pytestconfig: pytest.Config) -> None:
    count = LONG_COUNT if pytestconfig.getoption("--long") else COUNT
    plain, cached = proxies
    main, local = plain.endpoint("main"), plain.endpoint("local")
    with LoginStream((
            Kind("right", main, "joe", JOE.password), Kind("local", local, "joe", LOCAL),
            Kind("wrong", main, "joe", LOCAL), Kind("cached", cached.endpoint("main"), "joe", JOE.password),
            Kind("unknown", main, "nobody", JOE.password), Kind("local wrong", local, "joe", JOE.password),
            Kind("cached wrong", cached.endpoint("main"), "joe", LOCAL)), RATE) as stream:
        wait_until_well(stream)
        stream.parts.clear()    # the machine was busy with the start
        before = descriptors(proxies)
        for fail, mend in ((database.stop, database.start), (database.freeze, database.thaw)):
            stream.play_during(fail)
            play_until_stale(stream, cached, count)
            stream.play_during(mend)
            wait_until_well(stream)
        stream.play_during(database.end)
        stream.play_during(database.start)
        wait_until_well(stream)
        stream.finish()
    check(stream.parts)
    for proxy in proxies:
        wait_for(lambda: status(proxy)["workers"] == {"now": WORKERS, "busy": 0}, 5.0, "workers without a question")
    assert descriptors(proxies) <= before + LINKS * WORKERS * len(proxies)
    if Promise.CONNECTIONS not in database.lacks:
        assert database.connections() <= WORKERS * len(proxies)


def play_until_stale(stream: LoginStream, cached: Daemon, count: int) -> None:
    """Go on until the cache has used an old answer; without it everybody hears of the failure."""
    known = len(cached.log_lines("stale_answer"))
    for _ in range(ROUNDS):
        part = stream.play(count)
        assert part.heard("right") == part.heard("wrong") == part.heard("unknown") == {"[SYS/TEMP]"}, part.answers
        if len(cached.log_lines("stale_answer")) > known:
            return
    raise AssertionError("no answer of the cache was used")


def wait_until_well(stream: LoginStream) -> None:
    """Go on until nobody hears of a failure any more."""
    for _ in range(ROUNDS):
        part = stream.play(COUNT)
        if not any("[SYS/TEMP]" in part.heard(kind) for kind in ALLOWED):
            return
    raise AssertionError(f"the last answers were {part.answers}")


def check(parts: list[Part]) -> None:
    """Check what everybody has heard, and how long they have waited."""
    heard = {kind: set[str]().union(*(part.heard(kind) for part in parts)) for kind in ALLOWED}
    assert {kind: answers for kind, answers in heard.items() if not answers <= ALLOWED[kind]} == {}
    waits = {kind: [wait for part in parts for wait in part.waits.get(kind, ())] for kind in ALLOWED}
    for part in parts:
        if (seconds := part.waits.get("local")) and len(seconds) >= COUNT:
            assert statistics.median(seconds) < TIMEOUT, "users in a file do not notice"
    limit = TIMEOUT + MARGIN + max(waits["local"])    # which tells how busy the machine is
    assert {kind: max(seconds) for kind, seconds in waits.items() if max(seconds) > limit} == {}


def descriptors(proxies: list[Daemon]) -> int:
    """Return how many descriptors all PDM workers have."""
    return sum(len(descriptors_of(pid)) for proxy in proxies for pid in descendants_of(proxy.pid)
               if title_of(pid).endswith("pdm worker"))


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
