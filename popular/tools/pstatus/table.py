"""The output of pstatus for people: some lines about the daemon, then a line for each slot.

Part of the tool pstatus; pure functions.  Texts come from clients and are hostile: spaces, which separate
columns, and what a terminal might obey are shown as `\\xNN`.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from popular.statefile.counters import CACHE, CHECKS, COUNTED, ENDED, LIMITED, Counter, Family
from popular.statefile.layout import FAILED_QUESTIONS, QUESTION_TIME, QUESTIONS
from popular.statefile.reader import Row
from popular.tools.printing import harmless
from popular.tools.pstatus.snapshot import Selection, Snapshot, limit_state

WIDTH = 120       # of the lines about the daemon, where there is no terminal
_MAX_TEXT = 40    # characters of one text in a column

_LABEL = 11
_RIGHT = frozenset(("slot", "pid", "nth", "age", "since", "idle", "in", "out"))

_WHY_ALONE = {"alone": "does not answer", "starting": "has not been asked yet"}

_LINES = tuple(dict.fromkeys(family.line for family in COUNTED if family.line))


def lines(snapshot: Snapshot, selection: Selection, rates: Mapping[str, float], width: int = WIDTH) -> list[str]:
    """Return all lines; the table is as wide as it needs to be."""
    found = [line for label, text in about(snapshot, rates) for line in _wrapped(label, text, width)]
    return [*found, "", *table(snapshot, selection)]


def about(snapshot: Snapshot, rates: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield labels and texts about the daemon as a whole."""
    head = snapshot.head
    status = "running" if snapshot.is_running else "not running" if snapshot.is_live else "a copy of the file"
    yield snapshot.program, (f"{printable(head.version)} on {printable(head.host)}, master {head.pid} ({status}), "
                             f"up {span(snapshot.moment - head.started)}, configuration {head.generation}")
    yield "now", (f"{snapshot.busy} of {head.maxsession} sessions ({limit_state(head.session_state)}), "
                  + (f"{snapshot.relayed} of {head.relayed} relayed, " if head.relays else "")
                  + f"{snapshot.idle} idle children, load {head.load:.2f}"
                  + (f" of {head.maxlocalload:g} ({limit_state(head.load_state)})" if head.maxlocalload else "")
                  + (", clients are screened" if head.is_screening else ""))
    if head.sharing == "together":
        yield "sharing", f"counted together with {head.proxies} other {'proxy' if head.proxies == 1 else 'proxies'}"
    elif head.sharing != "off":
        yield "sharing", f"counted here alone: the server of sharewith {_WHY_ALONE[head.sharing]}"
    if troubled := [*_troubled(snapshot)]:
        yield "trouble", ", ".join(troubled)
    yield "sessions", _outcomes(snapshot, rates)
    for label in _LINES:
        counters = [counter for family in COUNTED if family.line == label for counter in _own(family, snapshot)]
        if counters and (label != LIMITED or any(snapshot.totals[counter.name] for counter in counters)):
            yield label, _amounts(counters, snapshot, rates) + _mean_time(label, snapshot)
    yield "octets", (f"{size(snapshot.totals['bytes_in'])}{_rate(rates, 'bytes_in', size)} in, "
                     f"{size(snapshot.totals['bytes_out'])}{_rate(rates, 'bytes_out', size)} out")
    for cls in snapshot.head.kind.classes:
        named = [f"{printable(ident)} {count}" for (each, ident), count in snapshot.per_name.items() if each == cls]
        if named:
            yield cls, ", ".join(named)
    if modules := [*_modules(snapshot)]:
        yield "modules", "; ".join(modules)
    if any(snapshot.totals[counter.name] for counter in _own(CACHE, snapshot)):
        yield "cache", _amounts(CACHE.counters, snapshot, rates)
    if head.workers:
        yield "workers", f"{head.workers} for database modules, {head.workers_busy} busy"
    failed = [f"{printable(backend) or 'others'} {count} {kind}" for (backend, kind), count in snapshot.failures.items()
              if count]
    if failed:
        yield "failed", ", ".join(failed)
    for each in snapshot.replaced:
        yield "replaced", f"master {each.pid} has {each.sessions} more sessions: pstatus -f {harmless(each.path)}"
    if others := snapshot.per_name.get(("", ""), 0):
        yield "others", str(others)


