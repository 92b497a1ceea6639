"""The asking side of MAILCHECK against servers that are silent, slow, hostile or gone."""

import socket
import time
from collections.abc import Iterator

import pytest

from popular.addresses import Endpoint
from popular.errors import MailcheckError, NoMailbox
from popular.mailcheck import packet
from popular.mailcheck.client import ask_pcheckd, exchange
from popular.mailcheck.packet import MailState
from tests.harness.fake_pcheckd import Behaviour, FakePcheckd, Reply, always, by_mailbox, in_turn

LONG = 10.0      # seconds: a try that is never waited to its end
SHORT = 0.05     # seconds: a try that is
NEW = Reply(b"+OK 2 new mail\n")


@pytest.fixture
def dead() -> Iterator[Endpoint]:
    """A port that is reserved and refuses datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
        reserved.bind(("127.0.0.1", 0))
        endpoint = Endpoint("127.0.0.1", reserved.getsockname()[1])
        reserved.connect(("127.0.0.1", 1))    # takes datagrams from nobody else any more
        yield endpoint


ANSWERED = [
    pytest.param(always(Reply(b"+OK 0 no mails\n")), MailState.EMPTY, id="empty"),
    pytest.param(always(Reply(b"+OK 1 mail\n")), MailState.OLD_MAIL, id="old"),
    pytest.param(always(NEW), MailState.NEW_MAIL, id="new"),
    pytest.param(always(Reply(b"+OK 3 load too high\n")), MailState.OVERLOADED, id="overloaded"),
    pytest.param(always(NEW, NEW), MailState.NEW_MAIL, id="duplicate"),
    pytest.param(always(Reply(b"+OK 0\n", foreign=True), NEW), MailState.NEW_MAIL, id="forged-first"),
    pytest.param(always(Reply(b"rubbish"), Reply(b""), Reply(b"+OK 7\n"), NEW), MailState.NEW_MAIL, id="garbage-first"),
    pytest.param(always(Reply(b"\0" * 60000), NEW), MailState.NEW_MAIL, id="over-long-first"),
    pytest.param(always(Reply(b"+OK 1 mail\n"), Reply(b"+OK 0\n")), MailState.OLD_MAIL, id="first-counts"),
    pytest.param(by_mailbox({"joe": b"+OK 1 mail\n"}), MailState.OLD_MAIL, id="name-as-asked"),
]


@pytest.mark.parametrize("behaviour, state", ANSWERED)
def test_answer(behaviour: Behaviour, state: MailState) -> None:
    with FakePcheckd(behaviour) as fake:
        assert ask_pcheckd(fake.endpoint, "joe", LONG, 1) is state
        assert [asked.data for asked in fake.asked] == [b"*Mjoe"]


SECOND_TRY = [
    pytest.param(in_turn((), (NEW,)), id="silence"),
    pytest.param(in_turn((Reply(b"+OK 0\n", foreign=True),), (NEW,)), id="forged"),
    pytest.param(in_turn((Reply(b"+OK what\n"),), (NEW,)), id="garbage"),
    pytest.param(in_turn((), (Reply(b"+OK 0\n", to=-2), NEW)), id="late-answer-to-the-first"),
]


@pytest.mark.parametrize("behaviour", SECOND_TRY)
def test_second_try(behaviour: Behaviour) -> None:
    with FakePcheckd(behaviour) as fake:
        assert ask_pcheckd(fake.endpoint, "joe", SHORT, 200) is MailState.NEW_MAIL
        asked = fake.asked
        assert len(asked) >= 2 and {one.data for one in asked} == {b"*Mjoe"}


def test_every_try_has_a_port_of_its_own() -> None:
    with FakePcheckd(always()) as fake:
        with pytest.raises(MailcheckError):
            ask_pcheckd(fake.endpoint, "joe", SHORT, 4)
        asked = fake.wait_for_requests(4)
        assert len({one.peer for one in asked}) == 4


@pytest.mark.parametrize("behaviour", [
    pytest.param(always(), id="silence"),
    pytest.param(always(Reply(b"+OK 2 new mail\n", foreign=True)), id="forged"),
    pytest.param(always(Reply(b"rubbish")), id="garbage"),
])
def test_no_answer(behaviour: Behaviour) -> None:
    with FakePcheckd(behaviour) as fake:
        before = time.monotonic()
        with pytest.raises(MailcheckError, match=r"no answer within 0\.05 s \(3 tries\)"):
            ask_pcheckd(fake.endpoint, "joe", SHORT, 3)
        assert time.monotonic() - before >= 3 * SHORT
        assert len(fake.wait_for_requests(3)) == 3


def test_a_refusal_ends_the_tries_at_once() -> None:
    with FakePcheckd(always(Reply(b"-ERR no such mailbox\n"))) as fake:
        with pytest.raises(NoMailbox, match="refused by the server: no such mailbox"):
            ask_pcheckd(fake.endpoint, "joe", LONG, 3)
        assert len(fake.asked) == 1


def test_a_refused_port_costs_no_time(dead: Endpoint) -> None:
    before = time.monotonic()
    with pytest.raises(MailcheckError, match=r"nobody listens there \(3 tries\)"):
        ask_pcheckd(dead, "joe", LONG, 3)
    assert time.monotonic() - before < LONG / 2


def test_an_illegal_name_is_never_sent() -> None:
    with FakePcheckd(always(NEW)) as fake:
        with pytest.raises(MailcheckError, match="illegal mailbox name"):
            ask_pcheckd(fake.endpoint, "../joe", LONG, 1)
        assert fake.asked == []


def test_an_address_out_of_reach_is_no_answer() -> None:
    with pytest.raises(MailcheckError):
        ask_pcheckd(Endpoint("127.0.0.1", 9), "joe", LONG, 1, source="192.0.2.1")    # not an address of ours


def test_source_address() -> None:
    with FakePcheckd(always(NEW)) as fake:
        assert ask_pcheckd(fake.endpoint, "joe", LONG, 1, source="127.0.0.9") is MailState.NEW_MAIL
        assert fake.asked[0].peer[0] == "127.0.0.9"


def test_ipv6() -> None:
    with FakePcheckd(always(NEW), host="::1") as fake:
        assert ask_pcheckd(fake.endpoint, "joe", LONG, 1) is MailState.NEW_MAIL


def test_load() -> None:
    with FakePcheckd(always(Reply(b"+OK 2 new mail\n"), Reply(b"+OK 3.23\n"))) as fake:
        assert exchange(fake.endpoint, packet.load_request(), packet.parse_load_answer, LONG, 1) == 3.23
        assert fake.asked[0].data == b"*L"
