"""The way from the sessions' children to the PDM workers: a pair of connected sockets without a name.

All children have one end and all workers the other, so nobody else can ask.  A question is one packet, which whichever
worker is idle takes; until then it waits in the kernel, whose room for such packets is limited.  With it goes one end
of a new pair of sockets, for the answer.  A child whose time is up closes that pair, and the worker skips the question.
A worker that ends while it has a question closes its end, which the child notices at once.

`Channel` is made in the master.  `RemoteModule` runs in the process that asks, `Channel.take` in a worker.
"""

import os
import select
import socket
import struct
import time

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, NoConsent, Outcome, PdmModule, Request
from popular.pdm.asking.question import MAX_PACKET, QuestionKind, Question, unpack_answer

FIND_SECONDS = 10.0    # for a question without a login

AT_ONCE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)    # computed once: flags of the library are slow

_FD = struct.Struct("i")
_RIGHTS = socket.CMSG_LEN(_FD.size)    # without the padding of CMSG_SPACE, in which a second descriptor would fit


class Channel:
    """Both ends, of which each process closes the one that it does not need."""

    def __init__(self) -> None:
        """Make the sockets; raises OSError."""
        self._connect()

    def _connect(self) -> None:
        self.asks, self.works = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

    def renew(self) -> bool:
        """Make new sockets if the old ones were shut down, which any process that has an end can do.

        Returns whether they were.  Called in the master, for the processes that it forks from now on; raises OSError.
        """
        if not _is_shut_down(self.works):
            return False
        old = self.asks, self.works
        self._connect()
        for sock in old:
            sock.close()
        return True

    def become_asker(self) -> None:
        """Keep only the end for questions."""
        self.works.close()

    def become_worker(self) -> None:
        """Keep only the end for answers; once no process has the other, `take` raises EOFError."""
        self.asks.close()

    def ask(self, packet: bytes, deadline: float) -> bytes:
        """Send a question and return the answer; raises PdmError if there is none before `deadline`, and OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _FD.pack(theirs.fileno()))]
            while True:
                try:
                    # another process may have made the socket wait, as all have the same
                    self.asks.sendmsg([packet], rights, AT_ONCE)
                    break
                except BlockingIOError:    # as many questions wait as the kernel has room for
                    _await(self.asks, select.POLLOUT, deadline)
                except (BrokenPipeError, ConnectionResetError):
                    raise PdmError("there are no PDM workers any more") from None
            theirs.close()
            _await(ours, select.POLLIN, deadline)
            answer = ours.recv(MAX_PACKET)
        if not answer:
            raise PdmError("the PDM worker has died")
        return answer

    def tell(self, packet: bytes) -> bool:
        """Send what needs no answer, without waiting; return False if that is not possible now."""
        try:
            self.asks.send(packet, AT_ONCE)
        except OSError:    # no room, or no workers any more
            return False
        return True

    def take(self) -> tuple[bytes, socket.socket | None] | None:
        """Return a packet and the socket for its answer; None if another worker was quicker, or nobody waits for it.

        Without a socket, it needs no answer.  Raises EOFError if there is nobody left who could ask, and OSError.
        """
        try:
            packet, ancillary, _, _ = self.works.recvmsg(MAX_PACKET, _RIGHTS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        if not packet and _is_shut_down(self.works):    # and not an empty packet
            raise EOFError
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == _FD.size:
                return _with_socket(packet, *_FD.unpack(data))
        return None if ancillary else (packet, None)

    def is_waiting(self) -> bool:
        """Tell whether there is a question that no worker has taken yet."""
        poll = select.poll()
        poll.register(self.works, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close both ends; for tests, because a master keeps them to its end."""
        self.asks.close()
        self.works.close()


class RemoteModule:
    """Stands in the chain for a module that PDM workers ask."""

    def __init__(self, module: PdmModule, channel: Channel) -> None:
        """Ask `module` through `channel`; here the module itself is never opened."""
        self.API = module.API
        self.ident, self.name, self.namespaces = module.ident, module.name, module.namespaces
        self.digest, self.mechanisms, self.names_masters = module.digest, module.mechanisms, module.names_masters
        self._module = module
        self._channel = channel
        self.gives_tokens = module.gives_tokens
        self._checks = type(module).check is not PdmModule.check
        self._vouches = type(module).auth is not PdmModule.auth

    def open(self) -> None:
        """Do nothing: each worker opens the module."""

    def close(self) -> None:
        """Do nothing."""

    def describe(self) -> str:
        """Return the arguments, secrets masked."""
        return self._module.describe()

    def check(self, request: Request) -> Answer:
        """Have a worker answer in the first pass, if the module can have another answer than UNKNOWN; raises PdmError.
        """
        return UNKNOWN if not self._checks else self._ask(QuestionKind.CHECK, request)

    def auth(self, request: Request, found: Found) -> Answer:
        """Have a worker answer in the second pass, if the module can have another answer than UNKNOWN; raises PdmError.

        A wrong password is then known to be wrong even if all workers wait for a database by now.
        """
        return UNKNOWN if not self._vouches else self._ask(QuestionKind.AUTH, request, found)

    def find(self, user: str, namespace: str) -> Found | None:
        """Have a worker look up a user; the answer has no password.  Raises PdmError."""
        request = Request(user, b"", "", "pop3", namespace, time.monotonic() + FIND_SECONDS)
        answer = self._ask(QuestionKind.FIND, request)
        if answer.outcome is Outcome.FAILED:
            raise PdmError(answer.why)
        return answer.found

    def token(self, user: str, backend: str, deadline: float, refused: str) -> str:
        """Have a worker get an access token; raises NoConsent and PdmError."""
        request = Request(user, refused.encode("latin-1"), "", "pop3", "", deadline)
        answer = self._ask(QuestionKind.TOKEN, request, Found(backend))
        if answer.outcome is not Outcome.OK:
            raise NoConsent(answer.why) if answer.outcome is Outcome.DENIED else PdmError(answer.why)
        return answer.proof.decode("latin-1")

    def _ask(self, kind: QuestionKind, request: Request, identity: Found | None = None) -> Answer:
        question = Question(kind, self.ident, self.digest, request, identity).packed()
        if len(question) > MAX_PACKET:
            raise PdmError(f"the question has more than {MAX_PACKET} octets")
        return unpack_answer(self._channel.ask(question, request.deadline))


def _with_socket(packet: bytes, fd: int) -> tuple[bytes, socket.socket] | None:
    try:
        # without types, the library would ask the system for them
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)
    except OSError:    # no socket: from a hostile child
        os.close(fd)
        return None
    if _is_shut_down(sock):
        sock.close()
        return None
    return packet, sock


def _is_shut_down(sock: socket.socket) -> bool:
    """Tell whether nothing can come from the other end any more."""
    poll = select.poll()
    poll.register(sock, select.POLLRDHUP)
    return bool(poll.poll(0))


def _await(sock: socket.socket, event: int, deadline: float) -> None:
    """Wait until `sock` is ready; raises PdmError at `deadline`."""
    poll = select.poll()
    poll.register(sock, event)
    left = deadline - time.monotonic()
    if not poll.poll(None if left == float("inf") else max(0.0, left) * 1000):
        raise PdmError("no PDM worker has answered in time")
