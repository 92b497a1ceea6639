"""The sessions that run, for control commands: what the state file tells of them, and ending them (master only)."""

import time
from collections.abc import Mapping, Sequence

from popular.log.line import value
from popular.proc.supervisor import Supervisor
from popular.statefile.layout import PROXY, StateFileKind
from popular.statefile.reader import Row

CHOICE = ("user", "mailbox", "client", "vserv", "server", "backend", "state", "pid")    # fields to choose by


class LiveSessions:
    """The sessions of one master's children."""

    def __init__(self, supervisor: Supervisor, kind: StateFileKind | None) -> None:
        """Tell of the children of `supervisor`, in the words of their state file."""
        self._supervisor = supervisor
        self._kind = kind

    @property
    def keys(self) -> Sequence[str]:
        """The names of fields by which sessions are chosen."""
        return [name for name in self._fields(Row(0), 0.0) if name in CHOICE]

    def lines(self, wanted: Mapping[str, str]) -> list[str]:
        """Return a line for each session: its id, and fields as in the log, for names come from clients."""
        now = time.time()
        return [" ".join([row.sid or "-", *(f"{name}={value(thing)}" for name, thing in fields.items())])
                for row, fields in ((row, self._fields(row, now)) for row in self._supervisor.sessions())
                if _has(fields, wanted)]

    def kill(self, sid: str) -> bool:
        """End the session `sid` at once; False when there is none."""
        pid = self._supervisor.find(sid)
        return pid is not None and self._supervisor.end(pid, "session kill")

    def kill_all(self, wanted: Mapping[str, str]) -> int:
        """End all sessions that have what is `wanted` at once; returns how many."""
        rows = [row for row in self._supervisor.sessions() if _has(self._fields(row, 0.0), wanted)]
        return sum(self._supervisor.end(row.pid, "session kill") for row in rows)

    def _fields(self, row: Row, now: float) -> dict[str, str | int]:
        """Return what is told of a session, by the names that everybody else has for it, too."""
        is_proxy = self._kind is None or self._kind is PROXY
        backend: dict[str, str | int] = {"backend": row.backend} if is_proxy else {}
        return {
            "pid": row.pid, "state": row.state, "client": str(row.client or ""),
            self._kind.owner if self._kind else "owner": row.owner, "user" if is_proxy else "mailbox": row.user,
            **backend, "in": row.bytes_in, "out": row.bytes_out,
            "seconds": int(max(0.0, now - row.started)) if row.started else 0}


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


def _has(fields: Mapping[str, str | int], wanted: Mapping[str, str]) -> bool:
    """Tell whether a session has what is wanted; a client may be named without its port."""
    return all(text == str(fields[name]) or name == "client" and text == _host(str(fields[name]))
               for name, text in wanted.items())


def _host(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")
