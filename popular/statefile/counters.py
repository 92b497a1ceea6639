"""What a state file counts: one row for each counter.

The columns of the file, the lines of pstatus and of its live view, the metrics and a table in pstatus(1) are made from
these rows.  To add a counter, add a row with the next free column, and call `count` where the event happens.
Read by the master, its children and pstatus.  Data, nothing is raised.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

_PROXY = ("pproxy",)
_SERVER = ("pserv",)
_DELIVERY = ("plmtpd",)


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter, of one program or of several."""

    name: str                   # in the code, and a key of the totals in JSON
    column: int                 # of a row of the state file; it never changes
    word: str = ""              # what pstatus shows after the number
    help: str = ""              # for pstatus(1); empty: the help of its metric
    programs: tuple[str, ...] = ("pproxy", "pserv", "plmtpd")
    value: str = ""             # of the label of its metric
    unit: float = 1             # what it counts, in the unit of its metric
    rate: str = ""              # its name among the rates of pstatus --top; empty: not shown
    is_main: bool = False       # it is shown even when it is 0
    plays_empty: bool = False   # pproxy was an empty mailbox to these clients


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric, of which there may be a sample for each program and each value of its labels."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()      # in addition to `program`
    line: str = ""                    # the line of pstatus that shows its counters, if they need no special one
    counters: tuple[Counter, ...] = ()


class SessionOutcome(Enum):
    """How a session ended: each has a counter."""

    def __init__(self, row: Counter) -> None:
        self.row = row
        self.counter = row.name
        self.text = row.word    # in the line that sums the session up


def _proxy(name: str, column: int, help: str, *, plays_empty: bool = False) -> Counter:
    return Counter(name, column, name.replace("_", " "), help, _PROXY, name, plays_empty=plays_empty)


def _server(name: str, column: int, help: str) -> Counter:
    return Counter(name, column, name.replace("_", " "), help, _SERVER, name)


def _delivery(name: str, column: int, help: str) -> Counter:
    return Counter(name, column, name.replace("_", " "), help, _DELIVERY, name)


LIMITED = "limited"    # the line of pstatus about clients that met a limit; not shown as long as there are none

CUT_OFF = "cut_off"    # counted by the master for all programs
_CUT_OFF = "The child died or was ended within the session."


class ProxyOutcome(SessionOutcome):
    """How a session of pproxy ended."""

    RELAYED = _proxy("relayed", 8, "The client was connected to the backend.")
    EMPTY = _proxy("empty", 9, "There was no mail: an empty mailbox was played, as in the next four.", plays_empty=True)
    OVERLOADED = _proxy("overloaded", 10, "The mail check said that the store is overloaded.", plays_empty=True)
    VSERV_DISABLED = _proxy("vserv_disabled", 11, "The virtual server was disabled.", plays_empty=True)
    BACKEND_DISABLED = _proxy("backend_disabled", 12, "The backend was disabled.", plays_empty=True)
    SOFT_FAILURE = _proxy("soft_failure", 13, "The backend was out of reach, and has softfail.", plays_empty=True)
    REFUSED = _proxy("refused", 14, "The last login was refused.")
    QUIT = _proxy("quit", 15, "The client left by QUIT before a login.")
    NO_LOGIN = _proxy("no_login", 16, "The client left or was sent away before a login.")
    CUT_OFF = _proxy(CUT_OFF, 27, _CUT_OFF)


class ServerOutcome(SessionOutcome):
    """How a session of pserv ended."""

    QUIT = _server("quit", 8, "The client left by QUIT.")
    BROKEN_OFF = _server("broken_off", 9, "The client left otherwise, or was sent away.")
    REFUSED = _server("refused", 10, "The preamble or the mailbox was refused.")
    NO_PREAMBLE = _server("no_preamble", 11, "Nobody named a mailbox.")
    CUT_OFF = _server(CUT_OFF, 16, _CUT_OFF)


class DeliveryOutcome(SessionOutcome):
    """How a session of plmtpd ended."""

    QUIT = _delivery("quit", 8, "The client left by QUIT.")
    BROKEN_OFF = _delivery("broken_off", 9, "The client left otherwise, or was sent away.")
    CUT_OFF = _delivery(CUT_OFF, 10, _CUT_OFF)


def _counted(name: str, help: str, *counters: Counter, labels: tuple[str, ...] = (), line: str = "") -> Family:
    return Family(f"popular_{name}_total", "counter", help, labels, line, counters)


def _login(name: str, column: int, value: str, help: str, rate: str, *, is_main: bool = False) -> Counter:
    return Counter(name, column, value, help, _PROXY, value, rate=rate, is_main=is_main)


