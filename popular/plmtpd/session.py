"""One session of the delivery server: a client that greets and leaves.

Runs in the children of plmtpd.
"""

from popular.config.store import Config
from popular.daemon.admin.sessions import totals_of
from popular.daemon.child.session import Session
from popular.errors import Gone
from popular.log.writer import Log
from popular.pdm.chain import Chain
from popular.plmtpd.messages import DELIVERY_CLOSED
from popular.plmtpd.objects import LmtpConfig, LmtpServer
from popular.statefile.counters import DeliveryOutcome
from popular.statefile.reader import Row

_UNKNOWN = "unknown"    # in the last line of a session whose child has died


class LmtpSession:
    """One session of the server."""

    def __init__(self, config: LmtpConfig, session: Session, server: LmtpServer, chain: Chain) -> None:
        self.config = config
        self.session = session
        self.server = server
        self.chain = chain
        self.wire = session.wire

    def run(self) -> None:
        """Serve one session; raises Gone if the client leaves or misbehaves."""
        outcome, why = DeliveryOutcome.BROKEN_OFF, ""
        self.session.enter("greeting")
        try:
            self.wire.send(b"220 POPular LMTP ready\r\n")
            while self.wire.readline().strip().upper() != b"QUIT":
                self.wire.send(b"502 5.5.1 not implemented\r\n")
            self.wire.send(b"221 2.0.0 bye\r\n")
            outcome = DeliveryOutcome.QUIT
        except Gone as gone:
            why = str(gone)
            raise
        finally:
            self.session.child.slot.count(outcome.counter)
            self.session.log.note(DELIVERY_CLOSED, peer=str(self.session.peer), server=self.server.ident,
                                  outcome=why or outcome.text, accepted=0, recipients=0, delivered=0,
                                  **self.session.totals())
            self.session.child.slot.end()


def sum_up(config: Config, log: Log, row: Row, how: str) -> None:
    """Write the last line of a session whose child has died, `how`, from what the child had reported (master only)."""
    log.note(DELIVERY_CLOSED, peer=str(row.client), server=row.owner,
             outcome=f"{DeliveryOutcome.CUT_OFF.text}: {how}", accepted=_UNKNOWN, recipients=_UNKNOWN,
             delivered=_UNKNOWN, **totals_of(row))
