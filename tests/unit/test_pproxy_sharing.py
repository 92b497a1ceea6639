"""popular.pproxy.limits.sharing: the table of sessions, events, packets, and the settings."""

import math
import os
import random
import struct
import time
from binascii import crc32
from collections.abc import Iterator, Sequence

import pytest

from popular.pproxy.limits.sharing.events import EventPipe, LimitEvent, SharedLevels, events_in, packed
from popular.pproxy.limits.sharing.exchange import ProxyExchange
from popular.pproxy.limits.sharing.others import MAX_SHARED_KEYS, OthersTable
from popular.pproxy.limits.sharing.packets import MAX_AGE, Batch, Counts
from popular.pproxy.limits.sharing.shared import common_key, read_options
from popular.statefile.layout import CountedBy

ADDRESS, NETWORK, MAILBOX = CountedBy
OTHER = b"other  1"


def keys(**more: Sequence[int]) -> dict[CountedBy, Sequence[int]]:
    return {by: more.get(by.name.lower(), ()) for by in CountedBy}


# The table

def test_sessions_elsewhere_are_looked_up_by_key() -> None:
    table = OthersTable()
    assert table.sessions_with(ADDRESS, 7) == 0
    table.write(keys(address=[9, 7, 7, 1 << 63], mailbox=[7]), time.monotonic() + 60)
    assert [table.sessions_with(ADDRESS, key) for key in (7, 8, 9, 1 << 63, 0)] == [2, 0, 1, 1, 0]
    assert [table.sessions_with(by, 7) for by in CountedBy] == [2, 0, 1]
    table.position = (5, 6)
    table.write(keys(), time.monotonic() + 60)
    assert [table.sessions_with(by, 7) for by in CountedBy] == [0, 0, 0] and table.position == (5, 6)


def test_a_table_is_true_for_a_while_only() -> None:
    table = OthersTable()
    table.write(keys(address=[7]), time.monotonic())
    assert table.sessions_with(ADDRESS, 7) == 0


def test_what_finds_no_room_in_the_table_is_left_out() -> None:
    table = OthersTable()
    table.write(keys(address=[5] * (MAX_SHARED_KEYS + 1), network=[6]), time.monotonic() + 60)
    assert (table.sessions_with(ADDRESS, 5), table.sessions_with(NETWORK, 6)) == (MAX_SHARED_KEYS, 1)


def test_whoever_reads_while_the_table_is_written_never_sees_parts() -> None:
    table = OthersTable()
    until = time.monotonic() + 60
    table.write(keys(address=[7] * 50), until)
    child = os.fork()
    if child == 0:
        for number in range(3000):
            table.write(keys(address=[7] * 50 + [number + 8] * (number % 100)), until)
        os._exit(0)
    found = set()
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        found.add(table.sessions_with(ADDRESS, 7))
    assert found <= {0, 50}    # 0: it was overtaken again and again


# Events

@pytest.fixture
def pipe() -> Iterator[EventPipe]:
    pipe = EventPipe()
    yield pipe
    pipe.close()


def test_events_are_told_and_applied(pipe: EventPipe) -> None:
    here, there = SharedLevels(100, 1, pipe), SharedLevels(100, 1, pipe)
    here.rise(5, 60.0, most=10.0)
    here.rise(6, 30.0)
    here.forget(5)
    here.forget(7)    # unknown: nothing to tell
    told = [*events_in(pipe.drain())]
    assert told == [LimitEvent(1, 5, 60.0, 10.0), LimitEvent(1, 6, 30.0, 1e6), LimitEvent(1, 5, 1.0, 0.0)]
    there.apply(told[0], 0.0)
    there.apply(told[1], 15.0)
    assert [there.level(5, 60.0), there.level(6, 30.0)] == pytest.approx([1.0, 0.5], abs=0.01)
    there.apply(told[2], 0.0)
    assert there.level(5, 60.0) == 0.0
    assert pipe.drain() == b"", "what others have told is not told again"


def test_connections_in_a_minute_are_told_and_taken_back(pipe: EventPipe) -> None:
    here, there = SharedLevels(100, 0, pipe), SharedLevels(100, 0, pipe)
    assert [here.take(5, 60.0, 2) for _ in range(3)] == [True, True, False]
    here.rise(5, 60.0, -1.0)
    told = [*events_in(pipe.drain())]
    assert told == [LimitEvent(0, 5, 60.0, 2.0)] * 2 + [LimitEvent(0, 5, 60.0, -1.0)]
    for event in told:
        there.apply(event, 0.0)
    assert [there.take(5, 60.0, 2) for _ in range(2)] == [True, False]
    there.apply(LimitEvent(0, 6, 60.0, -1.0), 0.0)
    assert [there.take(6, 60.0, 2) for _ in range(3)] == [True, True, False]


def test_what_changes_little_is_not_told(pipe: EventPipe) -> None:
    known = SharedLevels(100, 2, pipe)
    for _ in range(5):
        known.rise(5, 90 * 86_400.0, most=1.0)
    assert len([*events_in(pipe.drain())]) == 1


def test_old_events_never_lower_a_level(pipe: EventPipe) -> None:
    levels = SharedLevels(100, 0, pipe)
    for _ in range(3):
        levels.rise(5, 60.0, most=3.0)
    levels.apply(LimitEvent(0, 5, 60.0, 3.0), 30.0)
    levels.apply(LimitEvent(0, 5, 60.0, 2.0), 0.0)
    assert levels.level(5, 60.0) == pytest.approx(3.0, abs=0.01)
    levels.apply(LimitEvent(0, 6, 60.0, 2.0), 500.0)
    assert levels.level(6, 60.0) == 0.0


