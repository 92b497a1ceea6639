"""Courier's POP3 server of Debian, over Maildirs of our own; nothing of the system's is touched.

Its login program wants a daemon at a fixed place, so a thread asks for USER and PASS in its stead, and gives the
connection to the real courierpop3d, which answers PASS and everything after it.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from popular.addresses import Endpoint
from tests.harness.needs import lacking
from tests.harness.system import die_with_parent

PASSWORD = "secret"    # of every user

_UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "popular-tests/courier")
_PROGRAM = "usr/lib/courier/courier/courierpop3d"


@dataclass(frozen=True, slots=True)
class _Program:
    """The server, and where its libraries are."""

    root: Path
    path: Path
    libraries: str


class Courier:
    """A listener whose sessions are served one after the other."""

    def __init__(self, maildirs: Mapping[str, Path], port: int = 0) -> None:
        """Serve these users, at any free port for 0; ends the test if Courier is missing."""
        self._program = _find()
        self._maildirs = maildirs
        self._listener = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return Endpoint("127.0.0.1", int(self._listener.getsockname()[1]))

    def __enter__(self) -> "Courier":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    def wait(self) -> None:
        """Wait for its end: what starts it may end only then, because Python 3.12.1 forks nothing while it ends."""
        self._thread.join()

    def stop(self) -> None:
        """End it; twice is fine."""
        if self._thread.is_alive():
            self._listener.shutdown(socket.SHUT_RDWR)    # wakes accept
            self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                sock.settimeout(20.0)
                maildir = self._logged_in(sock)
                sock.settimeout(None)
                if maildir is not None:
                    subprocess.run([self._program.path, maildir], stdin=sock.fileno(), stdout=sock.fileno(),
                                   stderr=subprocess.DEVNULL, preexec_fn=die_with_parent, check=False,
                                   env={"AUTHADDR": maildir.name, "LD_LIBRARY_PATH": self._program.libraries})

    def _logged_in(self, sock: socket.socket) -> Path | None:
        """Return the Maildir of who has logged in, before PASS is answered; None if nobody has."""
        sock.sendall(b"+OK Hello there.\r\n")
        user = ""
        with sock.makefile("rb", buffering=0) as lines:
            while line := lines.readline(600):
                verb, _, word = line.decode("ascii").strip().partition(" ")
                match verb.upper():
                    case "USER":
                        user = word
                        sock.sendall(b"+OK Password required.\r\n")
                    case "PASS" if word == PASSWORD and user in self._maildirs:
                        return self._maildirs[user]
                    case _:
                        sock.sendall(b"-ERR Invalid command.\r\n")
        return None


def courier_folder() -> Path:
    """Return where Courier is installed, or was unpacked by scripts/prepare.sh; ends the test if it is missing."""
    return _find().root


def _find() -> _Program:
    for root in (Path("/"), _UNPACKED):
        if (root / _PROGRAM).exists():
            found = [str(path.parent) for path in (root / "usr/lib").rglob("libcourierauth.so.0")]
            return _Program(root, root / _PROGRAM, ":".join(found))
    return lacking("Courier's POP3 server")
