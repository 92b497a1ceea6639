"""What the sessions of all programs have in common.

Runs in a child.  The session of each program holds a `Session` and implements the protocol.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from popular.addresses import Endpoint
from popular.daemon.messages import (
    LINES_LEFT_OUT, NULL_BYTE_IN_INPUT, PROXY_HEADER, TLS_FAILED, TLS_STARTED)
from popular.daemon.tls import Tls
from popular.errors import Gone, NulByte, ProxyHeader
from popular.log.limit import Counted
from popular.log.line import local_stamp
from popular.log.message import Message
from popular.log.writer import Log
from popular.net.wire import LINGER_SECONDS, Wire
from popular.proc.child import Child
from popular.statefile.layout import STATES

if TYPE_CHECKING:
    from popular.net.proxyheader import ClientOrigin
    from popular.net.tls.stream import TlsStream


@dataclass(frozen=True, slots=True)
class Connection:
    """An accepted connection."""

    sock: socket.socket    # non-blocking, on the client's reserved descriptor
    peer: Endpoint         # the client
    local: Endpoint
    owner: str             # of the listener: the id of a vserv or server
    number: int            # of this child's connections, from 1
    is_greeted: bool = False
    is_admitted: bool = False           # limits for clients have been applied
    via: Endpoint | None = None         # the proxy that has connected for the client; None: the client has
    origin: "ClientOrigin | None" = None      # what that proxy has said before anything else


class Session:
    """The frame of one connection from its first octet to its last; as a context manager, it closes it at the end."""

    def __init__(self, connection: Connection, child: Child, log: Log, *, sid: str, idle: float, maxline: int) -> None:
        """Begin the session `sid`, with limits of `idle` seconds and `maxline` octets on the wire."""
        self.connection = connection
        self.child = child
        self.log = log
        self.peer = connection.peer
        self.client = str(self.peer)    # for log lines
        self.via = connection.via or connection.peer    # who has connected: a proxy, or the client
        self.origin = connection.origin      # what a proxy says of the client; None: there is none
        self.tls = self.origin.tls if self.origin else ""    # version of the client's TLS; empty: none
        self.wire = Wire(connection.sock, idle=idle, maxline=maxline, before_wait=child.slot.progress)
        self.started = time.monotonic()
        self.times: dict[str, float] = {}    # seconds spent in each state that was left
        self.is_talking = True               # we speak the protocol with the peer; False once the relay owns the stream
        self.is_secure = bool(self.tls)      # the client's password is under TLS, ours or that of a proxy
        self.stream: "TlsStream | None" = None    # that of TLS
        self.hides_input = False             # input of the peer may hold a password and is not logged
        self.apology = b""    # what the peer is told after an error of ours, where it does not speak POP3
        self._state = ""
        self._entered = self.started
        self._id = sid
        log.sid = sid
        child.slot.begin(self.peer, connection.owner, sid if sid != "-" else "")

    @property
    def id(self) -> str:
        """The session id; pserv sets it when it has read the preamble."""
        return self._id

    @id.setter
    def id(self, sid: str) -> None:
        self._id = sid
        self.log.sid = sid
        if sid != "-":
            self.child.slot.call_session(sid)

    def enter(self, state: str) -> None:
        """Enter another state, one of SessionState: note the time in the old one, show the new one."""
        now = time.monotonic()
        if self._state:
            self.times[self._state] = self.times.get(self._state, 0.0) + now - self._entered
        self._state = state
        self._entered = now
        self.child.slot.enter(STATES[state], self.wire.bytes_in, self.wire.bytes_out)
        self.child.title(f"{state} {self._id} {self.peer.host}")

    @property
    def is_local(self) -> bool:
        """Tell whether the peer is on this host, and so is the proxy that serves them, if there is one."""
        return all(host == self.connection.local.host or host == "::1" or host.startswith("127.")
                   for host in {self.peer.host, self.via.host})

    def call_client(self, client: Endpoint, origin: "ClientOrigin") -> None:
        """Go on with a client whom a proxy has named after the greeting; what it says counts from now on."""
        self.peer, self.client, self.origin = client, str(client), origin
        self.tls = origin.tls or self.tls
        self.is_secure = bool(self.tls)
        self.child.slot.call_client(client)

    @property
    def trace(self) -> Callable[[str], None] | None:
        """The function that logs each command, or None unless `debug` is on."""
        return self._note_command if self.log.debug_on else None

    def start_tls(self, tls: Tls) -> None:
        """Do the handshake as a server, within the limits of the wire; raises NoTls and Gone."""
        try:
            stream = tls.secure(self.wire)
        except Gone as why:
            self.is_talking = False    # an answer now would not be valid TLS
            if not isinstance(why, ProxyHeader):
                self.note_peer(TLS_FAILED, peer=str(self.peer), why=str(why))
            raise
        self.is_secure, self.stream = True, stream
        self.tls = self.tls or stream.version
        self.log.note(TLS_STARTED, peer=str(self.peer), version=stream.version, cipher=stream.cipher,
                      resumed=stream.is_resumed)

    def note_peer(self, message: Message, /, **fields: object) -> None:
        """Log an event that the peer can cause at will, unless there were too many of its kind already."""
        note_limited(self.log, self.peer.host, message, **fields)

    def totals(self) -> dict[str, object]:
        """Return the octets and seconds for a session's last log line."""
        self.enter("closing")
        return {
            "bytes_in": self.wire.bytes_in,
            "bytes_out": self.wire.bytes_out,
            "seconds": time.monotonic() - self.started,
            "times": dict(self.times),
        }

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> bool:
        """Close as `error` requires.  Errors of the peer end here; our own are passed on to the top of the child.

        After a NUL byte, close at once and without an answer (spec 1.5).  After an unexpected error, send the
        apology, if the peer can take it as an answer.
        """
        self.child.slot.end()
        try:
            if isinstance(error, NulByte):
                data = b"***" if self.hides_input else error.data
                self.note_peer(NULL_BYTE_IN_INPUT, ctx="client", len=error.length, data=data)
                self.wire.close()
            elif isinstance(error, ProxyHeader):
                self.note_peer(PROXY_HEADER, peer=str(self.peer), owner=self.connection.owner)
            elif error is not None and not isinstance(error, Gone) and self._may_answer():
                self._apologize()
        except Gone:
            pass    # the peer has gone
        finally:
            self.child.slot.progress(self.wire.bytes_in, self.wire.bytes_out)
            # Without an error, and not at a relay's end, the client has said QUIT.
            self.wire.linger_close(0.0 if error is None and self.is_talking else LINGER_SECONDS)
        if error is None or isinstance(error, Gone):
            self.log.sid = "-"
            return True
        return False    # the id stays in the log, for the line about the error

    def _apologize(self) -> None:
        """Tell the peer of an error of ours."""
        if self.apology:
            self.wire.send(self.apology)
        else:
            self.wire.reply(False, "internal error, please try again later", "SYS/TEMP")

    def _may_answer(self) -> bool:
        return self.is_talking and not self.wire.is_unfinished

    def _note_command(self, line: str) -> None:
        self.log.debug("command", line=line)


def note_limited(log: Log, host: str, message: Message, /, **fields: object) -> None:
    """Log an event that the peer at `host` can cause at will, unless there were too many of its kind already."""
    limit = log.limit
    counted = limit.count(message.number, host) if limit is not None else Counted(True)
    if counted.may_be_written:
        log.note(message, **fields)
    if limit is not None and counted.full:
        log.note(LINES_LEFT_OUT, line=message.name, peer=counted.full, seconds=limit.left)


def new_sid(prefix: str, pid: int, number: int, now: float | None = None) -> str:
    """Return the id of a child's session `number` (from 1) that starts at `now` (seconds since 1970; None: now).

    It is PREFIX-YYMMDDHHMMSS-PID in local time, followed by `.N` from a child's second session on (spec 5.1).
    """
    stamp = local_stamp(int(time.time() if now is None else now))
    return f"{prefix}-{stamp[2:8]}{stamp[9:]}-{pid}" + (f".{number}" if number > 1 else "")
