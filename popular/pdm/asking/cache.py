"""A cache of the answers of PDM workers, in memory that all processes of pproxy share (design 5.7).

It is a table of slots with one answer in each.  A slot is found by a keyed digest of the whole question: module, user,
password, and whatever else the answer may depend on.  So an answer is only used for the same question, and a wrong
password says nothing of any other.  The answer itself, which may hold a password for the backend, is encrypted with a
key that is made of the question.

Only PDM workers write what they were answered; the children of sessions have a map that cannot be made writable.
Nobody locks anything: a slot that is read while it is written has a wrong checksum, and the question is asked.

`AnswerCache` is made in the master.  `CachedModule` runs in the process that asks, `store` in a worker.
"""

import fcntl
import os
import struct
import time
from _blake2 import blake2b    # hashlib would load OpenSSL, and every fork copy its mappings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import PROT_READ, mmap

from popular.errors import PdmError
from popular.pdm.api import CHALLENGES, Answer, Outcome, PdmModule, Request
from popular.pdm.asking.chain import CachedAnswer
from popular.pdm.asking.channel import Channel, RemoteModule
from popular.pdm.asking.question import pack_answer, unpack_answer
from popular.pdm.asking.runner import Asked, reason
from popular.pdm.secrets import compare_digest

ANSWER_SIZE = 512    # octets
BUCKET = 16        # slots in which an answer about a user may be

_CHECKSUM = 16
_HEAD = struct.Struct("<32s16sdd?H")    # tag, nonce, moments at which it is stale and void, whether OK, length
_PAYLOAD_AT = _CHECKSUM + _HEAD.size
_ROOM = ANSWER_SIZE - _PAYLOAD_AT
_COUNT = struct.Struct("<Q")            # of a generation: of the whole cache, then of each bucket
_CHUNK = 64                             # octets of a BLAKE2b digest

_F_SEAL_FUTURE_WRITE = 0x10             # Linux 5.1; Python has no name for it
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | _F_SEAL_FUTURE_WRITE