def table(snapshot: Snapshot, selection: Selection) -> Iterator[str]:
    """Yield the lines of the slots, a headline first."""
    is_proxy = snapshot.program == "pproxy"
    headline = ("slot", "pid", "nth", "state", "age", "since", "idle", "client", snapshot.head.kind.owner,
                *(("backend",) if is_proxy else ()), "in", "out", "user" if is_proxy else "mailbox", "session")
    cells = [_cells(slot, row, snapshot.moment, is_proxy) for slot, row in selection.choose(snapshot)]
    widths = [max(map(len, column)) for column in zip(headline, *cells)]
    for line in (headline, *cells):
        yield "  ".join(text.rjust(width) if name in _RIGHT else text.ljust(width)
                        for name, text, width in zip(headline, line, widths)).rstrip()


def printable(text: str) -> str:
    """Return a text that harms no terminal and is one word; a long one is cut."""
    shown = harmless(text).replace(" ", "\\x20")
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT - 2] + ".."


def span(seconds: float) -> str:
    """Return a time in its two largest units: `5s`, `3m10s`, `2h05m`, `3d04h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(octets: float) -> str:
    """Return a number of octets in at most five characters and a letter."""
    if octets < 1000:
        return f"{octets:.0f}"
    for letter in "kMGTP":
        octets /= 1000
        if octets < 1000:
            break
    return f"{octets:.1f}{letter}"


def _cells(slot: int, row: Row | None, now: float, is_proxy: bool) -> Sequence[str]:
    """Return the cells of one slot; a dash stands for a missing value."""
    if row is None:
        return (str(slot), "-", "-", "being-written", *["-"] * (10 if is_proxy else 9))
    has_session = row.has_session
    return (
        str(slot), str(row.pid or "-"), str(row.sessions or "-"), printable(row.state),
        span(now - row.started) if has_session else "-",
        span(now - row.entered) if row.entered else "-",
        span(now - row.activity) if has_session else "-",
        printable(str(row.client)) if row.client else "-", printable(row.owner) or "-",
        *((printable(row.backend) or "-",) if is_proxy else ()),
        size(row.bytes_in) if has_session else "-", size(row.bytes_out) if has_session else "-",
        printable(row.user) or "-", printable(row.sid) or "-")


def _outcomes(snapshot: Snapshot, rates: Mapping[str, float]) -> str:
    """Return how many sessions there were and how they ended."""
    outcomes = _own(ENDED, snapshot)
    text = f"{snapshot.totals['sessions']}{_rate(rates, 'sessions')} begun; {_amounts(outcomes, snapshot, rates)}"
    played = sum(snapshot.totals[outcome.name] for outcome in outcomes if outcome.plays_empty)
    if played:
        text += f"; {played} empty mailboxes played"
    refused = snapshot.totals["load_refused"]
    return text + (f"; {refused} more refused for the load" if refused else "")


def _modules(snapshot: Snapshot) -> Iterator[str]:
    """Yield what is counted of each database module that was asked."""
    for (cls, ident), questions in snapshot.per_name.items():
        if cls == QUESTIONS and questions:
            failed, microseconds = (snapshot.per_name.get((each, ident), 0)
                                    for each in (FAILED_QUESTIONS, QUESTION_TIME))
            yield (f"{printable(ident)} {questions} questions" + (f", {failed} failed" if failed else "")
                   + f", {microseconds / questions / 1000:.1f} ms each")


def _troubled(snapshot: Snapshot) -> Iterator[str]:
    """Yield the backends that are not used at present, or whose pcheckd is not."""
    for ident, health in snapshot.backends.items():
        if health.state != "up":
            yield f"{printable(ident)} is {health.state}"
        if health.checks != "up":
            yield f"mail checks of {printable(ident)} are {health.checks}"


def _own(family: Family, snapshot: Snapshot) -> list[Counter]:
    """Return the counters of a metric that this program has."""
    return [counter for counter in family.counters if snapshot.program in counter.programs]


def _amounts(counters: Iterable[Counter], snapshot: Snapshot, rates: Mapping[str, float]) -> str:
    """Return counters with their words; what is 0 is left out."""
    found = [f"{snapshot.totals[counter.name]} {counter.word}{_rate(rates, counter.name)}" for counter in counters
             if snapshot.totals[counter.name]]
    return ", ".join(found) or "none"


def _mean_time(label: str, snapshot: Snapshot) -> str:
    """Return the mean time of a mail check."""
    if label != CHECKS.line:
        return ""
    checks = sum(snapshot.totals[counter.name] for counter in CHECKS.counters if counter.name != "checks_skipped")
    return f"; {snapshot.totals['check_microseconds'] / checks / 1000:.1f} ms each" if checks else ""


def _rate(rates: Mapping[str, float], name: str, show: Callable[[float], str] = "{:.1f}".format) -> str:
    rate = rates.get(name, 0.0)
    return f" (+{show(rate)}/s)" if rate else ""


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(f"{label:<{_LABEL}} {text}", max(width, 40), subsequent_indent=" " * (_LABEL + 1),
                         break_on_hyphens=False)
