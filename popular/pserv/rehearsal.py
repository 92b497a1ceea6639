"""The stage for rehearsed sessions of pserv: a mailbox in the run folder with one message, and a client that reads it.

Runs in the master at its start, before it has children (daemon.child.warmup); raises OSError.
"""

import os
import socket
import time
from collections.abc import Callable

from popular.addresses import Endpoint
from popular.daemon.spec import Job
from popular.log.writer import Log
from popular.pop3 import capability
from popular.pop3.xpop import preamble_lines
from popular.pserv.objects import ServConfig, Server
from popular.store.filename import new_name
from popular.store.mailbox import Mailbox

_NAME = "rehearsal"
_SECONDS = 2.0    # of every wait
_MESSAGE = b"Subject: rehearsal\r\n\r\n.\r\n"


class ServStage:
    """A pserv for one mailbox."""

    def __init__(self, null: Log, rundir: str, make_job: Callable[[ServConfig], Job]) -> None:
        """Make the mailbox below `rundir`; `null` is a log that writes nothing.  Raises OSError."""
        self.log = null
        self.owner = _NAME
        _remove_leftovers(rundir)
        self._root = os.path.join(rundir, f"{_NAME}-{os.getpid()}")
        self._mailbox = Mailbox(self._root, _NAME)
        server = Server(_NAME, capability.TRANSACTION)
        config = ServConfig(mailboxdir=self._root, missing="refuse", preambletimeout=_SECONDS, idletimeout=_SECONDS,
                            maxerrors=1, maxline=255, last=False, seenflag=False, servers={_NAME: server})
        self.job = make_job(config)
        try:
            self._fill()
        except OSError:
            self.close()
            raise

    def be_the_others(self, endpoint: Endpoint, number: int) -> None:
        """Act as pproxy, with a client that has one message."""
        with socket.create_connection((endpoint.host, endpoint.port), _SECONDS) as client:
            for words in (preamble_lines(_NAME, _NAME, False), b"STAT\r\n", b"UIDL\r\n", b"RETR 1\r\n", b"QUIT\r\n"):
                client.sendall(words)
                client.recv(4096)

    def close(self) -> None:
        """Remove the mailbox."""
        _remove(self._root)

    def _fill(self) -> None:
        box = self._mailbox
        for folder in (self._root, box.path, box.tmp, box.cur, box.new):
            os.mkdir(folder, 0o700)
        name = new_name(int(time.time()), os.getpid(), len(_MESSAGE))
        with open(os.path.join(box.new, name), "xb") as file:
            file.write(_MESSAGE)


def _remove(root: str) -> None:
    """Remove the folder of a rehearsal."""
    box = Mailbox(root, _NAME)
    for folder in (box.new, box.cur, box.tmp, box.path, root):
        try:
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
        except OSError:    # never made; whatever cannot be removed does no harm
            pass


def _remove_leftovers(rundir: str) -> None:
    """Remove the folders of masters that were killed in their rehearsal."""
    for name in os.listdir(rundir):
        pid = name.removeprefix(f"{_NAME}-")
        if pid != name and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            _remove(os.path.join(rundir, name))
