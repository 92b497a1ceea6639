"""Addresses as administrators write them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint, is_ip, parse_endpoint


@pytest.mark.parametrize("text, host, port, shown", [
    pytest.param("10.0.0.5:110", "10.0.0.5", 110, "10.0.0.5:110", id="ipv4"),
    pytest.param("[::]:110", "::", 110, "[::]:110", id="ipv6"),
    pytest.param("[fe80::1%eth0]:1110", "fe80::1%eth0", 1110, "[fe80::1%eth0]:1110", id="zone"),
    pytest.param("store1:1110", "store1", 1110, "store1:1110", id="name"),
    pytest.param("a-b.example.org.:1", "a-b.example.org.", 1, "a-b.example.org.:1", id="long-name"),
    pytest.param(" 127.0.0.1:0 ", "127.0.0.1", 0, "127.0.0.1:0", id="kernel-port"),
    pytest.param("127.0.0.1:65535", "127.0.0.1", 65535, "127.0.0.1:65535", id="highest-port"),
])
def test_parsed(text, host, port, shown):
    endpoint = parse_endpoint(text)
    assert endpoint == Endpoint(host, port)
    assert str(endpoint) == shown


@pytest.mark.parametrize("text, why", [
    pytest.param("", "HOST:PORT", id="empty"),
    pytest.param("10.0.0.5", "HOST:PORT", id="no-port"),
    pytest.param("10.0.0.5:", "HOST:PORT", id="empty-port"),
    pytest.param("10.0.0.5:65536", "0 to 65535", id="high-port"),
    pytest.param("10.0.0.5:-1", "0 to 65535", id="negative-port"),
    pytest.param("10.0.0.5:pop3", "0 to 65535", id="port-name"),
    pytest.param("10.0.0.5:" + "1" * 5000, "0 to 65535", id="endless-port"),
    pytest.param("10.0.0.5:١١", "0 to 65535", id="port-in-another-script"),
    pytest.param(":110", "IPv4 address", id="no-host"),
    pytest.param("::1:110", "in brackets", id="no-brackets"),
    pytest.param("[10.0.0.5]:110", "in the brackets", id="ipv4-in-brackets"),
    pytest.param("[]:110", "in the brackets", id="empty-brackets"),
    pytest.param("[::1%a,b]:110", "in the brackets", id="comma-in-zone"),
    pytest.param("[::1%a\nb]:110", "in the brackets", id="line-end-in-zone"),
    pytest.param("10.0.0:110", "IPv4 address", id="short-ipv4"),
    pytest.param("10.0.0.256:110", "IPv4 address", id="high-ipv4"),
    pytest.param("-a:110", "IPv4 address", id="dash"),
    pytest.param("a b:110", "IPv4 address", id="space"),
    pytest.param("a" * 64 + ":110", "IPv4 address", id="long-label"),
    pytest.param(".".join(["a" * 60] * 5) + ":110", "IPv4 address", id="long-host"),
    pytest.param("störe:110", "IPv4 address", id="umlaut"),
])
def test_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse_endpoint(text)


@pytest.mark.parametrize("host, good", [
    pytest.param("127.0.0.1", True, id="ipv4"),
    pytest.param("::1", True, id="ipv6"),
    pytest.param("fe80::1%eth0", True, id="zone"),
    pytest.param("fe80::1%", False, id="empty-zone"),
    pytest.param("127.0.0.1%eth0", False, id="zone-of-ipv4"),
    pytest.param("127.1", False, id="short"),
    pytest.param("0127.0.0.1", False, id="octal"),
    pytest.param("127.0.0.1 ", False, id="space"),
    pytest.param("127.0.0.1\0", False, id="nul"),
    pytest.param("\udcff", False, id="surrogate"),
    pytest.param("::ffff:10.0.0.1", True, id="ipv4-in-ipv6"),
    pytest.param("::1::", False, id="two-gaps"),
    pytest.param("localhost", False, id="name"),
    pytest.param("", False, id="empty"),
])
def test_is_ip(host, good):
    assert is_ip(host) is good


@pytest.mark.parametrize("endpoint, numeric, ipv6", [
    pytest.param(Endpoint("127.0.0.1", 1), True, False, id="ipv4"),
    pytest.param(Endpoint("::1", 1), True, True, id="ipv6"),
    pytest.param(Endpoint("store1", 1), False, False, id="name"),
])
def test_what_kind_of_host(endpoint, numeric, ipv6):
    assert endpoint.is_numeric is numeric
    assert endpoint.is_ipv6 is ipv6


@settings(deadline=None)
@given(st.ip_addresses().map(str), st.integers(0, 65535))
def test_shown_addresses_are_read_again(host, port):
    assert parse_endpoint(str(Endpoint(host, port))) == Endpoint(host, port)


@settings(deadline=None)
@given(st.text(alphabet="[]:.%a1- \n,", max_size=20))
def test_any_text_is_an_endpoint_or_a_value_error(text):
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint
