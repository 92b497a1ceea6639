"""One measured turn of each workload; every one is a function (ward, Setting) → Turn.

    empty       greeting, USER, PASS, STAT, QUIT of a mailbox without mail
    mail        … STAT, UIDL, RETR of one message of 4 KiB, QUIT
    mix         four empty, one mail
    bulk        RETR of 20 messages of 1 MiB, each with an attachment
    bulk-text   the same of text with many dots
    login-fail  USER and a wrong PASS
    big         a mailbox of 100,000 messages: login to STAT's answer, UIDL, RETR of the last
    idle        1,000 sessions at rest after STAT: memory per session of each program
    check       mail checks by datagram
    tls-off     empty in clear, at servers that have TLS on another port: what the next ones are compared with
    tls-full    empty over TLS from the first octet on, with a whole handshake
    tls-resumed the same with the ticket of an earlier session
    tls-bulk    bulk over TLS
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.bench.big import measure_big
from tests.bench.datagrams import measure_checks
from tests.bench.load import GRACE, LoadResult, Plan, run_load
from tests.bench.population import Population, Store
from tests.bench.resting import measure_rest
from tests.bench.results import Turn
from tests.bench.scripts import Script, scripts_of
from tests.bench.tls import client_context, tickets
from tests.bench.tlsload import OverTls
from tests.bench.ward import Ward

WARM_UP = 0.25              # of a turn's length, at least WARM_UP_SECONDS or that length
WARM_UP_SECONDS = 0.2
REFUSED_SECONDS = 3.0       # at least, where everyone waits a second or two before he refuses
MAX_SHARE = 0.5             # of all cores for the load generator, then it is called the bottleneck
MAX_BUSY = 0.9              # of its own core for one of its processes

_BULKY = ("bulk", "bulk-text")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a turn is done with."""

    store: Store
    population: Population
    concurrency: int
    round: int
    seconds: float
    processes: int
    resting: int
    grace: float = GRACE    # seconds for sessions that began in time to end


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the list."""

    name: str
    about: str
    measure: Callable[[Ward, Setting], Turn]
    has_concurrency: bool = True        # measured at each concurrency, else once
    telling: tuple[int, ...] = ()       # numbers of sessions at once that tell anything; () is all of them
    needs_checks: bool = False          # only for contenders with pcheckd
    needs_tls: bool = False             # measured when everyone has been started again, with TLS on another port
    unit: str = "session"

    def levels(self, wanted: Sequence[int]) -> Sequence[int]:
        """Return with how many sessions at once to measure, of those `wanted`; the last, when none tells."""
        if not self.has_concurrency:
            return (1,)
        return [level for level in wanted if not self.telling or level in self.telling] or wanted[-1:]


def measure_sessions(workload: str, ward: Ward, setting: Setting) -> Turn:
    """Let sessions of one kind run for some seconds and count what they cost."""
    scripts = scripts_of(workload, setting.population)
    if workload == "login-fail":    # where all that would be warmed up is patience
        return measure_scripts(workload, ward, replace(setting, seconds=max(setting.seconds, REFUSED_SECONDS)), scripts)
    warming = scripts_of("empty", setting.population) if workload in _BULKY else scripts
    return measure_scripts(workload, ward, setting, scripts, warming)


def measure_scripts(workload: str, ward: Ward, setting: Setting, scripts: Sequence[Script],
                    warming: Sequence[Script] = ()) -> Turn:
    """Play scripts for some seconds and count what the sessions cost; play `warming` before that, if there is any."""
    return measure_plan(workload, ward, setting, warming, Plan(
        ward.endpoints, scripts, setting.concurrency, setting.seconds, setting.processes, setting.grace))


def measure_tls(workload: str, ward: Ward, setting: Setting) -> Turn:
    """Let sessions run over TLS and count what they cost; raises OSError when no tickets are given to resume with."""
    assert ward.tls is not None
    context, empty = client_context(setting.store.certificate), scripts_of("empty", setting.population)
    scripts = scripts_of("bulk", setting.population) if workload == "tls-bulk" else empty
    given = tickets(context, ward.tls, setting.concurrency) if workload == "tls-resumed" else ()
    return measure_plan(workload, ward, setting, empty, Plan(
        [ward.tls], scripts, setting.concurrency, setting.seconds, setting.processes, setting.grace,
        OverTls(context, given).make))


def measure_plan(workload: str, ward: Ward, setting: Setting, warming: Sequence[Script], plan: Plan) -> Turn:
    """Do what is planned and count what the sessions cost; play `warming` before that, if there is any."""
    if warming:
        run_load(replace(plan, scripts=warming, seconds=warm_up_seconds(setting.seconds)))
    before = ward.settled_cpu()
    load = run_load(plan)
    cpu = ward.settled_cpu() - before
    return turn_of(workload, ward.name, setting, load, cpu)


def warm_up_seconds(seconds: float) -> float:
    """Return how long a turn is warmed up."""
    return max(min(seconds, WARM_UP_SECONDS), WARM_UP * seconds)


def turn_of(workload: str, name: str, setting: Setting, load: LoadResult, cpu: float) -> Turn:
    """Put the figures of one load together."""
    cores = os.cpu_count() or 1
    share = sum(load.cpu) / (load.seconds * cores) if load.seconds else 0.0
    is_bottleneck = share > MAX_SHARE or max(load.cpu, default=0.0) > MAX_BUSY * load.seconds
    rate = None if is_bottleneck or not load.sessions else rate_of(load)
    return Turn(
        workload, name, setting.concurrency, setting.round, load.sessions, cpu=cpu,
        cost=1000 * cpu / load.sessions if load.sessions else None,
        rate=rate,
        p50=load.times.quantile(0.5), p99=load.times.quantile(0.99),
        mb=rate * load.octets / load.sessions / 1e6 if rate else None,
        failed=load.failed.total(), failures=dict(load.failed), generator=share, is_bottleneck=is_bottleneck)


def rate_of(load: LoadResult) -> float:
    """Return sessions a second: of those that ended in time, or of all where one lasts as long as the measuring."""
    middle = load.times.quantile(0.5) or 0.0
    if middle < load.window / 10:
        return load.in_time / load.window
    return load.sessions / load.seconds


def _sessions(workload: str) -> Callable[[Ward, Setting], Turn]:
    return lambda ward, setting: measure_sessions(workload, ward, setting)


def _tls(workload: str) -> Callable[[Ward, Setting], Turn]:
    return lambda ward, setting: measure_tls(workload, ward, setting)


def _off(ward: Ward, setting: Setting) -> Turn:
    scripts = scripts_of("empty", setting.population)
    return measure_scripts("tls-off", ward, setting, scripts, scripts)


def _big(ward: Ward, setting: Setting) -> Turn:
    return measure_big(ward, setting.store, setting.population.big, setting.round)


def _idle(ward: Ward, setting: Setting) -> Turn:
    return measure_rest(ward, scripts_of("rest", setting.population), setting.resting, setting.round)


def _check(ward: Ward, setting: Setting) -> Turn:
    return measure_checks(ward, setting.population, setting.concurrency, setting.seconds, setting.round)


WORKLOADS: Mapping[str, Workload] = {each.name: each for each in (
    Workload("empty", "login to an empty mailbox: USER, PASS, STAT, QUIT", _sessions("empty")),
    Workload("mail", "USER, PASS, STAT, UIDL, RETR of 4 KiB, QUIT", _sessions("mail")),
    Workload("mix", "four sessions of `empty`, one of `mail`", _sessions("mix")),
    Workload("bulk", "RETR of 20 messages of 1 MiB, with attachments", _sessions("bulk"), telling=(1, 16, 64)),
    Workload("bulk-text", "RETR of 20 messages of 1 MiB, of text", _sessions("bulk-text"), telling=(16,)),
    Workload("login-fail", "USER and a wrong PASS, until the refusal", _sessions("login-fail"),
             telling=(64,)),
    Workload("big", "one mailbox with very many messages", _big, has_concurrency=False),
    Workload("idle", "sessions at rest", _idle, has_concurrency=False),
    Workload("check", "mail checks by datagram", _check, telling=(16,), needs_checks=True, unit="answer"),
    Workload("tls-off", "`empty` in clear beside TLS", _off, telling=(16,), needs_tls=True),
    Workload("tls-full", "`empty` over TLS, each with a whole handshake", _tls("tls-full"), telling=(16,),
             needs_tls=True),
    Workload("tls-resumed", "`empty` over TLS, each resumed with a ticket", _tls("tls-resumed"), telling=(16,),
             needs_tls=True),
    Workload("tls-bulk", "`bulk` over TLS", _tls("tls-bulk"), telling=(16,), needs_tls=True),
)}
