"""A session of plmtpd in the test's own process: what it needs of its child, which notes what happens."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from popular.addresses import Endpoint
from popular.daemon.tls import Tls
from popular.log.message import Message
from popular.log.writer import Log
from popular.networks import Networks
from popular.pdm.api import Answer, Found, Outcome
from popular.pdm.asking.chain import Step
from popular.plmtpd.objects import LmtpConfig, LmtpServer
from popular.plmtpd.session import LmtpSession
from popular.store.quota import Quota

JOES = Found("store1", mailbox="joe")


class LmtpFrame:
    """What a session needs of its child: it notes what happens."""

    def __init__(self, log: Log | None = None) -> None:
        """Begin; lines also go to `log`, if there is one."""
        self.lines = log
        self.notes: list[str] = []
        self.counts: list[str] = []
        self.peer = Endpoint("192.0.2.1", 1000)
        self.wire: Any = None
        self.trace = None
        self.stream = None
        self.connection = SimpleNamespace(local=Endpoint("192.0.2.2", 24))
        self.log = SimpleNamespace(note=self.note)
        slot = SimpleNamespace(count=lambda name, by=1: self.counts.append(name), call_user=lambda name: None,
                               end=lambda: None, count_question=lambda *given, **known: None)
        self.child = SimpleNamespace(slot=slot, lend=lambda call, *given: call(*given), retiring=False)

    def start_tls(self, tls: Tls) -> None:
        tls.secure(self.wire)

    def totals(self) -> dict[str, object]:
        return {}

    def note(self, message: Message, /, **fields: object) -> None:
        self.notes.append(message.name)
        if self.lines is not None:
            self.lines.note(message, **fields)

    def enter(self, state: str) -> None:
        self.notes.append(state)


def session_of(spool: Path, frame: LmtpFrame, found: Found | None = JOES, **changes: Any) -> LmtpSession:
    """Return a session with one user, who has any name; None: the mailbox of each user has their name."""
    given: dict[str, Any] = {
        "mailboxdir": str(spool), "missing": "refuse", "backends": frozenset(), "maxsize": 0, "maxrecipients": 100,
        "idletimeout": 20.0, "datatimeout": 20.0, "maxerrors": 20, "overquota": "defer", "quota": Quota(),
        "returnpath": False, "deliveredto": False, "quotawarning": (), "quotamessage": "", "takeover": Networks(),
        "servers": {}, **changes}

    def place(user: str, namespace: str) -> list[Step]:
        return [Step("users", "passwd", Answer(Outcome.OK, found or Found("store1", mailbox=user)))]

    chain: Any = SimpleNamespace(place=place)
    session: Any = frame
    return LmtpSession(LmtpConfig(**given), session, LmtpServer("main"), chain)
