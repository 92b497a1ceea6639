"""The stage for rehearsed sessions of pproxy: imitations of users, a mail check and a backend.

Runs in the master at its start, before it has children (daemon.child.warmup); raises OSError and StartError.
"""

import socket
from binascii import b2a_base64
from collections.abc import Callable

from popular.addresses import Endpoint
from popular.daemon.spec import Job
from popular.log.writer import Log
from popular.mailcheck.packet import MAX_DATAGRAM, MailState, mail_answer
from popular.net.listen import bind_tcp, bind_udp, bound_endpoint
from popular.pdm import records
from popular.pdm.api import Request
from popular.pdm.asking.chain import Chain
from popular.pdm.bases import RecordModule
from popular.pop3 import capability
from popular.pproxy.backends.health import HealthTerms
from popular.pproxy.objects import Backend, ProxyConfig, Vserv
from popular.pproxy.vserv.offer import Offer

_NAME = "rehearsal"
_PASSWORD = "p"
_USER_PASS = (b"USER u\r\n", f"PASS {_PASSWORD}\r\n".encode())
_AUTH = (b"AUTH PLAIN " + b2a_base64(f"\0u\0{_PASSWORD}".encode(), newline=False) + b"\r\n",)
_SECONDS = 2.0    # of every wait
_FREE = Endpoint("127.0.0.1", 0)


class _Everyone(RecordModule):
    """Accepts everyone with the right password."""

    def record(self, request: Request) -> records.Record:
        """Return the one record, read like those in databases."""
        return records.parse_record(f"{{PLAIN}}{_PASSWORD}:{_NAME}::{_NAME}".encode())


class ProxyStage:
    """A pproxy for clients without mail, and every fourth time for one with mail; if it knows AUTH, some come by that.
    """

    def __init__(self, null: Log, make_job: Callable[[ProxyConfig, Chain], Job], *, knows_auth: bool) -> None:
        """Open the sockets of pcheckd and pserv; `null` is a log that writes nothing.  Raises OSError, StartError."""
        self._knows_auth = knows_auth
        self.log = null
        self.owner = _NAME
        self._pcheckd = bind_udp(_FREE)
        self._pserv = bind_tcp(_FREE, 1)
        vserv = Vserv(_NAME, _NAME, _NAME, True, capability.AUTHORIZATION, capability.TRANSACTION,
                      offer=Offer(["PLAIN"], frozenset()) if knows_auth else None)
        backend = Backend(
            _NAME, "cxpop", bound_endpoint(self._pserv), bound_endpoint(self._pcheckd), source=None, enabled=True,
            drain=False, softfail=False, checktimeout=_SECONDS, checktries=1, connecttimeout=_SECONDS,
            logintimeout=_SECONDS, backendlogins=1, logins=HealthTerms(downtries=1), checks=HealthTerms(downtries=1))
        config = ProxyConfig(
            authtimeout=_SECONDS, authdelay=0.0, maxauthtries=1, maxerrors=1, maxline=255, idletimeout=_SECONDS,
            last=False, sidprefix=_NAME, vservs={_NAME: vserv}, backends={_NAME: backend})
        self.job = make_job(config, Chain([_Everyone(_NAME, [])], _SECONDS, null.note))

    def be_the_others(self, endpoint: Endpoint, number: int) -> None:
        """Act as a client, as pcheckd and, every fourth time, as pserv."""
        has_mail = number % 4 == 3
        with socket.create_connection((endpoint.host, endpoint.port), _SECONDS) as client:
            client.recv(512)
            login = _AUTH if self._knows_auth and number % 4 == 1 else _USER_PASS
            for line in login:
                client.sendall(line)
                if line is login[-1]:
                    self._answer_check(MailState.NEW_MAIL if has_mail else MailState.EMPTY)
                    if has_mail:
                        self._serve(client)
                        return
                client.recv(512)
            for line in (b"STAT\r\n", b"QUIT\r\n"):
                client.sendall(line)
                client.recv(512)

    def close(self) -> None:
        """Close what was opened."""
        self._pcheckd.close()
        self._pserv.close()

    def _answer_check(self, state: MailState) -> None:
        self._pcheckd.settimeout(_SECONDS)
        _, address = self._pcheckd.recvfrom(MAX_DATAGRAM)
        self._pcheckd.sendto(mail_answer(state), address)

    def _serve(self, client: socket.socket) -> None:
        self._pserv.settimeout(_SECONDS)
        backend, _ = self._pserv.accept()
        with backend:
            backend.recv(512)
            backend.sendall(b"+OK\r\n")
            client.recv(512)
            for line in (b"STAT\r\n", b"QUIT\r\n"):
                client.sendall(line)
                backend.recv(512)
                backend.sendall(b"+OK\r\n")
                client.recv(512)
