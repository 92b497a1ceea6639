"""One session of plmtpd over a socket pair: `python -m tests.faults.lmtp SPOOL MAILBOX…` prints the answers.

The message on standard input, in SMTP form, goes to all these mailboxes.  It is what a child of plmtpd does, with its
real session, but without databases and a log.  Exit code: 0 whatever was answered, 71 when the system refused
something that ends a session, such as memory.
"""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from popular.errors import Gone
from popular.net.wire import Wire
from tests.faults.session import BEGIN
from tests.harness.lmtpsession import LmtpFrame, session_of


def main(spool: str, *mailboxes: str) -> int:
    """Run the session; returns the exit code."""
    frame = LmtpFrame()
    ours, theirs = socket.socketpair()
    commands = ["LHLO mta", "MAIL FROM:<>", *(f"RCPT TO:<{mailbox}>" for mailbox in mailboxes), "DATA"]
    theirs.sendall("".join(f"{command}\r\n" for command in commands).encode() + sys.stdin.buffer.read())
    theirs.shutdown(socket.SHUT_WR)
    frame.wire = Wire(ours, idle=10, maxline=2048)
    session = session_of(Path(spool), frame, None)
    code = 71
    os.path.lexists(BEGIN)
    try:
        session.run()
        code = 0
    except Gone:
        code = 0
    except (MemoryError, OSError):
        pass
    with suppress(OSError):
        ours.close()
        while block := theirs.recv(65536):
            os.write(1, block)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
