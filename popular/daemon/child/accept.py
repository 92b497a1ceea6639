"""The work of a child that accepts connections: wait, accept, serve, and leave or wait again.

Runs in children of pproxy, pserv and plmtpd.  Each child has an epoll set with EPOLLEXCLUSIVE on the listeners,
so that one connection wakes one child.  Raises what `serve` raises; an error of accept(2) that concerns
one connection, or a temporary shortage, never ends a child.
"""

import errno
import gc
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from popular.addresses import Endpoint
from popular.daemon.child.door import Door
from popular.daemon.child.session import Connection
from popular.daemon.spec import Job, Listener
from popular.daemon.tls import IMPLICIT, Tls
from popular.errors import Gone
from popular.net.listen import accept_bare, bound_endpoint
from popular.net.wire import LINGER_SECONDS, Wire
from popular.proc.child import PAUSE, SHORTAGES, Child, ChildState
from popular.unix.signals import IGNORED, set_handler

_ANY_HOST = frozenset(("0.0.0.0", "::"))
_CLOSED = frozenset((errno.EINVAL, errno.EBADF, errno.ENOTSOCK))    # shut down by the master, or closed here
# What accept(2) reports for a connection that failed before it was accepted.
_PASSING = frozenset((
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.EHOSTUNREACH, errno.ENONET, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ETIMEDOUT, errno.ECONNRESET))

_LOOK_AGAIN = 0.5    # seconds between looks whether clients are still screened
_EVENTS = 8    # handled at once; the default buffer, for 1,023 events, takes three pages of memory

_OVERLOADED = b"-ERR [SYS/TEMP] system load too high, please try again later\r\n"

Serve = Callable[[Connection, Child], None]
Admit = Callable[[str, Endpoint, Child], bool]    # gets the listener's owner and the client


@dataclass(frozen=True, slots=True)
class Admission:
    """Who is served."""

    admit: Admit     # tells whether a client is; counts and logs those that are not
    count: Admit     # counts a client that was admitted elsewhere; tells whether the owner of the listener exists here
    door: Door


class AcceptJob:
    """Serve `maxuse` connections, one after the other."""

    def __init__(self, maxuse: int, serve: Serve, tls: Mapping[str, Tls] = MappingProxyType({}),
                 admission: Admission | None = None, overloaded: bytes = _OVERLOADED) -> None:
        """Take the function that serves one connection, the TLS of the listeners' owners, and who is admitted.

        Without an `admission` all clients are.  `overloaded` is what a client is told at load state MAX.
        """
        self.tls = tls
        # The owners of listeners on which nothing can be sent in clear text.
        self.mute = frozenset(owner for owner, of_owner in tls.items() if of_owner.mode == IMPLICIT)
        self._overloaded = overloaded
        self.admission = admission
        self._maxuse = maxuse
        self._serve = serve

    @property
    def reads_files(self) -> bool:
        """Tell whether the job was made from files that may have changed since, besides the INI file."""
        return bool(self.tls)

    def forget_answers(self) -> None:
        """Forget the answers of database modules that are kept, if any are (master only)."""

    def module_troubles(self, ident: str) -> list[str]:
        """Return which database modules, or whether one, cannot be asked now, and why; it may take long."""
        return []

    def run(self, child: Child, listeners: Sequence[Listener]) -> int:
        """Work until the child has served `maxuse` connections or is to leave; returns 0."""
        if self._maxuse == 1:
            gc.disable()    # the process ends before a collection would be worth its cost
        else:
            child.retire_with_master()
            set_handler(signal.SIGXCPU, IGNORED)    # its processor time is that of many sessions
        gate = Gate(listeners, child, self.mute, self.admission, self._overloaded)
        child.when_retired = gate.close
        for number in range(1, self._maxuse + 1):
            connection = gate.next(number)
            if connection is None:
                break
            child.report(ChildState.BUSY)
            if number == self._maxuse or child.retiring:    # accepts no more, so it must not hold the port
                gate.close()
            try:
                self._serve(connection, child)
            finally:
                connection.sock.close()
            if number == self._maxuse or child.retiring:
                break
            child.title("idle")
            child.slot.idle()
            child.report(ChildState.IDLE)
        gate.close()
        return 0


def refuse(sock: socket.socket, answer: bytes = _OVERLOADED) -> None:
    """Tell a new client to try again later, and close the connection; the client may have sent data already."""
    wire = Wire(sock, idle=LINGER_SECONDS)
    try:
        wire.send(answer)
    except Gone:
        pass
    finally:
        wire.linger_close()


def turn_away(sock: socket.socket) -> None:
    """Tell a client that is not admitted so, and close the connection at once: many such clients must not cost time.

    If the client has sent data already, its system may drop the answer.
    """
    try:
        sock.send(b"-ERR [SYS/TEMP] connection refused, please try again later\r\n")
    except OSError:
        pass    # the client has gone
    finally:
        sock.close()


def tls_of(job: Job | None) -> Mapping[str, Tls]:
    """Return the TLS of a job, for its successor."""
    return job.tls if isinstance(job, AcceptJob) else MappingProxyType({})


def own_sockets(job: Job) -> tuple[socket.socket, ...]:
    """Return the sockets of a job that only processes which do it need."""
    return (job.admission.door.inner,) if isinstance(job, AcceptJob) and job.admission is not None else ()


def reads_files(job: Job) -> bool:
    """Tell whether a job must be made anew to see changes of files other than the INI file."""
    return isinstance(job, AcceptJob) and job.reads_files


