"""Database servers that are killed, stopped and restarted while many users log in."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.databases import Database, UserRow, kinds, launched
from tests.harness.databases.promises import Promise
from tests.harness.databases.redis import RedisServer
from tests.harness.databases.redis_cluster import ReplicatedCluster
from tests.harness.databases.redis_sentinel import Replicated
from tests.harness.loginstream import Kind, LoginStream, Part
from tests.harness.proxy import store
from tests.harness.pstatus import status
from tests.harness.system import descendants_of, descriptors_of, title_of, wait_for

SERVERS = ("http", "ldap", "mysql", "pgsql", "redis")
LONG_SERVERS = ("dovecot_socket", "exec")    # with --long only
GROUPS = (Replicated, ReplicatedCluster)     # likewise
WORKERS = 2
LINKS = 2        # connections that a worker may have and need not have at any moment
SERVED = 12      # sessions of users who get in for one that is refused, where refusals take long
RATE = 50        # sessions a second, if the machine can
COUNT, LONG_COUNT = 4, 60    # sessions of each kind in each part
ROUNDS = 20      # parts until everybody gets in again, on a busy machine
TIMEOUT = 2.0    # seconds: pdmtimeout
MARGIN = 1.5     # seconds beyond

JOE = UserRow("joe", "joe's secret", mailbox="j/joe")
LOCAL = "of the other joe"    # who is in a file

ProxiesOf = Callable[[Database], list[Daemon]]

# What each kind of user may hear, whatever happens.
ALLOWED = {
    "right": {"+OK", "[SYS/TEMP]"}, "wrong": {"[AUTH]", "[SYS/TEMP]"}, "unknown": {"[AUTH]", "[SYS/TEMP]"},
    "local": {"+OK"}, "local wrong": {"[AUTH]"},
    "cached": {"+OK"}, "cached wrong": {"[AUTH]", "[SYS/TEMP]"},
}


@pytest.fixture(scope="module", params=SERVERS + LONG_SERVERS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A server with one user."""
    if request.param in LONG_SERVERS:
        need_long(request.config)
    with launched(kinds()[request.param]) as (server, _):
        server.add(JOE)
        yield server


@pytest.fixture
def proxies_of(start: Callable[..., Daemon], rundir: Path) -> ProxiesOf:
    """A function that starts a proxy without a cache and one with it.

    Both also have a virtual server whose users are in a file.
    """
    users = rundir / "users"
    users.write_text(f"joe:{{PLAIN}}{LOCAL}:store:xpop:j/joe\n")

    def launch(name: str, database: Database, **variables: object) -> Daemon:
        remote = " ".join(_quoted(word) for word in [*database.words(), "namespace=default"])
        return start("pproxy", {
            "pproxy": {"authdelay": 0, "maxauthtries": 1, "pdmtimeout": f"{round(TIMEOUT * 1000)}ms",
                       "pdmworkers": WORKERS, "maxuse": 20, **variables},
            "vserv": {"main": {"address": "127.0.0.1:0"}, "local": {"address": "127.0.0.1:0", "namespace": "local"}},
            "backend": store(Endpoint("127.0.0.1", 1), enabled="off"),    # its users see an empty mailbox
            "pdm": {"remote": {"module": database.module, "args": remote},
                    "local": {"module": "passwd", "args": f"{users} namespace=local"}},
        }, name=name)

    return lambda database: [launch("pproxy", database), launch("cached", database, cache=100, cachetime="1s")]


@pytest.mark.limit(300)    # for --long
def test_logins_while_the_server_fails(database: Database, proxies_of: ProxiesOf,
                                       pytestconfig: pytest.Config) -> None:
    is_long = pytestconfig.getoption("--long") and Promise.QUICK not in database.lacks
    proxies = proxies_of(database)
    with stream_of(database, proxies) as stream:
        before = descriptors(proxies)
        for fail, mend in ((database.stop, database.start), (database.freeze, database.thaw)):
            stream.play_during(fail)
            play_until_stale(stream, proxies[1], LONG_COUNT if is_long else COUNT)
            stream.play_during(mend)
            wait_until_well(stream)
        stream.play_during(database.end)
        stream.play_during(database.start)
        wait_until_well(stream)
        stream.finish()
    check(stream.parts)
    check_workers(database, proxies, before)


