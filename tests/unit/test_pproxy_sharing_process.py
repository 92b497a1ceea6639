"""popular.pproxy.limits.sharing.process: several proxies and a server in memory, by the clock."""

import random
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pproxy.limits.clients import ClientLimits, keys_counted
from popular.pproxy.limits.delay import LoginDelay
from popular.pproxy.limits.inspection import client_line
from popular.pproxy.limits.sharing.exchange import ENTRIES, Exchanged, StreamPlace
from popular.pproxy.limits.sharing.packets import Batch, Counts
from popular.pproxy.limits.sharing.process import FRESH, Sharer
from popular.pproxy.limits.sharing.shared import Sharing, common_key, read_options
from popular.statefile.layout import PROXY, CountedBy, SharingState
from popular.statefile.writer import StateFile

OTHER, THIRD = b"other  1", b"third  1"
HERE = "192.0.2.1"
COUNTS = Counts(77, {by: (1, 2, 2) for by in CountedBy})
BATCH = Batch(OTHER, 78, 0.25, b"")


class Server:
    """What all proxies have published, in place of a server."""

    def __init__(self) -> None:
        self.proxies: dict[bytes, bytes] = {}
        self.stream: list[tuple[StreamPlace, bytes]] = []
        self.milliseconds = 1_000_000
        self.fails: Exception | None = None
        self.repeats = False    # gets everything, and answers too late

    def run(self, member: bytes, counts: bytes, packets: Sequence[bytes], after: StreamPlace,
            gone: Sequence[bytes] = ()) -> Exchanged:
        if self.fails is not None:
            raise self.fails
        self.proxies[member] = counts
        written = [self.append(packet) for packet in packets]
        for name in gone:
            self.proxies.pop(name, None)
        if self.repeats:
            raise PdmError("no answer within 1.0 s")
        entries = [entry for entry in self.stream if entry[0] > after][:ENTRIES]
        return Exchanged(dict(self.proxies), written, entries, len(entries) < ENTRIES)

    def append(self, packet: bytes) -> StreamPlace:
        milliseconds, number = self.stream[-1][0] if self.stream else (0, 0)
        place = max((self.milliseconds, 0), (milliseconds, number + 1))
        self.stream.append((place, packet))
        return place

    def leave(self, member: bytes) -> None:
        self.proxies.pop(member, None)

    def close(self) -> None:
        pass


class Notes:
    """A helper's log."""

    def __init__(self) -> None:
        self.log = self
        self.lines: list[str] = []

    def note(self, message: Any, **fields: object) -> None:
        self.lines.append(message.name)


