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
import importlib, json, os, signal, sys, tempfile
from popular.config.store import default_config, with_fact
from popular.daemon.child import warmup as rehearsal
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.proc.child import Inheritance
from popular.proc.pipes import DeathPipe, Doorbell
from popular.statefile.writer import StateFile
from popular.unix.descriptors import MastersOwn, ReservedDescriptors
from popular.unix.rights import own_rights
from popular.unix.title import Title


class Kept:
    outcomes = []

    def write(self, event):
        if event.message.name in ("session_end", "mailbox_closed"):
            fields = event.fields
            self.outcomes.append(fields["outcome"].partition(":")[0] + str(fields.get("retrieved", "")))


spec = importlib.import_module("popular.{program}.spec").SPEC
rundir = tempfile.mkdtemp()
config = with_fact(default_config(spec.schema), "rundir", rundir)
log = Log(spec.name, Kept())
inheritance = Inheritance(log, Title(spec.name, None), Doorbell(), DeathPipe(), MastersOwn(), own_rights(),
                          ReservedDescriptors.reserve(), OnceAMinute(), StateFile(spec.statefile, 1))
before = os.listdir("/proc/self/fd")
stage = spec.stage(config, log)
rehearsal.LONGEST = 0.3
{change}
rehearsal.rehearse(stage, spec.statefile, inheritance)
try:
    left = os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    left = None
print(json.dumps([Kept.outcomes, os.listdir("/proc/self/fd") == before, left, signal.getitimer(signal.ITIMER_REAL)[0],
                  signal.getsignal(signal.SIGALRM) == signal.SIG_DFL, signal.set_wakeup_fd(-1), os.listdir(rundir)]))
os.rmdir(rundir)
"""


def played(program, change):
    """Return the outcomes of the sessions, and what was left behind."""
    script = SCRIPT.replace("{program}", program).replace("{change}", change)
    words = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})" + script]
    result = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert result.stderr == ""
    outcomes, *left = json.loads(result.stdout)
    assert left == [True, None, 0.0, True, -1, []]
    return outcomes


@pytest.mark.parametrize("program, outcomes", [
    pytest.param("pproxy", (["empty"] * 3 + ["relayed"]) * 8, id="proxy, with and without mail"),
    pytest.param("pserv", ["quit1"] * 32, id="a message is read"),
])
def test_sessions_are_played_to_their_end(program, outcomes):
    assert played(program, "rehearsal.LONGEST = 20.0") == outcomes


def test_some_come_by_auth_if_a_virtual_server_knows_it():
    change = """
from popular.config.store import FROM_COMMAND, with_item
stage.close()
stage = spec.stage(with_item(config, spec.schema, "vserv", "main", {"address": "127.0.0.1:0"}, FROM_COMMAND), log)
seen, note = [], log.note
log.note = lambda message, **fields: seen.append(fields.get("mechanism")) or note(message, **fields)
rehearsal.LONGEST = 20.0
play = rehearsal.rehearse
def rehearse(*words):
    play(*words)
    Kept.outcomes = [name for name in seen if name]
rehearsal.rehearse = rehearse
"""
    assert played("pproxy", change) == ["USER", "PLAIN", "USER", "USER"] * 8


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
@pytest.mark.parametrize("change", [
    pytest.param("stage.be_the_others = lambda endpoint, number: os._exit(3)", id="the others die"),
    pytest.param("stage.be_the_others = lambda endpoint, number: signal.pause()", id="the others sleep"),
    pytest.param("stage.job.run = lambda child, listeners: 1 // 0", id="the job fails"),
    pytest.param("rehearsal.bind_tcp = lambda endpoint, backlog: os.open('/nowhere/at/all', 0)", id="no port"),
])
def test_what_goes_wrong_ends_the_rehearsal_and_nothing_else(program, change):
    assert played(program, change) == []
