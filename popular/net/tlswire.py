"""Putting a wire under TLS: the handshake, within the limits of the wire.

Used in the children of pproxy and pserv, right after accept or after the answer to STLS (RFC 2595), and
toward backends.  Raises Gone as the wire does, and NoTls with OpenSSL's reason.
"""

import ssl

from popular.errors import Gone, NoTls
from popular.net.tlsstream import TlsFailed, TlsStream
from popular.net.wire import Wire


def secure(wire: Wire, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> TlsStream:
    """Put `wire` under TLS; return the stream, which tells what was agreed on.

    What was received and not yet read must have been forgotten before (`discard_buffered`): it came in clear
    and would count as if it had not (RFC 2595 section 4).
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
