"""The benchmark works: runs without rivals in which no session fails, and nothing is left when one is killed."""

import os
import poplib
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import pytest

from tests.bench import delivery, lookups
from tests.bench.contenders import CONTENDERS, lacks
from tests.bench.cputime import make_meter
from tests.bench.databases import write_users
from tests.bench.growth_results import Growth
from tests.bench.kinds import KINDS
from tests.bench.load import Plan, run_load
from tests.bench.options import SMOKE
from tests.bench.popular_chain import Shape
from tests.bench.population import (
    BIG_MESSAGE,
    BULK_MESSAGES,
    PASSWORD,
    Population,
    attachment_message,
    backend_of,
    build,
    person_of,
)
from tests.bench.results import Run
from tests.bench.scripts import scripts_of
from tests.bench.tls import certify
from tests.bench.turns import mail_owner
from tests.bench.ward import Ward
from tests.bench.workloads import WORKLOADS, Setting, measure_sessions
from tests.harness.control import greeting
from tests.harness.daemon import ROOT
from tests.harness.databases import kinds
from tests.harness.dovecot import NoDovecot
from tests.harness.needs import lacking
from tests.harness.system import all_pids, children_of, is_alive, reap, wait_for

SMALL = Population(users=50, empty=2, mail=2, bulk=1, big=0)
AT_ONCE = 40        # sessions: more than there are spare children at first
OTHERS = [each for each in CONTENDERS if each.name not in SMOKE.contenders]    # than those in a run without rivals
# Those whose code and configuration others have: tried with --long only.
ALIKE = frozenset(("popular-classic-passwd", "popular-pooled", "pproxy-dovecot-classic", "floor-python-pooled",
                   "floor-c-classic"))
SECONDS = 0.05      # in which sessions are begun; each takes what it takes


