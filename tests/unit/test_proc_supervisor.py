"""Keeping children: what a master makes of one that ended before the master heard of it.

Each runs in a process of its own, which collects every child that ends.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import json, os
from dataclasses import replace
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.proc.child import ChildState, Inheritance
from popular.proc.pipes import DeathPipe, Doorbell
from popular.proc.pool import PoolLimits
from popular.proc.supervisor import Supervisor
from popular.statefile.layout import PROXY
from popular.statefile.reader import StateFileView
from popular.statefile.writer import StateFile
from popular.unix.descriptors import MastersOwn, ReservedDescriptors
from popular.unix.rights import own_rights
from popular.unix.title import Title


class Kept:
    names = []

    def write(self, event):
        self.names.append(event.message.name)


def work(child):
    child.report(ChildState.BUSY)
    child.count_failure("store1", "tls")    # the last words of the dead are heard, and counted
    os._exit(3)


rights = own_rights()
inheritance = Inheritance(Log("toy", Kept()), Title("toy", None), Doorbell(), DeathPipe(), MastersOwn(),
                          {rights}, ReservedDescriptors.reserve(), OnceAMinute(), StateFile(PROXY, 1))
supervisor = Supervisor(PoolLimits(1, 1, 1, 1), inheritance, work)
supervisor.attend()
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)    # it is dead, and its reports have not been read
supervisor.look_after()
view = StateFileView(inheritance.statefile.read)
assert sum(view.failures().values()) == len(Kept.names) - Kept.names.count("child_not_started"), view.failures()
print(json.dumps([Kept.names, supervisor.count, supervisor.losses, supervisor.attend()]))
"""


@pytest.mark.parametrize("rights, wanted", [
    pytest.param("rights", [["child_died"], 0, 1, None], id="in its first session"),
    pytest.param("replace(rights, uid=rights.uid + 1)", [["child_not_started"], 0, 1, 0.2], id="before it was ready"),
])
def test_a_child_that_died_unheard(rights, wanted):
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})" + SCRIPT.replace("{rights}", rights)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert result.stderr == ""
    *facts, wait = json.loads(result.stdout)
    assert [*facts, wait and round(wait, 1)] == wanted
