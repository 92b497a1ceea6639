"""The module redis in other places than the contract's: TLS, a unix socket, several servers, and a failover."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.errors import PdmError
from popular.pdm.api import Outcome
from tests.harness.certificates import Authority
from tests.harness.databases import UserRow
from tests.harness.databases.redis import Redis, RedisServer
from tests.harness.databases.redis_sentinel import Replicated
from tests.harness.pdm import make_module, make_request
from tests.harness.ports import free_port
from tests.harness.system import wait_for

ROW = UserRow("joe", "secret", namespace="example.org")
JOE = make_request("joe")


@pytest.fixture
def running() -> Iterator[Callable[[Redis], Redis]]:
    """A function that takes servers to be ended with the test, and lets them know joe."""
    started: list[Redis] = []

    def take(servers: Redis) -> Redis:
        started.append(servers)
        servers.add(ROW)
        return servers

    yield take
    for servers in started:
        servers.close()


@pytest.fixture
def ask() -> Iterator[Callable[..., Outcome]]:
    """A function that asks a module with these arguments about joe, the same module again for the same."""
    made = {}

    def asked(*words: str) -> Outcome:
        if words not in made:
            made[words] = make_module("redis", *words)
            made[words].open()
        outcome: Outcome = made[words].check(JOE).outcome
        return outcome

    yield asked
    for module in made.values():
        module.close()


class WithTls(Redis):
    """A server for localhost whose other port wants TLS."""

    def launched(self, folder: Path) -> list[RedisServer]:
        authority = Authority.make(folder)
        pair = authority.sign("localhost")
        self.tls = free_port()
        return [RedisServer(folder / "tls", self.user, f"tls-port {self.tls}", f"tls-cert-file {pair.certificate}",
                            f"tls-key-file {pair.key}", f"tls-ca-cert-file {authority.cafile}", "tls-auth-clients no",
                            f"unixsocket {folder}/sock")]


def test_tls_and_a_unix_socket(running, ask, tmp_path):
    server = running(WithTls(tmp_path))
    right = [f"servers=localhost:{server.tls}", "tls=on", f"cafile={tmp_path}/ca.pem", *server.login()]
    assert ask(*right) is Outcome.OK
    with pytest.raises(PdmError, match="(?i)certificate verify failed"):
        ask(right[0], "tls=on", *server.login())
    with pytest.raises(PdmError, match="(?i)certificate verify failed: IP address mismatch"):
        ask(f"servers=127.0.0.1:{server.tls}", *right[1:])
    assert ask(f"socket={tmp_path}/sock", *server.login()) is Outcome.OK


def test_what_our_user_may_not_read_is_a_failure(running, ask, tmp_path):
    server = running(Redis(tmp_path))
    with server.servers[0].admin() as admin:
        admin.set("users:example.org:joe:sessions", 3)
    place, key, *login = server.words()
    with pytest.raises(PdmError, match="WRONGTYPE"):
        ask(place, "key=users:%n:%u:sessions", *login)
    with pytest.raises(PdmError, match="(?i)no permissions"):
        ask(place, "key=others:%n:%u", *login)
    with pytest.raises(PdmError, match="invalid username-password pair"):
        ask(place, key, "user=pproxy", "password=wrong")
    with server.servers[0].admin() as admin:
        admin.hdel("users:example.org:joe", "password")
    assert ask(*server.words()) is Outcome.FAILED


def test_the_next_server_is_asked(running, ask, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = running(Redis(tmp_path / "one")), running(Redis(tmp_path / "two"))
    words = [f"servers=127.0.0.1:{one.servers[0].port},127.0.0.1:{two.servers[0].port}", "timeout=300ms", *one.login()]
    assert ask(*words) is Outcome.OK and two.connections() == 0
    one.freeze()
    assert ask(*words) is Outcome.OK and two.connections() == 1
    began = time.monotonic()
    assert ask(*words) is Outcome.OK and time.monotonic() - began < 0.3    # the first is not tried again
    one.thaw()
    two.stop()
    assert ask(*words) is Outcome.OK
    one.stop()
    with pytest.raises(PdmError, match=r"127\.0\.0\.1:\d+: .*; 127\.0\.0\.1:\d+: "):
        ask(*words)


@pytest.mark.limit(200)
def test_a_failover(running, ask, tmp_path):
    servers = running(Replicated(tmp_path))
    words = [*servers.words(), "timeout=300ms"]
    idle = [*servers.words(), "timeout=400ms"]
    assert ask(*words) is ask(*idle) is Outcome.OK
    with servers.servers[1].admin() as replica:
        wait_for(lambda: replica.exists("users:example.org:joe"), 10.0, "joe in the replica")
    servers.servers[0].kill()

    def is_served() -> bool:
        try:
            return ask(*words) is Outcome.OK
        except PdmError:
            return False

    wait_for(is_served, 20.0, "the replica to become the master")
    servers.servers[0].start()    # empty, and not yet a replica
    assert ask(*idle) is Outcome.OK, "who was connected to it before does not go back there"
