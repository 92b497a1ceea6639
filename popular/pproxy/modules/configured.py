"""Configured database modules: loading and describing them.

Runs in the starter and in the master.  Raises PdmError.
"""

import os
import shlex

from popular.config.store import Config, Item
from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm.api import PdmModule
from popular.pdm.chain import Chain
from popular.pdm.loader import load_module
from popular.unix.signals import is_interruption


def configured_module(item: Item, config: Config) -> PdmModule:
    """Return the module that an object of class `pdm` names, made with its arguments; raises PdmError."""
    directory = _folder(config.variables.optional_text("pdmdir"), item.values.text("module"))
    try:
        words = shlex.split(item.values.text("args"))
    except ValueError as why:
        raise PdmError(f"args cannot be split into words: {why}") from why
    return load_module(directory, item.ident, item.values.text("module"), words)


def _folder(own: str | None, name: str) -> str:
    """Return the folder of a module: the administrator's `own`, or the installed one if `own` has no such file.

    The loader checks either.  If `own` cannot be read, the installed folder is not used, since `own` may have the file.
    """
    if own is None:
        return pdm_dir()
    try:
        os.lstat(os.path.join(own, f"pdm_{name}.py"))
    except FileNotFoundError:
        installed = pdm_dir()
        return installed if os.path.exists(os.path.join(installed, f"pdm_{name}.py")) else own
    except OSError:    # the loader reports what is wrong
        pass
    return own


def describe(item: Item, config: Config) -> str:
    """Return `ID MODULE ARGS` with secrets masked; raises nothing."""
    try:
        return Chain([configured_module(item, config)], 0, lambda message, **fields: None).describe()[0]
    except BaseException as why:    # foreign code, or a module that cannot be loaded
        if is_interruption(why):
            raise    # otherwise all arguments are masked: any of them may be secret
        return f"{item.ident} {item.values.text('module')} ***"
