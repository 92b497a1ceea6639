"""The sessions that run, for the control commands: what the board tells of them, and ending one (master only)."""

import time

from popular.log.line import value
from popular.proc.board_view import Row
from popular.proc.supervisor import Supervisor


class LiveSessions:
    """The sessions of one master's children."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Tell of the children of `supervisor`."""
        self._supervisor = supervisor

    def lines(self) -> list[str]:
        """Return a line for each session: its id, and fields as in the log, for names come from clients."""
        now = time.time()
        return [_line(row, now) for row in self._supervisor.sessions()]

    def kill(self, sid: str) -> bool:
        """End the session `sid` at once; False when there is none."""
        pid = self._supervisor.find(sid)
        return pid is not None and self._supervisor.end(pid, "session kill")


def totals_of(row: Row) -> dict[str, object]:
    """Return what a session's last log line says of octets and seconds, of one that did not live to say it.

    Of the times in its states only that of the last one is known.
    """
    now = time.time()
    return {
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "seconds": max(0.0, now - row.started),
        "times": {row.state: max(0.0, now - row.entered)},
    }


def _line(row: Row, now: float) -> str:
    seconds = max(0.0, now - row.started) if row.started else 0.0
    fields = (("pid", row.pid), ("state", row.state), ("client", str(row.client or "")), ("owner", row.owner),
              ("user", row.user), ("backend", row.backend), ("in", row.bytes_in), ("out", row.bytes_out),
              ("seconds", int(seconds)))
    return " ".join([row.sid or "-", *(f"{name}={value(thing)}" for name, thing in fields)])
