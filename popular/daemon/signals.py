"""The signals that a master obeys (spec 1.4): rows for the master and the man pages."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One signal to a master."""

    number: signal.Signals
    command: str    # the control command that does the same
    method: str     # of daemon.master.loop.Master
    text: str       # for the man page


UPGRADE = SignalRow(signal.SIGUSR2, "upgrade", "upgrade",
                    "Let a new process, started from the files on disk, take over; no session is lost.")

SIGNALS = (
    SignalRow(signal.SIGTERM, "shutdown all", "shutdown_all",
              "End all children, whatever they are doing, then end."),
    SignalRow(signal.SIGINT, "shutdown children", "shutdown_children",
              "End all children, whatever they are doing, and go on with new ones."),
    SignalRow(signal.SIGQUIT, "shutdown parent", "shutdown_parent",
              "Stop listening and end at once; children that have a session finish it, the others leave."),
    SignalRow(signal.SIGPWR, "shutdown delayed", "shutdown_delayed",
              "Stop listening, wait until every child has finished its session, then end."),
    SignalRow(signal.SIGHUP, "reopen", "reopen",
              "Reopen the log file; children that have no session are replaced by new ones."),
    UPGRADE,
)
