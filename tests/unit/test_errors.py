"""Errors: what they carry for the one who can mend it, and what for the client."""

import errno

import pytest

from popular import errors
from popular.config.mistakes import ConfigError, Mistake
from popular.errors import CommandRefused, Gone, Leave, LoginRefused, MailboxError, NulByte, PopularError, StoreError
from popular.pop3.response import code_for


def test_a_configuration_error_tells_every_mistake():
    first = Mistake("pproxy.conf: [pproxy] authtimeout", "'70m' is not a time from 0s to 1h")
    second = Mistake("pproxy.conf: line 3", "'x' is not KEY = VALUE")
    why = ConfigError([first, second])
    assert why.mistakes == (first, second)
    assert str(why).splitlines() == ["pproxy.conf: [pproxy] authtimeout: '70m' is not a time from 0s to 1h",
                                     "pproxy.conf: line 3: 'x' is not KEY = VALUE"]


def test_a_refused_login_keeps_its_reason_from_the_client():
    why = LoginRefused("login refused", code="AUTH", why="user joe: wrong password")
    assert str(why) == "user joe: wrong password"
    assert "joe" not in why.text + why.code


def test_what_a_refused_command_carries():
    why = CommandRefused("no such message", code="SYS/PERM")
    assert (why.text, why.code, CommandRefused("x").code) == ("no such message", "SYS/PERM", "")


@pytest.mark.parametrize("why, code", [
    pytest.param(StoreError("disk"), "SYS/TEMP", id="store"),
    pytest.param(MailboxError("/spool/joe", errno.EACCES), "SYS/TEMP", id="mailbox"),
    pytest.param(MailboxError("/spool/joe", errno.ENOENT, no_such_mailbox=True), "SYS/PERM", id="no such mailbox"),
])
def test_the_response_code_of_a_store_error(why, code):
    assert code_for(why) == code


def test_a_nul_byte_is_a_peer_gone():
    why = NulByte(12, b"USER a\0")
    assert isinstance(why, Gone)
    assert (why.length, why.data) == (12, b"USER a\0")


def test_leaving_a_state_is_no_error():
    assert not isinstance(Leave(), PopularError)
    assert Leave(3).result == 3


def test_every_error_has_the_one_root():
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert [cls for cls in classes if not issubclass(cls, PopularError)] == [Leave]
