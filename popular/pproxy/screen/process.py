"""The process that accepts connections while the pool is full, and holds each until its client has said something.

A helper of pproxy's master, beside the children.  It greets clients, looks at what they send without reading it, and
passes a connection through the door to an idle child once there is a whole line, or the ClientHello of a TLS
handshake.  So clients that are silent, slow or endless hold a place in its table, and no child.  While the pool is
full, a connection is passed only if its network has not stalled before, and the master is asked to end a session that
has not logged in (`proc.supervisor`).  Raises OSError if the system refuses the little that it needs.
"""

import errno
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from popular.addresses import Endpoint
from popular.daemon.child.accept import turn_away
from popular.daemon.child.door import Door
from popular.daemon.spec import Listener
from popular.errors import PopularError
from popular.net.listen import accept_bare
from popular.proc.child import SHORTAGES
from popular.proc.helper import Helper
from popular.statefile.layout import CountedBy
from popular.statefile.slot import ChildSlot
from popular.unix.descriptors import allow_descriptors

if TYPE_CHECKING:
    from popular.pproxy.vserv.proxied import Proxies

_MOST = 20_000           # connections held at once
_SPARE_FDS = 64          # of other things
DESCRIPTORS = _MOST + _SPARE_FDS
_AT_ONCE = 64            # connections accepted in one turn
_EVENTS = 256
_LOOK = 0.05             # seconds between looks at the state file, and at most until a wish is repeated
_CANDIDATES = 1024       # looked at to choose the next
_HANDSHAKE = b"\x16"     # the type of a TLS record
_RECORD_HEAD = 5         # octets before its content
_MOST_RECORDS = 8        # in which a ClientHello may come
_HELLO = b"\1"           # the type of a message of a handshake
_HELLO_HEAD = 4          # octets before its content
_MAX_HELLO = 16_389      # octets looked at: a record, with its head, has no more
_WAKING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

Keys = tuple[int, int]    # of the address and of the network of a client
_NOBODY: Keys = 0, 0      # it is not counted


@dataclass(frozen=True, slots=True)
class Terms:
    """What the process has to know of a configuration."""

    greeting: Callable[[str, Endpoint], bytes | None]    # by owner of the listener and peer; empty: TLS comes first
    maxline: int                   # octets
    patience: float                # seconds that a connection is held
    admit: "Callable[[str, Endpoint, ClientScreen], Keys | None]"    # None: refused; counts and logs that
    has_stalled: Callable[[int], bool]    # gets the key of a network
    count: Callable[[str], None]          # counts an event by the name of its counter
    want_room: Callable[[], None]         # asks the master to end a session that has not logged in
    flush: Callable[[], None]             # reports what was counted
    headers: "Mapping[str, Proxies]"      # by owner, where each connection begins with a PROXY header
    refuse: Callable[[str, Endpoint, str], None]    # counts and logs a connection without a good header; gets why


@dataclass(slots=True)
class _Held:
    """A connection that is screened."""

    sock: socket.socket
    owner: str
    peer: Endpoint
    keys: Keys
    since: float
    is_tls: bool
    proxies: "Proxies | None" = None    # whose header has not come yet
    header: int = 0                     # octets of the header, which stays for the child
    is_check: bool = False              # of a balancer, which is no client