def _check(value: str, column: int, word: str, help: str, rate: str = "") -> Counter:
    return Counter(f"checks_{value}", column, word, help, _PROXY, value, rate=rate)


ENDED = _counted("sessions_ended", "Sessions that have ended, by how.",
                 *(outcome.row for outcomes in (ProxyOutcome, ServerOutcome, DeliveryOutcome) for outcome in outcomes),
                 labels=("outcome",))
CHECKS = _counted(
    "mail_checks", "What pcheckd said to mail checks; missing: there is no mailbox; failed: it did not answer; "
    "skipped: it was not asked, because it had not answered others.",
    _check("empty", 21, "without mail", "Mail checks of mailboxes without mail.", "without mail"),
    _check("old_mail", 22, "with read mail", "Mail checks of mailboxes with read mail only."),
    _check("new_mail", 23, "with new mail", "Mail checks of mailboxes with new mail."),
    _check("missing", 28, "without mailbox", "Mail checks of mailboxes that are not there."),
    _check("overloaded", 24, "overloaded", "Mail checks of a store that is overloaded."),
    _check("failed", 25, "unanswered", "Mail checks without an answer."),
    _check("skipped", 45, "skipped", "Mail checks that were left out, because pcheckd had not answered others."),
    labels=("result",), line="mail check")
BACKEND_FAILURES = _counted(
    "backend_failures", "Logins for which a backend was out of reach, drained, or silent, by why.",
    labels=("backend", "kind"))
PER_CLASS = {family.labels[0]: family for family in (
    _counted("vserv_sessions", "Sessions of each virtual server.", labels=("vserv",)),
    _counted("backend_sessions", "Sessions whose user has this backend, also those that its replica served.",
             labels=("backend",)),
    _counted("server_sessions", "Sessions of each server.", labels=("server",)))}
PDM_QUESTIONS, PDM_FAILURES, PDM_SECONDS = (
    _counted("pdm_questions", "Questions to database modules at logins.", labels=("pdm",)),
    _counted("pdm_failures", "Questions that a database module could not answer.", labels=("pdm",)),
    _counted("pdm_seconds", "Time that database modules took for their answers, and time in the queue for a worker.",
             labels=("pdm",)))
CACHE = _counted(
    "cache_lookups", "Searches of the cache; stale: its answer was used because a database module failed.",
    *(Counter(f"cache_{value}", column, value, help, _PROXY, value) for value, column, help in (
        ("hits", 30, "Answers from the cache."),
        ("misses", 31, "Questions for which the cache had no answer."),
        ("stale", 32, "Stale answers from the cache, used because a database module failed."))),
    labels=("result",))
CLIENTS_REFUSED = _counted(
    "clients_refused", "Connections that were closed at once because of a limit for clients, by which.",
    *(Counter(f"client_{value}", column, word, help, _PROXY, value) for value, column, word, help in (
        ("denied", 33, "by lists of networks", "Connections of clients whose network is denied."),
        ("failed_logins", 34, "after failed logins", "Connections of addresses with too many failed logins."),
        ("address_rate", 35, "too often by address", "Connections of addresses that had too many in a minute."),
        ("network_rate", 36, "too often by network", "Connections of networks that had too many in a minute."),
        ("address", 37, "too many of an address", "Connections of addresses that had too many open."),
        ("network", 38, "too many of a network", "Connections of networks that had too many open."))),
    labels=("reason",), line=LIMITED)
UNNAMED = _counted("unnamed_sessions", "Sessions of objects for whose names the state file has no room.")

