"""Rehearsals: what is played, that it leaves nothing behind, and that it cannot keep a master from starting.

Each runs in a process of its own, because it resets all signals.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import importlib, json, os, signal, sys
from popular.daemon import rehearsal
from popular.log.writer import Log
from popular.proc.board import Board
from popular.proc.board_layout import PROXY
from popular.proc.child import Inheritance
from popular.proc.descriptors import MastersOwn, Seats
from popular.proc.once import OnceAMinute
from popular.proc.pipes import DeathPipe, Doorbell
from popular.proc.rights import own_rights
from popular.proc.title import Title
from popular.pproxy.spec import SPEC


class Kept:
    outcomes = []

    def write(self, event):
        if event.name == "session_end":
            self.outcomes.append(dict(event.fields)["outcome"].partition(":")[0])


log = Log("pproxy", Kept())
inheritance = Inheritance(log, Title("pproxy", None), Doorbell(), DeathPipe(), MastersOwn(), own_rights(),
                          Seats.reserve(), OnceAMinute(), Board(PROXY, 1))
before = os.listdir("/proc/self/fd")
stage = SPEC.stage(log)
rehearsal.LONGEST = 0.3
{change}
rehearsal.rehearse(stage, PROXY, inheritance)
try:
    left = os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    left = None
print(json.dumps([Kept.outcomes, os.listdir("/proc/self/fd") == before, left, signal.getitimer(signal.ITIMER_REAL)[0],
                  signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, signal.set_wakeup_fd(-1)]))
"""


def played(change=""):
    """Return the outcomes of the sessions, and what was left behind."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})" + SCRIPT.replace("{change}", change)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert result.stderr == ""
    outcomes, *left = json.loads(result.stdout)
    assert left == [True, None, 0.0, True, -1]
    return outcomes


def test_clients_with_and_without_mail_are_served():
    assert played("rehearsal.LONGEST = 20.0") == (["empty"] * 3 + ["relayed"]) * 8


@pytest.mark.parametrize("change", [
    pytest.param("stage.be_the_others = lambda endpoint, number: os._exit(3)", id="the others die"),
    pytest.param("stage.be_the_others = lambda endpoint, number: signal.pause()", id="the others sleep"),
    pytest.param("stage.job.run = lambda child, listeners: 1 // 0", id="the job fails"),
    pytest.param("rehearsal.bind_tcp = lambda endpoint, backlog: os.open('/nowhere/at/all', 0)", id="no port"),
])
def test_what_goes_wrong_ends_the_rehearsal_and_nothing_else(change):
    assert played(change) == []
