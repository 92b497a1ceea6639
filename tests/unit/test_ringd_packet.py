"""net.ring.packet: requests and answers between ringd and its clients, to the octet."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.errors import UsageError
from popular.net.ring.packet import (
    MAX_NUMBER, MAX_RING_ANSWER, MAX_RING_REQUEST, RingAnswer, RingRequest, Verb, canonical, decode_answer,
    decode_request)

REQUESTS = [
    pytest.param(RingRequest(Verb.BIND, 7, Endpoint("127.0.0.1", 110)), b"bind 7 127.0.0.1:110\n", id="bind"),
    pytest.param(RingRequest(Verb.RELEASE, 0, Endpoint("::", 995)), b"release 0 [::]:995\n", id="release"),
    pytest.param(RingRequest(Verb.BIND, MAX_NUMBER, Endpoint("fe80::1%eth0", 65535)),
                 b"bind 999999999 [fe80::1%eth0]:65535\n", id="zone and bounds"),
]
ANSWERS = [
    pytest.param(RingAnswer(7), b"+OK 7\n", id="done"),
    pytest.param(RingAnswer(0, "who are you?"), b"-ERR 0 who are you?\n", id="refused"),
    pytest.param(RingAnswer(3, ""), b"-ERR 3 \n", id="without a reason"),
]


@pytest.mark.parametrize(("request_", "packet"), REQUESTS)
def test_requests(request_: RingRequest, packet: bytes) -> None:
    assert request_.encode() == packet
    assert decode_request(packet) == request_


@pytest.mark.parametrize(("answer", "packet"), ANSWERS)
def test_answers(answer: RingAnswer, packet: bytes) -> None:
    assert answer.encode() == packet
    assert decode_answer(packet) == answer


@pytest.mark.parametrize("packet", [
    pytest.param(b"bind 7 127.0.0.1:110", id="no line end"),
    pytest.param(b"bind 7 127.0.0.1:110\r\n", id="CR"),
    pytest.param(b"bind 7 127.0.0.1:110\nbind 8 127.0.0.1:995\n", id="two lines"),
    pytest.param(b"bind 7 127.0.0.1:110\n\n", id="an empty line more"),
    pytest.param(b"BIND 7 127.0.0.1:110\n", id="upper case"),
    pytest.param(b"listen 7 127.0.0.1:110\n", id="another verb"),
    pytest.param(b"bind 127.0.0.1:110\n", id="no number"),
    pytest.param(b"bind -7 127.0.0.1:110\n", id="negative number"),
    pytest.param(b"bind 1000000000 127.0.0.1:110\n", id="number too high"),
    pytest.param("bind ٧ 127.0.0.1:110\n".encode(), id="other digits"),
    pytest.param(b"bind 7  127.0.0.1:110\n", id="two spaces"),
    pytest.param(b"bind 7 127.0.0.1:110 x\n", id="a word more"),
    pytest.param(b"bind 7 127.0.0.1\n", id="no port"),
    pytest.param(b"bind 7 127.0.0.1:0\n", id="port 0"),
    pytest.param(b"bind 7 127.0.0.1:65536\n", id="port too high"),
    pytest.param(b"bind 7 localhost:110\n", id="a name"),
    pytest.param(b"bind 7 ::1:110\n", id="no brackets"),
    pytest.param(b"bind 7 127.0.0.1\0:110\n", id="NUL"),
    pytest.param(b"bind 7 [fe80::1%" + b"e" * MAX_RING_REQUEST + b"]:110\n", id="too long"),
    pytest.param(b"", id="nothing"),
])
def test_what_is_no_request(packet: bytes) -> None:
    with pytest.raises(UsageError, match="^wanted: "):
        decode_request(packet)


@pytest.mark.parametrize("packet", [
    b"", b"+OK\n", b"+OK 7", b"+OK 7 \n", b"+OK 1000000000\n", b"-ERR 7\n", b"-ERR x y\n", b"-ERR 7 a\nb\n",
    b"-ERR 7 caf\xe9\n", b"-ERR 7 " + b"x" * MAX_RING_ANSWER + b"\n"])
def test_what_is_no_answer(packet: bytes) -> None:
    with pytest.raises(UsageError):
        decode_answer(packet)


@given(st.integers(0, MAX_NUMBER), st.text())
def test_every_refusal_is_one_packet(number: int, text: str) -> None:
    packet = RingAnswer(number, text).encode()
    assert len(packet) <= MAX_RING_ANSWER
    assert re.fullmatch(rb"-ERR \d+ [ -~]*\n", packet)
    assert decode_answer(packet).number == number


@given(st.binary(max_size=2 * MAX_RING_REQUEST))
def test_hostile_packets_raise_nothing_else(packet: bytes) -> None:
    for decode in (decode_request, decode_answer):
        try:
            decode(packet)
        except UsageError:
            pass


def test_the_longest_request_is_allowed() -> None:
    host = "0000:" * 7 + "0000%" + "e" * 32
    packet = RingRequest(Verb.RELEASE, MAX_NUMBER, Endpoint(host, 65535)).encode()
    assert decode_request(packet).endpoint.host == host


@pytest.mark.parametrize(("spelt", "endpoint"), [
    (Endpoint("127.0.0.1", 110), Endpoint("127.0.0.1", 110)),
    (Endpoint("::0", 110), Endpoint("::", 110)),
    (Endpoint("0:0:0:0:0:0:0:1", 110), Endpoint("::1", 110)),
    (Endpoint("2001:DB8::00A", 110), Endpoint("2001:db8::a", 110)),
    (Endpoint("fe80::1%lo", 110), Endpoint("fe80::1%1", 110)),
    (Endpoint("fe80::1%1", 110), Endpoint("fe80::1%1", 110)),
])
def test_one_spelling_of_each_address(spelt: Endpoint, endpoint: Endpoint) -> None:
    assert canonical(spelt) == endpoint


@pytest.mark.parametrize("host", ["localhost", "fe80::1%no-such-zone", "1.2.3", "", "x" * 70])
def test_what_the_system_takes_for_no_address(host: str) -> None:
    try:
        assert canonical(Endpoint(host, 110)).is_numeric    # "1.2.3" is an address to inet_aton(3)
    except UsageError:
        pass
    if host == "localhost":
        with pytest.raises(UsageError, match="is not a valid address on this host"):
            canonical(Endpoint(host, 110))
