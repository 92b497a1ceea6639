"""The process that shares what is known of clients with other proxies, by way of Redis or Valkey.

A helper of pproxy's master (keeper.py), the only process that imports the driver and has a connection.  Twice a
second it publishes the keys of the sessions here and the events that children have reported, and reads those of others.

Nothing compares clocks of different hosts.  A proxy counts as long as its packet keeps changing, as seen from here: so
one that died, or what a server has kept from former times, counts for a few seconds or not at all.  The age of events
comes from the server's clock alone, which gives the entries of a stream their ids.

When the server does not answer, the process says so once, and the sessions of others are no longer counted.
"""

import select
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from popular.errors import PdmError
from popular.pdm.asking.runner import reason
from popular.pproxy.limits.sharing.events import EVENT_SIZE
from popular.pproxy.limits.sharing.exchange import Exchanged, StreamPlace
from popular.pproxy.limits.sharing.packets import MAX_AGE, MEMBER_SIZE, Batch, Counts
from popular.pproxy.limits.sharing.shared import Sharing
from popular.pproxy.messages import SHARING, SHARING_LOST
from popular.proc.helper import Helper
from popular.statefile.layout import CountedBy, SharingState
from popular.statefile.writer import StateFile

_INTERVAL = 0.5          # seconds between two exchanges
FRESH = 3.0              # seconds for which a packet, or the answer of the server, counts

_MORE = 0.05             # seconds until the next, if there is more to read
_GONE = 60.0             # seconds after which a proxy that says nothing new is removed
_MOST_PROXIES = 64
_BATCH_SIZE = 1000 * EVENT_SIZE    # octets
_BATCHES = 120           # which wait for the server; older ones are dropped
_AT_ONCE = 20            # batches that are sent in one exchange
_MOST_SENDERS = 1000     # of events, whose last number is known


