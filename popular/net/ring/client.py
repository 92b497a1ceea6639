"""The client's side of a connection to ringd: gets sockets for ports, and gives them back.

Used by starters, and by masters when a listener is added at run time; packet.py describes the
protocol.  The references to all ports belong to the connection, so it must stay open for as long as
the ports are held, and no child may keep it.  Raises StartError; waits at most two seconds.
"""

import select
import socket
import struct
import time

from popular.addresses import Endpoint
from popular.errors import StartError, UsageError
from popular.net.listen import bound_endpoint, prepare_tcp
from popular.net.ring.packet import MAX_NUMBER, MAX_RING_ANSWER, RingAnswer, RingRequest, Verb, canonical, decode_answer

_PATIENCE = 2.0    # seconds for an answer of ringd, which is always quick; a master is blocked so long
_MAX_LATE = 100    # late answers that are skipped at once

_FD = struct.Struct("@i")
_NO_SIGNAL = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT


class RingClient:
    """One connection to a ringd."""

    def __init__(self, path: str, sock: socket.socket, patience: float = _PATIENCE) -> None:
        """Go on with a connection to the ringd at `path`, which may have been made by another program."""
        self.path = path
        self._sock = sock
        self._sock.setblocking(False)
        self._patience = patience
        self._goodbye: RingAnswer | None = None    # ringd refused us; every further request gets the same answer
        # Not from 0: answers to the program that made the connection may still be under way.
        self._number = time.monotonic_ns() % MAX_NUMBER

    @classmethod
    def connect(cls, path: str, patience: float = _PATIENCE) -> "RingClient":
        """Connect to the socket file `path`; raises StartError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # The kernel's own time limit: connect(2) to a full queue can be neither polled nor tried without waiting.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", max(1, int(patience)), 0))
            sock.connect(path)
        except OSError as why:
            sock.close()
            raise StartError(f"cannot reach ringd at {path}: {why.strerror or why}") from why
        return cls(path, sock, patience)

    def fileno(self) -> int:
        """Return the descriptor of the connection; it is readable when ringd has ended."""
        return self._sock.fileno()

    def acquire(self, endpoint: Endpoint, backlog: int) -> socket.socket:
        """Return a socket that listens on a numeric `endpoint`; others may accept from it too.

        Close it, without shutdown, and then `release` it.  Raises StartError.
        """
        where = f"cannot listen on {endpoint} by ringd at {self.path}"
        try:
            wanted = canonical(endpoint)
            answer, fd = self._ask(Verb.BIND, wanted)
        except (OSError, UsageError) as why:
            self._give_up(endpoint)
            raise StartError(f"{where}: {_reason(why)}") from why
        if answer.refusal is not None:
            _close(fd)
            raise StartError(f"{where}: {answer.refusal}")
        if fd is None:
            raise StartError(f"{where}: the socket was lost on its way; are there descriptors left?")
        return self._checked(socket.socket(fileno=fd), wanted, backlog, where)

    def release(self, endpoint: Endpoint) -> None:
        """Tell ringd that a socket is closed; raises nothing, because ringd may be gone."""
        try:
            _, fd = self._ask(Verb.RELEASE, canonical(endpoint))
            _close(fd)
        except (OSError, UsageError):
            pass

    def is_gone(self) -> bool:
        """Tell whether ringd has ended the connection; late answers are discarded."""
        try:
            for _ in range(_MAX_LATE):
                packet, fd = self._receive()
                _close(fd)
                if not packet:
                    return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """End the connection, which gives back all ports that have not been handed over to another process."""
        self._sock.close()

    def _give_up(self, endpoint: Endpoint) -> None:
        """Release what may still come: otherwise a late answer to `bind` would keep its reference for ever."""
        try:
            self._send(Verb.RELEASE, canonical(endpoint))    # the next request skips both answers
        except (OSError, UsageError):
            pass

    def _send(self, verb: Verb, endpoint: Endpoint) -> int:
        """Send a request; returns its number."""
        self._number = self._number % MAX_NUMBER + 1
        self._sock.send(RingRequest(verb, self._number, endpoint).encode(), _NO_SIGNAL)
        return self._number

    def _ask(self, verb: Verb, endpoint: Endpoint) -> tuple[RingAnswer, int | None]:
        """Send a request and return its answer; raises OSError, UsageError."""
        if self._goodbye is not None:
            return self._goodbye, None
        try:
            answer, fd = self._exchange(verb, endpoint)
        except ConnectionError:
            last_word = self._last_word()
            if last_word is None:
                raise
            answer, fd = last_word, None
        if answer.number == 0:
            self._goodbye = answer
        return answer, fd

    def _last_word(self) -> RingAnswer | None:
        """Return what ringd said before it ended the connection, perhaps before we said anything."""
        try:
            packet, fd = self._receive()
            _close(fd)
            answer = decode_answer(packet)
        except (OSError, UsageError):
            return None
        return answer if answer.number == 0 else None

    def _exchange(self, verb: Verb, endpoint: Endpoint) -> tuple[RingAnswer, int | None]:
        """Send a request and wait for its answer, skipping late ones."""
        deadline = time.monotonic() + self._patience
        number = self._send(verb, endpoint)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            packet, fd = self._receive()
            if not packet:
                raise ConnectionResetError(0, "it closed the connection")
            try:
                answer = decode_answer(packet)
            except UsageError:
                _close(fd)
                raise
            if answer.number in (number, 0):    # 0: ringd refused the connection
                return answer, fd
            _close(fd)
        raise TimeoutError(0, f"no answer in {self._patience:g} s")

    def _receive(self) -> tuple[bytes, int | None]:
        """Return a packet and the descriptor that came with it; raises OSError, BlockingIOError among them."""
        # Not socket.recv_fds, which forgets its flags.
        packet, extras, _, _ = self._sock.recvmsg(MAX_RING_ANSWER + 1, socket.CMSG_LEN(_FD.size),
                                                  socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in extras:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _FD.size:
                return packet, int(_FD.unpack(data)[0])
        return packet, None

    def _checked(self, sock: socket.socket, wanted: Endpoint, backlog: int, where: str) -> socket.socket:
        """Return `sock` if it is what was requested; otherwise close it and raise StartError."""
        try:
            found = bound_endpoint(sock)
            if sock.type != socket.SOCK_STREAM or _bare(found) != _bare(wanted):
                raise StartError(f"{where}: got a socket of {found}")
            sock.setblocking(False)
            prepare_tcp(sock, backlog)    # an older ringd may have set fewer options
        except (OSError, StartError) as why:
            sock.close()
            self.release(wanted)
            raise why if isinstance(why, StartError) else StartError(f"{where}: {why.strerror}") from why
        return sock


def _bare(endpoint: Endpoint) -> tuple[str, int]:
    """Return host and port without the zone, which the kernel may spell differently."""
    return endpoint.host.partition("%")[0], endpoint.port


def _reason(why: OSError | UsageError) -> str:
    return why.strerror or str(why) if isinstance(why, OSError) else str(why)


def _close(fd: int | None) -> None:
    """Close the descriptor that came with an unwanted packet."""
    if fd is not None:
        socket.close(fd)
