"""What a state file tells a Prometheus: the metrics, and the text that it reads (exposition format 0.0.4).

Used by the process that serves metrics beside a daemon's children (daemon.master.metrics) and by `pstatus --metrics`.
Pure functions.  No metric has users or addresses of clients in it: both would be many, and are nobody's business.
Names and units follow Prometheus's conventions: seconds, bytes, `_total` for what only grows.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from popular.statefile.layout import PROXY, SERVER, SessionState, StateFileKind
from popular.statefile.reader import Head, Row, StateFileView
from popular.statefile.seqlock import Read

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN = "unknown"    # state of a slot that was being written all the time

_MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, of which there may be a sample for each program and each value of `label`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    label: str = ""     # beside `program`
    second: str = ""    # another one

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels beside `program`."""
        return tuple(filter(None, (self.label, self.second)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where one counter of a state file goes."""

    family: Family
    value: str = ""        # of the label
    unit: float = 1        # what the counter counts, in the metric's unit


@dataclass(frozen=True, slots=True)
class Look:
    """What a state file holds at nearly one moment."""

    head: Head
    rows: Sequence[Row | None]                    # of all slots ever used; None: never at rest
    totals: Mapping[str, int]
    per_name: Mapping[tuple[str, str], int]       # sessions by class and id
    failures: Mapping[tuple[str, str], int]       # by backend and kind
    is_running: bool = True                       # the master is there

    @classmethod
    def at(cls, read: Read, patience: float) -> "Look":
        """Read everything, waiting `patience` seconds for writers in all; raises what StateFileView does."""
        view = StateFileView(read, patience)
        return cls(view.head, view.rows(), *view.totals(), view.failures())


UP = Family("popular_up", "gauge", "Whether the daemon runs: 0 when it was killed and has left its state file.")
BUILD = Family("popular_build_info", "gauge", "Always 1; the version of the daemon.", "version")
STARTED = Family("popular_start_time_seconds", "gauge", "When the daemon was started, or took over in an upgrade.")
GENERATION = Family("popular_config_generation", "gauge", "How often the configuration was changed since then.")
ACTIVE = Family("popular_sessions_active", "gauge", "Sessions that run, by what they are doing.", "state")
LIMIT = Family("popular_sessions_limit", "gauge", "How many sessions there may be at once: maxsession.")
LIMIT_STATE = Family("popular_sessions_limit_state", "gauge",
                     "How near the sessions are to their limit: 0 well below, 1 near it, 2 at it.")
IDLE = Family("popular_children_idle", "gauge", "Children that wait for a connection.")
LOAD = Family("popular_system_load", "gauge", "The system load when the daemon last looked, if it has a limit for it.")
LOAD_LIMIT = Family("popular_system_load_limit", "gauge",
                    "The system load at which connections are refused: maxlocalload.")
LOAD_STATE = Family("popular_system_load_state", "gauge",
                    "How near the load is to its limit: 0 well below, 1 near it, 2 connections are refused.")

SESSIONS = Family("popular_sessions_total", "counter", "Sessions that have begun.")
ENDED = Family("popular_sessions_ended_total", "counter", "Sessions that have ended, by how.", "outcome")
REFUSED = Family("popular_connections_refused_total", "counter", "Connections refused because of the system load.")
RECEIVED = Family("popular_received_bytes_total", "counter", "Octets that came from clients.")
SENT = Family("popular_sent_bytes_total", "counter", "Octets that went to clients.")
FORKS = Family("popular_forks_total", "counter", "Children that were forked.")
FORK_FAILURES = Family("popular_fork_failures_total", "counter", "Times that the system refused a child.")
THROTTLES = Family("popular_throttles_total", "counter", "Times that children could not start, and the next waited.")
DEATHS = Family("popular_child_deaths_total", "counter", "Children that crashed or were killed by others.")
LOGINS = Family("popular_logins_total", "counter", "What the database said to logins; failed: it could not tell.",
                "result")
BACKEND_REFUSALS = Family("popular_backend_refusals_total", "counter",
                          "Logins that the database granted and the backend refused.")
BACKEND_FAILURES = Family(
    "popular_backend_failures_total", "counter",
    "Logins for which a backend was out of reach, drained, or silent, by why.", "backend", "kind")
CHECKS = Family("popular_mail_checks_total", "counter",
                "What pcheckd said to mail checks; missing: there is no mailbox; failed: it did not answer.", "result")
CHECK_TIME = Family("popular_mail_check_seconds_total", "counter", "Time spent in mail checks.")
RETRIEVED = Family("popular_messages_retrieved_total", "counter", "Messages that were retrieved.")
RETRIEVED_BYTES = Family("popular_retrieved_bytes_total", "counter", "Octets of the messages that were retrieved.")
DELETED = Family("popular_messages_deleted_total", "counter", "Messages that were deleted.")
NOT_DELETED = Family("popular_messages_not_deleted_total", "counter",
                     "Messages that were to be deleted and could not be removed.")
PER_CLASS: Mapping[str, Family] = {
    "vserv": Family("popular_vserv_sessions_total", "counter", "Sessions of each virtual server.", "vserv"),
    "backend": Family("popular_backend_sessions_total", "counter", "Sessions whose user has this backend.", "backend"),
    "server": Family("popular_server_sessions_total", "counter", "Sessions of each server.", "server"),
}
UNNAMED = Family("popular_unnamed_sessions_total", "counter",
                 "Sessions of objects for whose names the state file has no room.")

FAMILIES = (
    UP, BUILD, STARTED, GENERATION, ACTIVE, LIMIT, LIMIT_STATE, IDLE, LOAD, LOAD_LIMIT, LOAD_STATE, SESSIONS, ENDED,
    *PER_CLASS.values(), UNNAMED, REFUSED, RECEIVED, SENT, LOGINS, BACKEND_REFUSALS, BACKEND_FAILURES, CHECKS,
    CHECK_TIME, RETRIEVED, RETRIEVED_BYTES, DELETED, NOT_DELETED, FORKS, FORK_FAILURES, THROTTLES, DEATHS)

# Every counter of popular.statefile.layout.
COUNTERS: Mapping[str, Place] = {
    "sessions": Place(SESSIONS), "load_refused": Place(REFUSED), "bytes_in": Place(RECEIVED), "bytes_out": Place(SENT),
    "forks": Place(FORKS), "forks_failed": Place(FORK_FAILURES), "throttles": Place(THROTTLES),
    "children_died": Place(DEATHS),
    **{outcome: Place(ENDED, outcome) for kind in (PROXY, SERVER) for outcome in kind.outcomes},
    "logins": Place(LOGINS, "granted"), "logins_refused": Place(LOGINS, "refused"),
    "logins_failed": Place(LOGINS, "failed"), "backend_refused": Place(BACKEND_REFUSALS),
    **{f"checks_{result}": Place(CHECKS, result)
       for result in ("empty", "old_mail", "new_mail", "overloaded", "missing", "failed")},
    "check_microseconds": Place(CHECK_TIME, unit=_MICROSECOND),
    "retrieved": Place(RETRIEVED), "octets": Place(RETRIEVED_BYTES), "deleted": Place(DELETED),
    "not_deleted": Place(NOT_DELETED),
}

# What a session can be doing, by the owner of listeners.
STATES: Mapping[str, tuple[SessionState, ...]] = {
    PROXY.owner: (SessionState.GREETING, SessionState.AUTH, SessionState.MAILCHECK, SessionState.EMPTY,
                  SessionState.CONNECTING, SessionState.RELAY, SessionState.CLOSING),
    SERVER.owner: (SessionState.PREAMBLE, SessionState.OPENING, SessionState.TRANSACTION, SessionState.UPDATE,
                   SessionState.CLOSING),
}

Sample = tuple[Family, str | tuple[str, str], float]    # with the value of the label, or of two


def exposition(looks: Sequence[Look]) -> str:
    """Return the text about one daemon, or several, each of another program."""
    lines: dict[Family, list[str]] = {family: [] for family in FAMILIES}
    for look in looks:
        for family, value, amount in _samples(look):
            lines[family].append(_line(family, program_of(look.head.kind), value, amount))
    return "".join(
        f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}\n{''.join(found)}"
        for family, found in lines.items() if found)


def program_of(kind: StateFileKind) -> str:
    """Return the name of the daemon that has such a state file."""
    return "pproxy" if kind is PROXY else "pserv"


def _samples(look: Look) -> Iterator[Sample]:
    """Yield everything about one daemon; of one that does not run there is nothing to tell."""
    yield UP, "", int(look.is_running)
    if not look.is_running:
        return
    yield from _about(look.head)
    yield from _children(look)
    for counter in look.head.kind.counters:
        place = COUNTERS[counter]
        amount = look.totals[counter]
        yield place.family, place.value, amount if place.unit == 1 else amount * place.unit
    for (cls, ident), count in look.per_name.items():
        if cls in look.head.kind.classes:
            yield PER_CLASS[cls], ident, count
    for which, count in look.failures.items():
        yield BACKEND_FAILURES, which, count
    yield UNNAMED, "", look.per_name.get(("", ""), 0)


def _about(head: Head) -> Iterator[Sample]:
    yield BUILD, head.version, 1
    yield STARTED, "", head.started
    yield GENERATION, "", head.generation
    yield LIMIT, "", head.maxsession
    yield LIMIT_STATE, "", head.session_state
    if head.maxlocalload > 0:    # else nobody looks
        yield LOAD, "", head.load
        yield LOAD_LIMIT, "", head.maxlocalload
        yield LOAD_STATE, "", head.load_state


def _children(look: Look) -> Iterator[Sample]:
    known = [state.name.lower() for state in STATES[look.head.kind.owner]]
    found = Counter("" if row is not None and not row.has_session else row.state if row and row.state in known
                    else UNKNOWN for row in look.rows)
    for state in (*known, UNKNOWN):
        yield ACTIVE, state, found[state]
    yield IDLE, "", sum(1 for row in look.rows if row is not None and row.state == "idle")


def _line(family: Family, program: str, value: str | tuple[str, str], amount: float) -> str:
    values = (value,) if isinstance(value, str) else value
    labels = "".join(f',{label}="{_quoted(text)}"' for label, text in zip(family.labels, values))
    return f'{family.name}{{program="{program}"{labels}}} {amount}\n'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """Return the value of a label as it stands between its quotes."""
    return _escaped(text).replace('"', '\\"')