class ClientScreen:
    """The table of connections, and the loop."""

    def __init__(self, helper: Helper, door: Door, listeners: Sequence[Listener], slot: ChildSlot,
                 terms: Terms) -> None:
        """Begin to watch; `slot` is only read."""
        self.slot = slot
        self._helper = helper
        self._door = door
        self._listeners = {listener.sock.fileno(): listener for listener in listeners}
        self._terms = terms
        self._held: dict[int, _Held] = {}      # by descriptor, the oldest first
        self._ready: dict[int, _Held] = {}     # those with something to read
        self._stalled: dict[int, _Held] = {}   # and those of networks that have stalled
        self._unnamed: dict[int, _Held] = {}   # those without a whole PROXY header yet, the oldest first
        self._counts: Counter[tuple[CountedBy, int]] = Counter()
        self.passed = self.closed = self.most_held = 0
        self._is_accepting = False
        self._is_leaving = False
        self._rang = 0.0
        self._most = allow_descriptors(DESCRIPTORS) - _SPARE_FDS
        self._epoll = select.epoll()
        self._epoll.register(door.outer.fileno(), select.EPOLLOUT | select.EPOLLET)
        for fd in helper.wake_fds:
            self._epoll.register(fd, select.EPOLLIN)

    def held_by(self, by: CountedBy, key: int) -> int:
        """Return how many connections of an address or network are held here; 0 if they are not counted."""
        return self._counts[by, key] if key else 0

    def run(self) -> None:
        """Work until the master says that it is enough, and nothing is held any more."""
        while not self._is_leaving or self._held:
            self.turn()

    def turn(self) -> None:
        """Do what is due, and wait for the next event, but not long."""
        if not self._is_leaving and self._helper.is_retiring():
            self._is_leaving = True
            for fd in self._helper.wake_fds:
                self._epoll.unregister(fd)
        self._accept_if(self.slot.is_screened and not self._is_leaving)
        self._pass_on(self.slot.pool_is_full)
        self._expire()
        self._terms.flush()
        for fd, _ in self._epoll.poll(_LOOK, _EVENTS):
            listener, held = self._listeners.get(fd), self._held.get(fd)
            if listener is not None:
                self._accept(listener)
            elif held is not None:
                self._look_at(held)

    def close(self) -> None:
        """Close all connections that are held; for tests, because the process just ends."""
        for held in [*self._held.values()]:
            self._drop(held)
        self._epoll.close()

    def _accept_if(self, is_wanted: bool) -> None:
        if is_wanted is self._is_accepting:
            return
        self._is_accepting = is_wanted
        for fd in self._listeners:
            if is_wanted:
                self._epoll.register(fd, select.EPOLLIN)
            else:
                self._epoll.unregister(fd)

    def _accept(self, listener: Listener) -> None:
        for _ in range(_AT_ONCE):
            try:
                fd, family, peer = accept_bare(listener.sock)
            except BlockingIOError:
                return
            except OSError as why:
                if why.errno in SHORTAGES:
                    self._make_space()
                elif why.errno in (errno.EINVAL, errno.EBADF):    # the master has shut it down
                    self._listeners.pop(listener.sock.fileno(), None)
                    self._epoll.unregister(listener.sock.fileno())
                return
            self._receive(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fd), listener.owner, peer)

    def _receive(self, sock: socket.socket, owner: str, peer: Endpoint) -> None:
        """Greet and hold a client, or turn them away."""
        sock.setblocking(False)
        greeting = self._terms.greeting(owner, peer)
        proxies = self._terms.headers.get(owner)
        keys = None
        if greeting is None or self.slot.must_refuse:
            self._terms.count("load_refused")
        elif proxies is None:
            keys = self._terms.admit(owner, peer, self)
        elif proxies.trusts(peer):
            keys = _NOBODY
        else:
            self._terms.refuse(owner, peer, "not trusted")
        if keys is None:
            _send_away(sock, is_tls=not greeting)
            return
        if len(self._held) >= self._most:
            self._make_space()
        held = self._held[sock.fileno()] = _Held(sock, owner, peer, keys, time.monotonic(), not greeting, proxies)
        self.most_held = max(self.most_held, len(self._held))
        self._count(keys)
        if proxies is not None:
            self._unnamed[sock.fileno()] = held
        try:
            if greeting and proxies is None:
                sock.send(greeting)
            self._epoll.register(sock.fileno(), _WAKING)
        except OSError:
            self._drop(held)

    def _read_header(self, held: _Held, proxies: "Proxies") -> bool:
        """Tell whether the PROXY header is there, and the client that it names was admitted and greeted."""
        fd = held.sock.fileno()
        try:
            looked = proxies.look(held.sock, held.peer)
            if looked is None:
                return False
            origin, held.header, seen = looked
            if not seen:    # it has only looked whether we are here
                held.is_check = True
                self._drop(held)
                return False
            if not held.header:
                if self._is_gone(held.sock):
                    raise PopularError("cut off")
                return False
        except PopularError as why:
            self._terms.refuse(held.owner, held.peer, str(why))
            self._drop(held)
            return False
        held.proxies, client = None, origin.client
        self._unnamed.pop(fd, None)
        held.is_check = client is None
        if client is not None:
            keys = self._terms.admit(held.owner, client, self)
            if keys is None:
                held.sock.recv(held.header)    # or closing would reset the connection, and the answer be lost
                if not held.is_tls:
                    turn_away(held.sock.dup())    # which it closes
                self._drop(held)
                return False
            held.keys = keys
            self._count(keys)
        greeting = self._terms.greeting(held.owner, client or held.peer)
        try:
            if greeting:
                held.sock.send(greeting)
        except OSError:
            self._drop(held)
            return False
        return True

    def _count(self, keys: Keys) -> None:
        for by, key in zip((CountedBy.ADDRESS, CountedBy.NETWORK), keys):
            self._counts[by, key] += 1

    def _look_at(self, held: _Held) -> None:
        """Look whether there is something that a child can begin with."""
        fd = held.sock.fileno()
        if fd in self._ready or fd in self._stalled:
            if self._is_gone(held.sock):
                self._drop(held)
            return
        if held.proxies is not None and not self._read_header(held, held.proxies):
            return
        limit = _MAX_HELLO if held.is_tls else self._terms.maxline + 2
        try:
            data = held.sock.recv(limit + held.header, socket.MSG_PEEK)[held.header:]
        except BlockingIOError:
            return
        except OSError:
            data = b""
        enough = has_hello(data) if held.is_tls else b"\n" in data
        if held.is_check:
            if enough or self._is_gone(held.sock):
                self._end_check(held)
        elif enough:
            (self._stalled if self._terms.has_stalled(held.keys[1]) else self._ready)[fd] = held
        elif not data and held.header and not self._is_gone(held.sock):
            return    # only the header is there
        elif not data or len(data) >= limit or enough is None:
            self._drop(held)

    def _end_check(self, held: _Held) -> None:
        """Say goodbye to a health check, which gets no child."""
        try:
            held.sock.recv(self._terms.maxline + held.header)
            if not held.is_tls:
                held.sock.send(b"+OK bye\r\n")
        except OSError:
            pass    # the balancer has gone
        self._drop(held)

    def _pass_on(self, is_full: bool) -> None:
        """Pass connections on as long as children take them."""
        while self._door.is_free():
            held = self._newcomer() or (None if is_full else next(reversed(self._stalled.values()), None))
            if held is None:
                return
            try:
                self._door.give(held.owner, held.sock.fileno(), held.peer)
            except OSError:    # the system is short of something
                return
            self.passed += 1
            self._terms.count("screen_passed")
            self._drop(held, is_passed=True)
            self._rang = 0.0
        now = time.monotonic()
        if is_full and now >= self._rang + _LOOK:    # again and again, since the master may find nobody at first
            self._rang = now
            self._terms.want_room()

    def _newcomer(self) -> _Held | None:
        """Return a connection that may have a child though others must leave: of the network that has fewest here.

        Of equals, the latest comes first: its client is still there.
        """
        while self._ready:
            latest = islice(reversed(self._ready.values()), _CANDIDATES)
            found = min(latest, key=lambda held: self.held_by(CountedBy.NETWORK, held.keys[1]))
            if not self._terms.has_stalled(found.keys[1]):
                return found
            for fd, held in [*self._ready.items()]:    # it has stalled since they came
                if held.keys[1] == found.keys[1]:
                    self._stalled[fd] = self._ready.pop(fd)
        return None

    def _expire(self) -> None:
        for held in [*self._unnamed.values()]:
            if held.proxies is None or held.since + held.proxies.seconds > time.monotonic():
                break
            self._terms.refuse(held.owner, held.peer, "late")
            self._drop(held)
        latest = time.monotonic() - self._terms.patience
        while self._held and (oldest := next(iter(self._held.values()))).since < latest:
            self._drop(oldest)

    def _make_space(self) -> None:
        """Drop some of the oldest connections of the network that has most."""
        networks = Counter(held.keys[1] for held in self._held.values())
        if networks:
            [(largest, _)] = networks.most_common(1)
            for held in [held for held in self._held.values() if held.keys[1] == largest][:_AT_ONCE]:
                self._drop(held)

    def _drop(self, held: _Held, *, is_passed: bool = False) -> None:
        """Close a connection; if it was passed on, only the copy here."""
        fd = held.sock.fileno()
        for table in (self._held, self._ready, self._stalled, self._unnamed):
            table.pop(fd, None)
        for by, key in zip((CountedBy.ADDRESS, CountedBy.NETWORK), held.keys):
            self._counts[by, key] -= 1
            if self._counts[by, key] <= 0:
                del self._counts[by, key]
        if is_passed:
            self._epoll.unregister(fd)    # the connection lives on, and would still wake us
        else:
            self.closed += 1
            self._terms.count("health_checks" if held.is_check else "screen_closed")
        held.sock.close()

    @staticmethod
    def _is_gone(sock: socket.socket) -> bool:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        return bool(poll.poll(0))


def _send_away(sock: socket.socket, *, is_tls: bool) -> None:
    if is_tls:
        sock.close()
    else:
        turn_away(sock)


def has_hello(data: bytes) -> bool | None:
    """Tell whether `data` begins with a whole ClientHello, in one TLS record or in several (RFC 8446 section 5.1).

    None: it is not the beginning of one.
    """
    hello = b""
    for _ in range(_MOST_RECORDS):
        head, data = data[:_RECORD_HEAD], data[_RECORD_HEAD:]
        if head[:1] != _HANDSHAKE[:len(head)]:
            return None
        size = int.from_bytes(head[3:], "big")
        hello, data = hello + data[:size], data[size:]
        if hello[:1] != _HELLO[:len(hello)]:
            return None
        if len(hello) >= _HELLO_HEAD + int.from_bytes(hello[1:_HELLO_HEAD], "big"):
            return True
        if not data:
            return False
    return None
