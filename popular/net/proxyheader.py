"""Headers of the PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt, section 2): parsed and built.

Used in children, where a virtual server expects such headers or a backend gets them, and in the process that screens
clients; loaded only there.  Pure.  Parsing is strict: what does not match the protocol raises BadHeader.
"""

import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from popular.addresses import Endpoint, is_ip
from popular.errors import PopularError
from popular.net.transport import PROXY_V1, PROXY_V2

MAX_V1 = 107               # octets of a header of version 1, with CRLF
MAX_PROXY_HEADER = 4096    # and of one of version 2: it may carry the client's certificate
MAX_IDENT = 128            # octets of a connection's id

_FIXED = struct.Struct("!12sBBH")    # signature, version and command, family and protocol, octets that follow
_TLV = struct.Struct("!BH")
_SSL = struct.Struct("!BI")          # what the client has, and whether its certificate was verified: 0
_ADDRESSES = {0x11: (socket.AF_INET, struct.Struct("!4s4sHH")), 0x21: (socket.AF_INET6, struct.Struct("!16s16sHH"))}
_OTHER_FAMILIES = (0x12, 0x22, 0x31, 0x32)    # UDP and Unix sockets, which are no clients of POP3
_VERSION, _LOCAL, _PROXY = 0x20, 0x20, 0x21
_UNSPECIFIED = 0x00

_AUTHORITY, _CRC32C, _UNIQUE_ID, _TLS = 0x02, 0x03, 0x05, 0x20
_TLS_VERSION, _TLS_NAME, _TLS_CIPHER = 0x21, 0x22, 0x23
_KNOWN = frozenset((_AUTHORITY, _CRC32C, _UNIQUE_ID, _TLS, _TLS_VERSION, _TLS_NAME))
_CLIENT_TLS, _CLIENT_CERTIFICATE = 0x01, 0x06
_NOT_VERIFIED = 1

_LINE = re.compile(rb"PROXY TCP(4|6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n")
_UNKNOWN = re.compile(rb"PROXY UNKNOWN( .*)?\r\n", re.DOTALL)
_MAPPED = bytes(10) + b"\xff\xff"    # how an IPv6 address begins that stands for one of IPv4


class BadHeader(PopularError):
    """A connection does not begin with a header of the PROXY protocol, or with a wrong one; the text says why."""


@dataclass(frozen=True, slots=True)
class ClientOrigin:
    """Whom a proxy serves over a connection, as it says."""

    client: Endpoint | None = None    # None: nobody, so it only looks whether we are here
    local: Endpoint | None = None     # where the client has connected to
    tls: str = ""                     # version of the TLS that the proxy has ended, such as TLSv1.3; empty: none
    certificate: str = ""             # name in the client's certificate, if the proxy has verified it
    ident: str = ""                   # the proxy's id of the connection
    authority: str = ""               # name that the client has asked for by TLS
    ttl: int = 0                      # over how many proxies it may still go; 0: not said


def read_header(octets: bytes) -> tuple[ClientOrigin, int] | None:
    """Return what the header says with which `octets` begin, and its length; None while it is not whole.

    MAX_PROXY_HEADER octets are enough.  Raises BadHeader, as soon as it is certain that no good header will come.
    """
    if octets[:len(PROXY_V2)] == PROXY_V2[:len(octets)]:
        return _read_v2(octets)
    if octets[:len(PROXY_V1)] == PROXY_V1[:len(octets)]:
        return _read_v1(octets)
    raise BadHeader("no PROXY header")


def build_header(client: Endpoint, local: Endpoint, ident: str = "", tls: str = "", cipher: str = "") -> bytes:
    """Return a header of version 2 for a connection of `client` to `local`; both are numeric.

    `tls` is the version of the client's TLS, empty for none; `ident` has at most MAX_IDENT octets.  If the addresses
    are of different families, the second one is left unspecified.
    """
    family = 0x21 if client.is_ipv6 else 0x11
    if client.is_ipv6 is not local.is_ipv6:
        local = Endpoint("::" if client.is_ipv6 else "0.0.0.0", local.port)
    kind, form = _ADDRESSES[family]
    octets = [socket.inet_pton(kind, each.host.partition("%")[0]) for each in (client, local)]
    rest = form.pack(*octets, client.port, local.port)
    if ident:
        rest += _tlv(_UNIQUE_ID, ident)
    if tls:
        value = _SSL.pack(_CLIENT_TLS, _NOT_VERIFIED) + _tlv(_TLS_VERSION, tls) + _tlv(_TLS_CIPHER, cipher)
        rest += _TLV.pack(_TLS, len(value)) + value
    return _FIXED.pack(PROXY_V2, _PROXY, family, len(rest)) + rest


def _tlv(kind: int, text: str) -> bytes:
    value = text.encode("utf-8")
    return _TLV.pack(kind, len(value)) + value


