"""Questions to PDM workers and their answers, as JSON in one packet each: lists of their fields in order.

Both ends are processes of one daemon, but a child may be hostile: nothing that it sends is executed, and a packet that
cannot be read raises ValueError.  Octets are written as the characters of the same numbers.
"""

from dataclasses import dataclass, fields
from enum import Enum
from json import JSONDecoder, JSONEncoder
from operator import attrgetter
from typing import Any

from popular.pdm.api import Answer, Found, Outcome, Request

MAX_PACKET = 1 << 16    # octets of a question or an answer

_FIELDS = attrgetter(*(field.name for field in fields(Found)))
_PASSWORD = [field.name for field in fields(Found)].index("password")
_encode = JSONEncoder(separators=(",", ":")).encode
_decode = JSONDecoder().decode


class QuestionKind(Enum):
    """What a module is asked for: the method to call."""

    CHECK = "check"
    AUTH = "auth"
    FIND = "find"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Question:
    """One question to one module."""

    kind: QuestionKind
    module: str       # its id
    digest: int       # of its code and arguments: another module may have the id by now
    request: Request
    identity: Found | None = None    # with AUTH; with TOKEN, the backend (and a token that it refused is the password)

    def packed(self) -> bytes:
        """Return the packet."""
        request = self.request
        return _packed(
            self.kind.value, self.module, self.digest, _raw(self.identity), request.user,
            request.password.decode("latin-1"), request.ip, request.protocol, request.namespace, request.deadline,
            request.vserv, request.mechanism, request.master)

    @classmethod
    def unpacked(cls, packet: bytes) -> "Question":
        """Return the question in a packet; raises ValueError."""
        try:
            (kind, module, digest, identity, user, password, ip, protocol, namespace, deadline, vserv, mechanism,
             master) = _unpacked(packet)
            request = Request(str(user), password.encode("latin-1"), str(ip), str(protocol), str(namespace),
                              float(deadline), str(vserv), str(mechanism), str(master))
            return cls(QuestionKind(kind), str(module), int(digest), request, _found(identity))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as why:
            raise ValueError(f"not a question: {type(why).__name__}") from None


def pack_answer(answer: Answer) -> bytes:
    """Return the packet of a valid answer."""
    return _packed(answer.outcome.value, _raw(answer.found), answer.why, answer.user, answer.proof.decode("latin-1"))


def unpack_answer(packet: bytes) -> Answer:
    """Return the answer in a packet; raises ValueError."""
    try:
        outcome, found, why, user, proof = _unpacked(packet)
        return Answer(Outcome(outcome), _found(found), str(why), user=str(user), proof=proof.encode("latin-1"))
    except (ValueError, LookupError, TypeError, AttributeError) as why:
        raise ValueError(f"not an answer: {type(why).__name__}") from None


def _packed(*raw: object) -> bytes:
    return _encode(raw).encode("ascii")


def _unpacked(packet: bytes) -> Any:
    try:
        return _decode(packet.decode("ascii"))
    except RecursionError:
        raise ValueError("not a packet") from None


def _raw(found: Found | None) -> list[object] | None:
    if found is None:
        return None
    raw = list(_FIELDS(found))
    raw[_PASSWORD] = found.password.decode("latin-1")
    return raw


def _found(raw: Any) -> Found | None:
    if raw is None:
        return None
    raw[_PASSWORD] = raw[_PASSWORD].encode("latin-1")
    return Found(*raw)
