"""The load generator over TLS: what it has more than the one in clear.

Each session has one TLS object of its own and the two buffers in memory that it works on, for a socket of Python's
would wait in places where the others must go on.  Every session must be under the one version and cipher
(`tls`), with the one certificate; where tickets are given, each slot begins with one, goes on with what it is given,
and a session that was not resumed is a failed one.
"""

import select
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.bench.load import BUFFER, Generator, Plan, Slot
from tests.bench.tls import CIPHER, NAME, VERSION

_RECORD = 1 << 14           # octets of text in a record, at most


@dataclass(frozen=True, slots=True)
class OverTls:
    """How sessions are put under TLS."""

    context: ssl.SSLContext
    tickets: Sequence[ssl.SSLSession] = ()      # one for each slot, or none: nobody resumes

    @property
    def make(self) -> Callable[[Plan, int, int], Generator]:
        """Return what makes the generator of one process."""
        return lambda plan, number, start: TlsGenerator(self, plan, number, start)


class TlsEnd:
    """TLS of one session."""

    __slots__ = ("incoming", "outgoing", "tls", "unsent", "is_up")

    def __init__(self, context: ssl.SSLContext, ticket: ssl.SSLSession | None) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, False, NAME, ticket)
        self.unsent = b""       # the first flight, while there is no connection
        self.is_up = False      # the handshake is done


class TlsGenerator(Generator):
    """One process of the load."""

    def __init__(self, over: OverTls, plan: Plan, number: int, start: int) -> None:
        """Prepare process `number`, to begin at the monotonic nanosecond `start`."""
        super().__init__(plan, number, start)
        self._context = over.context
        self._resumes = bool(over.tickets)
        self._ends: dict[Slot, TlsEnd] = {}
        self._tickets = dict(zip(self._slots, over.tickets[number::plan.processes], strict=False))
        self._cipher_text = bytearray(BUFFER)
        self._cipher_view = memoryview(self._cipher_text)
        self._view = memoryview(self._buffer)

    def _connected(self, slot: Slot) -> None:
        """Send the first flight, now or when there is a connection."""
        end = self._ends[slot] = TlsEnd(self._context, self._tickets.get(slot))
        self._shake(slot, end)

    def _receive(self, slot: Slot) -> None:
        sock, end = slot.sock, self._ends[slot]
        assert sock is not None
        try:
            if end.unsent:
                self._flush(slot, end)
                return
            count = sock.recv_into(self._cipher_text)
        except BlockingIOError:
            return
        except OSError as why:
            return self._fail(slot, why.strerror or "error")
        if count == 0:
            return self._fail(slot, "closed by the server")
        end.incoming.write(self._cipher_view[:count])
        if end.is_up or self._shake(slot, end):
            self._read(slot, end)

    def _shake(self, slot: Slot, end: TlsEnd) -> bool:
        """Do the next steps of the handshake; tells whether it is done and as it should be."""
        try:
            end.tls.do_handshake()
            end.is_up = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as why:
            self._fail(slot, f"TLS: {why.reason}")
            return False
        try:
            end.unsent = end.outgoing.read()
            self._flush(slot, end)
        except BlockingIOError:
            self._poll.modify(slot.fd, select.EPOLLOUT)
        except OSError as why:
            self._fail(slot, why.strerror or "error")
            return False
        return end.is_up and self._is_as_agreed(slot, end.tls)

    def _flush(self, slot: Slot, end: TlsEnd) -> None:
        """Send the flight that is there; raises BlockingIOError while there is no connection."""
        assert slot.sock is not None
        if end.unsent:
            slot.sock.send(end.unsent)
            end.unsent = b""
            self._poll.modify(slot.fd, select.EPOLLIN)

    def _is_as_agreed(self, slot: Slot, tls: ssl.SSLObject) -> bool:
        cipher = tls.cipher()
        if cipher is None or cipher[0] != CIPHER or tls.version() != VERSION:
            self._fail(slot, f"under {tls.version()} with {cipher and cipher[0]}")
        elif self._resumes and not tls.session_reused:
            self._fail(slot, "not resumed")
        else:
            return True
        return False

    def _read(self, slot: Slot, end: TlsEnd) -> None:
        """Decipher all that came, as much as there is room for at a time."""
        tls, incoming, view = end.tls, end.incoming, self._view
        while incoming.pending and self._ends.get(slot) is end:
            got = 0
            try:
                while incoming.pending and got <= BUFFER - _RECORD:
                    count = tls.read(BUFFER - got, view[got:])
                    if not count:
                        break
                    got += count                # type: ignore[operator]
            except ssl.SSLWantReadError:        # a part of a record
                if not got:
                    return
            except ssl.SSLZeroReturnError:
                if not got:
                    return self._fail(slot, "closed by the server")
            except ssl.SSLError as why:
                return self._fail(slot, f"TLS: {why.reason}")
            self._got(slot, got)
        return None

    def _send(self, slot: Slot, octets: bytes) -> None:
        assert slot.sock is not None
        end = self._ends[slot]
        end.tls.write(octets)
        slot.sock.send(end.outgoing.read())

    def _close(self, slot: Slot) -> None:
        """Say TLS's own end, as clients do; OpenSSL resumes no session without it."""
        end = self._ends.pop(slot)
        if end.is_up:
            if self._resumes and (ticket := end.tls.session) is not None:
                self._tickets[slot] = ticket
            try:
                end.tls.unwrap()
            except ssl.SSLError:
                pass
            try:
                assert slot.sock is not None
                slot.sock.send(end.outgoing.read())
            except OSError:
                pass
        super()._close(slot)
