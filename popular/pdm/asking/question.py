"""Questions to PDM workers and their answers, as JSON in one packet each.

Both ends are processes of one daemon, but a child may be hostile: nothing that it sends is executed, and a packet that
cannot be read raises ValueError.  Octets are written as the characters of the same numbers.
"""

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from popular.pdm.api import Answer, Found, Outcome, Request

MAX_PACKET = 1 << 16    # octets of a question or an answer

_NOTHING = Found("")
_FIELDS = tuple(field.name for field in fields(Found))


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
        return _packed({
            "kind": self.kind.value, "module": self.module, "digest": self.digest, "user": request.user,
            "password": request.password.decode("latin-1"), "ip": request.ip, "protocol": request.protocol,
            "namespace": request.namespace, "deadline": request.deadline, "vserv": request.vserv,
            "mechanism": request.mechanism, "master": request.master, "identity": _raw(self.identity)})

    @classmethod
    def unpacked(cls, packet: bytes) -> "Question":
        """Return the question in a packet; raises ValueError."""
        raw = _unpacked(packet)
        try:
            request = Request(str(raw["user"]), raw["password"].encode("latin-1"), str(raw["ip"]),
                              str(raw["protocol"]), str(raw["namespace"]), float(raw["deadline"]), str(raw["vserv"]),
                              str(raw["mechanism"]), str(raw["master"]))
            return cls(QuestionKind(raw["kind"]), str(raw["module"]), int(raw["digest"]), request,
                       _found(raw["identity"]))
        except (KeyError, TypeError, AttributeError, OverflowError) as why:
            raise ValueError(f"not a question: {type(why).__name__}") from None


def pack_answer(answer: Answer) -> bytes:
    """Return the packet of a valid answer."""
    return _packed({"outcome": answer.outcome.value, "why": answer.why, "found": _raw(answer.found),
                    "user": answer.user, "proof": answer.proof.decode("latin-1")})


def unpack_answer(packet: bytes) -> Answer:
    """Return the answer in a packet; raises ValueError."""
    raw = _unpacked(packet)
    try:
        return Answer(Outcome(raw["outcome"]), _found(raw["found"]), str(raw["why"]), user=str(raw["user"]),
                      proof=raw["proof"].encode("latin-1"))
    except (KeyError, TypeError, AttributeError) as why:
        raise ValueError(f"not an answer: {type(why).__name__}") from None


def _packed(raw: dict[str, object]) -> bytes:
    return json.dumps(raw, separators=(",", ":")).encode("ascii")


def _unpacked(packet: bytes) -> Any:
    try:
        return json.loads(packet)
    except RecursionError:
        raise ValueError("not a packet") from None


def _raw(found: Found | None) -> dict[str, object] | None:
    """Return what a place has beside its defaults."""
    if found is None:
        return None
    given = {name: getattr(found, name) for name in _FIELDS if getattr(found, name) != getattr(_NOTHING, name)}
    return {**given, "password": found.password.decode("latin-1")} if found.password else given


def _found(raw: Any) -> Found | None:
    if raw is None:
        return None
    return Found(**{"backend": "", **raw, "password": raw.get("password", "").encode("latin-1")})
