"""What can grow, who takes part, and what is measured at each step.

    concurrency   sessions at once: workloads empty and mix, and the memory with so many sessions open
    users         users in the database, by module; whoever logs in comes from all over it
    messages      messages in one mailbox: login, STAT, UIDL, QUIT; beside it the time of a bare scandir
    vservs        virtual servers in the configuration, each with a port of its own
    backends      backends in the configuration, the users spread over all of them

A contender is started anew for each measurement, so that what its start takes and what its memory holds is known.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.bench.big import scan_seconds
from tests.bench.databases import MODULES, Person, write_users
from tests.bench.growth_results import Cell, Point
from tests.bench.options import Options
from tests.bench.popular_chain import Refused, Shape
from tests.bench.population import PASSWORD, Population, Store, backend_of, box_of, mailbox_of, name_of, person_of
from tests.bench.resting import cpu_at_rest, open_sessions
from tests.bench.scripts import EMPTY, box_steps, login, scripts_of
from tests.bench.ward import Ward
from tests.bench.workloads import Setting, measure_scripts, measure_sessions

SCANDIR = "bare scandir"      # the series of what nobody can do without who has no index
GRACE = 30.0                  # seconds: who has not ended their sessions then has broken at this step
MOST_LOGINS = 8_000           # users of the database who log in

_OURS = ("popular-classic", "popular-pooled")


@dataclass(frozen=True, slots=True)
class Ground:
    """What all measurements of a growth run have in common."""

    store: Store
    options: Options

    def setting(self, cell: Cell, concurrency: int) -> Setting:
        """Return what a turn is done with."""
        options = self.options
        return Setting(self.store, options.population, concurrency, cell.round, options.seconds, options.processes,
                       options.resting, GRACE)


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that can grow."""

    name: str
    about: str                                                  # what there are more and more of
    contenders: tuple[str, ...]
    measure: Callable[[Ward, Ground, Cell], Iterator[Point]]
    people: Callable[[Population, int], Iterator[Person]]       # who is in the databases at a step
    modules: tuple[str, ...] = ("sqlite",)
    needs_files: bool = False                                   # a descriptor for each, in one process
    shape: Callable[[int, str], Shape] = lambda step, module: Shape(module=module)

    def prepare(self, ground: Ground, step: int) -> None:
        """Write the databases of a step."""
        for module in self.modules:
            write_users(module, ground.store.users(module, "cxpop"), self.people(ground.options.population, step))


def measure_concurrency(ward: Ward, ground: Ground, cell: Cell) -> Iterator[Point]:
    """Measure both workloads with more and more sessions at once, and once the memory while they rest."""
    for workload in ("empty", "mix"):
        turn = measure_sessions(workload, ward, ground.setting(cell, cell.step))
        yield cell.of_turn(turn, {"p50": turn.p50, "p99": turn.p99})
    if cell.round == 0:    # it hardly varies, and a look at thousands of processes takes seconds
        with open_sessions(ward, scripts_of("rest", ground.options.population), cell.step) as count:
            memory = _memory(ward)
        failures = {"session not opened": cell.step - count} if count < cell.step else {}
        yield cell.point("rest", {"memory": memory}, failures)


def measure_users(ward: Ward, ground: Ground, cell: Cell) -> Iterator[Point]:
    """Let users from all over the database log in, others than those who warmed everything up."""
    weight = _weight(ward)
    numbers = random.Random(cell.step).sample(range(cell.step), min(cell.step, MOST_LOGINS))
    scripts = [login(name_of(number), EMPTY) for number in numbers]
    half = len(scripts) // 2
    setting = ground.setting(cell, ground.options.concurrency[0])
    yield cell.of_turn(measure_scripts("empty", ward, setting, scripts[half:], scripts[:half]), weight)


def measure_messages(ward: Ward, ground: Ground, cell: Cell) -> Iterator[Point]:
    """Let one client after the other look into one mailbox."""
    name, steps = box_of(cell.step), box_steps(cell.step)
    turn = measure_scripts("box", ward, ground.setting(cell, 1), [login(name, steps)], [login(name, steps)])
    with open_sessions(ward, [login(name, steps[:1])], 1) as count:
        memory = _memory(ward) if count else None
    yield cell.of_turn(turn, {"p50": turn.p50, "memory": memory})
    mailbox = ground.store.spool / mailbox_of(name)
    yield Cell(cell.kind, cell.step, SCANDIR, cell.round).point("box", {"p50": scan_seconds(mailbox)}, {})


def measure_objects(ward: Ward, ground: Ground, cell: Cell) -> Iterator[Point]:
    """Measure the proxy at rest, with sessions everywhere, and when it reads a changed file."""
    weight = {**_weight(ward), "rest": cpu_at_rest(ward, ground.options.seconds)}
    yield cell.of_turn(measure_sessions("mix", ward, ground.setting(cell, ground.options.concurrency[0])), weight)
    before = ward.settled_cpu()
    try:
        took = ward.reload()
    except Refused as why:
        yield cell.point("mix", {"reload": None, "reload_cpu": None}, {f"reload was refused: {why}": 1})
    else:
        yield cell.point("mix", {"reload": took, "reload_cpu": ward.settled_cpu() - before}, {})


def _weight(ward: Ward) -> dict[str, float | None]:
    """Return what our proxy needed to start, and what it and the whole tree weigh before the first session."""
    memory, master = _memory(ward), ward.master_memory()
    return {"start": ward.start_seconds, "memory": memory, "master": float(master.pss), "master_rss": float(master.rss)}


def _memory(ward: Ward) -> float:
    """Return the PSS in octets of everything that the contender runs, when it stands still."""
    return float(sum(ward.settled_memory().values()))


def _usual_people(population: Population, step: int) -> Iterator[Person]:
    return (person_of(name, "cxpop") for name in population.all_users())


def _many_people(population: Population, step: int) -> Iterator[Person]:
    """Yield `step` users, who share the empty mailboxes that there are."""
    return (Person(name_of(number), PASSWORD, backend_of(0), mailbox_of(name_of(number % population.empty)))
            for number in range(step))


def _spread_people(population: Population, step: int) -> Iterator[Person]:
    """Yield the usual users, their mail on `step` backends in turn."""
    return (person._replace(backend=backend_of(number % step))
            for number, person in enumerate(_usual_people(population, step)))


KINDS: Mapping[str, Kind] = {each.name: each for each in (
    Kind("concurrency", "sessions at once", (*_OURS, "dovecot-proxy-tuned", "nginx", "haproxy"), measure_concurrency,
         _usual_people, needs_files=True),
    Kind("users", "users in the database", _OURS, measure_users, _many_people, MODULES),
    Kind("messages", "messages in the mailbox", (*_OURS, "dovecot-tuned"), measure_messages, _usual_people),
    Kind("vservs", "virtual servers", _OURS, measure_objects, _usual_people,
         shape=lambda step, module: Shape(vservs=step, module=module), needs_files=True),
    Kind("backends", "backends", _OURS, measure_objects, _spread_people,
         shape=lambda step, module: Shape(backends=step, module=module)),
)}
