"""The signals that end pclean: they are noted, and looked at where it can stop without tearing anything."""

import os
import select
import signal
from types import FrameType, TracebackType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop:
    """Whether a signal asked to end; a context, which takes signals while it lasts.

    A signal that was ignored stays ignored, for example HUP under nohup(1).
    """

    def __init__(self) -> None:
        self.signal = ""    # the name of the first that came

    def __enter__(self) -> "Stop":
        self._told, self._teller = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_fd = signal.set_wakeup_fd(self._teller)
        self._former = {number: signal.signal(number, self._note) for number in SIGNALS
                        if signal.getsignal(number) is not signal.SIG_IGN}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        os.close(self._told)
        os.close(self._teller)

    def is_wanted(self) -> bool:
        """Tell whether to end."""
        return bool(self.signal)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes."""
        if seconds and not self.signal:
            select.select([self._told], [], [], seconds)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number).name
