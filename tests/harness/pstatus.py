"""Running pstatus as an administrator does, and reading what it tells programs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from popular.statefile.reader import Row
from popular.tools.pstatus.snapshot import take
from tests.harness.daemon import ROOT, Daemon
from tests.harness.system import wait_for
from tests.harness.tools import run_tool

PSTATUS = [sys.executable, str(ROOT / "bin" / "pstatus")]


def pstatus(*options: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run pstatus to its end."""
    return run_tool("pstatus", *options)


def status(daemon: Daemon, *options: str) -> dict[str, Any]:
    """Return what `pstatus --json` tells of a daemon."""
    done = pstatus("--json", "-R", daemon.rundir, "-p", daemon.program, *options)
    assert (done.stderr, done.returncode) == ("", 0)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def state_file(daemon: Daemon) -> Path:
    """Return where a daemon's state file lies."""
    return daemon.rundir / f"{daemon.program}.state"


def wait_slot(daemon: Daemon, state: str, seconds: float = 15.0) -> dict[str, Any]:
    """Wait until pstatus shows a slot in `state`; returns the slot."""
    def look() -> dict[str, Any]:
        slots = [slot for slot in status(daemon)["slots"] if slot["state"] == state]
        return slots[0] if slots else {}

    return wait_for(look, seconds, f"a slot in state {state}")


def rows(path: Path) -> list[Row]:
    """Return all slots; every one of them must be at rest."""
    found = take(str(path)).rows
    whole = [row for row in found if row is not None]
    assert len(whole) == len(found)
    return whole