class _Server(Protocol):
    """As `ProxyExchange`."""

    def run(self, member: bytes, counts: bytes, packets: Sequence[bytes], after: StreamPlace,
            gone: Sequence[bytes] = ()) -> Exchanged: ...

    def leave(self, member: bytes) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class _Proxy:
    """Another proxy, as seen from here; moments are those of time.monotonic."""

    packet: bytes
    counts: Counts | None
    changed: float
    is_alive: bool = False    # its packet has changed since we first saw it


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Events that are not sent yet."""

    number: int
    since: float
    octets: bytes


class Sharer:
    """One proxy among those that share."""

    def __init__(self, sharing: Sharing, statefile: StateFile, server: _Server, helper: Helper) -> None:
        """Begin."""
        self._sharing = sharing
        self._statefile = statefile
        self._server = server
        self._helper = helper
        self._waiting: deque[_Waiting] = deque(maxlen=_BATCHES)
        self._number = 0                           # of the last packet
        self._proxies: dict[bytes, _Proxy] = {}
        self._heard: dict[bytes, int] = {}         # number of the last batch of each sender
        self._server_ahead: float | None = None    # its clock's seconds less those of time.monotonic; None: unknown
        self._answered: float | None = None        # when it answered last

    def run(self) -> None:
        """Work until it is time to leave."""
        poll = select.poll()
        for fd in self._helper.wake_fds:
            poll.register(fd, select.POLLIN)
        while not self._helper.is_retiring():
            wait = self.turn()
            poll.poll(wait * 1000)
        try:
            self._server.leave(self._sharing.member)
        except Exception:    # it is away, or talks nonsense: others see that we are silent
            pass
        self._server.close()

    def turn(self) -> float:
        """Do one exchange, and return after how many seconds the next is due."""
        now = time.monotonic()
        self._collect(now)
        sent = [*self._waiting][:_AT_ONCE]
        packets = [self._packed(each, now) for each in sent]
        if self._server_ahead is None:    # its place in the stream tells the time
            packets.append(Batch(self._sharing.member, 0, 0.0, b"").packed())
        counts = Counts(self._next(), {by: sorted(self._statefile.keys(by)) for by in CountedBy})
        gone = [name for name, proxy in self._proxies.items() if now - proxy.changed > _GONE]
        try:
            found = self._server.run(self._sharing.member, counts.packed(), packets, self._sharing.others.position,
                                     gone)
        except PdmError as why:
            return self._miss(str(why))
        except Exception as why:    # the driver, if the server talks nonsense
            return self._miss(reason(why))
        for _ in sent:
            self._waiting.popleft()
        for name in gone:
            self._proxies.pop(name, None)
        now = time.monotonic()
        self._follow_clock(found, now)
        self._apply(found, now)
        self._count(found, now)
        return _INTERVAL if found.is_all else _MORE

    def _collect(self, now: float) -> None:
        """Take what children have reported."""
        octets = self._sharing.pipe.drain()
        for start in range(0, len(octets), _BATCH_SIZE):
            self._waiting.append(_Waiting(self._next(), now, octets[start:start + _BATCH_SIZE]))

    def _packed(self, waiting: _Waiting, now: float) -> bytes:
        return Batch(self._sharing.member, waiting.number, min(now - waiting.since, MAX_AGE), waiting.octets).packed()

    def _next(self) -> int:
        """Return a number above all that this master's processes have used."""
        self._number = max(self._number + 1, time.monotonic_ns())
        return self._number

    def _miss(self, why: str) -> float:
        """Note that the server has not answered."""
        now = time.monotonic()
        self._server.close()
        self._server_ahead = None
        has_lasted = self._answered is None or now - self._answered >= FRESH
        if has_lasted and self._statefile.sharing != SharingState.ALONE:
            self._statefile.tell_sharing(SharingState.ALONE)
            self._helper.log.note(SHARING_LOST, why=why)
        return _INTERVAL

    def _follow_clock(self, found: Exchanged, now: float) -> None:
        """Learn the server's time; if it has lost its stream and gives lower numbers, read on from these."""
        if not found.written:
            return
        self._server_ahead = found.written[-1][0] / 1000 - now
        if found.written[0] <= self._sharing.others.position:
            self._sharing.others.position = found.written[-1]

    def _apply(self, found: Exchanged, now: float) -> None:
        """Apply the events of others."""
        tables = self._sharing.tables
        for place, packet in found.entries:
            self._sharing.others.position = place    # first: what is applied twice would be worse than what is lost
            batch = Batch.read(packet)
            if batch is None or batch.member == self._sharing.member:
                continue
            if batch.number <= self._heard.get(batch.member, 0):    # sent again, as its sender got no answer
                continue
            if len(self._heard) >= _MOST_SENDERS:
                self._heard.pop(next(iter(self._heard)))
            self._heard[batch.member] = batch.number
            age = batch.age
            if self._server_ahead is not None:
                age += max(0.0, now + self._server_ahead - place[0] / 1000)
            for event in batch.events():
                if event.table < len(tables):
                    tables[event.table].apply(event, age)

    def _count(self, found: Exchanged, now: float) -> None:
        """Show the children the sessions of the proxies that are alive."""
        for name, packet in found.proxies.items():
            proxy = self._proxies.get(name)
            if name == self._sharing.member or len(name) != MEMBER_SIZE:
                continue
            if proxy is None:
                if len(self._proxies) < _MOST_PROXIES:
                    self._proxies[name] = _Proxy(packet, None, now)
            elif proxy.packet != packet:
                proxy.packet, proxy.counts, proxy.changed, proxy.is_alive = packet, Counts.read(packet), now, True
        for name in self._proxies.keys() - found.proxies.keys():
            del self._proxies[name]
        alive = [proxy.counts for proxy in self._proxies.values()
                 if proxy.is_alive and proxy.counts is not None and now - proxy.changed <= FRESH]
        keys = {by: [key for counts in alive for key in counts.keys[by]] for by in CountedBy}
        if self._answered is not None:    # else nobody is known to be alive, and what is in the table is better
            self._sharing.others.write(keys, now + FRESH)
        self._answered = now
        if self._statefile.sharing != SharingState.TOGETHER:
            self._helper.log.note(SHARING, server=self._sharing.text)
        self._statefile.tell_sharing(SharingState.TOGETHER, len(alive))
