"""CPU time is counted whole: of children that ended, of their children, and of daemons that forked twice."""

import json
import subprocess
import sys

import pytest

from tests.harness.daemon import ROOT

# Processes that burn CPU and end: waited for, forgotten by their parent, and one that lives on.
FAMILY = """
import json, os, sys, time
from tests.bench.cputime import make_meter
from tests.harness.system import adopt_orphans, children_of, end_process, reap, wait_for

def burn():
    end = time.process_time() + 0.06
    while time.process_time() < end:
        pass

def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid

def twice():
    child(burn)                     # an orphan, as soon as this one has ended

def stays():
    burn()
    os.close(ready[0])
    os.write(ready[1], b"x")
    time.sleep(60)

adopt_orphans()
meter = make_meter(use_groups=sys.argv[1] == "groups")
ready = os.pipe()
os.waitpid(child(burn), 0)
os.waitpid(child(twice), 0)
living = child(stays)
os.read(ready[0], 1)
wait_for(lambda: reap() is not None and children_of(os.getpid()) == [living])
burn()                              # our own time does not count
print(json.dumps([meter.how, meter.seconds(), meter.blind()]))
end_process(living)
reap()
meter.close()
"""

IGNORANT = """
import json, os, signal, time
from tests.bench.cputime import TreeMeter
from tests.harness.system import adopt_orphans, end_process, reap

adopt_orphans()
ready = os.pipe()
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(ready[1], b"x")
    time.sleep(60)
os.read(ready[0], 1)
print(json.dumps(len(TreeMeter().blind())))
end_process(pid)
reap()
"""


def run(code: str, *arguments: str) -> object:
    """Run a family of processes; returns what it printed."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["groups", "tree"])
def test_the_whole_family_is_counted(kind):
    how, seconds, blind = run(FAMILY, kind)
    assert how == "process tree" or kind == "groups"
    assert 0.17 < seconds < 0.3
    assert blind == []


def test_who_ignores_sigchld_is_named():
    assert run(IGNORANT) == 1
