"""A release of its own for one test: what lies on disk can be changed while daemons from it run.

Processes that begin with the files of a release can be struck at a named point: a signal comes right before a system
call, which is told by its audit event (see "Audit events table" of Python) and a text among its arguments.
"""

import json
import re
import shutil
import signal
from pathlib import Path

from tests.harness.daemon import ROOT

FOLDERS = ("bin", "popular", "pdm_modules")

Point = tuple[str, str]    # an audit event, and a text that is found among its arguments

_HOOK = '''

def _watch_for_points(path):
    import json
    import os
    import sys

    seen = []

    def hook(event, args):
        if not event.startswith(("os.", "socket.bind")):
            return
        try:
            with open(path) as file:
                plan = json.load(file)
        except FileNotFoundError:
            seen.clear()
            return
        points = plan["points"][len(seen):]
        if points and plan["pid"] in (0, os.getpid()) and event == points[0][0] and points[0][1] in repr(args):
            seen.append(event)
            if len(points) == 1:
                os.kill(os.getpid(), plan["signal"])

    sys.addaudithook(hook)


_watch_for_points({path!r})
'''


class Release:
    """A copy of the programs."""

    def __init__(self, root: Path) -> None:
        """Copy everything to the new folder `root`; compiled files stay valid."""
        self.root = root
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, root / folder)
        self.env = {"PYTHONPATH": str(root)}    # else another release may be found
        self._plan = root / "points.json"

    def set(self, path: str, **values: object) -> None:
        """Give other values to some of the names that one of the files has on its top level."""
        text = (self.root / path).read_text()
        for name in values:
            assert re.search(rf"^{name} = ", text, re.MULTILINE), (path, name)
        self.append(path, "".join(f"{name} = {value!r}\n" for name, value in values.items()))

    def append(self, path: str, text: str) -> None:
        """Add lines to the end of one of the files."""
        file = self.root / path
        fresh = file.with_suffix(".new")
        fresh.write_text(file.read_text() + text)
        fresh.rename(file)

    def have_points(self) -> None:
        """Let processes that begin with these files from now on be struck as `strike` says."""
        self.append("popular/__init__.py", _HOOK.format(path=str(self._plan)))

    def strike(self, *points: Point, number: signal.Signals = signal.SIGKILL, pid: int = 0) -> None:
        """Let a signal come to process `pid` (0: to any) right before the last of these, which come in this order."""
        fresh = self._plan.with_suffix(".new")
        fresh.write_text(json.dumps({"points": points, "signal": number, "pid": pid}))
        fresh.rename(self._plan)

    def spare(self) -> None:
        """Strike nobody any more."""
        self._plan.unlink()
