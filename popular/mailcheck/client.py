"""The client of MAILCHECK (spec 8.2): one datagram out, one back, a few tries.

Used in the children of pproxy, in every session, and in pcheck.  Every try has its own socket,
connected and with a new source port: the kernel accepts answers only from the address that was
asked, a forger has to guess the port, and a late answer to one try is not taken for the answer to
the next.  Nothing here uses the DNS.  Raises only MailcheckError.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from popular.addresses import Endpoint
from popular.errors import MailcheckError
from popular.mailcheck import packet
from popular.mailcheck.packet import MailState

_Answer = TypeVar("_Answer")


def ask_pcheckd(endpoint: Endpoint, mailbox: str, timeout: float, tries: int, source: str | None = None) -> MailState:
    """Ask the pcheckd at `endpoint` for the state of `mailbox`; the arguments are those of `exchange`."""
    return exchange(endpoint, packet.mail_request(mailbox), packet.parse_mail_answer, timeout, tries, source)


def exchange(endpoint: Endpoint, request: bytes, parse: Callable[[bytes], _Answer | None],
             timeout: float, tries: int, source: str | None = None) -> _Answer:
    """Send `request` up to `tries` times; return the first answer that `parse` accepts.

    `endpoint` is numeric.  `timeout` is in seconds for each try; `source` is a numeric local address
    to send from.  A datagram for which `parse` returns None is ignored.  A port where nothing listens
    ends its try at once, so that a stopped pcheckd does not delay sessions.  Raises MailcheckError if
    no try gets an answer, and whatever `parse` raises.
    """
    why = "no tries allowed"
    for _ in range(tries):
        try:
            answer = _try_once(endpoint, request, parse, timeout, source)
        except ConnectionRefusedError:
            why = "nobody listens there"
        except OSError as error:
            raise MailcheckError(f"{endpoint}: {error.strerror or error}") from error
        else:
            if answer is not None:
                return answer
            why = f"no answer within {timeout:g} s"
    raise MailcheckError(f"{endpoint}: {why} ({tries} tries)")


def _try_once(endpoint: Endpoint, request: bytes, parse: Callable[[bytes], _Answer | None],
              timeout: float, source: str | None) -> _Answer | None:
    """Send `request` once; return the parsed answer, or None after `timeout` seconds; raises OSError."""
    # The plain base type of socket.socket: it has all that is needed here at half the cost.
    sock = socket.SocketType(socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET,
                             socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if source is not None:
            sock.bind((source, 0))
        sock.connect((endpoint.host, endpoint.port))
        sock.send(request)
        waiter = select.poll()
        waiter.register(sock, select.POLLIN)
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not waiter.poll(int(left * 1000) + 1):
                break
            try:
                answer = parse(sock.recv(packet.MAX_DATAGRAM_ANSWER))
            except BlockingIOError:    # a wrong checksum: the datagram was announced, then dropped by the kernel
                continue
            if answer is not None:
                return answer
        return None
    finally:
        sock.close()
