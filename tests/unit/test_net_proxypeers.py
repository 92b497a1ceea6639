"""popular.net.proxyheader agrees with another implementation of the PROXY protocol, the package proxy-protocol."""

from socket import SOCK_STREAM
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.net.proxyheader import ClientOrigin, build_header, read_header
from tests.harness.needs import need_module

result: Any = need_module("proxyprotocol.result")
tlv: Any = need_module("proxyprotocol.tlv")
V1: Any = need_module("proxyprotocol.v1").ProxyProtocolV1()
V2: Any = need_module("proxyprotocol.v2").ProxyProtocolV2()

_RESULTS = {4: result.ProxyResultIPv4, 6: result.ProxyResultIPv6}


def addresses(version: Literal[4, 6]) -> st.SearchStrategy[tuple[Any, Any]]:
    """Two hosts of a version of IP, the first of which a client may have, with ports."""
    # An address of IPv4 that is mapped into IPv6 is read as one of IPv4.
    hosts = st.ip_addresses(v=version).filter(lambda host: int(host) and getattr(host, "ipv4_mapped", None) is None)
    return st.tuples(*[st.tuples(hosts, st.integers(0, 65535))] * 2)


PAIRS = st.one_of(addresses(4), addresses(6))
WORDS = st.text(max_size=40)


def origin_of(source: Any, dest: Any, **more: Any) -> ClientOrigin:
    """Return what we should have read."""
    return ClientOrigin(Endpoint(str(source[0]), source[1]), Endpoint(str(dest[0]), dest[1]), **more)


@given(pair=PAIRS)
@settings(max_examples=25, deadline=None)
def test_version_1(pair: Any) -> None:
    octets = V1.pack(_RESULTS[pair[0][0].version](*pair))
    assert read_header(octets) == (origin_of(*pair), len(octets))


@given(pair=PAIRS, ident=st.text(max_size=30), authority=WORDS, name=WORDS, is_verified=st.booleans())
@settings(max_examples=25, deadline=None)
def test_version_2(pair: Any, ident: str, authority: str, name: str, is_verified: bool) -> None:
    tls = tlv.ProxyProtocolSSLTLV(has_ssl=True, has_cert_conn=True, verified=is_verified, version="TLSv1.3", cn=name)
    octets = V2.pack(_RESULTS[pair[0][0].version](
        *pair, protocol=SOCK_STREAM, tlv=tlv.ProxyProtocolTLV(
            authority=authority, unique_id=ident.encode(), ssl=tls)))
    assert read_header(octets) == (origin_of(
        *pair, tls="TLSv1.3", certificate=name if is_verified else "", ident=ident, authority=authority), len(octets))


@given(pair=PAIRS, ident=st.text(max_size=30), tls=st.sampled_from(["", "TLSv1.2"]))
@settings(max_examples=25, deadline=None)
def test_what_we_build(pair: Any, ident: str, tls: str) -> None:
    client, local = (Endpoint(str(host), port) for host, port in pair)
    found = V2.unpack(build_header(client, local, ident, tls, "AES"))
    assert (found.source, found.dest, found.tlv.unique_id) == (*pair, ident.encode())
    assert (found.tlv.ssl.has_ssl, found.tlv.ssl.version) == (bool(tls), tls or None)
