"""The daemons with a system load that the test writes: `loadavg` in the folder LC_LOAD, read all the time.

`loaded_pproxy.py`, `loaded_pserv.py` and `loaded_plmtpd.py` are the programs; of the environment only what is for the
locale goes over to a master as a test has chosen it.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from popular.daemon.master.limits import LoadSource
from popular.daemon.spec import DaemonSpec
from tests.harness.daemon import Daemon, Settings

INTERVAL = 0.02    # seconds

_FOLDER = "LC_LOAD"    # name of a variable


def loaded(spec: DaemonSpec, module: str) -> DaemonSpec:
    """Return `spec` with the load of the test; `module` is where the result stands."""
    path = os.path.join(os.environ.get(_FOLDER, "/nowhere"), "loadavg")
    return replace(spec, module=module, load=LoadSource(path, INTERVAL))


def start_loaded(start: Callable[..., Daemon], rundir: Path, program: str, settings: Settings) -> Daemon:
    """Start a daemon whose load is in the file `loadavg` of the run folder."""
    script = Path(__file__).with_name(f"loaded_{program}.py")
    daemon: Daemon = start(str(script), settings, name="loaded", env={_FOLDER: str(rundir)})
    daemon.program = program
    return daemon


def set_load(rundir: Path, load: float) -> None:
    """Let the system have this load."""
    new = rundir / "loadavg.new"
    new.write_text(f"{load:.2f} 0.00 0.00 1/100 4711\n")
    new.rename(rundir / "loadavg")
