"""The channel to PDM workers: what both ends make of each other, and of hostile packets."""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.asking.channel import Channel, RemoteModule
from popular.pdm.asking.question import MAX_PACKET, QuestionKind, Question, pack_answer, unpack_answer

EVERYTHING = Found("store", "pop3", "m/joe", "joe\udcff", b"\xff\0\n\"", True, False, True, "phone")
REQUEST = Request("j\udce9oe\"\n", b"\xffsecret\0", "2001:db8::1", "pop3", "org", 12.5, "main", "XOAUTH2")


class Voucher(PdmModule):
    """One that has something to say in both passes."""

    def check(self, request: Request) -> Answer:
        raise AssertionError("asked here")

    def auth(self, request: Request, found: Found) -> Answer:
        raise AssertionError("asked here")


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.close()


def in_time(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


@pytest.mark.parametrize("question", [
    Question(QuestionKind.CHECK, "users", -5, REQUEST),
    Question(QuestionKind.AUTH, "users", 1 << 62, REQUEST, EVERYTHING),
    Question(QuestionKind.FIND, "users", 0, Request("", b"", "", "pop3", "", float("inf")), Found("x")),
], ids=lambda question: question.kind.value)
def test_questions_arrive_as_they_were(question: Question) -> None:
    assert Question.unpacked(question.packed()) == question


@pytest.mark.parametrize("answer", [
    UNKNOWN, Answer(Outcome.OK, EVERYTHING), Answer(Outcome.DENIED, Found("store", "xpop", "x"), "w\udcffhy"),
    Answer(Outcome.FAILED, why="down"), Answer(Outcome.OK, user="joe"),
])
def test_answers_arrive_as_they_were(answer: Answer) -> None:
    after = unpack_answer(pack_answer(answer))
    assert after == answer
    assert after.found is None or answer.found is not None and (
        after.found.verified, after.found.label) == (answer.found.verified, answer.found.label)


@pytest.mark.parametrize("packet", [
    b"", b"{", b"[]", b"null", b"7", b"{}", b"\xff", b"[" * 60_000, b'{"kind": "check"}',
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b'"check"', b'"open"'),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b"12.5", b'"soon"'),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b"12.5", b"1" + 400 * b"0"),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b'"u",0', b'"u",Infinity'),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b"null", b'{"wrong":1}'),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b"null", b"[]"),
    Question(QuestionKind.CHECK, "u", 0, REQUEST).packed().replace(b'"\\u00ffsecret', b'"\\u1234secret'),
])
def test_packets_that_cannot_be_read(packet: bytes) -> None:
    for read in (Question.unpacked, unpack_answer):
        with pytest.raises(ValueError):
            read(packet)


def test_no_descriptor_is_left_of_hostile_packets(channel: Channel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull, "rb") as file:
        numbers = [ours.fileno(), theirs.fileno()]
        for packet, fds in ((b"x", []), (b"", []), (b"x", numbers), (b"x", [file.fileno()]), (b"", [file.fileno()])):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
            channel.asks.sendmsg([packet], rights)
            taken = channel.take()
            if taken is not None and taken[1] is not None:
                taken[1].close()
        assert channel.take() is None, "another worker was quicker"
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_needs_no_answer(channel: Channel) -> None:
    """It is sent without waiting, and lost if there is no room, or no worker any more."""
    assert channel.tell(b"report")
    assert channel.take() == (b"report", None)
    count = 0
    while channel.tell(b"x" * 1000):
        count += 1
    assert count > 10
    channel.works.close()
    assert not channel.tell(b"report")


def test_what_nobody_waits_for_is_not_taken(channel: Channel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PdmError, match="in time"):
        channel.ask(b"x", time.monotonic())
    assert channel.take() is None and len(os.listdir("/proc/self/fd")) == before


def test_nobody_is_left_who_could_ask() -> None:
    channel = Channel()
    channel.become_worker()
    with pytest.raises(EOFError):
        channel.take()
    channel.works.close()


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_channel_that_was_shut_down_is_made_anew(channel: Channel, how: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert not channel.renew(), "it is whole"
    hostile = socket.socket(fileno=os.dup(channel.asks.fileno()))
    hostile.shutdown(how)
    hostile.close()
    with pytest.raises(EOFError):
        channel.take()
    with pytest.raises(PdmError, match="no PDM workers"):
        channel.ask(b"x", in_time())
    assert channel.renew() and channel.take() is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_question_waits_because_another_process_wants_it(channel: Channel) -> None:
    channel.asks.setblocking(True)
    with pytest.raises(PdmError, match="in time"):
        for _ in range(10_000):
            channel.ask(b"x" * MAX_PACKET, time.monotonic() + 0.001)


def test_nobody_is_left_who_could_answer() -> None:
    channel = Channel()
    channel.become_asker()
    with pytest.raises(PdmError, match="no PDM workers"):
        channel.ask(b"x", in_time())
    channel.asks.close()


def test_as_many_questions_wait_as_there_is_room_for(channel: Channel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PdmError, match="in time"):
        for _ in range(10_000):
            channel.ask(b"x" * MAX_PACKET, time.monotonic() + 0.001)
    began = time.monotonic()
    with pytest.raises(PdmError, match="in time"):
        channel.ask(b"x" * MAX_PACKET, began + 0.05)
    assert time.monotonic() - began < 5.0 and len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("reply", "wanted"), [
    pytest.param(pack_answer(Answer(Outcome.OK, EVERYTHING)), Answer(Outcome.OK, EVERYTHING), id="answer"),
    pytest.param(b"", "the PDM worker has died", id="nothing"),
    pytest.param(b"{}", "not an answer", id="nonsense"),
])
def test_a_module_that_is_asked_elsewhere(channel: Channel, reply: bytes, wanted: Answer | str) -> None:
    asked = []

    def work() -> None:
        while (taken := channel.take()) is None:
            time.sleep(0.001)
        packet, sock = taken
        assert sock is not None
        asked.append(Question.unpacked(packet))
        with sock:
            if reply:
                sock.send(reply)

    module = Voucher("users", ["a"])
    module.digest = 17
    remote = RemoteModule(module, channel)
    worker = threading.Thread(target=work)
    worker.start()
    request = REQUEST.until(in_time())
    try:
        if isinstance(wanted, Answer):
            assert remote.auth(request, EVERYTHING) == wanted
        else:
            with pytest.raises((PdmError, ValueError), match=wanted):
                remote.auth(request, EVERYTHING)
    finally:
        worker.join()
    assert asked == [Question(QuestionKind.AUTH, "users", 17, request, EVERYTHING)]


def test_no_worker_is_asked_what_a_module_never_knows(channel: Channel) -> None:
    remote = RemoteModule(PdmModule("users", []), channel)
    assert remote.auth(REQUEST.until(in_time()), EVERYTHING) == UNKNOWN
    assert remote.check(REQUEST.until(in_time())) == UNKNOWN
    assert channel.take() is None


def test_a_question_that_is_too_long(channel: Channel) -> None:
    with pytest.raises(PdmError, match="more than 65536 octets"):
        RemoteModule(Voucher("users", []), channel).check(Request("x" * MAX_PACKET, b"", "", "pop3", "", in_time()))
