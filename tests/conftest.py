"""Fixtures of every test, and the check that no test leaves anything behind.

After each test there must be no child process, no thread and no descriptor that was not there
before; a test may take 120 seconds, more only with the mark `limit`.  What daemons logged is noted, for
the test of the catalogue of messages, which comes last.
"""

import gc
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from popular.addresses import Endpoint
from tests.harness.catalogue import Seen, is_full_run
from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon, Settings
from tests.harness.needs import is_ci
from tests.harness.nursery import Nursery
from tests.harness.popclient import PopClient
from tests.harness.shares import LAST, Share, note, noted
from tests.harness.system import adopt_orphans, children_of, descriptors_of, end_process, is_alive, reap, wait_for

LIMIT_SECONDS = 120
ENDING_SECONDS = 5.0    # for a process or thread that is about to end, on a busy machine
DAEMONS = pytest.StashKey[list[Daemon]]()
SEEN = pytest.StashKey[Seen]()
SHARE = "share"    # the name of the plugin
IS_FULL = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let runs share the tests (scripts/test.sh), and tests under load take longer."""
    parser.addoption("--share", type=Path, metavar="FOLDER", help="run what no other run with this folder has taken")
    parser.addoption("--long", action="store_true", help="give tests under load several times their length")
    parser.addoption("--shared", type=Path, metavar="FOLDER", help="the folder of such runs, which are over")


def pytest_configure(config: pytest.Config) -> None:
    """Make orphans ours, so that a daemon's leavings are seen and reaped; ignore no signal.

    In the background of a script, and below nohup, INT and HUP are ignored, by whatever we start too.
    """
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    config.stash[SEEN] = Seen()
    if folder := config.getoption("--share"):
        config.pluginmanager.register(Share(folder), SHARE)
    settings.register_profile("patient", deadline=None, derandomize=is_ci(),
                              suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("patient")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put last what wants to know what all others did, and see whether there will be all others."""
    items.sort(key=lambda item: item.path.name == LAST)
    names = ("keyword", "markexpr", "deselect", "lf", "ignore", "ignore_glob")
    options = [config.getoption(name, None) for name in names]
    config.stash[IS_FULL] = is_full_run(config.args, options, {item.path for item in items}, Path(__file__).parent)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run a share of the tests, if it is to be no more than that."""
    share: Share | None = session.config.pluginmanager.get_plugin(SHARE)
    if share is None or session.testsfailed or session.config.option.collectonly:
        return None    # pytest does it
    share.run(session)
    note(session.config.stash[SEEN], share.folder)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Note what a test's daemons and tools logged."""
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    yield
    if folder is not None:
        look_through(item, folder)


