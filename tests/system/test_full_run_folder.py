"""A run folder without room for the state file: all is served from memory, and a start means that."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.needs import lacking, need_program
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, store

Pop = Callable[..., PopClient]


@pytest.fixture(params=[24, 40, 400])
def full(request: pytest.FixtureRequest, rundir: Path) -> Iterator[Path]:
    """A run folder on a file system of so many KiB."""
    if os.geteuid() != 0:
        lacking("root")
    options = f"size={request.param}k,mode=755"
    done = subprocess.run([need_program("mount"), "-t", "tmpfs", "-o", options, "none", rundir], check=False,
                          capture_output=True, text=True, timeout=30)
    if done.returncode:
        lacking(f"the right to mount ({done.stderr.strip()})")
    yield rundir
    subprocess.run([need_program("umount"), rundir], check=True, timeout=30)


@pytest.mark.parametrize("maxuse", [1, 1000])
def test_mail_is_served_without_a_state_file(full: Path, proxy: StartProxy, pop: Pop, maxuse: int) -> None:
    daemon = proxy(store(Endpoint("127.0.0.1", 1)), maxuse=maxuse)
    [line] = daemon.log_lines(" state_file_failed ")
    assert "No space left on device" in line
    assert not (full / "pproxy.state").exists()
    for _ in range(20):
        client = pop(daemon.endpoint())
        assert client.login(XENIA, PASSWORD).startswith(b"+OK 0 messages")
        client.ok("QUIT")
    daemon.stop()
