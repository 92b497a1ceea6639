"""The death of a process that must not go on, seen to its end (a master, about its own descendants)."""

import select
import signal

_SECONDS = 1.0    # that the kernel may take to end a process


def kill_and_wait(pidfd: int) -> None:
    """Kill the process of this descriptor, and wait until it has let go of everything; one that is dead is fine."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_SECONDS * 1000)
