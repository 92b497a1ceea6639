"""Questions about logins to a policy server, and its answers, on the way between a child and a PDM worker.

They share the channel of questions to database modules, from which a mark tells them apart.  A child may be hostile:
nothing that it sends is executed, and a packet that cannot be read raises ValueError.
"""

import json
from dataclasses import dataclass, field
from typing import Any

POLICY_MARK = b"policy"    # a packet to a database module begins with a bracket


@dataclass(frozen=True, slots=True)
class LoginResult:
    """How a login ended, in the words of Dovecot."""

    success: bool
    fail_type: str = ""             # account, credentials, internal or policy
    policy_reject: bool = False


@dataclass(frozen=True, slots=True)
class PolicyQuestion:
    """Whether a login is allowed or, with `result`, how it ended, which needs no answer."""

    vserv: str                             # id of the virtual server, which knows whom to ask
    user: bytes
    password: bytes = field(repr=False)    # only its hash leaves the worker
    ip: str
    session: str                           # its id in the log
    tls: bool
    deadline: float                        # in seconds of time.monotonic()
    result: LoginResult | None = None

    def packed(self) -> bytes:
        """Return the packet; at most 40,000 octets if user and password fitted on lines of 8,192."""
        result = self.result
        return _packed({
            "vserv": self.vserv, "user": self.user.hex(), "password": self.password.hex(), "ip": self.ip,
            "session": self.session, "tls": self.tls, "deadline": self.deadline,
            "result": result and [result.success, result.fail_type, result.policy_reject]})

    @classmethod
    def unpacked(cls, packet: bytes) -> "PolicyQuestion":
        """Return the question in a packet; raises ValueError."""
        raw = _unpacked(packet)
        try:
            result = raw["result"]
            return cls(str(raw["vserv"]), bytes.fromhex(raw["user"]), bytes.fromhex(raw["password"]), str(raw["ip"]),
                       str(raw["session"]), bool(raw["tls"]), float(raw["deadline"]),
                       None if result is None else LoginResult(bool(result[0]), str(result[1]), bool(result[2])))
        except (KeyError, IndexError, TypeError, OverflowError) as why:
            raise ValueError(f"not a question: {type(why).__name__}") from None


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """What the server has said."""

    status: int = 0        # below 0: refuse; 0: go on; above: delay by so many seconds
    message: str = ""      # of the server, for the log
    has_failed: bool = False    # it has said nothing that could be understood, and the login goes on

    def packed(self) -> bytes:
        """Return the packet."""
        return _packed({"status": self.status, "message": self.message, "failed": self.has_failed})

    @classmethod
    def unpacked(cls, packet: bytes) -> "PolicyAnswer":
        """Return the answer in a packet; raises ValueError."""
        raw = _unpacked(packet)
        try:
            return cls(int(raw["status"]), str(raw["message"]), bool(raw["failed"]))
        except (KeyError, TypeError, OverflowError) as why:
            raise ValueError(f"not an answer: {type(why).__name__}") from None


def _packed(raw: dict[str, object]) -> bytes:
    return POLICY_MARK + json.dumps(raw, separators=(",", ":")).encode("ascii")


def _unpacked(packet: bytes) -> Any:
    if not packet.startswith(POLICY_MARK):
        raise ValueError("not about a policy")
    try:
        return json.loads(packet[len(POLICY_MARK):])
    except RecursionError:
        raise ValueError("not a packet") from None
