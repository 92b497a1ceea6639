"""Ending a session through the daemon's control socket, which is beside its state file.

Part of the tool pstatus --top.  Raises nothing: the result is reported as text.
"""

import os
import re

from popular.control.client import ControlClient, NoDaemon, default_path
from popular.control.grammar import join_words
from popular.tools.pstatus.snapshot import Snapshot

_PATIENCE = 5.0    # seconds that a daemon has for its answer; the screen is frozen meanwhile


def kill(snapshot: Snapshot, sid: str) -> str:
    """Have the daemon of a state file end its session `sid`; returns its answer, or what went wrong."""
    path = socket_beside(snapshot)
    try:
        with ControlClient(path, _PATIENCE) as client:
            reply = client.ask(join_words(["session", "kill", sid]))
    except (NoDaemon, ValueError) as why:
        return f"not killed: {str(why).removeprefix(f'{path}: ')} ({path})"
    return reply.text if reply.ok else f"not killed: {reply.text}"


def socket_beside(snapshot: Snapshot) -> str:
    """Return where the daemon of a state file listens; also for PROGRAM.PID.state, after an upgrade."""
    folder, name = os.path.split(snapshot.path)
    if re.fullmatch(rf"{snapshot.program}\.[0-9]+\.state", name, re.ASCII):
        return os.path.join(folder, f"{name.removesuffix('.state')}.ctrl")
    return default_path(folder, snapshot.program)


def why_not_killed(snapshot: Snapshot, sid: str) -> str:
    """Return why a session cannot be ended; empty if it may be possible."""
    if not snapshot.is_running:
        return "there is no daemon that could end it"
    return "" if sid else "this session has no id yet"
