"""Access tokens for backends (API 1.2): which modules are asked, what their failures mean, and the way to workers."""

import time
from collections.abc import Iterator

import pytest

from popular.log.message import Message
from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.pdm.api import NoConsent, PdmError, PdmModule
from popular.pdm.asking.cache import AnswerCache, CachedModule, Lifetimes
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.channel import Channel
from popular.pdm.asking.runner import Asked
from popular.pproxy.modules.remote import stand_ins
from popular.pproxy.modules.worker import WorkerJob
from tests.harness.pdm import working

TOKEN = "ya29.a0~-._+/="    # all signs of RFC 6750 section 2.1


class Giver(PdmModule):
    """A module that has one token, or the error that it raises, for everybody."""

    API = (1, 2)
    gives_tokens = True
    blocking = True

    def __init__(self, ident: str, told: object, *namespaces: str) -> None:
        super().__init__(ident, [])
        self.told, self.namespaces = told, frozenset(namespaces)
        self.asked: list[tuple[str, str, float]] = []

    def token(self, user: str, backend: str, deadline: float, refused: str) -> str:
        self.asked.append((user, backend, deadline))
        if isinstance(self.told, Exception):
            raise self.told
        if self.told == "question":
            return f"{user}@{backend}/{refused}"
        return self.told    # type: ignore[return-value]


NEVER, DOWN = NoConsent("never granted"), PdmError("down")


@pytest.mark.parametrize("told, token", [
    ([TOKEN, "other"], TOKEN), ([NEVER, TOKEN], TOKEN), ([DOWN, TOKEN], TOKEN),
    ([NEVER], NoConsent("m0: never granted")), ([NEVER, NoConsent("gone")], NoConsent("m0: never granted; m1: gone")),
    ([NEVER, DOWN, NEVER], PdmError("m1: down")), ([], PdmError("no module gives tokens")),
    ([ValueError(TOKEN)], PdmError("ValueError at ")),
    ([b"bytes"], PdmError("the token is bytes, not str")), ([None], PdmError("the token is NoneType, not str")),
    ([""], PdmError("is empty, or has other")), (["a b"], PdmError("other characters")),
    (["a\1"], PdmError("other characters")), (["\xfc"], PdmError("other characters")),
    (["x" * 32769], PdmError("more than 32768 octets")),
], ids=str)
def test_the_first_module_with_a_token_is_the_one(told: list[object], token: str | PdmError) -> None:
    notes: list[str] = []

    def note(message: Message, **fields: object) -> None:
        notes.append(f"{message.name} {fields}")

    chain = Chain([PdmModule("users", []), *(Giver(f"m{number}", one) for number, one in enumerate(told))], 10, note)
    if isinstance(token, str):
        assert chain.token("joe@example.org", "store", time.monotonic() + 5) == token.encode()
    else:
        with pytest.raises(type(token)) as caught:
            chain.token("joe@example.org", "store")
        assert type(caught.value) is type(token) and str(token) in str(caught.value)
    assert len(notes) == sum(one not in (TOKEN, NEVER) and not isinstance(one, NoConsent) for one in told
                             if one != "other")
    assert not any(TOKEN in note for note in notes)
    chain.close()


def test_a_module_is_asked_with_its_deadline_whatever_its_namespaces() -> None:
    module = Giver("gate", TOKEN, "example.net")
    before = time.monotonic()
    Chain([module], 3, print).token("joe", "store", before + 60)
    Chain([module], 3, print).token("joe", "store", before + 1)
    [(user, backend, first), (_, _, second)] = module.asked
    assert (user, backend, second) == ("joe", "store", before + 1)
    assert before + 3 <= first <= time.monotonic() + 3


@pytest.fixture
def cache() -> Iterator[AnswerCache]:
    made = AnswerCache(16, Lifetimes(60.0, 60.0, 60.0))
    yield made
    made.close()


@pytest.mark.parametrize("is_cached", [False, True])
def test_pdm_workers_get_tokens(is_cached: bool, cache: AnswerCache) -> None:
    modules = [Giver("gate", "question"), Giver("never", NEVER), Giver("down", DOWN)]
    job = WorkerJob(modules, Channel(), 10.0, None, Log("test", FileSink(2)), cache if is_cached else None)
    asked: list[Asked] = stand_ins(modules, job)
    assert not any(isinstance(one, CachedModule) for one in asked)    # no answers of theirs are worth that
    with working(job):
        gate, never, down = (Chain([one], 10, lambda message, **fields: None) for one in asked)
        deadline = time.monotonic() + 10
        assert gate.token("joe@example.org", "store", deadline) == b"joe@example.org@store/"
        assert gate.token("joe", "store", deadline, TOKEN.encode()) == f"joe@store/{TOKEN}".encode()
        with pytest.raises(NoConsent, match="never: never granted"):
            never.token("joe", "store", deadline)
        with pytest.raises(PdmError, match="down: down") as caught:
            down.token("joe", "store", deadline)
        assert not isinstance(caught.value, NoConsent)
