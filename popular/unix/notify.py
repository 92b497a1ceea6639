"""Reporting a daemon's state to a service manager, by the protocol of sd_notify(3): small datagrams, no answer.

Used by masters and daemons of one process; the starter reads with `watchdog_seconds` what is asked of
them.  Raises nothing: a daemon serves even if its manager cannot be reached.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping


class Notify:
    """The connection to a service manager, if there is one."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """Speak to the datagram socket `address`, as in NOTIFY_SOCKET; empty: there is no manager.

        `watchdog` is the longest time in seconds between two signs of life that it expects; 0: it expects none.
        """
        self.address = address
        self.may_speak: Callable[[], bool] = lambda: True    # of two masters, the one in charge may
        self.watchdog = watchdog
        self._reloads = 0       # in progress: a signal may come while the file is being read
        self._is_ending = False

    @property
    def is_heard(self) -> bool:
        """Tell whether a manager listens to this process."""
        return bool(self.address) and self.may_speak()

    def ready(self) -> None:
        """Say that this process serves, and is the one to watch."""
        self.tell("READY=1", f"MAINPID={os.getpid()}")

    def reload_begins(self) -> None:
        """Say that a configuration or a file is being read again; `reload_ends` must follow."""
        self._reloads += 1
        if self._reloads == 1 and not self._is_ending:
            self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reload_ends(self) -> None:
        """Say that this is over, whatever the result."""
        self._reloads -= 1
        if self._reloads == 0 and not self._is_ending:    # an ending process is never ready again
            self.tell("READY=1")

    def stopping(self) -> None:
        """Say that the process has begun to end."""
        self._is_ending = True
        self.tell("STOPPING=1")

    def tell(self, *facts: str) -> None:
        """Send facts such as `READY=1`."""
        if not self.is_heard:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.sendto("\n".join(facts).encode(), name)
            except OSError:    # the manager is gone, or does not listen
                pass


def watchdog_seconds(environment: Mapping[str, str], pid: int) -> float:
    """Return what WATCHDOG_USEC asks of process `pid`, in seconds; 0 if nothing, or if it is for another process."""
    usec = environment.get("WATCHDOG_USEC", "")
    if not usec.isascii() or not usec.isdigit() or environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    return int(usec) / 1_000_000
