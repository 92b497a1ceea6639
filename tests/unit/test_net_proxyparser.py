"""popular.net.proxyheader: what a header of the PROXY protocol says, the examples of the specification, and lies."""

import socket
import struct
from dataclasses import replace

import pytest

from popular.addresses import Endpoint
from popular.net.proxyheader import MAX_PROXY_HEADER, MAX_V1, BadHeader, ClientOrigin, build_header, crc32c, read_header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
FOUR = ClientOrigin(Endpoint("192.168.0.1", 56324), Endpoint("192.168.0.11", 443))
SIX = ClientOrigin(Endpoint("2001:db8::1", 56324), Endpoint("2001:db8::2", 110))
IPV4 = bytes((192, 168, 0, 1, 192, 168, 0, 11)) + struct.pack("!HH", 56324, 443)
IPV6 = b"".join(socket.inet_pton(socket.AF_INET6, f"2001:db8::{number}") for number in (1, 2)) + struct.pack(
    "!HH", 56324, 110)
FULL = b":".join([b"ffff"] * 8)
FULL_HOST = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"


def v2(rest: bytes, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    """Return a value with its type and length."""
    return struct.pack("!BH", kind, len(value) if length is None else length) + value


def ssl(client: int, verified: int, *inner: bytes) -> bytes:
    """Return what a balancer says of TLS."""
    return tlv(0x20, struct.pack("!BI", client, verified) + b"".join(inner))


def summed(rest: bytes) -> bytes:
    """Return a header of version 2 with a checksum at its end."""
    empty = v2(rest + tlv(0x03, bytes(4)))
    return empty[:-4] + crc32c(empty).to_bytes(4, "big")


VERSION, NAME = tlv(0x21, b"TLSv1.3"), tlv(0x22, "Jörg".encode())

GOOD = {
    "the example": (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", FOUR),
    "version 1, IPv6": (b"PROXY TCP6 2001:DB8::1 2001:db8:0:0:0:0:0:2 56324 110\r\n", SIX),
    "longest IPv4": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ClientOrigin(
        Endpoint("255.255.255.255", 65535), Endpoint("255.255.255.255", 65535))),
    "longest IPv6": (b"PROXY TCP6 " + FULL + b" " + FULL + b" 65535 65535\r\n", ClientOrigin(
        Endpoint(FULL_HOST, 65535), Endpoint(FULL_HOST, 65535))),
    "a mapped address": (b"PROXY TCP6 ::ffff:192.168.0.1 ::ffff:192.168.0.11 56324 443\r\n", FOUR),
    "unknown": (b"PROXY UNKNOWN\r\n", ClientOrigin()),
    "worst case": (b"PROXY UNKNOWN " + FULL + b" " + FULL + b" 65535 65535\r\n", ClientOrigin()),
    "unknown, and anything": (b"PROXY UNKNOWN \0\r\n\r\n"[:-2], ClientOrigin()),
    "version 2": (v2(IPV4), FOUR),
    "version 2, IPv6": (v2(IPV6, family=0x21), SIX),
    "local": (v2(b"", command=0x20, family=0), ClientOrigin()),
    "local, with addresses": (v2(IPV4, command=0x20), ClientOrigin()),
    "local, with rubbish": (v2(b"\xff\xff", command=0x20, family=0xff), ClientOrigin()),
    "unspecified": (v2(b"abc", family=0), ClientOrigin()),
    "padding": (v2(IPV4 + tlv(0x04, b"") + tlv(0x04, b"xx") + tlv(0xe0, b"own") + tlv(0x01, b"pop3")), FOUR),
    "checksum": (summed(IPV4), FOUR),
    "an id and a name": (v2(IPV4 + tlv(0x05, b"id-1") + tlv(0x02, b"pop.example.org")), replace(
        FOUR, ident="id-1", authority="pop.example.org")),
    "an id of any octets": (v2(IPV4 + tlv(0x05, b"\xff\n")), replace(FOUR, ident="\\xff\n")),
    "no TLS": (v2(IPV4 + ssl(0, 1)), FOUR),
    "TLS": (v2(IPV4 + ssl(1, 1, VERSION, tlv(0x23, b"AES"))), replace(FOUR, tls="TLSv1.3")),
    "TLS without version": (v2(IPV4 + ssl(1, 0)), replace(FOUR, tls="TLS")),
    "a certificate": (v2(IPV4 + ssl(3, 0, VERSION, NAME)), replace(FOUR, tls="TLSv1.3", certificate="Jörg")),
    "one of the session": (v2(IPV4 + ssl(5, 0, NAME)), replace(FOUR, tls="TLS", certificate="Jörg")),
    "one that is not verified": (v2(IPV4 + ssl(3, 18, VERSION, NAME)), replace(FOUR, tls="TLSv1.3")),
    "a name without certificate": (v2(IPV4 + ssl(1, 0, VERSION, NAME)), replace(FOUR, tls="TLSv1.3")),
    "a certificate without TLS": (v2(IPV4 + ssl(6, 0, VERSION, NAME)), FOUR),
}


@pytest.mark.parametrize("octets, origin", GOOD.values(), ids=GOOD)
def test_good_headers(octets: bytes, origin: ClientOrigin) -> None:
    assert read_header(octets) == (origin, len(octets))
    assert read_header(octets + b"USER joe\r\n") == (origin, len(octets)), "nothing behind it counts"
    for end in range(len(octets)):
        assert read_header(octets[:end]) is None, "a part of it could still become a good one"


LIES = {
    "nothing of it": b"USER joe\r\n",
    "a handshake": b"\x16\x03\x01",
    "in lower case": b"proxy TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    "two spaces": b"PROXY  TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    "a space at its end": b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
    "LF in it": b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\nPROXY\r\n",
    "CR in it": b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\r\n",
    "NUL in it": b"PROXY TCP4 192.168.0.1\0 192.168.0.11 56324 443\r\n",
    "one address": b"PROXY TCP4 192.168.0.1 56324 443\r\n",
    "no port": b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
    "IPv6 as IPv4": b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
    "IPv4 as IPv6": b"PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n",
    "two families": b"PROXY TCP6 2001:db8::1 192.168.0.11 56324 443\r\n",
    "UDP": b"PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n",
    "unknown, run on": b"PROXY UNKNOWNS\r\n",
    "a number of 256": b"PROXY TCP4 256.168.0.1 192.168.0.11 56324 443\r\n",
    "a number like an octal": b"PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
    "three numbers": b"PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
    "two double colons": b"PROXY TCP6 2001::db8::1 2001:db8::2 56324 443\r\n",
    "five digits": b"PROXY TCP6 2001:00db8::1 2001:db8::2 56324 443\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 2001:db8::2 56324 443\r\n",
    "port 65536": b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
    "a port like an octal": b"PROXY TCP4 192.168.0.1 192.168.0.11 0110 443\r\n",
    "a signed port": b"PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
    "no client": b"PROXY TCP4 0.0.0.0 192.168.0.11 56324 443\r\n",
    "no client, version 2": v2(bytes(36), family=0x21),
    "too long": b"PROXY UNKNOWN " + b"x" * (MAX_V1 - 14),
    "version 1 of the binary form": v2(IPV4, command=0x11),
    "version 3": v2(IPV4, command=0x31),
    "an unknown command": v2(IPV4, command=0x22),
    "UDP, version 2": v2(IPV4, family=0x12),
    "a Unix socket": v2(bytes(216), family=0x31),
    "an unknown family": v2(IPV4, family=0x41),
    "half a family": v2(IPV4, family=0x10),
    "addresses cut": v2(IPV4[:-1]),
    "IPv6 cut": v2(IPV4, family=0x21),
    "more than we read": v2(b"", length=MAX_PROXY_HEADER),
    "a value cut": v2(IPV4 + b"\x04\x00"),
    "a value too long": v2(IPV4 + tlv(0x04, b"x", length=2)),
    "TLS cut": v2(IPV4 + tlv(0x20, b"\x01\x00")),
    "its version too long": v2(IPV4 + ssl(1, 0, tlv(0x21, b"TLSv1.3", length=100))),
    "its version twice": v2(IPV4 + ssl(1, 0, VERSION, VERSION)),
    "two ids": v2(IPV4 + tlv(0x05, b"a") + tlv(0x05, b"b")),
    "a long id": v2(IPV4 + tlv(0x05, b"a" * 129)),
    "a wrong checksum": summed(IPV4)[:-1] + bytes((summed(IPV4)[-1] ^ 1,)),
    "a checksum of something else": summed(IPV4)[:16] + bytes((10,)) + summed(IPV4)[17:],
    "a short checksum": v2(IPV4 + tlv(0x03, b"xxx")),
}


@pytest.mark.parametrize("octets", LIES.values(), ids=LIES)
def test_bad_headers(octets: bytes) -> None:
    with pytest.raises(BadHeader):
        read_header(octets)


def test_the_checksum_is_the_known_one() -> None:
    assert crc32c(b"123456789") == 0xe3069283


@pytest.mark.parametrize("client, local, shown", [
    (FOUR.client, FOUR.local, FOUR), (SIX.client, SIX.local, SIX),
    (FOUR.client, SIX.local, ClientOrigin(FOUR.client, Endpoint("0.0.0.0", 110))),
    (SIX.client, FOUR.local, ClientOrigin(SIX.client, Endpoint("::", 443))),
    (Endpoint("fe80::1%2", 5), SIX.local, ClientOrigin(Endpoint("fe80::1", 5), SIX.local))])
@pytest.mark.parametrize("ident", ["", "px-1"])
@pytest.mark.parametrize("tls", ["", "TLSv1.2"])
def test_what_is_built_is_read(client: Endpoint, local: Endpoint, shown: ClientOrigin, ident: str, tls: str) -> None:
    octets = build_header(client, local, ident, tls, "AES")
    assert read_header(octets) == (replace(shown, ident=ident, tls=tls), len(octets))
