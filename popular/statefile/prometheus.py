"""What a state file reports to Prometheus: the metrics, and their text (exposition format 0.0.4).

Used by the process that serves metrics beside a daemon's children (daemon.master.metrics) and by `pstatus --metrics`.
Pure functions.  No metric contains users or addresses of clients: there are too many, and they are private.
Names and units follow Prometheus's conventions: seconds, bytes, `_total` for what only grows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from popular.statefile.counters import (
    BACKEND_FAILURES, COUNTED, PDM_FAILURES, PDM_QUESTIONS, PDM_SECONDS, PER_CLASS, UNNAMED, Family)
from popular.statefile.layout import BACKEND_STATES, FAILED_QUESTIONS, QUESTION_TIME, QUESTIONS, SHARING_STATES, STATES
from popular.statefile.reader import Head, Health, Row, StateFileView
from popular.statefile.seqlock import Read

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OFF, _TOGETHER, *_ = SHARING_STATES.values()
UNKNOWN_STATE = "unknown"    # state of a slot that was being written at each attempt


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """What a state file holds at nearly one moment."""

    head: Head
    rows: Sequence[Row | None]                    # of children's slots ever used (None: being written), and relayed
    totals: Mapping[str, int]
    per_name: Mapping[tuple[str, str], int]       # sessions by class and id
    failures: Mapping[tuple[str, str], int]       # by backend and kind
    backends: Mapping[str, Health]                # by id
    is_running: bool = True                       # the master exists

    @classmethod
    def at(cls, read: Read, patience: float) -> "StateSnapshot":
        """Read everything, waiting at most `patience` seconds for writers in total; raises what StateFileView does."""
        view = StateFileView(read, patience)
        return cls(view.head, [*view.rows(), *view.relayed()], *view.totals(), view.failures(), view.backends())


Amount = tuple[str | tuple[str, str], float]    # with the value of the label, or of two


def _gauge(name: str, help: str, *labels: str) -> Family:
    return Family(f"popular_{name}", "gauge", help, labels)


def _busy(look: StateSnapshot) -> Iterable[Amount]:
    """Return how many sessions are in each state that the program has."""
    known = [name for name, state in STATES.items() if look.head.kind.program in state.programs]
    found = Counter("" if row is not None and not row.has_session else row.state if row and row.state in known
                    else UNKNOWN_STATE for row in look.rows)
    return ((state, found[state]) for state in (*known, UNKNOWN_STATE))


def _idle(look: StateSnapshot) -> Iterable[Amount]:
    return [("", sum(1 for row in look.rows if row is not None and row.state == "idle"))]


def _relayed(look: StateSnapshot) -> Iterable[Amount]:
    """Return how many sessions relay processes of pproxy have."""
    if look.head.kind.program != "pproxy":
        return []
    return [("", sum(1 for row in look.rows if row is not None and row.slot >= look.head.slots))]


def _screening(look: StateSnapshot) -> Iterable[Amount]:
    return [("", int(look.head.is_screening))] if look.head.kind.program == "pproxy" else []


def _sharing(of: Callable[[Head], float]) -> Callable[[StateSnapshot], Iterable[Amount]]:
    """Return a function that reports about sharing, if that is configured."""
    return lambda look: [("", of(look.head))] if look.head.sharing != _OFF else []


def _workers(look: StateSnapshot) -> Iterable[Amount]:
    head = look.head
    if head.kind.program != "pproxy":
        return []
    return [("idle", head.workers - head.workers_busy), ("busy", head.workers_busy)]


def _backends(look: StateSnapshot) -> Iterable[Amount]:
    """Return for each backend 1 for the state that it is in, and 0 for the others."""
    return [((ident, state), int(health.state == state)) for ident, health in look.backends.items()
            for state in BACKEND_STATES]


def _head(of: Callable[[Head], float], *, is_load: bool = False) -> Callable[[StateSnapshot], Iterable[Amount]]:
    """Return a function that reports a number of the header; one about the load only if the load is read."""
    return lambda look: [] if is_load and look.head.maxlocalload <= 0 else [("", of(look.head))]


_MEASURES = {QUESTIONS: (PDM_QUESTIONS, 1), FAILED_QUESTIONS: (PDM_FAILURES, 1), QUESTION_TIME: (PDM_SECONDS, 1e-6)}

UP = _gauge("up", "Whether the daemon runs: 0 when it was killed and has left its state file.")
BACKENDS = _gauge("backend_state", "The state of a backend: 1 for the one that it is in, 0 for the others.",
                  "backend", "state")
ACTIVE = _gauge("sessions_active", "Sessions that run, by what they are doing.", "state")

# One row each: the metric, and what a running daemon reports.
_GAUGES: tuple[tuple[Family, Callable[[StateSnapshot], Iterable[Amount]]], ...] = (
    (_gauge("build_info", "Always 1; the version of the daemon.", "version"), lambda look: [(look.head.version, 1)]),
    (_gauge("start_time_seconds", "When the daemon was started, or took over in an upgrade."),
     _head(lambda head: head.started)),
    (_gauge("config_generation", "How often the configuration was changed since then."),
     _head(lambda head: head.generation)),
    (ACTIVE, _busy),
    (BACKENDS, _backends),
    (_gauge("sessions_limit", "How many sessions there may be at once: maxsession."),
     _head(lambda head: head.maxsession)),
    (_gauge("sessions_limit_state", "How near the sessions are to their limit: 0 well below, 1 near it, 2 at it."),
     _head(lambda head: head.session_state)),
    (_gauge("sessions_relayed", "Sessions that are in relay processes, which do not count against maxsession."),
     _relayed),
    (_gauge("sessions_relayed_limit", "How many sessions may be in relay processes: maxrelayed; 0 without them."),
     lambda look: [("", look.head.relayed)] if look.head.kind.program == "pproxy" else []),
    (_gauge("screening", "Whether clients are screened before they get a child, since the pool was full."), _screening),
    (_gauge("sharing", "Whether clients are counted together with other proxies: 0 while the server does not answer."),
     _sharing(lambda head: int(head.sharing == _TOGETHER))),
    (_gauge("sharing_proxies", "Other proxies that are counted together with this one."),
     _sharing(lambda head: head.proxies)),
    (_gauge("children_idle", "Children that wait for a connection."), _idle),
    (_gauge("pdm_workers", "PDM workers, by what they do.", "state"), _workers),
    (_gauge("system_load", "The system load when the daemon last looked, if it has a limit for it."),
     _head(lambda head: head.load, is_load=True)),
    (_gauge("system_load_limit", "The system load at which connections are refused: maxlocalload."),
     _head(lambda head: head.maxlocalload, is_load=True)),
    (_gauge("system_load_state",
            "How near the load is to its limit: 0 well below, 1 near it, 2 connections are refused."),
     _head(lambda head: head.load_state, is_load=True)),
)
FAMILIES = (UP, *(family for family, _ in _GAUGES), *COUNTED)


def exposition(looks: Sequence[StateSnapshot]) -> str:
    """Return the text about one daemon, or several of different programs."""
    lines: dict[Family, list[str]] = {family: [] for family in FAMILIES}
    for look in looks:
        for family, amounts in _samples(look):
            lines[family] += [_line(family, look.head.kind.program, value, amount) for value, amount in amounts]
    return "".join(
        f"# HELP {family.name} {_escaped(family.help)}\n# TYPE {family.name} {family.kind}\n{''.join(found)}"
        for family, found in lines.items() if found)


def _samples(look: StateSnapshot) -> Iterator[tuple[Family, Iterable[Amount]]]:
    """Yield everything about one daemon; for one that does not run, only that it is down."""
    yield UP, [("", int(look.is_running))]
    if not look.is_running:
        return
    for family, of in _GAUGES:
        yield family, of(look)
    for family in COUNTED:
        yield family, [(counter.value, _amount(look.totals[counter.name], counter.unit))
                       for counter in sorted(family.counters, key=lambda counter: counter.column)
                       if look.head.kind.program in counter.programs]
    for cls in look.head.kind.classes:
        yield PER_CLASS[cls], [(ident, count) for (each, ident), count in look.per_name.items() if each == cls]
    for cls in look.head.kind.measures:
        family, unit = _MEASURES[cls]
        yield family, [(ident, _amount(count, unit)) for (each, ident), count in look.per_name.items() if each == cls]
    yield BACKEND_FAILURES, look.failures.items()
    yield UNNAMED, [("", look.per_name.get(("", ""), 0))]


def _amount(count: int, unit: float) -> float:
    return count if unit == 1 else count * unit    # whole numbers stay whole


def _line(family: Family, program: str, value: str | tuple[str, str], amount: float) -> str:
    values = (value,) if isinstance(value, str) else value
    labels = "".join(f',{label}="{_quoted(text)}"' for label, text in zip(family.labels, values))
    return f'{family.name}{{program="{program}"{labels}}} {amount}\n'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    """Return the value of a label as it stands between its quotes."""
    return _escaped(text).replace('"', '\\"')
