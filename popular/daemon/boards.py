"""Which board a daemon has (spec 6): a state file for those that have one, memory without a file for others.

Runs in the master, before its first child.  Raises nothing: without a state file a daemon serves all the same.
"""

import os

from popular.config.store import Config
from popular.daemon.spec import DaemonSpec
from popular.proc.board import Board
from popular.proc.board_layout import SERVER


def state_path(program: str, rundir: str) -> str:
    """Return where the state file of a daemon lies."""
    return os.path.join(rundir, f"{program}.state")


def make_board(spec: DaemonSpec, config: Config) -> Board:
    """Return the board of a new master, large enough for all children there may ever be."""
    limit = config.variables.get("sessionlimit")
    slots = limit if isinstance(limit, int) else spec.pool(config).limit
    if spec.board is None:
        return Board(SERVER, slots)
    return Board(spec.board, slots, state_path(spec.name, config.variables.text("rundir")))


def learn_names(board: Board, spec: DaemonSpec, config: Config) -> None:
    """Let the board count the sessions of all objects of a configuration that are counted."""
    if spec.board is not None:
        board.learn((cls, item.ident) for cls in spec.board.classes for item in config.items(cls))
