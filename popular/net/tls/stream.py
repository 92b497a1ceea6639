"""TLS between a non-blocking socket and its user: a wire or a relay.

Used in the children of pproxy and pserv where a listener, or a backend, has TLS; imported only there,
because `ssl` makes every fork more expensive.  OpenSSL never touches the socket: octets go through two
buffers in memory, so a block from the network is deciphered with few calls, and the socket stays on its
reserved descriptor.

A stream looks like the part of a socket that wires and relays use, and raises as one: BlockingIOError
when `wants` must come first, other OSErrors when the connection is lost or the peer's TLS is broken.  A handshake
raises ProxyHeader, too.
"""

import errno
import re
import select
import socket
import ssl
from typing import Any

from popular.errors import Gone, NoTls, ProxyHeader
from popular.net.transport import PROXY_V1, PROXY_V2, Octets, Stream, is_proxy_header
from popular.net.wire import Wire

TLS_BLOCK = 64 * 1024    # octets taken from the network, or enciphered, at a time
RECORD = 16 * 1024       # octets of text in one TLS record, at most

_AROUND = re.compile(r"\[.*?\] | \(_ssl\.c.*")    # what Python adds to OpenSSL's words


class TlsFailed(OSError):
    """The peer's TLS is broken, or not what was agreed; the text names OpenSSL's reason."""

    def __init__(self, why: ssl.SSLError) -> None:
        super().__init__(errno.EPROTO, reason_of(why))


