"""The server of MAILCHECK: what a child of pcheckd does from its start to its end.

Several children share one socket; the kernel gives each datagram to one of them, and wakes one
of them (EPOLLEXCLUSIVE).  The answers come from a function that the program passes in.  Nothing
that arrives ends the loop: network errors concern earlier datagrams.  Raises OSError only if a
socket or the poll set cannot be set up.
"""

import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from popular.mailcheck import packet
from popular.mailcheck.port import AnsweringPort
from popular.net.listen import SocketAddress

MAX_BURST = 64    # datagrams answered before the child checks whether it should leave

_Answerer = Callable[[bytes], bytes | None]    # request to answer; None: no answer; raises nothing
Trace = Callable[[str, SocketAddress, bytes], None]    # "received" or "sent", the peer, the octets


class Worker(Protocol):
    """What the loop sees of its process (proc.child.Child)."""

    @property
    def retiring(self) -> bool:
        """Tell whether it is time to leave."""
        ...

    @property
    def wake_fds(self) -> Sequence[int]:
        """Descriptors that become readable when `retiring` may have changed."""
        ...

    def title(self, text: str) -> None:
        """Show `text` in the list of processes."""
        ...


class Bound(Protocol):
    """What the loop sees of a listener (daemon.spec.Listener)."""

    @property
    def sock(self) -> socket.socket:
        """The bound UDP socket, non-blocking."""
        ...


class DatagramJob:
    """Answers every datagram on every listener until the child is to leave."""

    def __init__(self, answer: _Answerer, trace: Trace | None = None) -> None:
        """Take the function that gives the answers; `trace` is called with every packet."""
        self._answer = answer
        self._trace = trace

    def run(self, child: Worker, listeners: Sequence[Bound]) -> int:
        """Serve; return the exit code of the child, which is 0.

        A child that is to leave checks the sockets once more: the kernel may have woken only this
        child for a datagram that is already waiting.
        """
        child.title("answering")
        ports = {listener.sock.fileno(): AnsweringPort(listener.sock) for listener in listeners}
        with select.epoll() as waiter:
            for descriptor in ports:
                waiter.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            for descriptor in child.wake_fds:
                waiter.register(descriptor, select.EPOLLIN)
            is_last = child.retiring
            while True:
                ready = [descriptor for descriptor, _ in waiter.poll(0 if is_last else None)]
                for descriptor in ready:
                    if descriptor in ports:
                        self.serve_burst(ports[descriptor])
                if is_last:
                    return 0
                is_last = any(descriptor not in ports for descriptor in ready) and child.retiring    # asks the system

    def serve_burst(self, port: AnsweringPort) -> None:
        """Answer what has arrived, `MAX_BURST` datagrams at most."""
        for _ in range(MAX_BURST):
            try:
                request = port.receive(packet.MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:    # an ICMP error for an earlier answer
                continue
            if self._trace:
                self._trace("received", request.peer, request.data)
            answer = self._answer(request.data)
            if answer is None:
                continue
            try:
                port.answer(request, answer)
            except OSError:    # no route, a full buffer, source port 0: the client asks again
                continue
            if self._trace:
                self._trace("sent", request.peer, answer)
