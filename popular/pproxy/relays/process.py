"""A relay process: it relays the sessions that children have logged in, and ends them as children do.

A helper of pproxy's master, where `relay` is shared.  It has the strictest walls: it opens no file, makes no connection
and starts no process.  A child's session that it takes has a slot of its own in the state file, and its last line in
the log comes from here.  It stays until its last session, also when its master is dead.
"""

import os
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence

from popular.net.relay.pairs import Pairs, RelayedPair
from popular.pproxy.messages import SESSION_END
from popular.pproxy.relays.channel import RelayChannel, Story, accept, sid_field
from popular.proc.helper import Helper
from popular.statefile.counters import ProxyOutcome
from popular.statefile.relayed import RelaySlots
from popular.unix.descriptors import allow_descriptors

END_SESSION, NEW_LOG = b"E", b"L"    # orders
ORDER = struct.Struct("=cI64s")    # which; slot and session id of the session to end; the reason follows
MAX_ORDER = 1000         # octets

_KEEP_ANSWER = 1.0        # seconds for which a child may see by the answer that this process lives

_AT_ONCE = 64            # sessions taken in one turn
_SPARE_FDS = 64          # of other things
_FDS_OF_LEAVING = 1024   # of clients that are still read after their sessions, and of answers


class RelayProcess:
    """The sessions of one process, and its loop."""

    def __init__(self, helper: Helper, slots: RelaySlots, channel: RelayChannel, most: int) -> None:
        """Begin; `most` is for how many sessions there are descriptors."""
        self._helper = helper
        self._log = helper.log
        self._slots = slots
        self._channel = channel
        self._most = most
        self._by_slot: dict[int, RelayedPair] = {}
        self._cut: set[int] = set()    # slots of sessions that are ended by an order
        self._pairs = Pairs(self._report, self._sum_up)
        self._answers: deque[tuple[float, socket.socket]] = deque()    # by which children see that this process lives
        self._is_retiring = False
        for fd in (channel.inner.fileno(), channel.orders.fileno(), *helper.wake_fds):
            self._pairs.epoll.register(fd, 1)

    def run(self) -> None:
        """Relay until the master says that it is enough, or is dead, and no session is left."""
        self._slots.open()
        while not (self._is_retiring and self._pairs.is_empty):
            self.turn()
        self._slots.close()

    def turn(self) -> None:
        """Wait for something and do it."""
        now = time.monotonic()
        while self._answers and self._answers[0][0] <= now:
            self._answers.popleft()[1].close()
        for fd in self._pairs.wait():
            if fd == self._channel.inner.fileno():
                self._take()
            elif fd == self._channel.orders.fileno():
                self._obey()
            elif self._helper.is_retiring():
                self._is_retiring = True
                for each in self._helper.wake_fds:
                    self._pairs.epoll.unregister(each)
                return

    def close(self) -> None:
        """Close all connections unreported; for tests, because the process just ends."""
        self._pairs.close()
        for _, answer in self._answers:
            answer.close()
        self._slots.release()

    def _take(self) -> None:
        """Take what children hand over, and answer before anything is relayed."""
        for _ in range(_AT_ONCE):
            try:
                taken = self._channel.take()
            except (BlockingIOError, MemoryError):    # it stays in the queue
                return
            except (EOFError, OSError):    # a hostile child has shut the channel down, or the system is short of memory
                self._slots.close()
                self._pairs.epoll.unregister(self._channel.inner.fileno())
                return
            if taken is None:
                continue
            hand, client, server, answer = taken
            slot = self._slots.take(hand.record, self._most)
            if slot is None:
                for sock in (client, server, answer):
                    sock.close()
                continue
            self._slots.count_by(slot, hand.keys)
            pair = RelayedPair(client, server, hand.to_server, hand.to_client, idle=hand.idle, place=slot,
                               story=hand.story)    # as octets, which are smaller
            pair.told = len(hand.to_server), 0    # the child has counted these
            if self._begin(pair, answer):
                self._answers.append((time.monotonic() + _KEEP_ANSWER, answer))
            else:
                self._slots.free(slot, is_summed_up=False)
                answer.close()

    def _begin(self, pair: RelayedPair, answer: socket.socket) -> bool:
        """Have a session relayed and its child told; return False if the child keeps it."""
        try:
            self._pairs.add(pair)
        except OSError:    # the system watches no more descriptors
            pair.close()
            return False
        if not accept(answer):
            self._pairs.drop(pair)
            return False
        self._by_slot[pair.place] = pair
        return True

    def _report(self, pair: RelayedPair) -> None:
        (told_up, told_down), (up, down) = pair.told, pair.moved
        pair.told = max(told_up, up), max(told_down, down)
        self._slots.grow(pair.place, pair.told[0] - told_up, pair.told[1] - told_down)

    def _sum_up(self, pair: RelayedPair) -> None:
        """Write a session's last line, and free its slot."""
        del self._by_slot[pair.place]
        story, now = _story(pair), time.monotonic()
        outcome = ProxyOutcome.CUT_OFF if pair.place in self._cut else ProxyOutcome.RELAYED
        self._cut.discard(pair.place)
        self._report(pair)
        self._slots.add(outcome.counter)
        up, down = pair.moved
        with self._log.about(story.sid):
            self._log.note(
                SESSION_END, **story.about, outcome=f"{outcome.text}: {pair.reason}",
                bytes_in=story.bytes_in + up, bytes_out=story.bytes_out + down, seconds=now - story.began,
                times={**story.times, "relay": now - story.entered})
        self._slots.free(pair.place)

    def _obey(self) -> None:
        """Do what the master says."""
        try:
            order, fds, _, _ = socket.recv_fds(self._channel.orders, MAX_ORDER, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        if not order:    # the master is gone
            self._pairs.epoll.unregister(self._channel.orders.fileno())
        elif order.startswith(NEW_LOG):
            self._turn_to_log(fds)
        else:
            _, slot, sid = ORDER.unpack_from(order)
            pair = self._by_slot.get(slot)
            if pair is not None and sid_field(_story(pair).sid) == sid:
                self._cut.add(slot)
                self._pairs.end(pair, order[ORDER.size:].decode("utf-8", "replace"))

    def _turn_to_log(self, fds: Sequence[int]) -> None:
        """Write to the log that the master has opened anew."""
        for fd in fds:
            os.dup2(fd, self._log.fileno(), inheritable=False)
            os.close(fd)


def allow_sessions(most: int) -> int:
    """Allow as many descriptors as `most` sessions need, as far as may be; return for how many they are enough.

    Called before the process enters its walls, which keep limits as they are.
    """
    descriptors = allow_descriptors(2 * most + _FDS_OF_LEAVING + _SPARE_FDS)
    return max(0, min(most, (descriptors - _SPARE_FDS) // 2))


def _story(pair: RelayedPair) -> Story:
    assert isinstance(pair.story, bytes)
    return Story.read(pair.story)