@pytest.mark.limit(300)    # likewise
@pytest.mark.parametrize("group", GROUPS)
def test_logins_while_a_replica_takes_over(group: type[Replicated | ReplicatedCluster], proxies_of: ProxiesOf,
                                           pytestconfig: pytest.Config) -> None:
    need_long(pytestconfig)
    with launched(group) as (database, _):
        assert isinstance(database, group)
        database.add(JOE)
        proxies = proxies_of(database)
        with stream_of(database, proxies) as stream:
            before = descriptors(proxies)
            for fail, mend in ((RedisServer.kill, RedisServer.start), (RedisServer.freeze, RedisServer.thaw)):
                server, known = database.serving(JOE), len(stream.parts)
                stream.play_during(partial(fail, server))
                wait_until_well(stream)
                assert any("[SYS/TEMP]" in part.heard("right") for part in stream.parts[known:])
                stream.play_during(partial(mend, server))
                stream.play_during(partial(wait_until_whole, database))
                wait_until_well(stream)
            stream.finish()
        check(stream.parts)
        check_workers(database, proxies, before)


def need_long(config: pytest.Config) -> None:
    """Skip the running test unless tests may take long."""
    if not config.getoption("--long"):
        pytest.skip("takes --long")


@contextmanager
def stream_of(database: Database, proxies: Sequence[Daemon]) -> Iterator[LoginStream]:
    """Have users of all kinds log in at the two proxies; begins when all get in."""
    main, local, cached = proxies[0].endpoint("main"), proxies[0].endpoint("local"), proxies[1].endpoint("main")
    served = [Kind("right", main, "joe", JOE.password), Kind("local", local, "joe", LOCAL),
              Kind("cached", cached, "joe", JOE.password)]
    refused = [Kind("wrong", main, "joe", LOCAL), Kind("local wrong", local, "joe", JOE.password),
               Kind("cached wrong", cached, "joe", LOCAL)]
    if Promise.QUICK in database.lacks:    # each refusal keeps a worker for a while
        everybody = served * SERVED + refused
    else:
        everybody = [*served, *refused, Kind("unknown", main, "nobody", JOE.password)]
    with LoginStream(everybody, RATE) as stream:
        wait_until_well(stream)
        stream.parts.clear()    # the machine was busy with the start
        yield stream


def play_until_stale(stream: LoginStream, cached: Daemon, count: int) -> None:
    """Go on until the cache has used an old answer; without it everybody hears of the failure."""
    known = len(cached.log_lines("stale_answer"))
    for _ in range(ROUNDS):
        part = stream.play(count)
        heard = [part.heard(kind) for kind in ("right", "wrong", "unknown") if kind in part.answers]
        assert all(answers == {"[SYS/TEMP]"} for answers in heard), part.answers
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


def wait_until_whole(group: Replicated | ReplicatedCluster) -> None:
    """Wait until the master of the user has a replica."""
    wait_for(lambda: group.serving(JOE).has_replica(), 60.0, "a replica")


def check(parts: list[Part]) -> None:
    """Check what everybody has heard, and how long they have waited."""
    heard = {kind: set[str]().union(*(part.heard(kind) for part in parts)) for kind in ALLOWED}
    assert {kind: answers for kind, answers in heard.items() if not answers <= ALLOWED[kind]} == {}
    waits = {kind: [wait for part in parts for wait in part.waits.get(kind, ())] for kind in ALLOWED}
    for part in parts:
        if (seconds := part.waits.get("local")) and len(seconds) >= COUNT:
            assert statistics.median(seconds) < TIMEOUT, "users in a file do not notice"
    limit = TIMEOUT + MARGIN + max(waits["local"])    # which tells how busy the machine is
    assert {kind: slow for kind, seconds in waits.items() if (slow := max(seconds, default=0.0)) > limit} == {}


def check_workers(database: Database, proxies: Sequence[Daemon], before: int) -> None:
    """Check that no question is left, nor a descriptor or connection too many."""
    for proxy in proxies:
        wait_for(lambda: status(proxy)["workers"] == {"now": WORKERS, "busy": 0}, 5.0, "workers without a question")
    assert descriptors(proxies) <= before + LINKS * WORKERS * len(proxies)
    if Promise.CONNECTIONS not in database.lacks:
        assert database.connections() <= WORKERS * len(proxies)


def descriptors(proxies: Sequence[Daemon]) -> int:
    """Return how many descriptors all PDM workers have."""
    return sum(len(descriptors_of(pid)) for proxy in proxies for pid in descendants_of(proxy.pid)
               if title_of(pid).endswith("pdm worker"))


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
