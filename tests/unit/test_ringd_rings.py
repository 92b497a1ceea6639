"""daemon.master.rings: the connections to ringd that a starter and a master hold, and which ports pproxy asks for."""

import json
import os
import socket
from collections.abc import Iterator

import pytest

from popular.addresses import Endpoint
from popular.config.store import default_config, with_item, with_variable
from popular.daemon.master.rings import MasterRings, StartRings
from popular.daemon.spec import Listen
from popular.daemon.start import launch
from popular.daemon.start.handover import HandOver, Handle
from popular.errors import StartError
from popular.log.writer import Log
from popular.net.listen import bind_tcp
from popular.net.ring.client import RingClient
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import listens
from popular.proc.watch import Watch
from popular.unix.descriptors import MastersOwn, ReservedDescriptors
from popular.unix.rights import own_rights

POP, HIGH = Endpoint("127.0.0.1", 110), Endpoint("127.0.0.1", 8110)


class FakeClient:
    """A connection to a ringd that gives every port and can die."""

    def __init__(self, path: str) -> None:
        if path == "/nobody":
            raise StartError("cannot reach ringd")
        self.path = path
        self.ours, self.theirs = socket.socketpair()
        self.is_dead = False
        self.released: list[Endpoint] = []

    def fileno(self) -> int:
        return self.ours.fileno()

    def is_gone(self) -> bool:
        return self.is_dead

    def acquire(self, endpoint: Endpoint, backlog: int) -> socket.socket:
        return bind_tcp(Endpoint("127.0.0.1", 0), backlog)

    def release(self, endpoint: Endpoint) -> None:
        self.released.append(endpoint)

    def die(self) -> None:
        self.is_dead = True
        self.theirs.close()

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeClient]]:
    """All connections that were made."""
    clients: list[FakeClient] = []

    def connect(path: str) -> FakeClient:
        clients.append(FakeClient(path))
        return clients[-1]

    monkeypatch.setattr(RingClient, "connect", connect)
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def own() -> MastersOwn:
    """What children close."""
    return MastersOwn()


@pytest.fixture
def watch(own: MastersOwn) -> Watch:
    """The master's loop."""
    return Watch(own)


@pytest.fixture
def rings(watch: Watch, made: list[FakeClient]) -> Iterator[MasterRings]:
    """The connections of a master, none yet."""
    log = Log.open("pproxy", os.devnull)
    yield MasterRings(watch, log, [])
    os.close(log.fileno())


def is_open(client: FakeClient) -> bool:
    """Tell whether our end is open."""
    return client.ours.fileno() >= 0


def test_one_connection_serves_all_ports_of_one_ringd(rings: MasterRings, made: list[FakeClient]) -> None:
    for path in ("/a", "/a", "/b"):
        rings.acquire(path, POP, 5).close()
    assert [client.path for client in made] == ["/a", "/b"]
    rings.release("/b", POP)
    rings.release("/c", POP)
    assert [client.released for client in made] == [[], [POP]]
    rings.leave()
    assert not any(map(is_open, made))


def test_children_close_the_connections(rings: MasterRings, made: list[FakeClient], own: MastersOwn) -> None:
    rings.acquire("/a", POP, 5).close()
    own.close_all()
    with pytest.raises(OSError):
        os.fstat(made[0].fileno())
    made[0].ours.detach()


def test_the_end_of_ringd_is_noticed(rings: MasterRings, made: list[FakeClient], watch: Watch) -> None:
    rings.acquire("/a", POP, 5).close()
    watch.wait(0)
    assert is_open(made[0])
    made[0].die()
    watch.wait(0)
    assert not is_open(made[0])
    rings.acquire("/a", POP, 5).close()
    assert len(made) == 2
    rings.leave()


def test_a_ringd_that_was_started_again_is_asked(rings: MasterRings, made: list[FakeClient]) -> None:
    rings.acquire("/a", POP, 5).close()
    made[0].die()    # and nobody has looked yet
    rings.acquire("/a", POP, 5).close()
    assert [is_open(client) for client in made] == [False, True]
    rings.leave()


def test_a_ringd_that_is_not_there_is_told(rings: MasterRings) -> None:
    with pytest.raises(StartError, match="cannot reach ringd"):
        rings.acquire("/nobody", POP, 5)
    rings.leave()


def test_a_start_asks_ringd_for_some_ports_and_opens_the_others(made: list[FakeClient]) -> None:
    rings = StartRings(own_rights())
    wanted = [Listen("tcp", "a", POP, 5, "/a"), Listen("tcp", "b", Endpoint("127.0.0.1", 0), 5),
              Listen("tcp", "c", POP, 5, "/a")]
    bound = launch.bind_all(wanted, 0.0, rings)
    assert [(each.owner, each.ours, each.ringd) for each in bound] == [
        ("a", False, "/a"), ("b", True, ""), ("c", False, "/a")]
    assert [client.path for client in made] == ["/a"]
    assert [handle.ringd for handle in map(Handle.of, bound)] == ["/a", "", "/a"]
    assert [*map(Handle.of_ring, rings.clients)] == [Handle("/a", made[0].fileno())]
    for each in bound:
        each.sock.close()


def test_every_refusal_is_told(made: list[FakeClient]) -> None:
    wanted = [Listen("tcp", "a", POP, 5, "/nobody"), Listen("tcp", "b", Endpoint("192.0.2.1", 0), 5)]
    with pytest.raises(StartError) as why:
        launch.bind_all(wanted, 0.0, StartRings(own_rights()))
    assert len(str(why.value).splitlines()) == 2


def test_the_hand_over_has_the_connections() -> None:
    hand = HandOver(
        program="pproxy", version="2.0.0", module="popular.pproxy.spec", config="{}", path=(), prefix="/",
        rights=own_rights(), drops=False, detached=False, log_fd=7, pid_path="/p", pid_fd=8, ready_fd=None,
        reserved=ReservedDescriptors(4, 5, 3), handles=(Handle("main", 9, "/a"),), rings=(Handle("/a", 10),))
    with open(hand.write(), "rb") as file:
        assert HandOver.from_raw(json.load(file)) == hand
    assert hand.descriptors[-2:] == [9, 10]


@pytest.mark.parametrize(("ringd", "asked"), [("", ["", "", ""]), ("/r", ["/r", "", ""])])
def test_pproxy_asks_ringd_for_ports_below_1024(ringd: str, asked: list[str]) -> None:
    config = with_variable(default_config(SCHEMA), SCHEMA, "ringd", ringd)
    addresses = f"{POP}, {HIGH}, 127.0.0.1:0"
    config = with_item(config, SCHEMA, "vserv", "main", {"address": addresses}, "file")
    assert [listen.ringd for listen in listens(config)] == asked
