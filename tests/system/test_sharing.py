"""Several pproxies that count clients together, by way of real servers: Redis alone, behind Sentinel, and a cluster."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.errors import PdmError
from popular.pproxy.limits.sharing.exchange import ProxyExchange
from popular.pproxy.limits.sharing.packets import Batch, Counts
from popular.pproxy.limits.sharing.shared import read_options
from popular.statefile.layout import CountedBy
from popular.statefile.reader import StateFileView
from tests.harness.control import tell
from tests.harness.daemon import Daemon
from tests.harness.databases.redis import RedisServer
from tests.harness.databases.redis_cluster import Cluster
from tests.harness.databases.redis_sentinel import Replicated
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, PASSWORD, XENIA, StartProxy, start_proxy, store
from tests.harness.system import children_of, descendants_of, title_of, wait_for
from tests.harness.upgrades import upgrade

NOWHERE = Endpoint("127.0.0.1", 1)    # so that all users see an empty mailbox
REFUSED = b"-ERR [SYS/TEMP] connection refused, please try again later\r\n"
WRONG = b"-ERR [AUTH]"
HASH, STREAM = "{popular}:proxies", "{popular}:events"
GAUGES = ("sharing", "sharing_proxies")
SOON = 20.0    # seconds

DEFAULTS: dict[str, Any] = {"addresssessions": 100, "usersessions": 20, "addressrate": 0, "maxfailures": 0}

# What the man page says.
COMMANDS = "+hset +hdel +hgetall +expire +xadd +xrange"
USER = f'user pproxy on ">secret of pproxy" ~{{popular}}:* -@all {COMMANDS}'

Pop = Callable[..., PopClient]


class Site:
    """A server and two proxies."""

    def __init__(self, folder: Path) -> None:
        """Begin without any."""
        self.folder = folder
        self._stack = ExitStack()
        self.proxies: list[Daemon] = []

    def __enter__(self) -> "Site":
        self.server = RedisServer(self.folder / "redis", USER)
        (self.folder / "secret").write_text("secret of pproxy\n")
        (self.folder / "secret").chmod(0o600)
        self._stack.callback(self.server.keeper.close)
        for name in ("one", "two"):
            self.proxies.append(self._stack.enter_context(closing(self.start(name))))
        self.wait(1)
        return self

    def __exit__(self, *why: object) -> None:
        self._stack.close()

    def start(self, name: str) -> Daemon:
        """Start one more proxy, to be closed."""
        login = f"user=pproxy passwordfile={self.folder}/secret"
        return start_proxy(
            lambda program, config, **more: Daemon.start(program, config, self.folder, **more), self.folder,
            store(NOWHERE), name=name, exempt="none", networksessions=0, networkrate=0, maxauthtries=100, minspare=1,
            maxspare=2, sharewith=f"servers=127.0.0.1:{self.server.port} timeout=300ms {login}", **DEFAULTS)

    def wait(self, others: int | None) -> None:
        """Wait until both proxies count together with so many others; None: until they count alone."""
        for proxy in self.proxies:
            wait_for(lambda: counted(proxy) == others, SOON, f"{others} others")

    @contextmanager
    def limit(self, **limits: int) -> Iterator[None]:
        """Have both proxies use these limits."""
        for proxy in self.proxies:
            tell(proxy, *(f"set {name} {number}" for name, number in limits.items()))
        yield
        for proxy in self.proxies:
            tell(proxy, *(f"set {name} {DEFAULTS[name]}" for name in limits))

    def settle(self) -> None:
        """Wait until each proxy knows what another one has counted: after two exchanges of each, and one under way."""
        alive = 1 + (counted(self.proxies[0]) or 0)
        with self.server.admin() as admin:
            for _ in range(3):
                before = {*admin.hgetall(HASH).values()}
                wait_for(lambda: len({*admin.hgetall(HASH).values()} - before) >= alive, SOON, "exchanges")


def counted(proxy: Daemon) -> int | None:
    """Return with how many others a proxy counts together; None: alone."""
    with open(proxy.rundir / "pproxy.state", "rb") as file:
        head = StateFileView(lambda at, size: os.pread(file.fileno(), size, at), 1.0).head
    return head.proxies if head.sharing == "together" else None


def said(proxy: Daemon) -> list[str]:
    """Return the words of the log lines about sharing."""
    return [word for line in proxy.log_lines("sharing") for word in line.split() if word in ("sharing", "sharing_lost")]


def sharing_process(proxy: Daemon) -> int:
    """Return the process of a proxy that shares."""
    return wait_for(lambda: [pid for pid in children_of(proxy.master) if title_of(pid).endswith("sharing")])[0]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Two proxies that others than these tests do not know."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    with Site(folder) as made:
        yield made
        bugs = [line for daemon in made.proxies for line in daemon.bugs()]
    rmtree(folder)
    assert not bugs


# The limits

def test_open_connections_of_an_address(site: Site, pop: Pop) -> None:
    one, two = site.proxies
    with site.limit(addresssessions=3):
        clients = [pop(proxy.endpoint(), source="127.0.2.1") for proxy in (one, one, two)]
        for client in clients:
            client.greeting()
        site.settle()
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.2.1").rest() == REFUSED
            pop(proxy.endpoint(), source="127.0.2.2").greeting()
        clients[0].ok("QUIT")
        clients[0].rest()
        site.settle()
        pop(two.endpoint(), source="127.0.2.1").greeting()


def test_sessions_of_a_user(site: Site, pop: Pop) -> None:
    with site.limit(usersessions=2):
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.3.1").login(XENIA, PASSWORD).startswith(EMPTY)
        site.settle()
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.3.1").login(XENIA, PASSWORD).startswith(b"-ERR [IN-USE]")


def test_new_connections_in_a_minute(site: Site, pop: Pop) -> None:
    with site.limit(addressrate=4):
        for proxy in site.proxies * 2:
            client = pop(proxy.endpoint(), source="127.0.4.1")
            client.greeting()
            client.ok("QUIT")
        site.settle()
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.4.1").rest() == REFUSED
            pop(proxy.endpoint(), source="127.0.4.2").greeting()


def test_failed_logins(site: Site, pop: Pop) -> None:
    """Whoever has logged in from an address at one proxy is known at the other."""
    one, two = site.proxies
    with site.limit(maxfailures=3):
        assert pop(one.endpoint(), source="127.0.5.1").login(XENIA, PASSWORD).startswith(EMPTY)
        for proxy in (one, two, two):
            for source in ("127.0.5.1", "127.0.5.2"):
                assert pop(proxy.endpoint(), source=source).login("nobody", "wrong").startswith(WRONG)
        site.settle()
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.5.2").rest() == REFUSED
            assert pop(proxy.endpoint(), source="127.0.5.1").login("nobody", PASSWORD).startswith(b"-ERR [SYS/TEMP]")
            assert pop(proxy.endpoint(), source="127.0.5.1").login(XENIA, PASSWORD).startswith(EMPTY)
            assert pop(proxy.endpoint(), source="127.0.5.3").login("nobody", "wrong").startswith(WRONG)


# Trouble

def confuse(site: Site) -> None:
    with site.server.admin() as admin:
        admin.delete(HASH)
        admin.set(HASH, "the name of something else")


def put_right(site: Site) -> None:
    with site.server.admin() as admin:
        admin.delete(HASH)


TROUBLES: dict[str, tuple[Callable[[Site], None], Callable[[Site], None]]] = {
    "killed, and started again, empty": (lambda site: site.server.kill(), lambda site: site.server.start()),
    "stopped for a while": (lambda site: site.server.freeze(), lambda site: site.server.thaw()),
    "a name of ours is used by others": (confuse, put_right),
}


@pytest.mark.parametrize("number, name", [*enumerate(TROUBLES)])
def test_without_the_server_each_goes_on_alone(site: Site, pop: Pop, number: int, name: str) -> None:
    begin, end = TROUBLES[name]
    one, two = site.proxies
    source = f"127.0.6.{number + 1}"
    before = [len(said(proxy)) for proxy in site.proxies]
    with site.limit(addresssessions=2):
        clients = [pop(two.endpoint(), source=source) for _ in range(2)]
        for client in clients:
            client.greeting()
        site.settle()
        assert pop(one.endpoint(), source=source).rest() == REFUSED
        begin(site)
        try:
            site.wait(None)
            here = pop(one.endpoint(), source=source)
            assert here.login(XENIA, PASSWORD).startswith(EMPTY)
            assert pop(two.endpoint(), source=source).rest() == REFUSED, "its own clients still count"
        finally:
            end(site)
        site.wait(1)
        here.ok("QUIT")
        here.rest()
        site.settle()
        assert pop(one.endpoint(), source=source).rest() == REFUSED
    assert [said(proxy)[len_before:] for proxy, len_before in zip(site.proxies, before)] == [
        ["sharing_lost", "sharing"]] * 2


def test_garbage_is_nothing(site: Site, pop: Pop) -> None:
    with site.server.admin() as admin, site.limit(addresssessions=2, maxfailures=3):
        before = [len(said(proxy)) for proxy in site.proxies]
        many = Counts(1, {by: range(1, 30_000) for by in CountedBy}).packed()
        for number in range(4):
            for field, packet in ((b"garbage1", os.urandom(100)), (b"garbage2", many + bytes(number)), (b"x", many),
                                  (b"", b""), (b"long" * 1000, b"x")):
                admin.hset(HASH, field, packet)
            admin.xadd(STREAM, {"b": os.urandom(500)})
            admin.xadd(STREAM, {"other": "x", "more": many})
            admin.xadd(STREAM, {"b": Batch(b"garbage1", number, 0.0, os.urandom(17_000)).packed()})
            site.settle()
        admin.hdel(HASH, b"garbage1", b"garbage2", b"x", b"", b"long" * 1000)
        site.settle()
        for proxy in site.proxies:
            assert pop(proxy.endpoint(), source="127.0.7.1").login(XENIA, PASSWORD).startswith(EMPTY)
        assert [len(said(proxy)) for proxy in site.proxies] == before


def test_a_proxy_that_died_does_not_count(site: Site, pop: Pop) -> None:
    """Neither do the sessions of one whose master was killed; its process leaves by itself."""
    one, _ = site.proxies
    with site.limit(addresssessions=1), site.server.admin() as admin:
        for name, source in (("three", "127.0.8.1"), ("four", "127.0.8.2")):
            before = {*admin.hgetall(HASH)}
            with closing(site.start(name)) as other:
                site.wait(2)
                pop(other.endpoint(), source=source).greeting()
                site.settle()
                assert pop(one.endpoint(), source=source).rest() == REFUSED
                (member,) = {*admin.hgetall(HASH)} - before
                for pid in (other.master, *(descendants_of(other.master) if name == "three" else ())):
                    os.kill(pid, signal.SIGKILL)
                site.wait(1)
                pop(one.endpoint(), source=source).greeting()
        wait_for(lambda: member not in admin.hgetall(HASH), SOON, "the process whose master was killed leaves")


def test_the_process_is_replaced(site: Site, pop: Pop) -> None:
    one, _ = site.proxies
    tell(one, "reopen")
    site.wait(1)
    before = one.log_lines("sharing_lost")
    os.kill(sharing_process(one), signal.SIGKILL)
    one.wait_log("the process that shares", count=1)
    wait_for(lambda: said(one)[-1] == "sharing", SOON, "another process")
    assert len(one.log_lines("sharing_lost")) == len(before) + 1
    site.wait(1)


def test_an_upgrade(site: Site, pop: Pop) -> None:
    """Sessions of the old master count once, and as long as they last."""
    one, _ = site.proxies
    with closing(site.start("five")) as other, site.limit(addresssessions=2):
        tell(other, "set addresssessions 2")
        site.wait(2)
        client = pop(other.endpoint(), source="127.0.9.1")
        client.greeting()
        upgrade(other)
        site.wait(3)
        site.settle()
        pop(other.endpoint(), source="127.0.9.1").greeting()
        site.settle()
        for proxy in (other, one):
            assert pop(proxy.endpoint(), source="127.0.9.1").rest() == REFUSED
        client.ok("QUIT")
        client.rest()
        site.wait(2)
        site.settle()
        pop(one.endpoint(), source="127.0.9.1").greeting()
    site.wait(1)


# Other servers

class OtherProxy:
    """What another proxy publishes and reads."""

    def __init__(self, words: str) -> None:
        """Publish nothing yet."""
        self.exchange = ProxyExchange(read_options(words))
        self._beat = 0

    def turn(self) -> int:
        """Do one exchange; return how many proxies there are, 0 if the server does not answer."""
        self._beat += 1
        with suppress(PdmError):
            counts = Counts(self._beat, {by: () for by in CountedBy})
            packet = Batch(b"another1", self._beat, 0.0, b"").packed()
            return len(self.exchange.run(b"another1", counts.packed(), [packet], (0, 0)).proxies)
        return 0

    def close(self) -> None:
        """Leave, if the server is there."""
        with suppress(PdmError):
            self.exchange.leave(b"another1")
        self.exchange.close()


class ClusterOfOurUser(Cluster):
    """A cluster that a user with few rights may use."""

    user = f"{USER} +cluster|slots +cluster|shards +command +info"


def test_a_cluster(tmp_path: Path) -> None:
    with closing(ClusterOfOurUser(tmp_path)) as servers:
        place, cluster, _, *login = servers.words()
        with closing(OtherProxy(" ".join((place, cluster, *login)))) as proxy:
            assert [proxy.turn(), proxy.turn()] == [1, 1]
            found = proxy.exchange.run(b"another2", b"x", [], (0, 0))
            assert found.proxies.keys() == {b"another1", b"another2"} and len(found.entries) == 2 and found.is_all
            assert proxy.exchange.run(b"another2", b"x", [], found.entries[0][0], [b"another2"]).entries \
                == found.entries[1:]


@pytest.mark.limit(200)
def test_a_failover(proxy: StartProxy, tmp_path: Path, pop: Pop) -> None:
    with closing(Replicated(tmp_path)) as servers:
        place, master, *_ = servers.words()
        words = f"{place} {master} timeout=300ms"
        with closing(OtherProxy(words)) as other, servers.servers[1].admin() as replica:
            daemon = proxy(store(NOWHERE), exempt="none", metrics="127.0.0.1:0", sharewith=words)
            wait_for(lambda: other.turn() and counted(daemon) == 1, SOON, "each other")
            servers.servers[0].kill()
            assert pop(daemon.endpoint(), source="127.0.2.1").login(XENIA, PASSWORD).startswith(EMPTY)
            before = {*replica.hgetall(HASH).values()}
            wait_for(lambda: other.turn() and len({*replica.hgetall(HASH).values()} - before) >= 2, 60.0, "a failover")
            wait_for(lambda: other.turn() and counted(daemon) == 1, SOON, "each other at the former replica")
            assert {name: scrape(where(daemon)).get(name, program="pproxy") for name in GAUGES} == {
                "sharing": 1, "sharing_proxies": 1}
            assert said(daemon) in (["sharing"], ["sharing", "sharing_lost", "sharing"])    # if it took 3 seconds
            servers.stop()
        wait_for(lambda: counted(daemon) is None, SOON, "the servers to be missed")
        assert said(daemon)[-2:] == ["sharing", "sharing_lost"]
        assert scrape(where(daemon)).get("sharing", program="pproxy") == 0
