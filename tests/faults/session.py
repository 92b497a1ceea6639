"""One session of pserv over a socket pair: `python -m tests.faults.session SPOOL MAILBOX COMMAND…` prints the answers.

It is what a child of pserv does from its preamble on, without what cannot lose mail.  Exit code: 0 whatever was
answered, 70 where a child would log a BUG, 71 when memory is short.
"""

import os
import socket
import sys
from contextlib import suppress

from popular.errors import Gone, StoreError
from popular.net.wire import Wire
from popular.pop3.dialogue import Dialogue
from popular.pop3.transaction import TransactionState
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.faults import BEGIN


def main(spool: str, name: str, *commands: str) -> int:
    """Run the session; returns the exit code."""
    ours, theirs = socket.socketpair()
    theirs.sendall("".join(f"{command}\r\n" for command in commands).encode())
    theirs.shutdown(socket.SHUT_WR)
    wire = Wire(ours, idle=10)
    code = 70
    os.path.lexists(BEGIN)
    try:
        maildrop = MaildirMaildrop(Mailbox(spool, name))
        Dialogue(wire, maxerrors=20).run(TransactionState(wire, maildrop))
        code = 0
    except (StoreError, Gone):
        code = 0
    except MemoryError:
        code = 71
    with suppress(OSError):    # commands were left unread; and what is lost here is no fault of a session
        ours.close()
        while block := theirs.recv(65536):
            os.write(1, block)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
