"""The octets of MAILCHECK requests and answers (spec 8.2)."""

import pytest

from popular.errors import MailcheckError
from popular.mailcheck import packet
from popular.mailcheck.packet import MailState, MailcheckRequest

REQUESTS = [
    pytest.param(b"*M3/2d/joe.doe", MailcheckRequest(b"M", b"3/2d/joe.doe"), id="mailbox"),
    pytest.param(b"*M3/2d/joe.doe\n", MailcheckRequest(b"M", b"3/2d/joe.doe"), id="mailbox-lf"),
    pytest.param(b"*M3/2d/joe.doe\r\n", MailcheckRequest(b"M", b"3/2d/joe.doe"), id="mailbox-crlf"),
    pytest.param(b"*M3/2d/joe.doe\r", MailcheckRequest(b"M", b"3/2d/joe.doe"), id="mailbox-cr"),
    pytest.param(b"*Mjoe\n\n", MailcheckRequest(b"M", b"joe\n"), id="one-lf-only"),
    pytest.param(b"*Mjoe\r\r\n", MailcheckRequest(b"M", b"joe\r"), id="one-cr-only"),
    pytest.param(b"*L", MailcheckRequest(b"L", b""), id="load"),
    pytest.param(b"*L\r\n", MailcheckRequest(b"L", b""), id="load-crlf"),
    pytest.param(b"3/2d/joe.doe", MailcheckRequest(b"M", b"3/2d/joe.doe"), id="old-form"),
    pytest.param(b"Ljoe\r\n", MailcheckRequest(b"M", b"Ljoe"), id="old-form-crlf"),
    pytest.param(b"*", MailcheckRequest(b"", b""), id="star-only"),
    pytest.param(b"*\n", MailcheckRequest(b"", b""), id="star-and-lf"),
    pytest.param(b"", MailcheckRequest(b"M", b""), id="nothing"),
    pytest.param(b"\x00\xff", MailcheckRequest(b"M", b"\x00\xff"), id="binary"),
    pytest.param(b"*mjoe", MailcheckRequest(b"m", b"joe"), id="lower-case-letter"),
    pytest.param(b"**M", MailcheckRequest(b"*", b"M"), id="two-stars"),
]


@pytest.mark.parametrize("datagram, request_", REQUESTS)
def test_spec_8_2_request(datagram: bytes, request_: MailcheckRequest) -> None:
    assert packet.parse_mailcheck(datagram) == request_


def test_spec_8_2_mailbox_name_directly_after_m() -> None:
    assert packet.mail_request("3/2d/joe.doe") == b"*M3/2d/joe.doe"


def test_spec_8_2_load_request() -> None:
    assert packet.load_request() == b"*L"


@pytest.mark.parametrize("name", ["", "../x", "/abs", "a b", "joe\n", "joe\0", "jö", "\udcff", "x" * 513])
def test_no_request_for_an_illegal_name(name: str) -> None:
    with pytest.raises(MailcheckError, match="illegal mailbox name"):
        packet.mail_request(name)


@pytest.mark.parametrize("state, answer", [
    pytest.param(MailState.EMPTY, b"+OK 0 no mail\n", id="empty"),
    pytest.param(MailState.OLD_MAIL, b"+OK 1 mail\n", id="old"),
    pytest.param(MailState.NEW_MAIL, b"+OK 2 new mail\n", id="new"),
    pytest.param(MailState.OVERLOADED, b"+OK 3 load too high\n", id="overloaded"),
])
def test_spec_8_2_answer_texts(state: MailState, answer: bytes) -> None:
    assert packet.mail_answer(state) == answer
    assert packet.parse_mail_answer(answer) is state


@pytest.mark.parametrize("load, answer", [
    pytest.param(3.23, b"+OK 3.23\n", id="example"),
    pytest.param(0.0, b"+OK 0.00\n", id="zero"),
    pytest.param(1234.5, b"+OK 1234.50\n", id="large"),
])
def test_spec_8_2_load_answer(load: float, answer: bytes) -> None:
    assert packet.load_answer(load) == answer
    assert packet.parse_load_answer(answer) == load