def _read_v1(octets: bytes) -> tuple[ClientOrigin, int] | None:
    end = octets.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(octets) >= MAX_V1:
            raise BadHeader(f"version 1 without end in {MAX_V1} octets")
        return None
    line = octets[:end + 2]
    if _UNKNOWN.fullmatch(line):
        return ClientOrigin(), len(line)
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadHeader("version 1 is malformed")
    version, *hosts, from_port, to_port = (word.decode("ascii") for word in found.groups())
    if any((":" in host) is not (version == "6") or not is_ip(host) for host in hosts):
        raise BadHeader("version 1 with a malformed address")
    if max(int(from_port), int(to_port)) > 0xffff:
        raise BadHeader("version 1 with a port above 65535")
    kind = socket.AF_INET6 if version == "6" else socket.AF_INET
    client, local = (host_of(kind, socket.inet_pton(kind, host)) for host in hosts)
    return _proven(ClientOrigin(Endpoint(client, int(from_port)), Endpoint(local, int(to_port)))), len(line)


def _read_v2(octets: bytes) -> tuple[ClientOrigin, int] | None:
    if len(octets) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(octets)
    if command & 0xf0 != _VERSION:
        raise BadHeader(f"unknown version {command >> 4}")
    if command not in (_LOCAL, _PROXY):
        raise BadHeader(f"unknown command {command & 0xf}")
    size = _FIXED.size + length
    if size > MAX_PROXY_HEADER:
        raise BadHeader(f"{size} octets long")
    if len(octets) < size:
        return None
    header = octets[:size]
    if command == _LOCAL or family == _UNSPECIFIED:
        return ClientOrigin(), size
    if family not in _ADDRESSES:
        raise BadHeader("not a TCP connection" if family in _OTHER_FAMILIES else f"unknown family {family:#04x}")
    kind, form = _ADDRESSES[family]
    if length < form.size:
        raise BadHeader("its addresses are cut off")
    client, local, from_port, to_port = form.unpack_from(header, _FIXED.size)
    origin = ClientOrigin(Endpoint(host_of(kind, client), from_port), Endpoint(host_of(kind, local), to_port))
    return _with_facts(_proven(origin), header, _FIXED.size + form.size), size


def _with_facts(origin: ClientOrigin, header: bytes, start: int) -> ClientOrigin:
    """Add what the part of a whole header from `start` on says of an origin."""
    values = _values(header, start, len(header))
    if _CRC32C in values:
        _prove_sum(header, *values[_CRC32C])
    at, end = values.get(_UNIQUE_ID, (0, 0))
    if end - at > MAX_IDENT:
        raise BadHeader(f"an id of more than {MAX_IDENT} octets")
    tls = certificate = ""
    if _TLS in values:
        at, end = values[_TLS]
        if end - at < _SSL.size:
            raise BadHeader("what it says of TLS is cut off")
        client, verified = _SSL.unpack_from(header, at)
        inner = _values(header, at + _SSL.size, end)
        if client & _CLIENT_TLS:
            tls = _text(header, inner, _TLS_VERSION) or "TLS"
        if client & _CLIENT_TLS and client & _CLIENT_CERTIFICATE and not verified:
            certificate = _text(header, inner, _TLS_NAME)
    return replace(origin, tls=tls, certificate=certificate, ident=_text(header, values, _UNIQUE_ID),
                   authority=_text(header, values, _AUTHORITY))


def _values(header: bytes, start: int, end: int) -> dict[int, tuple[int, int]]:
    """Return where known values are in a part of a header, by their types."""
    found: dict[int, tuple[int, int]] = {}
    for kind, at, after in _walk(header, start, end):
        if kind in _KNOWN:
            if kind in found:
                raise BadHeader(f"two values of type {kind:#04x}")
            found[kind] = at, after
    return found


def _walk(header: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    while start < end:
        if start + _TLV.size > end:
            raise BadHeader("a value is cut off")
        kind, length = _TLV.unpack_from(header, start)
        at, start = start + _TLV.size, start + _TLV.size + length
        if start > end:
            raise BadHeader("a value is longer than the header")
        yield kind, at, start


def _text(header: bytes, values: dict[int, tuple[int, int]], kind: int) -> str:
    start, end = values.get(kind, (0, 0))
    return header[start:end].decode("utf-8", "backslashreplace")


def _prove_sum(header: bytes, start: int, end: int) -> None:
    if end - start != 4:
        raise BadHeader("a checksum that has not 4 octets")
    if crc32c(header[:start] + bytes(4) + header[end:]) != int.from_bytes(header[start:end], "big"):
        raise BadHeader("a wrong checksum")


def crc32c(octets: bytes) -> int:
    """Return the checksum of some octets: CRC-32C, with Castagnoli's polynomial."""
    crc = 0xffffffff
    for octet in octets:
        crc ^= octet
        crc = crc >> 4 ^ _NIBBLES[crc & 0xf]
        crc = crc >> 4 ^ _NIBBLES[crc & 0xf]
    return crc ^ 0xffffffff


def _remainder(value: int) -> int:
    for _ in range(4):
        value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
    return value


_NIBBLES = tuple(map(_remainder, range(16)))


def host_of(kind: int, octets: bytes) -> str:
    """Return an address as text; one of IPv4 that is written as one of IPv6 becomes one of IPv4 again."""
    if kind == socket.AF_INET6 and octets.startswith(_MAPPED):
        kind, octets = socket.AF_INET, octets[len(_MAPPED):]
    return socket.inet_ntop(kind, octets)


def _proven(origin: ClientOrigin) -> ClientOrigin:
    if origin.client is not None and origin.client.host in ("0.0.0.0", "::"):
        raise BadHeader("no address of a client")
    return origin
