"""One exchange with the server that proxies share: publish what is here, and read what others have published.

    {PREFIX}:proxies    a hash: for each proxy its counts
    {PREFIX}:events     a stream: entries with one field, b, a packet of events

In a cluster both names belong to one node, because of the braces.  What the server returns may be anything: it is
passed on as octets, and what has another form is left out.  Used in the process that shares counts; raises PdmError.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from popular.config.store import Values
from popular.pdm.databases.redisservers import RedisServers

ENTRIES = 200             # of the stream that are read at once
STREAM_LENGTH = 4096      # entries that are kept, about
FORGOTTEN_AFTER = 900     # seconds after which the server forgets all, if no proxy is left
PATIENCE = 2.0            # seconds for one exchange

_ID = re.compile(rb"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_MAX_ID = (1 << 64) - 1
_FIELD = b"b"

StreamPlace = tuple[int, int]    # the id of an entry: milliseconds by the server's clock, and a number


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What the server returned."""

    proxies: dict[bytes, bytes]                     # the counts of each proxy
    written: Sequence[StreamPlace]                  # where our own packets are in the stream
    entries: Sequence[tuple[StreamPlace, bytes]]    # packets of events
    is_all: bool                                    # there are no more of these


class ProxyExchange:
    """The server, as proxies use it."""

    def __init__(self, values: Values) -> None:
        """Take the values of `sharewith`."""
        self._servers = RedisServers(values)
        prefix = values.text("prefix")
        self._proxies, self._events = f"{{{prefix}}}:proxies", f"{{{prefix}}}:events"
        self._is_open = False

    def run(self, member: bytes, counts: bytes, packets: Sequence[bytes], after: StreamPlace,
            gone: Sequence[bytes] = ()) -> Exchanged:
        """Publish our counts, and packets of events; remove proxies that are `gone`, and read the rest."""
        def call(client: Any) -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                pipe.hset(self._proxies, member, counts)
                for packet in packets:
                    pipe.xadd(self._events, {_FIELD: packet}, maxlen=STREAM_LENGTH, approximate=True)
                if gone:
                    pipe.hdel(self._proxies, *gone)
                for name in (self._proxies, self._events):
                    pipe.expire(name, FORGOTTEN_AFTER)
                pipe.hgetall(self._proxies)
                pipe.xrange(self._events, min=_next(after), count=ENTRIES)
                answers: list[Any] = pipe.execute()
            return answers

        self.open()
        answers = self._servers.ask(time.monotonic() + PATIENCE, call)
        proxies, entries = answers[-2:]
        places = [_place(each) for each in answers[1:1 + len(packets)]]
        found = [(place, packet) for ident, fields in entries if isinstance(fields, dict)
                 and (place := _place(ident)) is not None and isinstance(packet := fields.get(_FIELD, b""), bytes)]
        counts_of = {name: packet for name, packet in (proxies if isinstance(proxies, dict) else {}).items()
                     if isinstance(name, bytes) and isinstance(packet, bytes)}
        return Exchanged(counts_of, [place for place in places if place], found, len(entries) < ENTRIES)

    def probe(self) -> None:
        """Ask the server something, and change nothing."""
        self.open()
        self._servers.ask(time.monotonic() + PATIENCE, lambda client: client.hgetall(self._proxies))

    def leave(self, member: bytes) -> None:
        """Take our counts back, as there are no sessions here any more."""
        if self._is_open:
            self._servers.ask(time.monotonic() + PATIENCE / 4, lambda client: client.hdel(self._proxies, member))

    def open(self) -> None:
        """Load the driver and read the secrets, once."""
        if not self._is_open:
            self._servers.open()
            self._is_open = True

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()


def _place(ident: object) -> StreamPlace | None:
    match = _ID.fullmatch(ident) if isinstance(ident, bytes) else None
    if match is None:
        return None
    return min(int(match[1]), _MAX_ID), min(int(match[2]), _MAX_ID)


def _next(place: StreamPlace) -> str:
    """Return the first id after a place."""
    milliseconds, number = place
    return f"{milliseconds}-{number + 1}" if number < _MAX_ID else f"{min(milliseconds + 1, _MAX_ID)}-0"
