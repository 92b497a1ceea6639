"""The cache of answers: what is found again, for how long, and what neither damage nor a hostile child can do."""

import ctypes
import mmap
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.asking.cache import BUCKET, ANSWER_SIZE, AnswerCache, CachedModule, Lifetimes
from popular.pdm.asking.chain import CachedAnswer
from popular.pdm.asking.channel import Channel
from popular.pdm.asking.question import Question, pack_answer

REQUEST = Request("joe\udcff", b"\xffsecret\0", "2001:db8::1", "pop3", "org", vserv="main")
PLACE = Found("store", "pop3", "m/joe", "joe@store", b"credential at the backend", verified=True, softfail=True,
              label="phone")
OK = Answer(Outcome.OK, PLACE)
DENIED = Answer(Outcome.DENIED, Found("store", "xpop", "m/joe"), "wrong password")
LIFETIMES = Lifetimes(positive=300.0, negative=30.0, stale=3600.0)
STALE, VOID = 300.0, 3900.0


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Module(PdmModule):
    """Any module that checks passwords, which the tests answer for it."""

    def check(self, request: Request) -> Answer:
        raise AssertionError("asked here")


MODULE = Module("users", [])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(clock: Clock) -> Iterator[Callable[..., AnswerCache]]:
    made: list[AnswerCache] = []

    def new(size: int = BUCKET, lifetimes: Lifetimes = LIFETIMES) -> AnswerCache:
        made.append(AnswerCache(size, lifetimes, clock))
        return made[-1]
    yield new
    for cache in made:
        cache.close()


@pytest.fixture
def cache(make: Callable[..., AnswerCache]) -> AnswerCache:
    return make()


def keep(cache: AnswerCache, answer: Answer, request: Request = REQUEST, module: PdmModule = MODULE) -> None:
    cache.store(cache.place(module, request), answer)


def find(cache: AnswerCache, request: Request = REQUEST, module: PdmModule = MODULE) -> Answer | None:
    kept = cache.find(cache.place(module, request))
    return kept.answer if kept else None


def named(number: int) -> Request:
    return replace(REQUEST, user=f"user{number}")


def slots_of(cache: AnswerCache) -> list[bytes]:
    """Return the slots that are in use."""
    raw = cache._memory[cache._slots_at:]
    slots = [raw[at:at + ANSWER_SIZE] for at in range(0, len(raw), ANSWER_SIZE)]
    return [slot for slot in slots if any(slot)]


@pytest.mark.parametrize("answer", [OK, DENIED, UNKNOWN], ids=lambda answer: answer.outcome.value)
def test_an_answer_comes_back_as_it_was(cache: AnswerCache, answer: Answer) -> None:
    assert find(cache) is None
    keep(cache, answer)
    after = find(cache)
    assert after == answer
    assert after is not None and (after.found is None or answer.found is not None and (
        after.found.verified, after.found.label) == (answer.found.verified, answer.found.label))


@pytest.mark.parametrize("other", [
    {"user": "joe"}, {"password": b"\xffsecret"}, {"ip": "2001:db8::2"}, {"namespace": "com"}, {"vserv": "other"},
    {"namespace": "or", "vserv": "gmain"}, {"protocol": "imap"}, {"user": ""}, {"user": "joe\udcff" * 2500},
], ids=str)
def test_another_question_has_no_answer(cache: AnswerCache, other: dict[str, Any]) -> None:
    keep(cache, OK)
    assert find(cache, replace(REQUEST, **other)) is None
    keep(cache, DENIED, replace(REQUEST, **other))
    assert find(cache) == OK and find(cache, replace(REQUEST, **other)) == DENIED


def test_another_module_has_no_answer(cache: AnswerCache) -> None:
    keep(cache, OK)
    changed, other = Module("users", []), Module("others", [])
    changed.digest = MODULE.digest + 1
    assert find(cache, module=changed) is None and find(cache, module=other) is None


@pytest.mark.parametrize(("answer", "until", "fresh", "kept"), [
    pytest.param(OK, None, STALE, VOID, id="granted"),
    pytest.param(DENIED, None, 30.0, 30.0, id="denied"),
    pytest.param(UNKNOWN, None, 30.0, 30.0, id="unknown"),
    pytest.param(OK, 200.0, 200.0, 200.0, id="granted, and valid for a shorter time"),
    pytest.param(OK, 400.0, 300.0, 400.0, id="granted, and valid for a time in which it is stale"),
    pytest.param(OK, -1.0, 0.0, 0.0, id="granted, and not valid any more"),
])
def test_lifetimes(cache: AnswerCache, clock: Clock, answer: Answer, until: float | None, fresh: float,
                   kept: float) -> None:
    keep(cache, answer if until is None else replace(answer, until=time.time() + until))
    for after in (0.0, 29.0, 31.0, 199.0, 201.0, 299.0, 301.0, 399.0, 401.0, 3899.0, 3901.0):
        clock.now = 1000.0 + after
        found = cache.find(cache.place(MODULE, REQUEST))
        assert (found is not None) is (after < kept), after
        assert found is None or found.is_fresh is (after < fresh), after