class Proxy:
    """One proxy: its memory, and its process that shares."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sharing = Sharing("of a test", read_options(""))
        self.statefile = StateFile(PROXY, 8)
        self.statefile.use(7)
        self.statefile.elsewhere = self.sharing.others.sessions_with
        self.limits = ClientLimits(maxfailures=3, key=common_key)
        self.clients = self.sharing.counts()
        self.notes = Notes()
        self.restart()

    def restart(self) -> None:
        """Have a new process."""
        self.sharer = Sharer(self.sharing, self.statefile, self.server, self.notes)    # type: ignore[arg-type]

    def turn(self) -> float:
        return self.sharer.turn()

    def open(self, slot: int, key: int) -> None:
        """Begin a session; 0: end it."""
        self.statefile.slot(slot).count_by(CountedBy.ADDRESS, key)

    def sessions(self, key: int) -> int:
        return self.statefile.slot(0).sessions_with(CountedBy.ADDRESS, key)

    def may_try(self, user: str = "joe") -> bool:
        guard = self.clients.guard(self.limits, *keys_counted(self.limits, HERE))
        assert guard is not None
        return guard.may_try("main", user)

    def fail(self, user: str = "joe") -> None:
        guard = self.clients.guard(self.limits, *keys_counted(self.limits, HERE))
        assert guard is not None
        guard.may_try("main", user)
        guard.failed()

    def close(self) -> None:
        self.sharing.pipe.close()
        self.statefile.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(now[0] * 1e9))
    return now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def proxies(server: Server, clock: list[float]) -> Iterator[list[Proxy]]:
    """Two proxies, as yet without an exchange."""
    made = [Proxy(server), Proxy(server)]
    yield made
    for proxy in made:
        proxy.close()


def turns(proxies: Sequence[Proxy], clock: list[float], server: Server, times: int = 2) -> None:
    for _ in range(times):
        for proxy in proxies:
            proxy.turn()
        clock[0] += 0.5
        server.milliseconds += 500


def test_sessions_count_for_all(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    here.open(0, 7)
    here.open(1, 7)
    there.open(0, 7)
    turns(proxies, clock, server, 3)
    assert (here.sessions(7), there.sessions(7), here.sessions(8)) == (3, 3, 0)
    here.open(1, 0)
    turns(proxies, clock, server)
    assert (here.sessions(7), there.sessions(7)) == (2, 2)
    assert here.notes.lines == ["sharing"] and here.statefile.sharing == SharingState.TOGETHER


def test_a_proxy_that_died_is_forgotten(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    there.open(0, 7)
    turns(proxies, clock, server, 3)
    assert here.sessions(7) == 1
    turns([here], clock, server, int(FRESH / 0.5) + 2)
    assert here.sessions(7) == 0 and there.sharing.member in server.proxies
    turns([here], clock, server, 130)
    assert there.sharing.member not in server.proxies


def test_what_a_server_kept_from_former_times_does_not_count(proxies: list[Proxy], clock: list[float],
                                                             server: Server) -> None:
    here, there = proxies
    server.proxies[OTHER] = Counts(1, {by: [7] * 100 for by in CountedBy}).packed()
    turns([here], clock, server, 4)
    assert here.sessions(7) == 0
    there.open(0, 7)
    turns(proxies, clock, server, 4)
    here.restart()    # the table remains until the new process knows who is alive
    here.turn()
    assert here.sessions(7) == 1
    turns(proxies, clock, server, 4)
    assert here.sessions(7) == 1


def test_while_the_server_is_away_each_goes_on_alone(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    here.open(0, 7)
    there.open(0, 7)
    turns(proxies, clock, server, 3)
    server.fails = PdmError("refused")
    turns(proxies, clock, server, 3)
    assert here.sessions(7) == 2 and here.notes.lines == ["sharing"], "a short absence is nothing"
    turns(proxies, clock, server, 30)
    assert here.sessions(7) == 1 and here.notes.lines == ["sharing", "sharing_lost"]
    assert here.statefile.sharing == SharingState.ALONE
    here.restart()
    turns(proxies, clock, server, 30)
    assert here.notes.lines == ["sharing", "sharing_lost"], "it is said once"
    server.fails = None
    turns(proxies, clock, server, 3)
    assert here.sessions(7) == 2 and here.notes.lines == ["sharing", "sharing_lost", "sharing"]


def test_a_server_that_talks_nonsense_is_away(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    server.fails = TypeError("a reply of the wrong kind")
    assert proxies[0].turn() > 0
    assert proxies[0].notes.lines == ["sharing_lost"]


@pytest.mark.parametrize("packet", [b"", b"garbage", bytes(100), COUNTS.packed()[:-1], BATCH.packed(), bytes(1 << 23)],
                         ids=lambda packet: str(packet[:12]))
def test_garbage_in_the_keys_counts_for_nothing(proxies: list[Proxy], clock: list[float], server: Server,
                                                packet: bytes) -> None:
    here, there = proxies
    there.open(0, 7)
    for number in range(5):
        server.proxies.update({OTHER: packet + bytes(number), b"x": packet, b"long" * 100: packet})
        server.append(packet)
        turns(proxies, clock, server, 1)
    assert here.sessions(7) == 1
    assert here.may_try() and here.notes.lines == ["sharing"]


def test_what_a_client_has_elsewhere_is_shown(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    limits = ClientLimits(addresssessions=2, key=common_key)
    there.open(0, keys_counted(limits, HERE)[0])
    turns(proxies, clock, server, 3)
    assert client_line(here.clients, limits, HERE, [HERE], "main", "").startswith("refused why=address ")
    assert " address=2/2 " in client_line(here.clients, limits, HERE, [HERE], "main", "")


def test_failed_logins_count_for_all(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    for _ in range(3):
        here.fail()
    assert there.may_try()
    turns(proxies, clock, server)
    assert not there.may_try() and not here.may_try()
    clock[0] += 60.0
    assert there.may_try() and here.may_try()


def test_the_delay_between_logins_is_that_of_all(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = (LoginDelay(60.0, proxy.clients.delays()) for proxy in proxies)
    turns(proxies, clock, server)
    assert here.take(7)
    turns(proxies, clock, server)
    assert not there.take(7) and there.take(8)
    here.give_back(7)
    turns(proxies, clock, server)
    assert there.take(7)


def test_whoever_starts_catches_up(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    for _ in range(3):
        here.fail()
    turns([here], clock, server, 130)
    for _ in range(2 * ENTRIES):
        server.append(Batch(THIRD, len(server.stream), 0.0, b"").packed())
    assert there.turn() < 0.1, "there is more"
    turns([there], clock, server, 3)
    assert there.may_try(), "one failure was forgotten meanwhile"
    there.fail()
    assert not there.may_try()


def test_an_event_counts_once(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    turns(proxies, clock, server)
    server.repeats = True
    here.fail()
    turns([here], clock, server, 3)
    server.repeats = False
    turns(proxies, clock, server)
    there.restart()
    turns(proxies, clock, server)
    there.fail()
    assert there.may_try()
    there.fail()
    assert not there.may_try()


def test_events_wait_for_the_server(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    turns(proxies, clock, server)
    server.fails = PdmError("refused")
    for _ in range(500):    # more than wait
        here.fail()
        turns([here], clock, server, 1)
    server.fails = None
    turns(proxies, clock, server, 12)
    assert not there.may_try()


def test_a_server_that_lost_its_stream_and_its_time(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, there = proxies
    turns(proxies, clock, server)
    server.stream.clear()
    server.milliseconds = 1000
    server.fails = PdmError("closed")
    turns(proxies, clock, server, 1)
    server.fails = None
    turns(proxies, clock, server)
    for _ in range(3):
        here.fail()
    turns(proxies, clock, server)
    assert not there.may_try()


def test_hostile_members_of_the_stream(proxies: list[Proxy], clock: list[float], server: Server) -> None:
    here, _ = proxies
    chance = random.Random(15)
    octets = b"".join(struct.pack("<BQff", chance.randrange(256), chance.getrandbits(64), chance.uniform(-1e9, 1e9),
                                  chance.uniform(-1e9, 1e9)) for _ in range(500))
    server.append(Batch(OTHER, 1, 0.0, octets).packed())
    for number in range(1100):    # senders that nobody can remember all
        server.append(Batch(struct.pack("<Q", number), 1, 0.0, b"").packed())
    while here.turn() < 0.1:
        pass
    assert here.may_try() and here.notes.lines == ["sharing"]


def test_the_end(proxies: list[Proxy], clock: list[float], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is to leave takes its counts back, if the server answers."""
    here, there = proxies
    turns(proxies, clock, server, 1)
    for proxy in proxies:
        monkeypatch.setattr(proxy.notes, "wake_fds", (), raising=False)
        monkeypatch.setattr(proxy.notes, "is_retiring", lambda: True, raising=False)
    here.sharer.run()
    assert [*server.proxies] == [there.sharing.member]
    monkeypatch.setattr(server, "leave", lambda member: 1 / 0)
    there.sharer.run()