def look_through(item: pytest.Item | pytest.Module, folder: Path) -> None:
    """Note the messages in the folder of a test or module."""
    item.config.stash[SEEN].look_through(folder, is_about_logs=item.path.name.startswith("test_log_"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Any:
    """Put the logs of a failed test's daemons below its report."""
    report: pytest.TestReport = yield
    if report.failed:
        for daemon in item.stash.get(DAEMONS, []):
            report.sections.append((f"log of {daemon.program} ({daemon.pid})", daemon.report()))
    return report


@pytest.fixture(scope="session")
def nursery(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have daemons started at half the cost, but for --long."""
    if request.config.getoption("--long"):
        yield
        return
    Daemon.nursery = Nursery()
    yield
    Daemon.nursery.close()
    Daemon.nursery = None


@pytest.fixture
def by_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the daemons of a test started by exec: it asks what a fresh interpreter holds."""
    monkeypatch.setattr(Daemon, "nursery", None)


@pytest.fixture(autouse=True)
def _no_leaks() -> Iterator[None]:
    """Fail a test that leaves children, threads or descriptors behind."""
    children = set(children_of(os.getpid()))
    threads = set(threading.enumerate())
    descriptors = descriptors_of(os.getpid())
    yield
    left = those_left(children)
    for pid in left:
        end_process(pid)
    reap_all_but(children)
    assert not left, f"processes left behind: {left}"
    strays = threads_left(threads)
    assert not strays, f"threads left behind: {strays}"
    opened = new_descriptors(descriptors)
    if opened:
        gc.collect()
        opened = new_descriptors(descriptors)
    assert not opened, f"descriptors left open: {opened}"


def threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    """Return the threads beyond `before`, when those whose client has its answer have had the time to end."""
    end = time.monotonic() + ENDING_SECONDS
    strays = [thread for thread in threading.enumerate() if thread not in before]
    for thread in strays:
        thread.join(max(end - time.monotonic(), 0))
    return [thread for thread in strays if thread.is_alive()]


def those_left(children: set[int]) -> list[int]:
    """Return our processes beyond `children`, when those that are about to end have had the time for it."""
    left: list[int] = []

    def are_gone() -> bool:
        reap_all_but(children)
        left[:] = [pid for pid in children_of(os.getpid()) if pid not in children and is_alive(pid)]
        return not left

    with suppress(AssertionError):    # whoever asked tells of them
        wait_for(are_gone, ENDING_SECONDS)
    return left


def reap_all_but(children: set[int]) -> None:
    """Collect the children that ended, unless someone longer-lived than the test waits for one."""
    if children <= ({Daemon.nursery.pid} if Daemon.nursery else set()):
        reap()


def new_descriptors(before: dict[int, str]) -> dict[int, str]:
    """Return what is open now and was not before."""
    return {fd: target for fd, target in descriptors_of(os.getpid()).items() if before.get(fd) != target}


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Interrupt a test that takes too long."""
    mark = request.node.get_closest_marker("limit")
    seconds = mark.args[0] if mark else LIMIT_SECONDS

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def rundir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder with a short name (socket names have 107 octets) that goes with the test."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    yield folder
    look_through(request.node, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def module_rundir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The same for the daemons of all tests of a module; every user can enter it."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    yield folder
    look_through(request.node, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs certificates, in a folder that daemons of another user can read."""
    folder = tmp_path_factory.mktemp("ca")
    folder.chmod(0o755)
    return Authority.make(folder)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """An empty spool."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


@pytest.fixture
def make_mailbox(spool: Path) -> Callable[..., Path]:
    """A function (name, new=[…], cur=[…]) that makes a mailbox in the spool; see spec 9.1."""
    number = 0

    def make(name: str, new: list[bytes] | tuple[bytes, ...] = (), cur: list[bytes] | tuple[bytes, ...] = ()) -> Path:
        nonlocal number
        for folder in ("tmp", "new", "cur"):
            (spool / name / folder).mkdir(parents=True, exist_ok=True)
        for folder, messages in (("new", new), ("cur", cur)):
            for message in messages:
                number += 1
                (spool / name / folder / f"{945113196 + number}.14341_{len(message)}").write_bytes(message)
        return spool / name

    return make


@pytest.fixture
def start(request: pytest.FixtureRequest, rundir: Path) -> Iterator[Callable[..., Daemon]]:
    """A function (program, settings, options=…, name=…) that starts a daemon; all are ended with the test.

    A daemon that does not end cleanly, or logs a BUG, fails the test (see the mark `may_bug`).
    """
    daemons: list[Daemon] = request.node.stash.setdefault(DAEMONS, [])

    def start_one(program: str, settings: Settings, **more: Any) -> Daemon:
        daemons.append(Daemon.start(program, settings, rundir, **more))
        return daemons[-1]

    yield start_one
    for daemon in reversed(daemons):
        daemon.close()
    if request.node.get_closest_marker("may_bug") is None:
        bugs = [line for daemon in daemons for line in daemon.bugs()]
        assert not bugs, f"bugs logged: {bugs}"


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Seen:
    """The messages that all tests before this one wrote; skips when they were not all."""
    if folder := request.config.getoption("--shared"):
        return noted(folder)
    if not request.config.stash[IS_FULL]:
        pytest.skip("only a run of all tests writes all messages")
    return request.config.stash[SEEN]


@pytest.fixture
def pop() -> Iterator[Callable[..., PopClient]]:
    """A function (endpoint) that opens a POP3 connection; all are closed with the test."""
    clients: list[PopClient] = []

    def connect(endpoint: Endpoint, **more: Any) -> PopClient:
        clients.append(PopClient(endpoint, **more))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
