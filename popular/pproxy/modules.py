"""Database modules as they are configured: loading them and telling of them.

Runs in the starter and in the master.  Raises PdmError.
"""

import shlex

from popular.config.store import Config, Item
from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm.api import PdmModule
from popular.pdm.chain import Chain
from popular.pdm.loader import load_module
from popular.proc.signals import is_interruption


def load(item: Item, config: Config) -> PdmModule:
    """Return the module that an object of class `pdm` names, made with its arguments."""
    directory = config.variables.optional_text("pdmdir") or pdm_dir()
    try:
        words = shlex.split(item.values.text("args"))
    except ValueError as why:
        raise PdmError(f"args cannot be split into words: {why}") from why
    return load_module(directory, item.ident, item.values.text("module"), words)


def describe(item: Item, config: Config) -> str:
    """Return `ID MODULE ARGS` with secrets masked; raises nothing."""
    try:
        return Chain([load(item, config)], 0, lambda message, **fields: None).describe()[0]
    except BaseException as why:    # foreign code, or a module that cannot be loaded
        if is_interruption(why):
            raise    # else nobody knows which of its arguments are secret
        return f"{item.ident} {item.values.text('module')} ***"
