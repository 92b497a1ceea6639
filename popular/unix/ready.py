"""Reporting the result of a daemon's start: `ready` and the addresses, or `failed CODE` and the reason.

The report goes through a pipe from the master to the waiting starter, or to the descriptor of --ready-fd.
End of file without a report means that the master died.
"""

import os
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass

from popular.unix.descriptors import MastersOwn

FAILED = "failed "      # begins the report of a failed start; an exit code and the reason follow

_MAX_TEXT = 1 << 20     # octets read from the pipe


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """The result of a start."""

    code: int     # 0, or the exit code for the starter
    text: str     # of a ready daemon: `OWNER ADDRESS` lines; else the reason


class Ready:
    """The master's end."""

    def __init__(self, fd: int | None, has_stderr: bool = False) -> None:
        """Report to `fd`; None: there is no report.

        With `has_stderr`, descriptor 2 is the same pipe, so that the waiting process sees why an
        interpreter died.  It becomes /dev/null with the report, or before the first fork.
        """
        self._fd = fd
        self._own: MastersOwn | None = None
        self._has_stderr = has_stderr

    def keep_from_children(self, own: MastersOwn) -> None:
        """Keep the descriptor from children before the first fork, because its reader waits for end of file."""
        self._free_stderr()
        if self._fd is not None:
            own.add(self._fd)
            self._own = own

    def tell_ready(self, addresses: Iterable[tuple[str, str]]) -> bool:
        """Report success with pairs of owner and address; False when the waiting process has given up."""
        return self._tell("ready\n" + "".join(f"{owner} {address}\n" for owner, address in addresses))

    def tell_failed(self, code: int, reason: str) -> bool:
        """Report that there will be no daemon."""
        return self._tell(f"{FAILED}{code}\n{reason}\n")

    def _tell(self, text: str) -> bool:
        if self._fd is None:
            return True
        fd, self._fd = self._fd, None
        data = text.encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(fd, data):]
        except OSError:
            return False
        finally:
            if self._own is not None:
                self._own.remove(fd)
            os.close(fd)
            self._free_stderr()
        return True

    def _free_stderr(self) -> None:
        if self._has_stderr:
            self._has_stderr = False
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, 2)
            os.close(null)


def await_ready(fd: int, seconds: float) -> StartOutcome:
    """Wait until the master has reported on the pipe `fd`, at most `seconds` (starter only)."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while len(data) < _MAX_TEXT:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return StartOutcome(os.EX_UNAVAILABLE, f"not ready after {seconds:g} s\n{_text(data)}".rstrip())
        block = os.read(fd, 65536)
        if not block:
            break
        data += block
    return _outcome(_text(data))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _outcome(text: str) -> StartOutcome:
    """Read the master's report; anything else comes from an interpreter that died."""
    first, _, rest = text.partition("\n")
    if first == "ready":
        return StartOutcome(os.EX_OK, rest)
    code = first.removeprefix(FAILED)
    if first != code and code.isdigit():
        return StartOutcome(int(code), rest.rstrip("\n"))
    return StartOutcome(os.EX_SOFTWARE, f"the master ended before it was ready\n{text}".rstrip())