def test_nobody_waits_for_a_full_pipe(pipe: EventPipe) -> None:
    levels = SharedLevels(100, 0, pipe)
    for _ in range(20_000):
        levels.rise(5, 60.0)
    octets = pipe.drain()
    assert len(octets) % len(packed(LimitEvent(0, 5, 60.0, 1.0))) == 0
    assert {*events_in(octets)} == {LimitEvent(0, 5, 60.0, 1e6)}
    levels.rise(6, 60.0)
    assert [*events_in(pipe.drain())] == [LimitEvent(0, 6, 60.0, 1e6)]


@pytest.mark.parametrize("event", [
    LimitEvent(8, 5, 60.0, 1.0), LimitEvent(0, 0, 60.0, 1.0), LimitEvent(0, 5, 0.0, 1.0), LimitEvent(0, 5, -1.0, 1.0),
    LimitEvent(0, 5, math.inf, 1.0), LimitEvent(0, 5, math.nan, 1.0), LimitEvent(0, 5, 1e9, 1.0),
    LimitEvent(0, 5, 60.0, -0.5),
    LimitEvent(0, 5, 60.0, math.nan), LimitEvent(0, 5, 60.0, math.inf), LimitEvent(0, 5, 60.0, 1e7)], ids=str)
def test_events_that_cannot_be_are_ignored(event: LimitEvent) -> None:
    good = LimitEvent(0, 5, 60.0, 1.0)
    assert [*events_in(packed(event) + packed(good) + b"rest")] == [good]


# Packets

COUNTS = Counts(77, keys(address=(1, 2, 2), mailbox=(1 << 63,)))
BATCH = Batch(OTHER, 78, 0.25, packed(LimitEvent(0, 5, 60.0, 1.0)))


def test_packets() -> None:
    assert Counts.read(COUNTS.packed()) == COUNTS and Batch.read(BATCH.packed()) == BATCH
    assert Counts.read(BATCH.packed()) is None and Batch.read(COUNTS.packed()) is None
    assert BATCH.events() == [LimitEvent(0, 5, 60.0, 1.0)]


def test_packets_that_somebody_changed_are_none() -> None:
    chance = random.Random(14)
    for packet, read in ((COUNTS.packed(), Counts.read), (BATCH.packed(), Batch.read)):
        for size in range(len(packet)):
            assert read(packet[:size]) is None
        assert read(packet + b"\0") is None
        for _ in range(300):
            octets = bytearray(packet)
            octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
            assert read(bytes(octets)) is None


def checked(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", crc32(content)) + content


@pytest.mark.parametrize("packet", [
    checked(b"PPC1", struct.pack("<Q3I", 1, 0xffffffff, 0xffffffff, 0xffffffff)),
    checked(b"PPC1", struct.pack("<Q3IQ", 1, 2, 0, 0, 7)), checked(b"PPC1", b""),
    checked(b"PPE1", struct.pack("<8sQd", OTHER, 1, math.nan)), checked(b"PPE1", struct.pack("<8sQd", OTHER, 1, -1.0)),
    checked(b"PPE1", struct.pack("<8sQd", OTHER, 1, MAX_AGE + 1)), checked(b"PPE1", b"short"),
    checked(b"PPC2", b"x" * 40), bytes(1 << 23)], ids=lambda packet: str(packet[:24]))
def test_packets_with_impossible_numbers_are_none(packet: bytes) -> None:
    assert Counts.read(packet) is None and Batch.read(packet) is None


# What is common to all proxies

def test_keys_are_the_same_in_all_processes() -> None:
    assert common_key("user", "main", "jö\udcff") == 0x2c07f3c5b9f1e024
    assert common_key("user", "main", "joe") != common_key("user", "main", "jo", "e")


@pytest.mark.parametrize("text, why", [
    ("servers", "argument 1 is not KEY=VALUE"), ("password=x", "unknown key 'password'"),
    ("master=x cluster=on", "exclude each other"), ("timeout=5s", "timeout: '5s' is not between 50ms and 2s"),
    ("prefix='a b'", "prefix: 'a b' is not an id"), ("'", "No closing quotation")])
def test_wrong_settings(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_options(text)


def test_names_on_the_server_belong_together() -> None:
    """In a cluster, what is between braces decides where a name belongs."""
    exchange = ProxyExchange(read_options("prefix=one"))
    assert (exchange._proxies, exchange._events) == ("{one}:proxies", "{one}:events")


@pytest.mark.parametrize("proxies", [{5: b"x", b"x": 6, b"y": [b"x"], OTHER: b"of it"}, {OTHER: b"of it"}])
def test_what_a_server_returns_is_octets_or_left_out(monkeypatch: pytest.MonkeyPatch, proxies: object) -> None:
    """With RESP3 a server may return numbers and lists where octets belong."""
    exchange = ProxyExchange(read_options(""))
    entries = [(b"1-1", {b"b": 5}), (b"1-2", {b"b": None}), (7, {b"b": b"x"}), (b"1-3", [b"b"]), (b"1-4", {b"b": b"z"})]
    monkeypatch.setattr(exchange, "open", lambda: None)
    monkeypatch.setattr(exchange._servers, "ask", lambda deadline, call: [1, b"1-9", True, True, proxies, entries])
    found = exchange.run(b"member 1", b"", [b"packet"], (0, 0))
    assert (found.proxies, found.written, found.entries) == ({OTHER: b"of it"}, [(1, 9)], [((1, 4), b"z")])
