"""The run: everyone is started once, then measured in turns, round robin, so that whatever changes on the
machine meanwhile changes for all.

Who does not start, or breaks, is left out with one line that says why.  However the run ends, everything
that it started is ended.
"""

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import dovecot, tls
from tests.bench.big import BigFailed
from tests.bench.contenders import contender, lacks
from tests.bench.foreground import CannotStart
from tests.bench.interpreters import python_for
from tests.bench.machine import describe
from tests.bench.options import Options
from tests.bench.popular_chain import Shape
from tests.bench.population import Population, Store, build
from tests.bench.results import Record, Run
from tests.bench.ward import Ward, WardGone
from tests.bench.workloads import WORKLOADS, Setting, Workload

MAX_REASON = 400        # characters of the line that says why somebody is left out

Say = Callable[[str], None]


def run(options: Options, result: Run, say: Say) -> None:
    """Do the whole run and put its figures into `result`; what is worth knowing meanwhile goes to `say`."""
    result.machine, result.options = describe(), shown(options)
    with ExitStack() as stack:
        names = [name for name in options.contenders if any(map(contender(name).takes, options.workloads))
                 and is_possible(name, result, say)]
        folder, owner = make_folder(stack), mail_owner()
        store = make_store(folder, options.population, names, owner, say)
        for has_tls in (False, True):    # what is measured in clear must not depend on it
            workloads = [WORKLOADS[name] for name in options.workloads if WORKLOADS[name].needs_tls is has_tls]
            those = [name for name in names if any(contender(name).takes(workload.name) for workload in workloads)]
            if not those or (has_tls and not _can_certify(store, owner, result, say)):
                continue
            _measure_all(workloads, those, Stage(folder, owner, store, has_tls), options, result, say)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a part of the run is done with."""

    folder: Path
    owner: tuple[int, int]
    store: Store
    has_tls: bool

    def enter(self, stack: ExitStack, name: str, number: int, options: Options) -> Ward:
        """Start a contender, which ends with `stack`; raises CannotStart."""
        folder = self.folder / f"{'t' if self.has_tls else 'c'}{number}"
        shape = Shape(has_tls=self.has_tls, python=python_for(name, options.pythons))
        return stack.enter_context(Ward.start(name, folder, self.store, self.owner, shape=shape,
                                              use_groups=options.use_groups))


def _can_certify(store: Store, owner: tuple[int, int], result: Run, say: Say) -> bool:
    """Make the certificate of the run; else notes why not."""
    if why := tls.missing():
        result.notes.append(f"nothing was measured over TLS: {why}")
        say(result.notes[-1])
        return False
    tls.certify(store, owner)
    return True


def _measure_all(workloads: Sequence[Workload], names: Iterable[str], stage: Stage, options: Options, result: Run,
                 say: Say) -> None:
    """Start everyone, measure the workloads, and end everyone."""
    with ExitStack() as stack:
        wards: list[Ward] = []
        for number, name in enumerate(names):
            try:
                wards.append(stage.enter(stack, name, number, options))
            except CannotStart as why:
                leave_out(name, str(why), result, say)
                continue
            result.about[name] = contender(name).about
            note_blind(wards[-1], result)
        everything = range(options.rounds)
        # What TLS adds is a difference of two workloads, so these take turns as well.
        for rounds in [range(number, number + 1) for number in everything] if stage.has_tls else [everything]:
            for workload in workloads:
                _measure(workload, wards, rounds, options, stage.store, result, say)


def _measure(workload: Workload, wards: list[Ward], rounds: range, options: Options, store: Store, result: Run,
             say: Say) -> None:
    """Measure one workload at each concurrency, every ward in turn in each of some rounds."""
    if workload.name == "big" and not options.population.big:
        return
    for concurrency in workload.levels(options.concurrency):
        where = f"{workload.name}, {concurrency} at once" if workload.has_concurrency else workload.name
        say(f"{where} …")
        for number in rounds:
            setting = Setting(store, options.population, concurrency, number, options.seconds, options.processes,
                              options.resting)
            # Another one begins each time, so that nobody always follows the same one.
            for ward in [*wards[number % max(1, len(wards)):], *wards[:number % max(1, len(wards))]]:
                if not contender(ward.name).takes(workload.name) or (workload.needs_checks and ward.checks is None):
                    continue
                _take_turn(workload, ward, setting, wards, result, say)


def _take_turn(workload: Workload, ward: Ward, setting: Setting, wards: list[Ward], result: Run, say: Say) -> None:
    try:
        turn = workload.measure(ward, setting)
    except (BigFailed, OSError) as why:
        note = f"{ward.name} failed at {workload.name}: {why}"
    except WardGone as why:
        note = f"{ward.name} is out from {workload.name} on: {why}"
        wards.remove(ward)
        ward.close()
    else:
        result.turns.append(turn)
        return
    result.notes.append(note)
    say(note)


def make_folder(stack: ExitStack) -> Path:
    """Make the folder of a run, open to all as its contenders run as somebody else; it goes with `stack`."""
    folder = Path(tempfile.mkdtemp(prefix="pop-bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    return folder


def make_store(folder: Path, population: Population, names: Iterable[str], owner: tuple[int, int], say: Say) -> Store:
    """Make users and mailboxes below `folder`, Dovecot's too if a contender among `names` needs one."""
    needs_dovecot = any("dovecot" in contender(name).needs for name in names)
    say(f"making {population.users} users and their mailboxes …")
    return build(folder, population, owner, has_dovecot=needs_dovecot and not dovecot.missing())


def is_possible(name: str, result: Record, say: Say) -> bool:
    """Tell whether a contender can take part; else notes why not."""
    missing = lacks(contender(name))
    if missing:
        leave_out(name, missing, result, say)
    return not missing


def leave_out(name: str, why: str, result: Record, say: Say) -> None:
    """Note why a contender does not take part."""
    result.skipped[name] = line = one_line(why).removeprefix(f"{name}: ")
    say(f"without {name}: {line}")


def one_line(why: str) -> str:
    """Return a reason of many lines as one that is not too long."""
    line = "; ".join(part.strip() for part in why.splitlines() if part.strip())
    return line if len(line) <= MAX_REASON else f"{line[:MAX_REASON // 3]} … {line[-MAX_REASON // 3 * 2:]}"


def note_blind(ward: Ward, result: Record) -> None:
    """Note whose CPU time cannot all be counted."""
    if ward.blind:
        result.notes.append(f"{ward.name}: CPU time is counted by {ward.how}; that of ended children of "
                            f"{', '.join(ward.blind)} is missing, so its cost is higher than told")


def mail_owner() -> tuple[int, int]:
    """Return uid and gid that mailboxes belong to: Dovecot opens none for root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def shown(options: Options) -> dict[str, object]:
    """Return the options as they are written into the results."""
    population = options.population
    return {"workloads": list(options.workloads), "concurrency": list(options.concurrency), "rounds": options.rounds,
            "seconds": options.seconds, "processes": options.processes, "resting": options.resting,
            "users": population.users, "messages": population.big}
