"""The answering side of MAILCHECK: what a child of pcheckd does from its start to its end.

Several children share one socket; the kernel gives each datagram to one of them, and wakes one
of them (EPOLLEXCLUSIVE).  The answers come from a function that the program passes in.  Nothing
that arrives ends the loop: errors of the network belong to datagrams that are gone already.
Raises OSError only when a socket or the poll set cannot be set up.
"""

import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from popular.mailcheck import packet
from popular.mailcheck.port import AnsweringPort
from popular.net.listen import SocketAddress

MAX_BURST = 64    # datagrams answered before the child looks whether it should leave

_Answerer = Callable[[bytes], bytes | None]            # request to answer, None for silence; raises nothing
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
    """Answer every datagram on every listener until the child is to leave."""

    def __init__(self, answer: _Answerer, trace: Trace | None = None) -> None:
        """Take the function that knows the answers, and one that is told of every packet."""
        self._answer = answer
        self._trace = trace

    def run(self, child: Worker, listeners: Sequence[Bound]) -> int:
        """Serve; returns the exit code of the child, which is 0.

        A child that is told to leave looks once more: the kernel may have woken it, and nobody
        else, for a datagram that is waiting already.
        """
        child.title("answering")
        ports = {listener.sock.fileno(): AnsweringPort(listener.sock) for listener in listeners}
        with select.epoll() as waiter:
            for descriptor in ports:
                waiter.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            for descriptor in child.wake_fds:
                waiter.register(descriptor, select.EPOLLIN)
            is_last = False
            while not is_last:
                is_last = child.retiring
                for descriptor, _ in waiter.poll(0 if is_last else None):
                    if descriptor in ports:
                        self.serve_burst(ports[descriptor])
        return 0

    def serve_burst(self, port: AnsweringPort) -> None:
        """Answer what has arrived, `MAX_BURST` datagrams at most."""
        for _ in range(MAX_BURST):
            try:
                request = port.receive(packet.MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:    # an ICMP error that an earlier answer brought back
                continue
            if self._trace:
                self._trace("received", request.peer, request.data)
            answer = self._answer(request.data)
            if answer is None:
                continue
            try:
                port.answer(request, answer)
            except OSError:    # no way back, a full buffer, a source port of 0: the asker asks again
                continue
            if self._trace:
                self._trace("sent", request.peer, answer)
