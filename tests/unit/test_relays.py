"""Handing sessions over to relay processes: the slots there, the packets, and what hostile children send."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.pproxy.relays import channel as channel_module
from popular.pproxy.relays.channel import (
    ABOUT, HandedOver, RelayChannel, RelayChannels, RelayHandOver, Story, accept)
from popular.statefile.layout import PROXY, SID, SLOT, TAKES_NONE, CountedBy, SessionState
from popular.statefile.reader import StateFileView
from popular.statefile.writer import StateFile
from tests.harness.middle import in_thread
from tests.harness.pairs import PATIENCE, tcp_pair
from tests.harness.system import written_all_the_time

STORY = Story("px-1", {name: f"{name} \udcff" for name in ABOUT}, {"greeting": 0.5, "auth": 1.5}, 30, 55, 100.25, 102.5)
RECORD = SLOT.pack(*(0,) * 11, b"px-1", b"192.0.2.7", b"joe")
HAND = RelayHandOver(RECORD, (1, 2, 3), 600.0, STORY.write(), b"QUIT\r\n", b"+OK\r\n")


@pytest.fixture
def statefile(tmp_path: Path) -> Iterator[StateFile]:
    """One with two children and five relayed sessions of two processes."""
    made = StateFile(PROXY, 2, str(tmp_path / "pproxy.state"), relayed=5, relays=2)
    made.learn([("vserv", "main"), ("backend", "store")])
    made.use(1)
    yield made
    made.close()


@pytest.fixture
def channel() -> Iterator[RelayChannel]:
    made = RelayChannel()
    yield made
    made.close()


def begin(statefile: StateFile, number: int, sid: str) -> None:
    """Have a session that relays in a child."""
    slot = statefile.slot(number)
    slot.begin(Endpoint("192.0.2.7", 50_000 + number), "main", sid)
    slot.call_user("joe")
    slot.call_backend("store")
    slot.count_by(CountedBy.MAILBOX, 77)
    slot.enter(SessionState.RELAY, 30, 55)
    slot.release()


def test_a_session_moves_from_the_slot_of_a_child_to_another(statefile: StateFile) -> None:
    begin(statefile, 1, "px-9")
    child, relay = statefile.slot(1), statefile.relay_slots(1)
    assert child.relays() == (0, 0)
    relay.close()
    assert child.relays() == (0, TAKES_NONE)
    relay.open()
    record, keys = child.record()
    slot = relay.take(record, 100)
    assert slot == 3, "the first of the second process"
    relay.count_by(slot, keys)
    assert child.sessions_with(CountedBy.MAILBOX, 77) == 2, "for a moment, rather than none"
    assert statefile.last_words(1) is None and statefile.last_words(slot) is None, "whoever dies, the other has it"
    child.let_go()
    assert child.sessions_with(CountedBy.MAILBOX, 77) == 1 == len(statefile.keys(CountedBy.MAILBOX))
    assert child.sessions_of_backend("store", {SessionState.RELAY}) == 1
    [row] = statefile.relayed()
    assert (row.slot, row.pid, row.sid, row.user, row.backend, row.owner, row.client, row.bytes_in, row.bytes_out) == (
        slot, os.getpid(), "px-9", "joe", "store", "main", Endpoint("192.0.2.7", 50_001), 30, 55)
    last = statefile.last_words(slot)
    assert last is not None and last.sid == "px-9"
    relay.grow(slot, 6, 100)
    relay.add("relayed")
    [seen] = StateFileView(statefile.read).relayed()
    assert (seen.bytes_in, seen.bytes_out) == (36, 155)
    totals, _ = StateFileView(statefile.read).totals()
    assert (totals["bytes_in"], totals["bytes_out"], totals["relayed"], totals["sessions"]) == (36, 155, 1, 1)
    relay.free(slot)
    assert not statefile.relayed() and not statefile.keys(CountedBy.MAILBOX) and statefile.last_words(slot) is None
    assert child.is_relayed(SID.pack(b"px-9")) and relay.is_summed_up(slot), "as its child may look for it"
    child.release()
    relay.release()


def test_a_session_id_is_there_all_the_time_while_its_slot_is_cleared(statefile: StateFile) -> None:
    begin(statefile, 1, "px-9")
    child, relay = statefile.slot(1), statefile.relay_slots(0)
    slot = relay.take(child.record()[0], 100)
    assert slot is not None
    with written_all_the_time(lambda: relay.clear(slot)):
        assert all(child.is_relayed(SID.pack(b"px-9")) for _ in range(20_000))
    child.release()
    relay.release()


def test_a_dead_child_s_session_that_a_relay_has_summed_up_is_not_summed_up_again(statefile: StateFile) -> None:
    begin(statefile, 1, "px-9")
    child, relay = statefile.slot(1), statefile.relay_slots(0)
    slot = relay.take(child.record()[0], 100)
    assert slot is not None
    relay.free(slot, is_summed_up=False)
    assert statefile.last_words(1) is not None, "its child has it"
    slot = relay.take(child.record()[0], 100)
    assert slot is not None
    relay.free(slot)
    assert statefile.last_words(1) is None
    child.release()
    relay.release()


def test_processes_share_the_slots_and_use_low_ones_again(statefile: StateFile) -> None:
    begin(statefile, 0, "px-1")
    child = statefile.slot(0)
    record, _ = child.record()
    first, second = statefile.relay_slots(0), statefile.relay_slots(1)
    assert [first.take(record, 100) for _ in range(4)] == [2, 4, 6, None]
    assert second.take(record, 0) is None, "it has no descriptors for that"
    assert [second.take(record, 100) for _ in range(3)] == [3, 5, None]
    first.free(4)
    first.free(2)
    assert child.relays() == (1, 2) and statefile.relayed_count == 3
    assert first.take(record, 100) == 2
    successor = statefile.relay_slots(0)
    assert [*successor.used()] == [2, 4, 6]
    child.release()
    for slots in (first, second, successor):
        slots.release()


def test_a_hand_over_is_read_as_it_was_written() -> None:
    assert RelayHandOver.read(HAND.write()) == HAND
    assert Story.read(HAND.story) == STORY


@pytest.mark.parametrize("packet", [
    b"x", HAND.write() + b"x", HAND.write()[:-1],
    RelayHandOver(HAND.record, HAND.keys, float("nan"), HAND.story, b"", b"").write(),
    RelayHandOver(HAND.record, HAND.keys, 86_401.0, HAND.story, b"", b"").write(),
    RelayHandOver(SLOT.pack(*(0,) * 6, 2**64 - 1, *(0,) * 4, b"px-1", b"", b""), HAND.keys, 600.0, HAND.story, b"",
                  b"").write(), *(
        RelayHandOver(HAND.record, HAND.keys, 600.0, story, b"", b"").write() for story in (
            b"{", b"[" * 50_000, b"[1]", json.dumps({"sid": 1, "about": 2, "times": 3}).encode(),
            STORY.write().replace(b"100.25", b"Infinity").replace(b"30", b"1e999"),
            STORY.write().replace(b"px-1", b"px-2"), STORY.write().replace(b"px-1", b"\\ud800"),
            STORY.write().replace(b"px-1", b"px-1\\u0000")))],
    ids=["short", "long", "cut", "no time", "too long a time", "no room to count", "no JSON", "deep", "other JSON",
         "other types", "endless", "another session", "no text", "more text"])
def test_other_packets_are_dropped_with_their_descriptors(channel: RelayChannel, packet: bytes) -> None:
    with tcp_pair() as (one, other):
        socket.send_fds(channel.outer, [packet], [one.fileno()] * 3)
        one.close()
        assert channel.take() is None
        assert other.recv(1) == b"", "no copy of it is left"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_descriptors(channel: RelayChannel, count: int) -> None:
    with tcp_pair() as (one, _):
        socket.send_fds(channel.outer, [HAND.write()], [one.fileno()] * count)
        assert channel.take() is None


def test_things_that_are_no_sockets(channel: RelayChannel) -> None:
    reading, writing = os.pipe()
    socket.send_fds(channel.outer, [HAND.write()], [reading] * 3)
    os.close(reading)
    assert channel.take() is None
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"x")
    os.close(writing)


def test_a_session_is_handed_over(channel: RelayChannel) -> None:
    with tcp_pair() as (client, _), tcp_pair() as (server, far):
        results: list[socket.socket | None] = []
        child = threading.Thread(target=lambda: results.append(channel.give(HAND, client, server)))
        child.start()
        while (taken := _take(channel)) is None:
            pass
        hand, _, its_server, answer = taken
        assert hand == HAND
        assert accept(answer)
        child.join()
        [receipt] = results
        assert receipt is not None
        receipt.close()
        server.close()
        its_server.sendall(b"x")
        assert far.recv(1) == b"x"
        for sock in taken[1:]:
            sock.close()


def test_who_takes_it_too_late_is_told(channel: RelayChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "HAND_OVER_SECONDS", 0.02)
    with tcp_pair() as (client, _), tcp_pair() as (server, _):
        assert not channel.give(HAND, client, server)
        taken = _take(channel)
        assert taken is not None
        assert not accept(taken[3])
        for sock in taken[1:]:
            sock.close()


@pytest.mark.parametrize("how", ["full", "large", "gone"])
def test_a_session_stays_if_it_cannot_be_sent(channel: RelayChannel, how: str) -> None:
    hand = HAND
    if how == "large":
        hand = RelayHandOver(HAND.record, HAND.keys, 600.0, HAND.story, b"x" * channel_module.MAX_HAND_OVER, b"")
    elif how == "gone":
        channel.inner.close()
    else:
        with pytest.raises(BlockingIOError):
            while True:
                channel.outer.send(b"x" * 10_000)
    with tcp_pair() as (client, _), tcp_pair() as (server, _):
        assert not channel.give(hand, client, server)


def test_the_process_with_fewest_is_asked_and_none_if_none_takes_any(statefile: StateFile) -> None:
    begin(statefile, 0, "px-1")
    child, channels = statefile.slot(0), RelayChannels(2)
    first, second = statefile.relay_slots(0), statefile.relay_slots(1)
    first.take(child.record()[0], 100)
    with tcp_pair() as (client, _), tcp_pair() as (server, _):
        channels.each[1].inner.close()    # so that it fails at once, there
        assert channels.give(child, STORY, 600.0, client, server, b"", b"") is HandedOver.NO
        first.close()
        second.close()
        assert channels.give(child, STORY, 600.0, client, server, b"", b"") is HandedOver.NO
        with pytest.raises(BlockingIOError):
            channels.each[0].take()
    child.release()
    first.release()
    second.release()
    for each in channels.each:
        each.close()


@pytest.mark.parametrize("lives, is_shown, found", [
    pytest.param(True, True, HandedOver.YES, id="alive"), pytest.param(True, False, HandedOver.YES, id="and over"),
    pytest.param(False, True, HandedOver.YES, id="dead, and the master comes later"),
    pytest.param(False, False, HandedOver.LOST, id="dead, and the master has been here")])
def test_who_sums_up_a_session_whose_process_dies_after_it_answered(
        statefile: StateFile, monkeypatch: pytest.MonkeyPatch, lives: bool, is_shown: bool, found: HandedOver) -> None:
    begin(statefile, 0, "px-1")
    child, channels, slots = statefile.slot(0), RelayChannels(1), statefile.relay_slots(0)
    results: list[HandedOver] = []
    is_done, let_go = threading.Event(), child.let_go
    monkeypatch.setattr(child, "let_go", lambda: is_done.wait(PATIENCE) and let_go())
    with tcp_pair() as (client, _), tcp_pair() as (server, _):
        giver = in_thread(lambda: results.append(channels.give(child, STORY, 600.0, client, server, b"", b"")))
        while (taken := _take(channels.each[0])) is None:
            pass
        hand, *sockets = taken
        if is_shown:
            slots.take(hand.record, 10)
        assert accept(sockets[2])
        if not lives:
            sockets[2].close()
        is_done.set()
        giver.join()
        for sock in sockets:
            sock.close()
    assert results == [found]
    child.release()
    slots.release()
    channels.each[0].close()


def _take(channel: RelayChannel) -> tuple[RelayHandOver, socket.socket, socket.socket, socket.socket] | None:
    try:
        return channel.take()
    except BlockingIOError:
        return None