_MARGIN = 1.0    # seconds, but at most half of the time for a question, which remain for using a stale answer


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long answers are kept, in seconds."""

    positive: float    # OK
    negative: float    # DENIED and UNKNOWN
    stale: float       # an OK for this longer, if the module fails


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where the answer to a question is kept; made before the module is asked."""

    bucket: int
    tag: bytes     # what the slot of the answer begins with
    key: bytes     # of its encryption


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was kept."""

    answer: Answer
    is_fresh: bool    # False: only good if the module fails


class AnswerCache:
    """The slots, and a key that is in no file."""

    def __init__(self, size: int, lifetimes: Lifetimes, clock: Callable[[], float] = time.monotonic) -> None:
        """Make room for at least `size` answers; raises OSError.

        `clock` must be the same in all processes.
        """
        self.size = size
        self.lifetimes = lifetimes
        self._clock = clock
        self._key = os.urandom(_CHUNK)
        self._buckets = -(-size // BUCKET)
        self._slots_at = -(-(1 + self._buckets) * _COUNT.size // ANSWER_SIZE) * ANSWER_SIZE
        memory = self._slots_at + self._buckets * BUCKET * ANSWER_SIZE
        fd = os.memfd_create("popular-cache", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, memory)
            self._writable = mmap(fd, memory)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)    # from now on nobody can get another writable map
            self._memory = mmap(fd, memory, prot=PROT_READ)
        finally:
            os.close(fd)

    def become_reader(self) -> None:
        """Give up the right to write, for good."""
        self._writable.close()

    def close(self) -> None:
        """Free the memory of this process; for tests, because a master leaves that to the garbage collector."""
        self._writable.close()
        self._memory.close()

    def place(self, module: Asked | PdmModule, request: Request) -> AnswerPlace:
        """Return the place for the answer to a question, as long as nobody has emptied it."""
        user = _octets(request.user)
        bucket = self._bucket(request.user)
        count_at = self._count_at(bucket)
        question = _joined(
            self._memory[:_COUNT.size], self._memory[count_at:count_at + _COUNT.size], module.ident.encode(),
            str(module.digest).encode(), _octets(request.namespace), _octets(request.vserv), _octets(request.protocol),
            _octets(request.ip), user, request.password, request.mechanism.encode())
        return AnswerPlace(bucket, self._digest(b"tag", question), self._digest(b"key", question, _CHUNK))

    def find(self, place: AnswerPlace) -> Kept | None:
        """Return the answer kept at a place; None if there is none."""
        for at in self._slots(place):
            raw = self._memory[at:at + ANSWER_SIZE]    # a copy, which no writer changes
            kept = self._read(raw, place)
            if kept is not None:
                return kept
        return None

    def store(self, place: AnswerPlace, answer: Answer) -> None:
        """Keep an answer instead of an older one to the same question; FAILED changes nothing.

        Of what is not kept, such as a master session, or more than a slot has room for, the older answer goes too.
        """
        if answer.outcome is Outcome.FAILED:
            return
        now = self._clock()
        stale, void = self._moments(answer, now)
        payload = pack_answer(answer)
        is_kept = void > now and len(payload) <= _ROOM and not (answer.found is not None and answer.found.master)
        is_ok = answer.outcome is Outcome.OK
        same = list(self._slots(place))
        for at in same[1:] if is_kept else same:
            self._writable[at:at + _PAYLOAD_AT] = bytes(_PAYLOAD_AT)
        at = same[0] if same else self._victim(place.bucket, now, is_ok)
        if is_kept and at >= 0:
            nonce = os.urandom(16)
            body = _HEAD.pack(place.tag, nonce, stale, void, is_ok, len(payload)) + _crypted(payload, nonce, place.key)
            slot = self._digest(b"sum", body, _CHECKSUM) + body
            self._writable[at:at + len(slot)] = slot

    def clear(self) -> None:
        """Forget all answers, and those to the questions that are being asked."""
        self._count_up(0)

    def forget(self, user: str) -> None:
        """Forget the answers about a user, in all namespaces, and those to the questions that are being asked.

        Capital letters make no difference.  Those about some others, in the same bucket, go too.
        """
        self._count_up(self._count_at(self._bucket(user)))

    def _moments(self, answer: Answer, now: float) -> tuple[float, float]:
        """Return when the answer will be stale, and when it will be void."""
        if answer.outcome is not Outcome.OK:
            return now + self.lifetimes.negative, now + self.lifetimes.negative
        until = now + answer.until - time.time() if answer.until != float("inf") else answer.until
        stale = min(until, now + self.lifetimes.positive)
        return stale, min(until, stale + self.lifetimes.stale)

    def _slots(self, place: AnswerPlace) -> Iterator[int]:
        """Yield where slots with the tag of a place are."""
        first = self._slots_at + place.bucket * BUCKET * ANSWER_SIZE
        for at in range(first, first + BUCKET * ANSWER_SIZE, ANSWER_SIZE):
            tag = self._memory[at + _CHECKSUM:at + _CHECKSUM + len(place.tag)]
            if compare_digest(tag, place.tag):
                yield at

    def _victim(self, bucket: int, now: float, is_ok: bool) -> int:
        """Return the slot to be given up for a new answer; -1: the answer is not worth any.

        A refusal never takes the place of a login, so that guessing passwords does not empty the cache.
        """
        first = self._slots_at + bucket * BUCKET * ANSWER_SIZE
        ranks = []
        for at in range(first, first + BUCKET * ANSWER_SIZE, ANSWER_SIZE):
            _, _, _, void, was_ok, _ = _HEAD.unpack_from(self._memory, at + _CHECKSUM)
            ranks.append((void > now, was_ok, void, at))
        is_valid, was_ok, _, at = min(ranks)
        return -1 if is_valid and was_ok and not is_ok else at

    def _read(self, raw: bytes, place: AnswerPlace) -> Kept | None:
        """Return what is in a slot with the right tag; None if it is not valid, or not whole."""
        _, nonce, stale, void, _, length = _HEAD.unpack_from(raw, _CHECKSUM)
        if length > _ROOM:
            return None
        body = raw[_CHECKSUM:_PAYLOAD_AT + length]
        now = self._clock()
        if now >= void or not compare_digest(self._digest(b"sum", body, _CHECKSUM), raw[:_CHECKSUM]):
            return None
        try:
            return Kept(unpack_answer(_crypted(body[_HEAD.size:], nonce, place.key)), now < stale)
        except ValueError:
            return None

    def _bucket(self, user: str) -> int:
        """Return the same for Joe and joe, whom many databases take for one user."""
        return int.from_bytes(self._digest(b"user", _octets(user.lower()), 8)) % self._buckets

    @staticmethod
    def _count_at(bucket: int) -> int:
        return (1 + bucket) * _COUNT.size

    def _count_up(self, at: int) -> None:
        """Make all older places of a generation void."""
        count = _COUNT.unpack_from(self._writable, at)[0] + 1
        self._writable[at:at + _COUNT.size] = _COUNT.pack(count)

    def _digest(self, purpose: bytes, text: bytes, size: int = 32) -> bytes:
        return blake2b(text, digest_size=size, key=self._key, person=purpose).digest()


class CachedModule(RemoteModule):
    """Stands in the chain for a module that PDM workers ask and whose answers are cached."""

    def __init__(self, module: PdmModule, channel: Channel, cache: AnswerCache) -> None:
        """Ask `module` through `channel` what is not in `cache`."""
        super().__init__(module, channel)
        self._cache = cache

    def check(self, request: Request) -> Answer:
        """Answer from the cache, or have a worker answer; a failure is an answer, too."""
        if request.mechanism in CHALLENGES:    # no proof comes twice
            return _noted(self._checked(request))
        kept = self._cache.find(self._cache.place(self, request))
        if kept is None:
            return _noted(self._checked(request))
        if kept.is_fresh:
            return _noted(kept.answer, "cache_hits")
        left = request.deadline - time.monotonic()
        answer = self._checked(request.until(request.deadline - min(_MARGIN, left / 2)))
        if answer.outcome is Outcome.FAILED:
            return _noted(kept.answer, "cache_stale", answer.why)
        return _noted(answer)

    def _checked(self, request: Request) -> Answer:
        try:
            return super().check(request)
        except (PdmError, OSError, ValueError) as why:
            return Answer(Outcome.FAILED, why=reason(why))


def _noted(answer: Answer, counter: str = "cache_misses", failure: str = "") -> CachedAnswer:
    return CachedAnswer(answer.outcome, answer.found, answer.why, user=answer.user, proof=answer.proof,
                        counter=counter, failure=failure)


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _joined(*parts: bytes) -> bytes:
    """Return the parts in a form that no other parts have."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def _crypted(text: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return `text` encrypted, or decrypted."""
    pad = b"".join(blake2b(nonce + at.to_bytes(2), key=key).digest() for at in range(0, len(text), _CHUNK))
    return (int.from_bytes(text) ^ int.from_bytes(pad[:len(text)])).to_bytes(len(text))