class Gate:
    """The listeners of one child, on which it waits for connections."""

    def __init__(self, listeners: Sequence[Listener], child: Child, mute: frozenset[str] = frozenset(),
                 admission: Admission | None = None, overloaded: bytes = _OVERLOADED) -> None:
        """Watch `listeners`, and the descriptors that tell `child` to leave; raises OSError.

        On listeners of the owners in `mute`, nothing can be sent in clear text.
        """
        self._child = child
        self._overloaded = overloaded
        self._mute = mute
        self._admission = admission
        self._door = -1 if admission is None else admission.door.inner.fileno()
        self._listeners = {listener.sock.fileno(): listener for listener in listeners}
        self._waits_for_none = not listeners    # waits only for the end, as nothing is configured yet
        self._epoll = select.epoll()
        for fd in child.wake_fds:
            self._epoll.register(fd, select.EPOLLIN)
        if self._door >= 0:
            self._epoll.register(self._door, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._is_watching = False    # the listeners

    def next(self, number: int = 1) -> Connection | None:
        """Wait for a connection that may be served, the child's `number`, and accept it; None when it is time to leave.

        While clients are screened, connections come only by the door.

        At load state MAX each connection is refused (spec 5.3).  A child that is told to leave checks once
        more, because the kernel may have woken only this child for a connection that is already waiting.
        """
        is_last = False
        while self._listeners or self._waits_for_none:
            patience = self._watch()
            for fd, _ in self._epoll.poll(0 if is_last else patience, _EVENTS):    # one told to leave does not wait
                if fd == self._door and self._admission is not None:
                    accepted = self._take(self._admission, number)
                    if accepted is not None:
                        return accepted
                listener = self._listeners.get(fd)
                accepted = None if listener is None else self._accept(listener, number)
                if accepted is None:
                    continue
                if self._child.slot.must_refuse:
                    self._child.slot.count("load_refused")
                    self._end(accepted, partial(refuse, answer=self._overloaded))
                elif self._admission is None or self._admission.admit(accepted.owner, accepted.peer, self._child):
                    return accepted
                else:
                    self._end(accepted, turn_away)
            if is_last:
                return None
            self._child.forget_alarms()         # in this order: a later signal wakes the next wait
            is_last = self._child.retiring
        return None

    def close(self) -> None:
        """Close the listeners; may be called twice.  The signal handler also calls it during a session."""
        listeners, self._listeners = self._listeners, {}
        self._waits_for_none = False
        for listener in listeners.values():
            listener.sock.close()
        self._epoll.close()

    def _watch(self) -> float | None:
        """Watch the listeners unless clients are screened; return the seconds after which to call this again."""
        is_screened = self._door >= 0 and self._child.slot.is_screened
        if is_screened is self._is_watching:    # then this has to change
            for fd in _turned(list(self._listeners)):
                if is_screened:
                    self._epoll.unregister(fd)
                else:
                    self._epoll.register(fd, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            self._is_watching = not is_screened
        return _LOOK_AGAIN if is_screened else None

    def _take(self, admission: Admission, number: int) -> Connection | None:
        try:
            passed = admission.door.take()
            if passed is None:
                return None
            family = socket.AF_INET6 if passed.peer.is_ipv6 else socket.AF_INET
            sock = self._child.reserved.place_client(passed.fd, family)
        except BlockingIOError:    # another child was quicker
            return None
        if not admission.count(passed.owner, passed.peer, self._child):
            sock.close()
            return None
        return Connection(sock, passed.peer, bound_endpoint(sock), passed.owner, number,
                          is_greeted=passed.owner not in self._mute, is_admitted=True)

    def _end(self, accepted: Connection, end: Callable[[socket.socket], None]) -> None:
        if accepted.owner in self._mute:
            accepted.sock.close()
        else:
            end(accepted.sock)

    def _accept(self, listener: Listener, number: int) -> Connection | None:
        try:
            fd, family, peer = accept_bare(listener.sock)
            sock = self._child.reserved.place_client(fd, family)
        except BlockingIOError:    # another child was quicker
            return None
        except OSError as error:
            self._accept_failed(listener, error)
            return None
        local = bound_endpoint(sock) if listener.endpoint.host in _ANY_HOST else listener.endpoint
        return Connection(sock, peer, local, listener.owner, number)

    def _accept_failed(self, listener: Listener, error: OSError) -> None:
        if error.errno in _CLOSED:
            self._drop(listener)
        elif error.errno in SHORTAGES:
            self._child.note_shortage(error)
            self._rest()
        elif error.errno not in _PASSING:
            raise error

    def _drop(self, listener: Listener) -> None:
        """Stop watching a listener that will get no more connections."""
        for fd, known in list(self._listeners.items()):
            if known is listener:
                del self._listeners[fd]
                if self._is_watching:
                    self._epoll.unregister(fd)

    def _rest(self) -> None:
        """Wait before the next try, to avoid a busy loop in a shortage; return at once if told to leave."""
        poll = select.poll()
        for fd in self._child.wake_fds:
            poll.register(fd, select.POLLIN)
        poll.poll(PAUSE * 1000)


def _turned(fds: list[int]) -> list[int]:
    """Return descriptors from any one on: those that are ready at once are told in the order of their registration.

    Otherwise, with more clients than children can be forked for, those of the first listener would always come first.
    """
    first = time.monotonic_ns() % max(1, len(fds))
    return fds[first:] + fds[:first]
