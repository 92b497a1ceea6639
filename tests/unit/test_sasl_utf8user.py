"""UTF-8 in USER and PASS: made uniform, or refused (RFC 6856, RFC 4013)."""

import pytest

from popular.net.wire import Wire
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.sasl.mechanism import Credentials
from popular.sasl.utf8user import prepared_strictly
from tests.harness.memory import Conversation


@pytest.mark.parametrize("given, wanted", [
    pytest.param("jo\u0308rg", "j\u00f6rg", id="composed"),
    pytest.param("I\u00adX", "IX", id="soft hyphen is nothing"),
    pytest.param("\u2168", "IX", id="compatibility"),
    pytest.param("a\u00a0\u00e4", "a \u00e4", id="odd space"),
    pytest.param("\u0627\u0628", "\u0627\u0628", id="right to left"),
])
def test_made_uniform(given: str, wanted: str) -> None:
    assert prepared_strictly(given.encode()) == wanted.encode()


@pytest.mark.parametrize("octets", [
    pytest.param(b"j\xf6rg", id="Latin-1"),
    pytest.param("\u00e4\u0007".encode(), id="control"),
    pytest.param("\u00e4\ue000".encode(), id="private use"),
    pytest.param("\u0627a\u0628".encode(), id="both directions"),
    pytest.param("\u06271".encode(), id="ends in the other direction"),
])
def test_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):
        prepared_strictly(octets)


@pytest.mark.parametrize("data, said, result", [
    pytest.param("USER jo\u0308rg\r\nPASS p\u00e4ss\r\n".encode(), b"+OK password please\r\n",
                 Credentials("j\u00f6rg", "p\u00e4ss".encode()), id="good"),
    pytest.param(b"USER j\xf6rg\r\nUSER joe\r\nPASS \xe4\r\nQUIT\r\n",
                 b"-ERR not UTF-8, or with characters that may not be used\r\n+OK password please\r\n"
                 b"-ERR not UTF-8, or with characters that may not be used\r\n+OK bye\r\n", None, id="not UTF-8"),
])
def test_user_and_pass(data: bytes, said: bytes, result: Credentials | None) -> None:
    conversation = Conversation(_serve)
    assert conversation.exchange(data) == said
    assert conversation.result == result


def test_apop() -> None:
    digest = b"0" * 32
    conversation = Conversation(_serve)
    assert conversation.exchange(b"APOP j\xf6rg %b\r\nAPOP %b %b\r\n" % (digest, "jo\u0308rg".encode(), digest)) == (
        b"-ERR not UTF-8, or with characters that may not be used\r\n")
    assert conversation.result == Credentials("j\u00f6rg", digest + b" <1@x>", "APOP", how="APOP")


def _serve(wire: Wire) -> object:
    return Dialogue(wire, maxerrors=25).run(
        AuthorizationState(wire, ("USER",), prepare=prepared_strictly, timestamp="<1@x>"))
