"""CAPA: the lists of our own, the administrator's, and the answer (spec 9.2)."""

import pytest

from popular.pop3 import capability
from popular.pop3.authorization import AuthorizationState
from popular.pop3.transaction import TransactionState


@pytest.mark.parametrize("text, caps", [
    pytest.param("", (), id="empty"),
    pytest.param("TOP\nUIDL\n", ("TOP", "UIDL"), id="two"),
    pytest.param("TOP\nUIDL", ("TOP", "UIDL"), id="no last line end"),
    pytest.param("TOP\r\nUIDL\r\n", ("TOP", "UIDL"), id="CRLF"),
    pytest.param(" SASL  PLAIN \n", (" SASL  PLAIN ",), id="blanks stay"),
    pytest.param("TOP\n\nUIDL\n", ("TOP", "", "UIDL"), id="an empty line stays"),
    pytest.param("A\x0bB\x85C\u2028D\n", ("A\x0bB\x85C\u2028D",), id="only LF ends a line"),
    pytest.param("x" * 4094 + "\n", ("x" * 4094,), id="as long as may be"),
    pytest.param("\n" * 2048, ("",) * 2048, id="as many as may be"),
])
def test_spec_9_2_a_list_is_taken_as_it_stands(text: str, caps: tuple[str, ...]) -> None:
    assert capability.parse_list(text) == caps


@pytest.mark.parametrize("text, wanted", [
    pytest.param("x" * 4095, "at most 4096 octets", id="too long"),
    pytest.param("\u00e4" * 2048, "at most 4096 octets", id="octets, not characters"),
    pytest.param("\n" * 2049, "at most 4096 octets", id="line ends count"),
    pytest.param("TOP\0\n", "NUL", id="NUL"),
])
def test_a_list_that_is_no_use(text: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        capability.parse_list(text)


@pytest.mark.parametrize("caps, answer", [
    pytest.param((), b".\r\n", id="empty"),
    pytest.param(("TOP", "UIDL"), b"TOP\r\nUIDL\r\n.\r\n", id="two"),
    pytest.param((".", "..", ".x", "x."), b"..\r\n...\r\n..x\r\nx.\r\n.\r\n", id="dots"),
    pytest.param(("\u00e4\udcff",), b"\xc3\xa4\xff\r\n.\r\n", id="octets as in the file"),
])
def test_spec_9_2_lines_end_in_crlf_on_the_wire(caps: tuple[str, ...], answer: bytes) -> None:
    assert capability.render(caps) == b"+OK capability list follows\r\n" + answer


def test_nothing_is_promised_that_is_not_there() -> None:
    words = {cap.split()[0] for cap in capability.TRANSACTION}
    assert {"TOP", "UIDL"} <= words & set(TransactionState.COMMANDS)
    assert {"USER", "UTF8", "LANG"} <= words & set(AuthorizationState.COMMANDS)
    assert "LANG" in TransactionState.COMMANDS and "UTF8" not in TransactionState.COMMANDS    # RFC 6856
    assert not words - {"TOP", "UIDL", "USER", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "LANG",
                        "IMPLEMENTATION"}


def test_rfc_2449_the_states_do_not_differ_but_in_what_may() -> None:
    assert set(capability.TRANSACTION) - set(capability.AUTHORIZATION) == {"IMPLEMENTATION POPular"}
    assert not set(capability.AUTHORIZATION) - set(capability.TRANSACTION)


@pytest.mark.parametrize("text, told, before", [
    pytest.param("60", "EXPIRE 60", "EXPIRE 60 USER", id="days"),
    pytest.param("007", "EXPIRE 7", "EXPIRE 7 USER", id="zeros"),
    pytest.param("0", "EXPIRE 0", "EXPIRE 0 USER", id="none"),
    pytest.param("never", "EXPIRE NEVER", "EXPIRE NEVER", id="never"),
])
def test_rfc_2449_expire(text: str, told: str, before: str) -> None:
    kind = capability.Expiry()
    argument = kind.parse(text)
    assert kind.parse(kind.show(argument)) == argument
    assert capability.expire(argument) == (told,) and capability.expire(argument, may_differ=True) == (before,)
    assert capability.expire(None) == ()


@pytest.mark.parametrize("text", ["", "60d", "-1", "36501", "\u0661", "NEVER USER"])
def test_what_expire_may_not_be(text: str) -> None:
    with pytest.raises(ValueError, match="a number of days from 0 to 36500, or never"):
        capability.Expiry().parse(text)
