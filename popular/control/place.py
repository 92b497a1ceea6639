"""Where the control socket is: PROGRAM.PID.ctrl in the run folder, and the link PROGRAM.ctrl to it (spec 0.4).

Made and removed by the master.  Raises StartError if another master answers, or if the socket cannot be
made in the folder.
"""

import os
import re
import socket

from popular.errors import StartError

_BACKLOG = 16
MAX_PATH = 107    # octets of a socket's name (unix(7))


class Place:
    """The names of one master's control socket."""

    def __init__(self, rundir: str, program: str) -> None:
        """Name the socket of this process."""
        self._rundir = rundir
        self._program = program
        self._name = f"{program}.{os.getpid()}.ctrl"
        self.path = os.path.join(rundir, self._name)
        self.link = os.path.join(rundir, f"{program}.ctrl")

    def open(self, beside: bool = False) -> socket.socket:
        """Return the listening, non-blocking socket; the sockets of dead masters are removed.

        Raises StartError, also if another master answers.  One that opens `beside` another keeps the link as it is.
        """
        if len(os.fsencode(self.path)) > MAX_PATH:
            raise StartError(f"cannot make the control socket {self.path}: its name is longer than {MAX_PATH} octets; "
                             "give a shorter rundir")
        if not beside and answers(self.link):
            raise StartError(f"already running: {self.link} answers")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._remove_stale()
            umask = os.umask(0o077)
            try:
                sock.bind(self.path)
            finally:
                os.umask(umask)
            sock.listen(_BACKLOG)
            if not beside:    # this last: the link always leads to a listening socket
                self._make_link()
        except OSError as why:
            sock.close()
            raise StartError(f"cannot make the control socket {self.path}: {why.strerror}") from why
        return sock

    def publish(self) -> None:
        """Make the link point here, wherever it led, and remove what dead masters left; raises OSError."""
        if not self._is_linked:
            self._make_link()
        self._remove_stale()

    def remove(self) -> None:
        """Remove socket and link; a link to another master's socket stays."""
        try:
            if self._is_linked:
                os.unlink(self.link)
        except OSError:
            pass
        try:
            os.unlink(self.path)
        except OSError:
            pass

    @property
    def _is_linked(self) -> bool:
        try:
            return os.readlink(self.link) == self._name
        except OSError:
            return False

    def _remove_stale(self) -> None:
        """Remove the sockets of masters that were killed."""
        ours = re.compile(rf"{re.escape(self._program)}\.[0-9]+\.ctrl(\.new)?", re.ASCII)
        for name in os.listdir(self._rundir):
            path = os.path.join(self._rundir, name)
            if ours.fullmatch(name) and not answers(path):
                os.unlink(path)

    def _make_link(self) -> None:
        fresh = f"{self.path}.new"
        os.symlink(self._name, fresh)
        os.rename(fresh, self.link)


def answers(path: str) -> bool:
    """Tell whether a process listens at the socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(path)
        except BlockingIOError:    # so many clients wait that it must be alive
            return True
        except OSError:
            return False
    return True