@pytest.mark.parametrize("later", [
    pytest.param(DENIED, id="denied"), pytest.param(UNKNOWN, id="unknown"),
    pytest.param(Answer(Outcome.OK, replace(PLACE, master=True)), id="a master session"),
    pytest.param(Answer(Outcome.OK, replace(PLACE, mailbox="m" * ANSWER_SIZE)), id="too long"),
])
@pytest.mark.parametrize("negative", [30.0, 0.0])
def test_a_later_answer_ends_an_older_one(make: Callable[..., AnswerCache], later: Answer, negative: float) -> None:
    cache = make(lifetimes=replace(LIFETIMES, negative=negative))
    keep(cache, OK)
    keep(cache, later)
    assert find(cache) == (later if negative and later.outcome is not Outcome.OK else None)
    keep(cache, OK)
    assert find(cache) == OK
    assert len(slots_of(cache)) == 1


def test_a_failure_changes_nothing(cache: AnswerCache) -> None:
    keep(cache, OK)
    keep(cache, Answer(Outcome.FAILED, why="down"))
    assert find(cache) == OK


def test_what_it_forgets(make: Callable[..., AnswerCache]) -> None:
    cache = make(100 * BUCKET)
    keep(cache, OK)
    keep(cache, DENIED, replace(REQUEST, namespace="com"))
    for number in range(10):
        keep(cache, OK, named(number))
    late = cache.place(MODULE, REQUEST)
    keep(cache, OK, replace(REQUEST, user=REQUEST.user.upper()))
    cache.forget(REQUEST.user)
    assert find(cache) is None and find(cache, replace(REQUEST, namespace="com")) is None
    assert find(cache, replace(REQUEST, user=REQUEST.user.upper())) is None
    assert sum(find(cache, named(number)) == OK for number in range(10)) >= 8
    cache.store(late, OK)
    assert find(cache) is None, "the question was asked before"
    late = cache.place(MODULE, REQUEST)
    cache.clear()
    cache.store(late, OK)
    assert not any(find(cache, request) for request in (REQUEST, *map(named, range(10))))
    keep(cache, OK)
    assert find(cache) == OK


def test_refusals_take_no_place_of_logins(cache: AnswerCache, clock: Clock) -> None:
    for number in range(BUCKET - 1):
        keep(cache, OK, named(number))
    for number in range(1000, 1100):
        keep(cache, DENIED, named(number))
    assert all(find(cache, named(number)) == OK for number in range(BUCKET - 1))
    assert find(cache, named(1099)) == DENIED and find(cache, named(1098)) is None
    keep(cache, OK, named(BUCKET))
    assert find(cache, named(1099)) is None, "a login takes the place of a refusal"
    keep(cache, DENIED, named(2000))
    assert find(cache, named(2000)) is None
    clock.now += 1.0
    keep(cache, OK, named(BUCKET + 1))
    assert sum(find(cache, named(number)) == OK for number in range(BUCKET + 2)) == BUCKET
    assert find(cache, named(BUCKET + 1)) == OK
    clock.now += VOID
    keep(cache, DENIED, named(2000))
    assert find(cache, named(2000)) == DENIED


def test_its_size_is_fixed(make: Callable[..., AnswerCache]) -> None:
    cache = make(100)
    size = len(cache._memory)
    for number in range(1000):
        keep(cache, OK, named(number))
    assert len(slots_of(cache)) <= 112 and len(cache._memory) == size < 120 * ANSWER_SIZE
    assert 60 < sum(find(cache, named(number)) == OK for number in range(1000)) <= 112


@pytest.mark.parametrize("at", range(0, 210, 7))
def test_damage_is_no_answer(cache: AnswerCache, at: int) -> None:
    keep(cache, OK)
    [slot] = slots_of(cache)
    first = cache._memory.find(slot)
    cache._writable[first + at] ^= 0x41
    assert find(cache) is None
    cache._writable[first:first + ANSWER_SIZE] = os.urandom(ANSWER_SIZE)
    assert find(cache) is None
    keep(cache, OK)
    assert find(cache) == OK


def test_a_slot_that_is_half_written_is_no_answer(cache: AnswerCache) -> None:
    keep(cache, OK)
    [before] = slots_of(cache)
    keep(cache, Answer(Outcome.OK, replace(PLACE, mailbox="m/jim")))
    [after] = slots_of(cache)
    first = cache._memory.find(after)
    for cut in range(1, 200):
        cache._writable[first:first + ANSWER_SIZE] = before[:cut] + after[cut:]
        assert find(cache) is None, cut


def test_an_answer_in_another_place_is_no_answer(cache: AnswerCache) -> None:
    keep(cache, OK)
    [slot] = slots_of(cache)
    first = cache._memory.find(slot)
    tag = cache.place(MODULE, named(1)).tag
    cache._writable[first + 16:first + 16 + len(tag)] = tag
    assert find(cache, named(1)) is None


