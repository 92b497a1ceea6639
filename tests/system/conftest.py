"""Fixtures of the tests with a proxy: pproxy alone, and a complete system."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.proxy import StartOdd, StartProxy, start_odd, start_proxy, store


@pytest.fixture(scope="session", autouse=True)
def _nursery(nursery: None) -> None:
    """Have the daemons of all tests here started by it."""


@pytest.fixture
def proxy(start: Callable[..., Daemon], rundir: Path) -> StartProxy:
    """A function (backends, vserv=…, **variables) that starts a pproxy."""
    return partial(start_proxy, start, rundir)


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