@pytest.mark.limit(300)
def test_a_run_without_rivals(tmp_path):
    done = subprocess.run([sys.executable, "-m", "tests.bench", "--smoke", "--output", str(tmp_path)], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    run = Run.load((tmp_path / "benchmark.json").read_text())
    assert {turn.workload for turn in run.turns} == set(run.options["workloads"])
    assert all(turn.sessions > 0 and turn.cost for turn in run.turns)
    assert (tmp_path / "benchmark-mail-4.svg").exists()
    assert users_of(tmp_path) == []


def test_look_ups_are_measured():
    figures = lookups.measure(kinds()["exec"], 100, 0.2)
    costs = (figures.known, figures.unknown, figures.worker, figures.cached)
    assert all(cost is not None and cost.wall >= cost.own > 0 for cost in costs)
    assert figures.octets > 0


@pytest.mark.parametrize("kind", ["sqlite", "route"])
def test_look_ups_in_files_are_measured(kind):
    figures = lookups.measure_file(kind, 100, 0.05)
    assert figures.known.wall >= figures.known.own > 0 and (figures.unknown is None) is (kind == "route")


@pytest.mark.parametrize("name", delivery.CONTENDERS)
def test_deliveries_are_measured(name):
    """Each message is found again, or there are no figures."""
    kind, meter = delivery.Kind(2, 3, "disk"), make_meter(use_groups=False)
    try:
        turn = delivery.measure(name, kind, Path(gettempdir()), 0.1, meter)
    except NoDovecot as why:
        lacking(str(why))
    assert turn.cost > 0 and turn.rate > 0
    assert "| 0.5 | 2,000 |" in delivery.table({(name, each): [delivery.Turn(0.5, 2000.0)] for each in delivery.KINDS})


@pytest.mark.limit(240)
def test_a_growth_run_without_rivals(rundir, pytestconfig):
    """Backends, which grow as virtual servers do, with --long only."""
    kinds = [kind for kind in KINDS if kind != "backends" or pytestconfig.getoption("--long")]
    output, folder = rundir / "out", folder_for_all(rundir)
    done = subprocess.run([sys.executable, "-m", "tests.bench", "--growth", ",".join(kinds), "--smoke", "--output",
                           str(output)], cwd=ROOT, env={**os.environ, "TMPDIR": str(folder)}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    growth = Growth.load((output / "growth.json").read_text())
    assert list(growth.options["growth"]) == kinds
    assert {kind: sorted({point.step for point in growth.points if point.kind == kind}) for kind in kinds} == {
        kind: list(steps) for kind, steps in growth.options["growth"].items()}
    assert all(value is not None for point in growth.points for name, value in point.figures.items() if name != "rate")
    assert (output / "growth-users-empty-cost.svg").exists()
    assert users_of(folder) == [] and list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def store(module_rundir):
    """Mailboxes of a few users, and what TLS needs."""
    made = build(module_rundir, SMALL, mail_owner(), has_dovecot=True)
    certify(made, mail_owner())
    return made


@pytest.mark.limit(120)
@pytest.mark.parametrize("contender", OTHERS, ids=lambda contender: contender.name)
def test_contenders_start_work_count_and_end(contender, store, rundir, pytestconfig):
    if contender.name in ALIKE and not pytestconfig.getoption("--long"):
        pytest.skip("takes --long")
    missing = lacks(contender)
    if missing:
        pytest.skip(missing)
    rundir.chmod(0o755)
    shape = Shape(has_tls=bool(contender.tls))
    with Ward.start(contender.name, rundir / "c", store, mail_owner(), shape=shape) as ward:
        assert ward.cpu() > 0
        assert sum(ward.memory().values()) > 1 << 17
        below = children_of(ward.process.pid)
        assert below
        for workload in contender.workloads or ("mail",):    # without a list it can do all of them
            scripts = scripts_of("rest" if workload == "idle" else workload, SMALL)
            load = run_load(Plan(ward.endpoints, scripts, 4, SECONDS))
            assert load.failed == {} and load.sessions > 0, workload
        if contender.name.startswith("floor-"):
            assert_everyone_has_a_child_and_no_octet_is_changed(ward)
        assert (ward.tls is not None) is shape.has_tls and ward.tls not in ward.endpoints
        for workload in contender.tls:
            turn = WORKLOADS[workload].measure(ward, Setting(store, SMALL, 2, 0, SECONDS, 1, 0))
            assert turn.sessions > 0 and turn.failures == {}, workload
    assert [pid for pid in below if is_alive(pid)] == []
    assert users_of(rundir) == []


def assert_everyone_has_a_child_and_no_octet_is_changed(ward: Ward) -> None:
    """Fail if one of many sessions at once waits, or a message comes through otherwise than it lies in the store."""
    clients = [poplib.POP3(ward.endpoint.host, ward.endpoint.port, timeout=20) for _ in range(AT_ONCE)]
    for client in clients:
        client.user(SMALL.bulk_users()[0])
        client.pass_(PASSWORD)
        assert client.stat() == (BULK_MESSAGES, BULK_MESSAGES * BIG_MESSAGE)
    for number in (1, BULK_MESSAGES):
        text = b"".join(line + b"\r\n" for line in clients[0].retr(number)[1])
        assert text == attachment_message(BIG_MESSAGE)
    for client in clients:
        client.quit()


@pytest.mark.limit(120)
def test_a_proxy_of_many_parts(store, rundir):
    rundir.chmod(0o755)
    people = [person_of(name, "cxpop")._replace(backend=backend_of(2)) for name in SMALL.all_users()]
    write_users("cdb", store.users("cdb", "cxpop"), people)
    shape = Shape(vservs=3, backends=3, module="cdb")
    with Ward.start("popular-pooled", rundir / "c", store, mail_owner(), shape=shape) as ward:
        assert len(set(ward.endpoints)) == 3
        turn = measure_sessions("mail", ward, Setting(store, SMALL, 1, 0, SECONDS, 1, 0))
        assert turn.sessions > 0 and turn.failures == {}
        assert ward.start_seconds > 0
        assert 1 << 20 < ward.master_memory().pss < sum(ward.memory().values())
        assert ward.master_memory().rss > ward.master_memory().pss
        assert ward.reload() > 0
        greetings = [greeting(endpoint) for endpoint in ward.endpoints]
    assert [b"reload 1" in line for line in greetings] == [True, False, False]


@pytest.mark.limit(120)
def test_nothing_is_left_when_the_benchmark_is_killed(rundir):
    folder = folder_for_all(rundir)
    bench = subprocess.Popen(
        [sys.executable, "-m", "tests.bench", "--smoke", "--output", str(rundir)], cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(folder)})
    try:
        wait_for(lambda: len(users_of(folder)) > 6, 60.0, "daemons")
        wards = children_of(bench.pid)
    finally:
        bench.send_signal(signal.SIGKILL)
        bench.wait()
    assert wards
    wait_for(lambda: reap() is not None and not [pid for pid in wards if is_alive(pid)], 60.0, "the end of all wardens")
    assert users_of(folder) == []


def folder_for_all(rundir: Path) -> Path:
    """Return a folder for temporary files that daemons of another user can reach: those that root measures."""
    rundir.chmod(0o755)
    folder = rundir / "tmp"
    folder.mkdir(mode=0o755)
    return folder


def users_of(folder: Path) -> list[int]:
    """Return the processes that have a file below `folder` open: logs, sockets, pid files."""
    found = []
    for pid in all_pids():
        try:
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(target.startswith(str(folder)) for target in targets):
            found.append(pid)
    return found
