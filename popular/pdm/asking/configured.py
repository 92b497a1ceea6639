"""Configured database modules: their rows, and loading, describing and trying them.

Runs in the starter and in the master of each program that has such modules, and in tools.  Raises PdmError.
"""

import os
import shlex
from collections.abc import Sequence

from popular.config.kinds import MAX_TEXT, Dir, Id, String, Time
from popular.config.mistakes import Mistake
from popular.config.setting import ObjectClass, Setting, did_you_mean, place, quoted
from popular.config.store import Config, Item
from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm.api import PdmModule
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.loader import load_module
from popular.pdm.asking.runner import reason
from popular.pdm.timelimit import TimeUp, limited
from popular.unix.signals import is_interruption

PDM = ObjectClass("pdm", "Database modules, asked in the order in which they are configured.", (
    Setting("module", Id(), None,
            "Name of the module: pdm_NAME.py in pdmdir, or in the installed folder if it is not there.", required=True,
            root_only=True),
    Setting("args", String(MAX_TEXT), "", "Its arguments, split as in a shell; see popular-pdm(7).", root_only=True),
))

PDM_ROWS = (
    Setting("pdmdir", Dir(), None, "Folder of your own database modules, searched before the installed one.",
            root_only=True),
    Setting("pdmtimeout", Time(0.01, 300), 10.0, "Time that a database module has for one answer."),
)


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


def module_mistakes(item: Item, config: Config) -> list[Mistake]:
    """Return why an object of class `pdm` cannot be loaded, for the `check` of a program."""
    try:
        configured_module(item, config)
    except PdmError as why:
        return [Mistake(place("pdm", item.ident), str(why).removeprefix(f"{item.ident}: "))]
    return []


def why_not_asked(item: Item, config: Config, known: Sequence[str] = ()) -> str:
    """Return why a module could not answer now (starter); empty: it could, or cannot be loaded: see `module_mistakes`.

    `known` are the ids of the backends that its users may have; none: any.
    """
    seconds = config.variables.seconds("pdmtimeout")
    try:
        module = configured_module(item, config)
    except PdmError:
        return ""
    try:
        limited(seconds, module.probe)
        for ident in module.backends if known else ():
            if ident not in known:
                return f"no backend {quoted(ident)} is configured{did_you_mean(ident, known)}"
    except TimeUp:
        return f"no answer within {seconds:g} s"
    except PdmError as why:
        return str(why).removeprefix(f"{item.ident}: ")
    except (Exception, SystemExit) as why:    # a module is foreign code
        return reason(why)
    return ""
