"""Many relayed sessions at rest, which then all fetch a message; with --long 10,000 of them, with figures (-s)."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, store
from tests.harness.pstatus import status
from tests.harness.stubstore import StubStore
from tests.harness.system import children_of, title_of, wait_for

PROCESSES = 4
REST = 10.0    # seconds in which the processor time at rest is measured, with --long


@pytest.mark.limit(3600)
def test_sessions_at_rest(proxy: StartProxy, request: pytest.FixtureRequest) -> None:
    is_long = bool(request.config.getoption("--long"))
    count = 10_000 if is_long else 200
    with StubStore() if not is_long else _Store() as stub:
        daemon = proxy(store(stub.endpoint), relay="shared", maxuse=1000, minspare=8, maxspare=16, usersessions=0,
                       idletimeout="2h", maxrelayed=2 * count)
        relays = wait_for(lambda: found if len(found := _relays(daemon)) == 2 else [], 10.0, "relay processes")
        empty = sum(map(pss, relays))
        crowds = [subprocess.Popen(
            [sys.executable, "-m", "tests.harness.restingclients", daemon.endpoint().host, str(daemon.endpoint().port),
             f"127.0.1.{number + 1}", str(count // PROCESSES), XENIA, PASSWORD], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE) for number in range(PROCESSES)]
        try:
            began = time.monotonic()
            assert [line(crowd) for crowd in crowds] == ["ready"] * PROCESSES
            logins = time.monotonic() - began
            wait_for(lambda: status(daemon)["relayed"]["now"] == count, 60.0, "all sessions in relay processes")
            each = (sum(map(pss, relays)) - empty) / count
            assert each < 64 * 1024
            at_rest = cpu(relays)
            time.sleep(REST if is_long else 0.0)
            at_rest = cpu(relays) - at_rest
            busy = cpu(relays)
            for crowd in crowds:
                tell(crowd)
            answers = [line(crowd).split() for crowd in crowds]
            assert sum(int(whole) for whole, _ in answers) == count
            busy = cpu(relays) - busy
            print(f"\n{count} sessions: logins {logins:.0f} s, empty processes {empty / 2**20:.1f} MiB, a session "
                  f"{each / 1024:.2f} KiB, at rest {at_rest / REST:.2%} of a processor, all fetch "
                  f"{len(answers)} x {count // PROCESSES} messages in {max(float(took) for _, took in answers):.1f} s, "
                  f"CPU {busy:.2f} s; then {(sum(map(pss, relays)) - empty) / count / 1024:.2f} KiB")
            for crowd in crowds:
                tell(crowd)
        finally:
            for crowd in crowds:
                crowd.kill()
                crowd.communicate()
        wait_for(lambda: status(daemon)["relayed"]["now"] == 0, 60.0, "no session")


class _Store:
    """A store in a process of its own."""

    def __enter__(self) -> "_Store":
        self._process = subprocess.Popen([sys.executable, "-m", "tests.harness.stubstore"], cwd=ROOT, text=True,
                                         stdout=subprocess.PIPE)
        self.endpoint = Endpoint("127.0.0.1", int(line(self._process)))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def _relays(daemon: Daemon) -> list[int]:
    return [pid for pid in children_of(daemon.pid) if title_of(pid) == "pproxy: relay"]


def line(process: "subprocess.Popen[str]") -> str:
    """Return the next line of its output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    """Have it go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def pss(pid: int) -> int:
    """Return the proportional memory of a process in octets."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(words.split()[1]) * 1024 for words in text.splitlines() if words.startswith("Pss:"))


def cpu(pids: list[int]) -> float:
    """Return the processor time of processes in seconds."""
    ticks = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids)
    return sum(int(user) + int(system) for user, system in ticks) / os.sysconf("SC_CLK_TCK")
