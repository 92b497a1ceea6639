"""The protocol between ringd and the programs that it opens ports for (spec 8.3), to the octet.

Used by ringd and, in starters and masters, by its clients.  Pure functions; decoding raises UsageError.

A client connects to ringd's socket, an AF_UNIX socket of type SOCK_SEQPACKET.  Every request is one
packet, and so is every answer; requests are answered one by one in their order.  A packet is one line
of printable ASCII that ends in LF and has no other LF:

    request   bind NUMBER ADDRESS LF       give me the TCP port ADDRESS, listening
              release NUMBER ADDRESS LF    I have closed what I got by one `bind` of ADDRESS
    answer    +OK NUMBER LF                done; that of `bind` carries one descriptor (SCM_RIGHTS)
              -ERR NUMBER TEXT LF          refused, and why

NUMBER is 0 to 999999999 and chosen by the client; the answer repeats it, so that a client that gave up
waiting can tell a late answer from the next one.  It is 0 in an answer to what could not be read,
and when ringd ends a connection right away.  ADDRESS is `A.B.C.D:PORT` or `[IPV6]:PORT`, the IPv6
address perhaps with a zone, the port 1 to 65535.  A request has at most 128 octets, an answer 512.

All clients that ask for the same port get the same socket: one queue of connections, from which
each accepts.  Each `bind` counts one reference, which belongs to the connection to ringd: it is dropped by
`release` and, for all that are left, by the end of the connection, hence by the end of the process.
When the last reference is dropped, ringd shuts the socket down, even for processes that still hold it.
When ringd itself ends, its clients keep their ports.

The socket is bound and listening, so that no other program can take the address; it is
non-blocking, because two processes that see a connection both try to accept it.  The client may call
listen(2) again to set its backlog, which also revives a socket that was shut down.  It must neither
shut the socket down nor make it blocking.
"""

import re
import socket
from dataclasses import dataclass
from enum import StrEnum

from popular.addresses import Endpoint, parse_endpoint
from popular.errors import UsageError
from popular.names import clean_line
from popular.net.listen import endpoint_of

MAX_RING_REQUEST = 128    # octets with the LF
MAX_RING_ANSWER = 512
MAX_NUMBER = 999_999_999

_REQUEST = re.compile(rb"(bind|release) ([0-9]{1,9}) ([!-~]+)\n")
_ANSWER = re.compile(rb"(?:\+OK ([0-9]{1,9})|-ERR ([0-9]{1,9}) ([ -~]*))\n")


class Verb(StrEnum):
    """What a client wants."""

    BIND = "bind"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class RingRequest:
    """One request."""

    verb: Verb
    number: int
    endpoint: Endpoint     # numeric

    def encode(self) -> bytes:
        """Return the packet."""
        return f"{self.verb} {self.number} {self.endpoint}\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class RingAnswer:
    """The answer to the request with this number."""

    number: int
    refusal: str | None = None    # why it is refused; None: it is done

    def encode(self) -> bytes:
        """Return the packet; a refusal that is too long is cut."""
        if self.refusal is None:
            return b"+OK %d\n" % self.number
        text = clean_line(self.refusal.encode("utf-8", "replace"), MAX_RING_ANSWER - 32)
        return f"-ERR {self.number} {text}\n".encode("ascii")


def decode_request(packet: bytes) -> RingRequest:
    """Return the request in a packet from a client."""
    found = _REQUEST.fullmatch(packet) if len(packet) <= MAX_RING_REQUEST else None
    if found is None:
        raise UsageError("wanted: bind|release NUMBER ADDRESS")
    try:
        endpoint = parse_endpoint(found[3].decode("ascii"))
    except ValueError as why:
        raise UsageError(f"wanted: {why}") from None
    if not endpoint.is_numeric or not endpoint.port:
        raise UsageError("wanted: a numeric address and a port from 1")
    return RingRequest(Verb(found[1].decode("ascii")), int(found[2]), endpoint)


def decode_answer(packet: bytes) -> RingAnswer:
    """Return the answer in a packet from ringd."""
    found = _ANSWER.fullmatch(packet) if len(packet) <= MAX_RING_ANSWER else None
    if found is None:
        raise UsageError("not an answer of ringd")
    if found[1] is not None:
        return RingAnswer(int(found[1]))
    return RingAnswer(int(found[2]), found[3].decode("ascii"))


def canonical(endpoint: Endpoint) -> Endpoint:
    """Return the canonical form of a numeric address, so that `[::0]:110` and `[::]:110` are one port.

    Asks no DNS.  Raises UsageError when the system knows no such address, for example an unknown zone.
    """
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM,
                                   flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
    except (OSError, UnicodeError) as why:
        raise UsageError(f"{endpoint} is not a valid address on this host") from why
    _, _, _, _, address = found[0]
    host, port, *scope = address
    return endpoint_of((str(host), int(port), 0, int(scope[1])) if scope else (str(host), int(port)))
