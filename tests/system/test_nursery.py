"""What the nursery starts is what an exec starts (tests.harness.nursery): a child of a pproxy describes itself."""

import json

import pytest

from popular.daemon.confinement import NO_WALLS
from tests.harness.daemon import Daemon
from tests.harness.system import descriptors_of

DESCRIBES = """
import gc, json, re, resource, signal
with open(__file__ + ".json", "w") as file:
    json.dump({
        "modules": sorted(sys.modules), "path": sys.path, "prefix": sys.prefix,
        "environment": {name: text for name, text in os.environ.items()},
        "folder": os.getcwd(), "umask": os.umask(0),
        "signals": {number: str(signal.getsignal(number)).partition(" at ")[0] for number in range(1, 32)},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "limits": [resource.getrlimit(number) for number in range(16)],
        "status": [line for line in open("/proc/self/status") if line.startswith(
            ("Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "Cap", "NoNewPrivs", "Seccomp"))],
    }, file, default=str)
return OK
""".strip()


@pytest.fixture
def described(odd, pop, tmp_path):
    """A function that starts a pproxy and returns what its first child says of itself, and its descriptors."""
    def describe():
        daemon = odd(DESCRIBES, confinement=NO_WALLS)
        client = pop(daemon.endpoint())
        client.login("joe", "x")
        found = json.loads((tmp_path / "pdm_odd.py.json").read_text())
        found["descriptors"] = sorted(target.partition("[")[0] for target in descriptors_of(daemon.pid).values())
        daemon.close()
        return found

    return describe


def test_it_is_like_a_daemon_that_was_started_by_exec(described, monkeypatch):
    born = described()
    monkeypatch.setattr(Daemon, "nursery", None)
    executed = described()
    of_a_command_line = {"linecache"}    # since Python 3.13
    assert set(born.pop("modules")) ^ set(executed.pop("modules")) <= of_a_command_line
    assert born == executed