def test_it_holds_no_secret(make: Callable[..., AnswerCache]) -> None:
    cache, other = make(), make()
    keep(cache, OK)
    [slot] = slots_of(cache)
    for text in (b"secret", b"credential", b"joe", b"store", b"2001:db8"):
        assert text not in cache._memory[:]
    keep(cache, OK)
    assert slots_of(cache) != [slot], "nothing is encrypted twice in the same way"
    assert cache.place(MODULE, REQUEST) != other.place(MODULE, REQUEST), "each master has a key of its own"


def test_a_reader_cannot_write(cache: AnswerCache) -> None:
    keep(cache, OK)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            cache.become_reader()
            attempts = [lambda: keep(cache, DENIED), lambda: cache.forget("joe"), cache.clear, lambda: _poke(cache),
                        lambda: _make_writable(cache)]
            code = 0 if find(cache) == OK and all(map(_is_refused, attempts)) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert find(cache) == OK
    keep(cache, DENIED)
    assert find(cache) == DENIED


def _is_refused(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (ValueError, TypeError, OSError):
        return True
    return False


def _poke(cache: AnswerCache) -> None:
    cache._memory[0] = 1


def _make_writable(cache: AnswerCache) -> None:
    """Do what somebody would who has taken over a child: change the map, and make new ones of what is open."""
    with open("/proc/self/maps", encoding="ascii") as file:
        lines = [line for line in file if "popular-cache" in line]
    assert len(lines) == 1 and " r--s " in lines[0]
    begin, end = (int(word, 16) for word in lines[0].split()[0].split("-"))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.PROT_READ | mmap.PROT_WRITE) == 0:
        return
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        if "popular-cache" in (os.readlink(path) if os.path.islink(path) else ""):
            fd = os.open(path, os.O_RDWR)
            for change in (lambda: mmap.mmap(fd, 4096), lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
                if not _is_refused(change):
                    return
    raise PermissionError


class Worker(Channel):
    """Answers as a PDM worker does, in this process."""

    def __init__(self, cache: AnswerCache) -> None:
        super().__init__()
        self.cache = cache
        self.answer: Answer | Exception = OK
        self.deadlines: list[float] = []

    def ask(self, packet: bytes, deadline: float) -> bytes:
        """Store the answer and return it, or raise it."""
        self.deadlines.append(deadline)
        if isinstance(self.answer, Exception):
            raise self.answer
        keep(self.cache, self.answer, Question.unpacked(packet).request)
        return pack_answer(self.answer)


@pytest.fixture
def worker(cache: AnswerCache) -> Iterator[Worker]:
    made = Worker(cache)
    yield made
    made.close()


def ask(worker: Worker, request: Request = REQUEST) -> tuple[Answer, str, str]:
    answer = CachedModule(MODULE, worker, worker.cache).check(request)
    assert isinstance(answer, CachedAnswer)
    return Answer(answer.outcome, answer.found, answer.why), answer.counter, answer.failure


@pytest.mark.parametrize("failure", [
    Answer(Outcome.FAILED, why="it is down"), PdmError("it is down"), OSError(24, "it is down"),
], ids=lambda failure: type(failure).__name__)
def test_stale_answers(worker: Worker, clock: Clock, failure: Answer | Exception) -> None:
    asked = replace(REQUEST, deadline=time.monotonic() + 100.0)
    worker.answer = failure
    assert ask(worker) == (Answer(Outcome.FAILED, why="it is down"), "cache_misses", "")
    worker.answer = OK
    assert ask(worker) == (OK, "cache_misses", "")
    worker.answer = failure
    assert ask(worker) == (OK, "cache_hits", "")
    clock.now += STALE
    assert ask(worker, asked) == (OK, "cache_stale", "it is down")
    assert worker.deadlines[-1] == asked.deadline - 1.0, "time is left for the answer"
    began = time.monotonic()
    assert ask(worker, replace(asked, deadline=began + 1.0)) == (OK, "cache_stale", "it is down")
    assert began + 0.5 <= worker.deadlines[-1] < began + 1.0, "at most half"
    assert ask(worker, replace(asked, deadline=float("inf"))) == (OK, "cache_stale", "it is down")
    assert ask(worker, replace(asked, password=b"new"))[0].outcome is Outcome.FAILED
    assert worker.deadlines[-1] == asked.deadline
    worker.answer = DENIED
    assert ask(worker) == (DENIED, "cache_misses", "")
    worker.answer = failure
    assert ask(worker) == (DENIED, "cache_hits", "")
    clock.now += 31.0
    assert ask(worker)[0].outcome is Outcome.FAILED, "a refusal is never stale, nor what it has ended"


def test_writers_at_the_same_time(make: Callable[..., AnswerCache]) -> None:
    """Whoever reads finds a whole answer, to the right question, or none."""
    cache = make(BUCKET)
    answers = {number: Answer(Outcome.OK, replace(PLACE, mailbox=f"m/{number}" * 20)) for number in range(40)}
    writers = []
    for begin in (0, 20):
        pid = os.fork()
        if not pid:
            while True:
                for number in range(begin, begin + 25):
                    keep(cache, answers[number % 40], named(number % 40))
        writers.append(pid)
    try:
        found = [(number, find(cache, named(number))) for _ in range(200) for number in range(40)]
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert all(answer in (None, answers[number]) for number, answer in found)
    assert any(answer for _, answer in found)
