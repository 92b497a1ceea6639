"""Fixtures of the tests with a proxy: pproxy alone, and a complete system."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon, Settings
from tests.harness.ports import free_endpoint
from tests.harness.proxy import Lasting, StartLasting, StartOdd, StartProxy, start_odd, start_proxy, store


@pytest.fixture(scope="session", autouse=True)
def _nursery(nursery: None) -> None:
    """Have the daemons of all tests here started by it."""


@pytest.fixture
def proxy(start: Callable[..., Daemon], rundir: Path) -> StartProxy:
    """A function (backends, vserv=…, **variables) that starts a pproxy."""
    return partial(start_proxy, start, rundir)


@pytest.fixture(scope="module")
def lasting(module_rundir: Path) -> Iterator[StartLasting]:
    """A function (name, **variables) that starts a pproxy for many tests, for fixtures of the module; never in a test.

    It never takes its backend to be down, and its address is one that nobody else on this machine has.
    """
    backend = free_endpoint("127.0.0.77")
    daemons: list[Daemon] = []
    with ExitStack() as stack:
        def start_one(program: str, settings: Settings, **more: Any) -> Daemon:
            daemons.append(Daemon.start(program, settings, module_rundir, **more))
            stack.callback(daemons[-1].close)
            return daemons[-1]

        yield lambda name, **variables: Lasting(
            start_proxy(start_one, module_rundir, store(backend), name=name, downtries=0, **variables), backend)
    bugs = [line for daemon in daemons for line in daemon.bugs()]
    assert not bugs, f"bugs logged: {bugs}"


@pytest.fixture
def system(start: Callable[..., Daemon], proxy: StartProxy, spool: Path) -> dict[str, Daemon]:
    """A complete system: pproxy, pserv and pcheckd over one spool."""
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    pcheckd = start("pcheckd", {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}})
    return {"pserv": pserv, "pcheckd": pcheckd, "pproxy": proxy(store(pserv.endpoint(), pcheckd.endpoint()))}


@pytest.fixture
def odd(start: Callable[..., Daemon], tmp_path: Path) -> StartOdd:
    """A function (deed, **variables) that starts a pproxy whose one module does `deed`."""
    return partial(start_odd, start, tmp_path)
