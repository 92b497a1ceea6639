"""AUTHORIZATION: what becomes of USER and PASS.  The dialogues are in tests/transcripts/authorization."""

import pytest

from popular.net.wire import Wire
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.sasl.mechanism import Credentials
from tests.harness.memory import Conversation


def log_in(data: bytes, maxline: int = 255) -> Conversation:
    """Return the ended conversation that said `data`."""
    def serve(wire: Wire) -> object:
        wire.maxline = maxline
        return Dialogue(wire, maxerrors=25).run(AuthorizationState(wire, ("X",)))

    conversation = Conversation(serve)
    conversation.exchange(data)
    return conversation


@pytest.mark.parametrize("user, password, credentials", [
    pytest.param(b"joe", b"secret", Credentials("joe", b"secret"), id="plain"),
    pytest.param(b"  joe doe\t", b"secret", Credentials("joe doe", b"secret"), id="blanks around the name"),
    pytest.param(b"joe", b"  a  b ", Credentials("joe", b"  a  b "), id="blanks in the password"),
    pytest.param(b"joe", b" ", Credentials("joe", b" "), id="a blank password"),
    pytest.param(b"joe", b"\xe4\xff", Credentials("joe", b"\xe4\xff"), id="8-bit password"),
    pytest.param(b"j\xc3\xb6rg", b"x", Credentials("j\u00f6rg", b"x"), id="UTF-8 name"),
    pytest.param(b"j\xf6rg", b"x", Credentials("j\udcf6rg", b"x"), id="Latin-1 name"),
    pytest.param(b"joe@example.org", b"x", Credentials("joe@example.org", b"x"), id="with domain"),
    pytest.param(b"u" * 255, b"x", Credentials("u" * 255, b"x"), id="as long as may be"),
])
def test_pass_leaves_with_credentials_and_no_answer(user: bytes, password: bytes, credentials: Credentials) -> None:
    conversation = log_in(b"USER " + user + b"\r\nPASS " + password + b"\r\n", maxline=1024)
    assert conversation.result == credentials
    assert conversation.said == b"+OK password please\r\n"


@pytest.mark.parametrize("line, refusal", [
    pytest.param(b"USER", b"USER needs a user name", id="bare"),
    pytest.param(b"USER \t ", b"USER needs a user name", id="blank"),
    pytest.param(b"USER " + b"u" * 256, b"user name too long", id="too long"),
    pytest.param(b"USER a\tb", b"control character in user name", id="tab"),
    pytest.param(b"USER a\x7f", b"control character in user name", id="DEL"),
    pytest.param(b"PASS", b"PASS needs a password", id="no password"),
    pytest.param(b"PASS ", b"PASS needs a password", id="empty password"),
    pytest.param(b"PASS x", b"USER first", id="no user"),
])
def test_refused(line: bytes, refusal: bytes) -> None:
    conversation = log_in(line + b"\r\nQUIT\r\n", maxline=1024)
    assert conversation.said == b"-ERR " + refusal + b"\r\n+OK bye\r\n"
    assert conversation.result is None


def test_a_refused_user_leaves_the_one_before() -> None:
    assert log_in(b"USER joe\r\nUSER\r\nPASS x\r\n").result == Credentials("joe", b"x")


def test_capa_is_the_list_given() -> None:
    assert log_in(b"CAPA\r\nQUIT\r\n").said.split(b"\r\n")[1:3] == [b"X", b"."]


def test_the_password_is_in_no_representation() -> None:
    assert "secret" not in repr(Credentials("joe", b"secret"))
