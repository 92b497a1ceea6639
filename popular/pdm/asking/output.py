"""What database modules write to standard output and standard error goes to the log, without passwords.

Runs in the process that asks the modules, from the first question on.  Descriptors 1 and 2 are then a pipe of its own,
so that the output of a module, its library or a program that they start goes nowhere else.  If the pipe is full,
output is lost; a module never waits for it.  Raises OSError if no descriptor is left.
"""

import os
import select
import sys
from io import FileIO, TextIOWrapper

from popular.log.writer import Log
from popular.pdm.messages import PDM_OUTPUT

MAX_OUTPUT_LINES = 10    # logged of one question's output

_ROOM = 65536    # octets of a pipe
_MASK = b"***"


class ModuleOutput:
    """The output of one process; made in the master, for all its children."""

    def __init__(self, log: Log) -> None:
        """Start without a pipe: the output of the master is not changed."""
        self._log = log
        self._text = TextIOWrapper(FileIO(1, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
        self._pid = 0      # of the process that has the pipe
        self._read = -1
        self._poll = select.poll()

    def catch(self) -> None:
        """Catch what this process writes from now on; may be called twice."""
        if self._pid == os.getpid():
            return
        self._read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        sys.stdout = sys.stderr = self._text    # its `write` raises nothing if the pipe is full
        self._poll.register(self._read, select.POLLIN)
        self._pid = os.getpid()

    def log(self, module: str, *secrets: bytes) -> None:
        """Log what was caught as output of `module`; `secrets` are masked, in whatever form they are printed."""
        if self._poll.poll(0):
            lines = lines_of(os.read(self._read, _ROOM), secrets)
            for number, line in enumerate(lines[:MAX_OUTPUT_LINES], 1):
                self._log.note(PDM_OUTPUT, module=module, line=number, of=len(lines), text=line)


def lines_of(octets: bytes, secrets: tuple[bytes, ...]) -> list[bytes]:
    """Return the lines of an output, with secrets masked and without empty lines."""
    if len(octets) >= _ROOM:    # it was cut, perhaps within a secret
        octets = octets[:octets.rfind(b"\n") + 1]
    for form in sorted({form for secret in secrets if secret for form in _forms(secret)}, key=len, reverse=True):
        octets = octets.replace(form, _MASK)
    return [line for line in octets.splitlines() if line.strip()]


def _forms(secret: bytes) -> set[bytes]:
    """Return a secret in the forms in which programs may print it."""
    from base64 import b64encode    # imported here, since few modules print anything

    text = secret.decode("utf-8", "surrogateescape")
    shown = {secret, repr(secret)[2:-1].encode(), secret.hex().encode(), secret.hex().upper().encode(),
             b64encode(secret).rstrip(b"=")}
    for word in (text, repr(text)[1:-1], ascii(text)[1:-1]):
        shown.add(word.encode("utf-8", "backslashreplace"))
    return shown
