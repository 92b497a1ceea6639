"""Signals as bytes in a pipe: handlers only wake the loop, which does all the work.

Master and children each make one `SignalPipe`.  Python's own wake-up descriptor
writes the number of every signal into the pipe in the C handler, so nothing is lost between a
signal and the poll that waits for it.  Raises OSError when no descriptor is left.
"""

import os
import select
from collections.abc import Callable, Iterable
from types import FrameType

from popular.lean import Any

_BLOCK = 4096    # octets read at once; each is one signal
_DEATH_SECONDS = 1.0    # that the kernel may take to end a process

# The functions behind those of `signal`, which make an enum member of each number that goes in or comes out: 60 calls
# in a child that sets ten handlers.  These require and return bare numbers, and pdeliver need not load enum.
_signal: Any = __import__("_signal")    # type checkers do not know it
set_handler: Callable[[int, Any], Any] = _signal.signal
get_handler: Callable[[int], Any] = _signal.getsignal
set_mask: Callable[[int, Iterable[int]], set[int]] = _signal.pthread_sigmask
pending: Callable[[], set[int]] = _signal.sigpending
DEFAULT: int = _signal.SIG_DFL
IGNORED: int = _signal.SIG_IGN

# Every signal that a master handles; masked across a fork.  Not every signal: Python takes 0.2 ms to list them.
HANDLED: tuple[int, ...] = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGPWR,
                            _signal.SIGCHLD, _signal.SIGUSR1, _signal.SIGUSR2)


def is_interruption(error: BaseException) -> bool:
    """Tell whether this is ^C by the user of a program, and not a KeyboardInterrupt that foreign code raised itself.

    In masters and children it is never ^C, because Python does not handle INT there.
    """
    return isinstance(error, KeyboardInterrupt) and get_handler(_signal.SIGINT) == _signal.default_int_handler


class SignalPipe:
    """The signals that one process listens to, in the order of their arrival."""

    def __init__(self, numbers: Iterable[int], on_signal: Callable[[int], None] | None = None) -> None:
        """Listen to `numbers` from now on.

        `on_signal` is called in the handler itself, for the rare thing that cannot wait for a
        loop; it must be short and raise nothing.
        """
        self._on_signal = on_signal
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in numbers:
            set_handler(number, self._handle)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Both ends, for the list of what a child must close."""
        return self._read, self._write

    def fileno(self) -> int:
        """Return the descriptor that is readable when a signal has arrived."""
        return self._read

    def take(self) -> list[int]:
        """Return the signals that arrived since the last call, each once."""
        seen: dict[int, None] = {}
        while True:
            try:
                block = os.read(self._read, _BLOCK)
            except BlockingIOError:
                return list(seen)
            seen.update(dict.fromkeys(block))
            if len(block) < _BLOCK:
                return list(seen)

    def close(self) -> None:
        """Stop waking up; the handlers stay until their owner replaces them."""
        _signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._on_signal is not None:
            self._on_signal(number)


def kill_and_wait(pidfd: int) -> None:
    """Kill the process of this descriptor, and wait until it has released everything; it may be dead already."""
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
    except ProcessLookupError:
        pass
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_DEATH_SECONDS * 1000)
