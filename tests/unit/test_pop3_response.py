"""Response lines of backends: what is read from them and what may reach a client."""

import pytest

from popular.pop3.response import Response, parse_response

LINES = [
    pytest.param(b"+OK", Response(True, "", ""), id="bare"),
    pytest.param(b"+OK 2 messages", Response(True, "", "2 messages"), id="text"),
    pytest.param(b"-ERR [AUTH] no", Response(False, "AUTH", "no"), id="rfc3206-auth"),
    pytest.param(b"-ERR [SYS/TEMP] later", Response(False, "SYS/TEMP", "later"), id="rfc3206-systemp"),
    pytest.param(b"-ERR [IN-USE] locked", Response(False, "IN-USE", "locked"), id="rfc2449-in-use"),
    pytest.param(b"-ERR [LOGIN-DELAY] wait", Response(False, "LOGIN-DELAY", "wait"), id="rfc2449-login-delay"),
    pytest.param(b"-ERR [AUTH]", Response(False, "AUTH", ""), id="code-without-text"),
    pytest.param(b"-ERR [] odd", Response(False, "", "[] odd"), id="empty-code-is-text"),
    pytest.param(b"-ERR [AUTH no", Response(False, "", "[AUTH no"), id="unclosed-code-is-text"),
    pytest.param(b"+OK [a]\x1b[31m\xff", Response(True, "a", "?[31m?"), id="escapes-cleaned"),
    pytest.param(b"-ERR a\rb", Response(False, "", "a?b"), id="no-second-line"),
]

NO_RESPONSES = [b"", b"OK", b"ERR no", b"* OK IMAP4rev1 ready", b"220 smtp ready", b"+OKAY", b"-ERROR", b"+ok"]


@pytest.mark.parametrize(("line", "wanted"), LINES)
def test_response(line: bytes, wanted: Response) -> None:
    assert parse_response(line) == wanted


@pytest.mark.parametrize("line", NO_RESPONSES)
def test_no_response(line: bytes) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_response(line)


def test_response_is_short_whatever_came() -> None:
    assert len(str(parse_response(b"-ERR " + b"x" * 100_000))) <= 510


@pytest.mark.parametrize("line", [b"+OK", b"-ERR [SYS/TEMP] later", b"+OK 2 messages"])
def test_response_is_written_as_it_was_read(line: bytes) -> None:
    assert str(parse_response(line)).encode() == line