# In the order of output; those without counters are about the file's names and failures.
COUNTED = (
    _counted("sessions", "Sessions that have begun.", Counter("sessions", 0, rate="sessions", is_main=True)),
    ENDED, *PER_CLASS.values(), UNNAMED,
    _counted("connections_refused", "Connections refused because of the system load.", Counter("load_refused", 1)),
    CLIENTS_REFUSED,
    _counted("proxies_refused", "Connections that were closed for lack of a good PROXY header from a trusted proxy.",
             Counter("proxies_refused", 48, "without a PROXY header", programs=_PROXY), line=LIMITED),
    _counted("health_checks", "Health checks of load balancers with the PROXY protocol, which are no sessions.",
             Counter("health_checks", 49, programs=_PROXY)),
    _counted("logins_unchecked", "Logins refused without a check of the password, after too many failed ones.",
             Counter("logins_unchecked", 39, "not checked", programs=_PROXY), line="logins"),
    _counted("policy_logins", "What policyurl did to logins; failed: they went on without an answer from there.",
             Counter("policy_refused", 46, "refused by policy", "Logins that were refused by policyurl.", _PROXY,
                     "refused"),
             Counter("policy_failed", 47, "without policy", "Logins that went on without an answer from policyurl.",
                     _PROXY, "failed"), labels=("result",), line="logins"),
    _counted("sessions_made_way", "Sessions without a login that were ended because new connections found no child.",
             Counter("made_way", 41, "made way for others", programs=_PROXY), line=LIMITED),
    _counted("screened", "Connections that waited for a full pool, by whether they got a child or ended before.",
             Counter("screen_passed", 42, "screened", programs=_PROXY, value="passed"),
             Counter("screen_closed", 43, "ended while screened", programs=_PROXY, value="closed"),
             labels=("result",), line=LIMITED),
    _counted("received_bytes", "Octets that came from clients.", Counter("bytes_in", 2)),
    _counted("sent_bytes", "Octets that went to clients.", Counter("bytes_out", 3)),
    _counted("logins", "What the database said to logins; failed: it could not tell.",
             _login("logins", 17, "granted", "Logins that the database granted.", "logins", is_main=True),
             _login("logins_refused", 18, "refused", "Logins that the database refused.", "refused"),
             _login("logins_failed", 19, "failed", "Logins of which the database could not tell.", ""),
             labels=("result",), line="logins"),
    _counted("backend_refusals", "Logins that the database granted and the backend refused.",
             Counter("backend_refused", 20, "refused by the backend", programs=_PROXY), line="logins"),
    PDM_QUESTIONS, PDM_FAILURES, PDM_SECONDS, CACHE, BACKEND_FAILURES,
    _counted("replica_logins", "Logins that were sent to the replica of their backend.",
             Counter("to_replica", 44, "to a replica", programs=_PROXY), line="logins"),
    CHECKS,
    _counted("mail_check_seconds", "Time spent in mail checks.",
             Counter("check_microseconds", 26, help="Microseconds spent in mail checks.", programs=_PROXY, unit=1e-6)),
    _counted("messages_retrieved", "Messages that were retrieved.",
             Counter("retrieved", 12, "retrieved", programs=_SERVER, rate="messages retrieved", is_main=True),
             line="messages"),
    _counted("retrieved_bytes", "Octets of the messages that were retrieved.",
             Counter("octets", 13, programs=_SERVER)),
    _counted("messages_deleted", "Messages that were deleted.",
             Counter("deleted", 14, "deleted", programs=_SERVER, rate="deleted"), line="messages"),
    _counted("messages_not_deleted", "Messages that were to be deleted and could not be removed.",
             Counter("not_deleted", 15, "not removed", programs=_SERVER), line="messages"),
    _counted("messages_accepted", "Messages whose text was accepted for at least one recipient.",
             Counter("accepted", 11, "accepted", programs=_DELIVERY, rate="messages accepted", is_main=True),
             line="messages"),
    _counted("accepted_bytes", "Octets of the messages that were accepted, each counted once.",
             Counter("accepted_octets", 12, programs=_DELIVERY)),
    _counted("recipients", "Recipients of messages, by what became of them; deferred: the client is to try again.",
             Counter("delivered", 13, "delivered", "Recipients to whom a message was delivered.", _DELIVERY,
                     "delivered", rate="delivered", is_main=True),
             Counter("unknown", 14, "unknown", "Recipients who have no mailbox here.", _DELIVERY, "unknown"),
             Counter("over_quota", 15, "over quota", "Recipients whose mailbox was full.", _DELIVERY, "over_quota"),
             Counter("deferred", 16, "deferred", "Recipients for whom a database or a disk failed.", _DELIVERY,
                     "deferred"),
             labels=("result",), line="recipients"),
    _counted("forks", "Children that were forked.", Counter("forks", 4, "forked"), line="children"),
    _counted("fork_failures", "Times that the system refused a child.", Counter("forks_failed", 5, "forks failed"),
             line="children"),
    _counted("throttles", "Times that children could not start, and the next waited.",
             Counter("throttles", 6, "throttled"), line="children"),
    _counted("child_deaths", "Children that crashed or were killed by others.",
             Counter("children_died", 7, "died"), line="children"),
    _counted("pdm_worker_deaths", "PDM workers that crashed, or were ended because a question took too long.",
             Counter("workers_died", 29, "PDM workers died", programs=_PROXY), line="children"),
    _counted("control_refusals", "Connections of children to the control socket, which refuses them.",
             *(Counter("control_refused", column, "refused control", programs=programs)
               for column, programs in ((40, _PROXY), (17, _SERVER), (17, _DELIVERY))), line="children"),
)


def counters_of(program: str) -> tuple[Counter, ...]:
    """Return the counters of `pproxy`, `pserv` or `plmtpd` in the order of their columns."""
    return tuple(sorted((counter for family in COUNTED for counter in family.counters if program in counter.programs),
                        key=lambda counter: counter.column))
