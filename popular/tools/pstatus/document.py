"""The output of pstatus for programs: one JSON object in one line of ASCII; the man page lists its keys.

Part of the tool pstatus; pure functions.
"""

import json
from collections.abc import Mapping

from popular.statefile.reader import Row
from popular.tools.pstatus.snapshot import Selection, Snapshot, limit_state


def text(snapshot: Snapshot, selection: Selection, rates: Mapping[str, float]) -> str:
    """Return the line, without its end."""
    head = snapshot.head
    found: dict[str, object] = {
        "program": snapshot.program, "version": head.version, "host": head.host, "file": snapshot.path,
        "live": snapshot.is_live, "running": snapshot.is_running, "time": round(snapshot.moment, 3),
        "pid": head.pid, "started": round(head.started, 3), "generation": head.generation,
        "sessions": {"now": snapshot.busy, "limit": head.maxsession, "state": limit_state(head.session_state)},
        **({"relayed": {"now": snapshot.relayed, "limit": head.relayed}} if head.relays else {}),
        "load": {"now": head.load, "limit": head.maxlocalload, "state": limit_state(head.load_state)},
        "idle": snapshot.idle,
        **({"sharing": {"state": head.sharing, "proxies": head.proxies}} if snapshot.program == "pproxy" else {}),
        "totals": dict(snapshot.totals),
        "per": {cls: _per_name(snapshot, cls) for cls in head.kind.classes},
        "failures": _failures(snapshot),
        "backends": {ident: {"state": health.state, "checks": health.checks}
                     for ident, health in snapshot.backends.items()},
        **(_modules(snapshot) if head.kind.measures else {}),
        "others": snapshot.per_name.get(("", ""), 0),
        "replaced": [{"pid": each.pid, "file": each.path, "sessions": each.sessions} for each in snapshot.replaced],
        "slots": [_slot(slot, row, snapshot.program == "pproxy") for slot, row in selection.choose(snapshot)],
    }
    if rates:
        found["rates"] = {name: round(rate, 3) for name, rate in rates.items()}
    return json.dumps(found, allow_nan=False)


def _per_name(snapshot: Snapshot, cls: str) -> dict[str, int]:
    """Return the sessions of each object of a class by its id."""
    return {ident: count for (each, ident), count in snapshot.per_name.items() if each == cls}


def _modules(snapshot: Snapshot) -> dict[str, object]:
    """Return what pproxy counts of its database modules, and their workers."""
    questions, failed, microseconds = (_per_name(snapshot, cls) for cls in snapshot.head.kind.measures)
    modules = {ident: {"questions": count, "failed": failed.get(ident, 0),
                       "seconds": microseconds.get(ident, 0) / 1_000_000} for ident, count in questions.items()}
    return {"modules": modules, "workers": {"now": snapshot.head.workers, "busy": snapshot.head.workers_busy}}


def _failures(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    """Return the failures of each backend, by kind."""
    found: dict[str, dict[str, int]] = {}
    for (backend, kind), count in snapshot.failures.items():
        found.setdefault(backend, {})[kind] = count
    return found


def _slot(slot: int, row: Row | None, is_proxy: bool) -> dict[str, object]:
    """Return one slot; `state` is null if it was being written at each attempt."""
    if row is None:
        return {"slot": slot, "state": None}
    whose = {"vserv": row.owner, "backend": row.backend, "user": row.user} if is_proxy else \
        {"server": row.owner, "mailbox": row.user}
    return {
        "slot": slot, "pid": row.pid, "state": row.state, "number": row.sessions, "sid": row.sid,
        "client": str(row.client) if row.client else "", **whose, "bytes_in": row.bytes_in, "bytes_out": row.bytes_out,
        "started": round(row.started, 3), "entered": round(row.entered, 3), "activity": round(row.activity, 3)}
