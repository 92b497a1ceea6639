"""The socket of ringd: who may ask, what they may ask for, and the answers.

Runs in ringd, with the rights of the user that it serves and CAP_NET_BIND_SERVICE.  Only that user and
root are served, but they are not trusted further: a client gets only ports that the settings name, and
can keep ringd neither busy nor waiting.  `open_service` raises StartError.
"""

import os
import socket
import stat
import struct
import time
from dataclasses import dataclass

from popular.errors import StartError, UsageError
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.net.ring.packet import MAX_RING_REQUEST, RingAnswer, RingRequest, Verb, canonical, decode_request
from popular.proc.watch import Watch
from popular.ringd.messages import CLIENT_DROPPED, CLIENT_REFUSED, PORT_GIVEN, PORT_REFUSED, PORT_RETURNED
from popular.ringd.ports import PortTable
from popular.ringd.settings import PortRanges
from popular.unix.rights import Peer

_MAX_CLIENTS = 64
_MAX_RATE = 5000    # requests of one client in one second; even a start with a thousand ports needs fewer
_PAUSE = 0.1        # seconds of rest if the system has no descriptor for a new client

_ROOT = 0
_FD = struct.Struct("@i")


@dataclass(slots=True)
class _Client:
    """One connection."""

    number: int            # as a holder in the table of ports
    sock: socket.socket
    pid: int               # of the process that connected
    second: int = 0        # the second of time.monotonic() in which requests are counted,
    requests: int = 0      # and their number


class Service:
    """ringd's socket and its clients."""

    def __init__(self, path: str, sock: socket.socket, allowed: PortRanges, table: PortTable, log: Log,
                 watch: Watch) -> None:
        """Serve on the listening `sock`, whose file is `path`, in the loop of `watch`."""
        self.address = path
        self._sock = sock
        self._allowed = allowed
        self._table = table
        self._log = log
        self._watch = watch
        self._once = OnceAMinute()
        self._uid = os.geteuid()
        self._count = 0
        self._clients: dict[int, _Client] = {}    # by their numbers, the oldest first
        watch.register(sock.fileno(), self._accept)

    def close(self) -> None:
        """End all connections; programs keep the ports that they have."""
        self._table.leave()
        for client in [*self._clients.values()]:
            self._forget(client)
        self._watch.unregister(self._sock.fileno())
        self._sock.close()
        try:
            os.unlink(self.address)
        except OSError:    # the folder was emptied
            pass

    def _accept(self) -> None:
        """Accept one client, or refuse it."""
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as why:
            self._turned_away(0, 0, str(why.strerror))
            time.sleep(_PAUSE)    # the client still waits, and would be reported again at once
            return
        sock.setblocking(False)
        peer = Peer.of(sock)
        why_not = self._why_not(peer.uid)
        if why_not:
            _send(sock, RingAnswer(0, why_not))
            sock.close()
            self._turned_away(peer.pid, peer.uid, why_not)
            return
        self._count += 1
        client = self._clients[self._count] = _Client(self._count, sock, peer.pid)
        self._watch.register(sock.fileno(), lambda: self._hear(client))

    def _why_not(self, uid: int) -> str:
        """Return why a client of this user is not served; empty: it is served."""
        if uid not in (_ROOT, self._uid):
            return "not served for this user"
        if len(self._clients) < _MAX_CLIENTS:
            return ""
        for client in self._clients.values():    # the one that has held nothing for the longest time makes room
            if not self._table.has_any(client.number):
                self._drop(client, "room was needed")
                return ""
        return "too many programs"

    def _turned_away(self, pid: int, uid: int, why: str) -> None:
        if self._once.is_due():
            self._log.note(CLIENT_REFUSED, client=pid, uid=uid, why=why)

    def _hear(self, client: _Client) -> None:
        """Answer one request of a client, or drop a client that has left."""
        try:
            # No room for descriptors, so the kernel closes them.
            packet = client.sock.recv(MAX_RING_REQUEST + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:    # the end, or an empty packet, which looks the same
            self._drop(client)
        elif self._is_too_fast(client):
            self._drop(client, "too many requests")
        else:
            self._answer(client, packet)

    def _is_too_fast(self, client: _Client) -> bool:
        """Count a request; return whether it exceeds the limit for this second."""
        now = int(time.monotonic())
        if now != client.second:
            client.second, client.requests = now, 0
        client.requests += 1
        return client.requests > _MAX_RATE

    def _answer(self, client: _Client, packet: bytes) -> None:
        """Do what the packet asks for, and answer."""
        sock = None
        number = 0
        try:
            request = decode_request(packet)
            number = request.number
            sock = self._obey(client, request)
            answer = RingAnswer(number)
        except (UsageError, StartError) as why:
            answer = RingAnswer(number, str(why))
        if not _send(client.sock, answer, sock):
            self._drop(client, "does not read answers")

    def _obey(self, client: _Client, request: RingRequest) -> socket.socket | None:
        """Do what is asked for; return the socket to pass on, if any; raises UsageError, StartError."""
        endpoint = canonical(request.endpoint)
        if request.verb is Verb.RELEASE:
            port = self._table.give_back(client.number, endpoint)
            self._log.note(PORT_RETURNED, address=str(endpoint), references=port.references, client=client.pid)
            return None
        try:
            if endpoint.port not in self._allowed:
                raise StartError(f"port {endpoint.port} is not among those that ringd may open: {self._allowed}")
            port = self._table.take(client.number, endpoint)
        except StartError as error:
            why = str(error).removeprefix(f"cannot listen on {endpoint}: ")    # the client adds that itself
            self._log.note(PORT_REFUSED, address=str(endpoint), client=client.pid, why=why)
            raise StartError(why) from error
        self._log.note(PORT_GIVEN, address=str(endpoint), references=port.references, client=client.pid)
        return port.sock

    def _drop(self, client: _Client, why: str = "") -> None:
        """End a connection and drop its references; `why` is our reason, empty if the client has left."""
        if why:
            self._log.note(CLIENT_DROPPED, client=client.pid, why=why)
        for port in self._table.drop(client.number):
            self._log.note(PORT_RETURNED, address=str(port.endpoint), references=port.references, client=client.pid)
        self._forget(client)

    def _forget(self, client: _Client) -> None:
        self._watch.unregister(client.sock.fileno())
        client.sock.close()
        del self._clients[client.number]


def open_service(path: str, allowed: PortRanges, table: PortTable, log: Log, watch: Watch) -> Service:
    """Make the socket file `path`, for our own user and group only, and serve there; raises StartError.

    The caller holds the lock of the pid file, so an existing file is from a dead ringd.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    before = os.umask(0o117)
    try:
        _clear(path)
        sock.bind(path)
        sock.listen(_MAX_CLIENTS)
    except OSError as why:
        sock.close()
        raise StartError(f"cannot make the socket {path}: {why.strerror or why}") from why
    finally:
        os.umask(before)
    return Service(path, sock, allowed, table, log, watch)


def _clear(path: str) -> None:
    """Remove the socket of a dead ringd, but nothing else."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass


def _send(sock: socket.socket, answer: RingAnswer, handed: socket.socket | None = None) -> bool:
    """Send one packet; return False if the client does not take it."""
    extras = [] if handed is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(handed.fileno()))]
    try:
        sock.sendmsg([answer.encode()], extras, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    except OSError:
        return False
    return True
