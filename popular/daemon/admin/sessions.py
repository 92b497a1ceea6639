"""The running sessions, for control commands: listing them from the state file, and ending them (master only)."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from popular.log.line import value
from popular.proc.supervisor import Supervisor
from popular.statefile.layout import PROXY, StateFileKind
from popular.statefile.reader import Row

if TYPE_CHECKING:
    from popular.daemon.master.attendant import SessionHolder

_KILLED = "session kill"    # why sessions ended

CHOICE = ("user", "mailbox", "client", "vserv", "server", "backend", "state", "pid")    # fields that select


class LiveSessions:
    """The sessions of one master."""

    def __init__(self, supervisor: Supervisor, kind: StateFileKind | None,
                 holders: Sequence["SessionHolder"] = ()) -> None:
        """Show those of children, and of `holders` beside them, with the words of their state file."""
        self._supervisor = supervisor
        self._kind = kind
        self._holders = holders

    @property
    def keys(self) -> Sequence[str]:
        """The names of the fields by which sessions can be selected."""
        return [name for name in self._fields(Row(0), 0.0) if name in CHOICE]

    def lines(self, wanted: Mapping[str, str]) -> list[str]:
        """Return a line for each session: its id, and fields escaped as in the log, as names come from clients."""
        now = time.time()
        return [" ".join([row.sid or "-", *(f"{name}={value(thing)}" for name, thing in fields.items())])
                for row, fields in ((row, self._fields(row, now)) for row in self._rows())
                if _has(fields, wanted)]

    def clients(self) -> list[str]:
        """Return the addresses of the clients of all sessions."""
        return [row.client.host for row in self._rows() if row.client is not None]

    def kill(self, sid: str) -> bool:
        """End the session `sid` at once; return False if there is none."""
        row = next((row for row in self._rows() if row.sid == sid), None)
        return row is not None and self._end(row)

    def kill_all(self, wanted: Mapping[str, str]) -> int:
        """End all sessions with the `wanted` values at once; return how many."""
        return sum(self._end(row) for row in self._rows() if _has(self._fields(row, 0.0), wanted))

    def _rows(self) -> list[Row]:
        return [*self._supervisor.sessions(), *(row for holder in self._holders for row in holder.sessions())]

    def _end(self, row: Row) -> bool:
        """End one session: with its child, or by a word to the process that has others, too."""
        return (self._supervisor.end(row.pid, _KILLED)
                or any(holder.end(row, _KILLED) for holder in self._holders))

    def _fields(self, row: Row, now: float) -> dict[str, str | int]:
        """Return the fields of a session, by their usual names."""
        is_proxy = self._kind is None or self._kind is PROXY
        backend: dict[str, str | int] = {"backend": row.backend} if is_proxy else {}
        return {
            "pid": row.pid, "state": row.state, "client": str(row.client or ""),
            self._kind.owner if self._kind else "owner": row.owner, "user" if is_proxy else "mailbox": row.user,
            **backend, "in": row.bytes_in, "out": row.bytes_out,
            "seconds": int(max(0.0, now - row.started)) if row.started else 0}


def totals_of(row: Row) -> dict[str, object]:
    """Return octets and seconds for the last log line of a session whose child died.

    Only the time in its last state is known.
    """
    now = time.time()
    return {
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "seconds": max(0.0, now - row.started),
        "times": {row.state: max(0.0, now - row.entered)},
    }


def _has(fields: Mapping[str, str | int], wanted: Mapping[str, str]) -> bool:
    """Tell whether a session has the wanted values; a client may be named without its port."""
    return all(text == str(fields[name]) or name == "client" and text == _host(str(fields[name]))
               for name, text in wanted.items())


def _host(client: str) -> str:
    return client.rpartition(":")[0].strip("[]")