class TlsStream:
    """One connection under TLS."""

    __slots__ = ("sock", "wants", "_held", "_incoming", "_outgoing", "_tls", "_unsent", "_owed", "_is_over",
                 "_is_server", "_has_turn")

    def __init__(self, sock: Stream, context: ssl.SSLContext, *, server_side: bool,
                 server_hostname: str | None = None) -> None:
        """Put TLS over `sock`, which does not block."""
        self.sock = sock
        self.wants = select.POLLIN              # the event to wait for after a BlockingIOError
        self._held = b""                        # the first octets, while they may be a PROXY protocol header
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._unsent: bytes | memoryview = b""  # enciphered, but not yet taken by the kernel
        self._owed = 0                          # octets of text in `_unsent` that have not been reported to the caller
        self._is_over = False                   # the peer's end was seen
        self._is_server = server_side
        self._has_turn = not server_side        # in the handshake: we must act before the peer does

    def fileno(self) -> int:
        """Return the socket's descriptor, -1 once it is closed."""
        return self.sock.fileno()

    @property
    def pending(self) -> bool:
        """Tell whether `recv` may have something though the socket is not readable."""
        return self._tls.pending() > 0 or self._incoming.pending > 0

    @property
    def version(self) -> str:
        """The version agreed on, such as TLSv1.3; empty before."""
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        """The name of the cipher agreed on; empty before."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else ""

    @property
    def has_certificate(self) -> bool:
        """Tell whether the peer has shown a certificate, which was verified."""
        return bool(self._tls.getpeercert())

    def certified(self, kind: str) -> str:
        """Return the name that the peer's certificate has, which was verified: its only one of this kind, or nothing.

        `kind` is `email` (of subjectAltName) or `cn`, the common name of the subject.
        """
        found: Any = self._tls.getpeercert() or {}
        if kind == "cn":
            names = [value for part in found.get("subject", ()) for name, value in part if name == "commonName"]
        else:
            names = [value for name, value in found.get("subjectAltName", ()) if name == kind]
        return str(names[0]) if len(names) == 1 else ""

    @property
    def is_resumed(self) -> bool:
        """Tell whether the peer presented a ticket of an earlier session."""
        return bool(self._tls.session_reused)

    def handshake(self) -> None:
        """Do the next steps of the handshake; raises BlockingIOError until it is done.

        With TLS 1.3 a server's tickets are sent with the next data: the handshake does not need them.
        """
        while True:
            if not self._has_turn:
                self._flush()
                self._fill(is_shaking_hands=True)
                self._has_turn = True
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._has_turn = False
                if self._outgoing.pending:
                    self._flush()
                    self.wants = select.POLLIN
                    raise BlockingIOError(errno.EAGAIN, "no answer yet") from None    # to what was just sent
            except ssl.SSLError as why:
                self._flush_alert()
                raise TlsFailed(why) from None
            else:
                if not (self._is_server and self.version == "TLSv1.3"):
                    self._flush()
                return

    def recv(self, size: int, /) -> bytes:
        """Return up to `size` octets of text, none at the peer's end."""
        while not self._is_over:
            if not (self._incoming.pending or self._incoming.eof or self._tls.pending()):    # or it costs an exception
                if self._unsent or self._outgoing.pending:    # the tickets, when the client spoke first
                    self._flush_alert()
                self._fill()
            try:
                text = self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush_alert()    # an answer to a change of keys; if it cannot be sent now, the next send takes it
                self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self._is_over = True
            except ssl.SSLError as why:
                self._flush_alert()
                raise TlsFailed(why) from None
            else:
                if text:
                    return text
                self._is_over = True
        return b""

    def send(self, data: Octets, flags: int = 0, /) -> int:
        """Send some of `data`; return the count.

        After BlockingIOError call it again with the same octets, which may be enciphered already.
        """
        if not self._owed:
            self._owed = self._encipher(data)
        self._flush(flags)
        sent, self._owed = self._owed, 0
        return sent

    def shutdown(self, how: int, /) -> None:
        """Send TLS's closing alert, as far as the kernel takes it now, then end the writing half of the socket."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):    # the peer has not ended yet, which is fine; or there was no handshake
            pass
        self._flush_alert(socket.MSG_MORE)
        self.sock.shutdown(how)

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.sock.close()

    def _encipher(self, data: Octets) -> int:
        """Encipher up to TLS_BLOCK octets of text; return their count."""
        try:
            if len(data) <= RECORD:
                return self._tls.write(data) if data else 0
            view = memoryview(data)[:TLS_BLOCK]
            for start in range(0, len(view), RECORD):
                self._tls.write(view[start:start + RECORD])
        except ssl.SSLError as why:
            raise TlsFailed(why) from None
        return len(view)

    def _fill(self, is_shaking_hands: bool = False) -> None:
        """Take a block from the network; at its end, note it for the next read."""
        self.wants = select.POLLIN
        block = self.sock.recv(TLS_BLOCK)
        if is_shaking_hands and block:
            block = self._held + block
            if is_proxy_header(block):
                raise ProxyHeader
            self._held = block if any(header.startswith(block) for header in (PROXY_V1, PROXY_V2)) else b""
            if self._held:
                raise BlockingIOError(errno.EAGAIN, "not all of a header yet")
        if block:
            self._incoming.write(block)
        elif is_shaking_hands:
            raise ConnectionResetError(errno.ECONNRESET, "closed during the handshake")
        else:
            self._incoming.write_eof()

    def _flush(self, flags: int = 0) -> None:
        """Send what is enciphered; raises BlockingIOError when the kernel does not take all."""
        self.wants = select.POLLOUT
        while self._unsent or self._outgoing.pending:
            if not self._unsent:
                self._unsent = self._outgoing.read()
            sent = self.sock.send(self._unsent, flags)
            self._unsent = memoryview(self._unsent)[sent:] if sent < len(self._unsent) else b""

    def _flush_alert(self, flags: int = 0) -> None:
        """Send as much enciphered data as possible, for a caller that has another error to raise."""
        try:
            self._flush(flags)
        except OSError:
            pass


def reason_of(why: ssl.SSLError) -> str:
    """Return OpenSSL's reason in words: `certificate verify failed: …`, `no shared cipher`."""
    text = getattr(why, "reason", None) or _AROUND.sub("", str(why.args[-1] if why.args else type(why).__name__))
    reason = text.replace("_", " ").lower()
    detail = getattr(why, "verify_message", "")
    return f"{reason}: {detail}" if detail else reason


def secure(wire: Wire, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> TlsStream:
    """Put `wire` under TLS within its limits; return the stream, which knows what was agreed on.

    Called right after accept, after the answer to STLS, and toward backends.  Raises Gone as the wire does, and
    NoTls with OpenSSL's reason.

    Input that has not been read must be discarded first (`discard_buffered`): it came unencrypted
    and would be treated as protected (RFC 2595 section 4).
    """
    stream = TlsStream(wire.sock, context, server_side=server_side, server_hostname=server_hostname)
    while True:
        try:
            stream.handshake()
        except BlockingIOError:
            wire.wait(stream.wants)
        except TlsFailed as why:
            raise NoTls(why.strerror) from why
        except OSError as why:
            raise Gone("closed" if isinstance(why, ConnectionResetError) else "reset") from why
        else:
            wire.sock = stream
            return stream
