"""The log as datagrams to the system's logger, as syslog(3) sends them (RFC 3164 section 4.1, the local form).

Used in every process.  Each line is sent to the socket's name, so a logger that was restarted, or that starts
hours later, gets the next line without a new connection, whatever the rights of the process are.
If the logger is absent or too slow, lines are lost; nothing here raises or waits, except for `open`.
"""

import socket
import time

from popular.errors import StartError
from popular.log.form import CLASSIC, LogForm
from popular.log.message import ADM, BUG, DBG, ERR, INF, SOS, Event

DEV_LOG = "/dev/log"

# Severities of RFC 3164 table 2: how urgent a level is among all of a host's logs.
SEVERITIES = {DBG: 7, INF: 6, ERR: 5, ADM: 4, BUG: 3, SOS: 2}

_MAIL = 2 << 3    # the facility "mail system" (RFC 3164 table 1)
_NOW_OR_NEVER = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class SyslogSink:
    """The mail facility of the local logger."""

    def __init__(self, sock: socket.socket, form: LogForm = CLASSIC, path: str = DEV_LOG) -> None:
        """Send by the unconnected datagram socket `sock` to the one at `path`."""
        self._sock = sock
        self._form = form
        self._path = path

    @classmethod
    def open(cls, form: LogForm = CLASSIC, path: str = DEV_LOG) -> "SyslogSink":
        """Make a socket; whether there is a logger at `path` is not checked.  Raises StartError."""
        try:
            return cls(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), form, path)
        except OSError as why:
            raise StartError(f"cannot make a socket for syslog: {why.strerror}") from why

    @classmethod
    def inherited(cls, fd: int, form: LogForm = CLASSIC, path: str = DEV_LOG) -> "SyslogSink":
        """Take over the descriptor of a socket that `open` made, after an exec."""
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, fileno=fd), form, path)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def write(self, event: Event) -> None:
        """Send one event; it is lost if the logger does not take it at once."""
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(event.when))
        head = f"<{_MAIL | SEVERITIES[event.message.level]}>{stamp} {event.program}[{event.pid}]: "
        try:
            self._sock.sendto(head.encode("ascii", "replace") + self._form.text(event), _NOW_OR_NEVER, self._path)
        except OSError:
            pass

    def reopen(self) -> None:
        """Do nothing: every line is sent to the logger's present socket."""

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
