"""The signals that end pclean: they are noted, and looked at where it can stop without tearing anything."""

import select
import signal
from types import TracebackType

from popular.unix.signals import SignalPipe

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop:
    """Whether a signal asked to end; a context, which takes signals while it lasts.

    A signal that was ignored stays ignored, for example HUP under nohup(1).
    """

    def __init__(self) -> None:
        self.signal = ""    # the name of the first that came

    def __enter__(self) -> "Stop":
        former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self._former = {number: handler for number, handler in former.items() if handler is not signal.SIG_IGN}
        self._pipe = SignalPipe(self._former, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._pipe.close()

    def is_wanted(self) -> bool:
        """Tell whether to end."""
        return bool(self.signal)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes."""
        if seconds and not self.signal:
            select.select([self._pipe], [], [], seconds)

    def _note(self, number: int) -> None:
        self.signal = self.signal or signal.Signals(number).name