@pytest.mark.parametrize("datagram, state", [
    pytest.param(b"+OK 0 no mails\n", MailState.EMPTY, id="text-of-the-protocol-chapter"),
    pytest.param(b"+OK 1", MailState.OLD_MAIL, id="digit-alone"),
    pytest.param(b"+OK 2\n", MailState.NEW_MAIL, id="digit-and-lf"),
    pytest.param(b"+OK 2\r\n", MailState.NEW_MAIL, id="digit-and-crlf"),
    pytest.param(b"+OK 3 \x00\xff", MailState.OVERLOADED, id="binary-text"),
    pytest.param(b"+OK 4 what\n", None, id="no-such-state"),
    pytest.param(b"+OK 3.23\n", None, id="a-load"),
    pytest.param(b"+OK 10 x\n", None, id="two-digits"),
    pytest.param(b"+OK  1 mail\n", None, id="two-spaces"),
    pytest.param(b"+ok 1 mail\n", None, id="lower-case"),
    pytest.param(b"OK 1", None, id="no-plus"),
    pytest.param(b"+OK no mail\n", None, id="no-digit"),
    pytest.param(b"x+OK 1\n", None, id="not-at-the-start"),
    pytest.param("+OK ١ mail\n".encode(), None, id="foreign-digit"),
    pytest.param(b"-ERRATIC\n", None, id="almost-err"),
    pytest.param(b"", None, id="nothing"),
])
def test_spec_8_2_of_a_state_only_the_digit_counts(datagram: bytes, state: MailState | None) -> None:
    assert packet.parse_mail_answer(datagram) is state


@pytest.mark.parametrize("datagram, load", [
    pytest.param(b"+OK 3\n", 3.0, id="integer-of-the-man-page"),
    pytest.param(b"+OK 3.23\r\n", 3.23, id="crlf"),
    pytest.param(b"+OK 3.23", 3.23, id="no-line-end"),
    pytest.param(b"+OK nan\n", None, id="nan"),
    pytest.param(b"+OK 1e5\n", None, id="exponent"),
    pytest.param(b"+OK -1\n", None, id="negative"),
    pytest.param(b"+OK 1 mail\n", None, id="a-state"),
    pytest.param(b"+OK " + b"9" * 900, None, id="endless"),
])
def test_load_answers_are_read_in_both_forms(datagram: bytes, load: float | None) -> None:
    assert packet.parse_load_answer(datagram) == load


@pytest.mark.parametrize("datagram, text", [
    pytest.param(b"-ERR no such mailbox\n", "refused by the server: no such mailbox", id="plain"),
    pytest.param(b"-ERR \x1b[2Jgone\x00\n", "refused by the server: ?[2Jgone?", id="hostile"),
    pytest.param(b"-ERR\n", "refused by the server: no reason given", id="bare"),
    pytest.param(b"-ERR", "refused by the server: no reason given", id="bare-no-lf"),
])
def test_refusals_are_raised_in_printable_words(datagram: bytes, text: str) -> None:
    for parse in (packet.parse_mail_answer, packet.parse_load_answer):
        with pytest.raises(MailcheckError) as caught:
            parse(datagram)
        assert str(caught.value) == text


@pytest.mark.parametrize("datagram, expected", [
    *[pytest.param(packet.mail_answer(state), True, id=state.name) for state in MailState],
    pytest.param(packet.load_answer(1.0), True, id="load"),
    pytest.param(packet.error_answer("illegal mailbox name"), True, id="error"),
    pytest.param(b"*Mjoe", False, id="request"),
    pytest.param(b"+OK", False, id="a-mailbox-of-this-name"),
    pytest.param(b"-ERR/joe", False, id="another"),
])
def test_answers_are_told_from_requests(datagram: bytes, expected: bool) -> None:
    assert packet.is_answer(datagram) is expected


def test_error_answer() -> None:
    assert packet.error_answer("no such mailbox") == b"-ERR no such mailbox\n"
