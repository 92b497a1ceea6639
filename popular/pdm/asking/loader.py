"""Loading a database module from its file.

Runs in the starter (when the configuration is checked), in the master, and in ptestpdm.  A module
is code that runs with our rights, so its file and its folder must belong to root or to us and be
writable by nobody else.  This is checked on the open file that is then compiled.  No bytecode is
read or written, as it would need the same check.  sys.path is not changed.  Raises PdmError, always
with one line that says what to fix.
"""

import os
import re
import stat
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType, TracebackType
from typing import Any

from popular.config.setting import did_you_mean
from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm.api import API, PdmModule
from popular.unix.signals import is_interruption

MAX_SOURCE = 1 << 20    # octets of a module's file

_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_SCOPE = "namespace="


def load_module(directory: str, ident: str, name: str, args: Sequence[str]) -> PdmModule:
    """Return the module pdm_NAME.py of `directory`, made with `args`, ready to be asked.

    A word `namespace=NS[,NS…]` among `args`, whatever the module, limits it to these namespaces.
    Raises PdmError.
    """
    if _NAME.fullmatch(name) is None:
        raise PdmError(f"{ident}: {name!a} is not a module name; allowed are a-z, 0-9 and _")
    namespaces, words = _take_scope(ident, args)
    path = os.path.join(directory, f"pdm_{name}.py")
    source = _checked_source(path)
    kind = _module_class(_execute(f"popular_pdm_{name}", path, source), path)
    try:
        module: PdmModule = kind(ident, words)
    except ValueError as why:
        raise PdmError(f"{ident}: module {name}: {_one_line(why)}") from why
    except BaseException as why:    # foreign code: its fault is a report, not ours
        if is_interruption(why):
            raise
        raise PdmError(f"{ident}: {_place_in(path, why.__traceback__)}: {_one_line(why)}") from why
    module.ident, module.name, module.namespaces = ident, name, namespaces
    module.digest = hash((source, *args))
    return module


def _take_scope(ident: str, args: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Separate the word that limits a module to some namespaces from the module's own words."""
    scopes = [word for word in args if word.startswith(_SCOPE)]
    words = [word for word in args if not word.startswith(_SCOPE)]
    if not scopes:
        return frozenset(), words
    namespaces = scopes[0][len(_SCOPE):].split(",")
    if len(scopes) > 1 or not all(namespaces):
        raise PdmError(f"{ident}: give {_SCOPE}NS[,NS…] only once, and no empty name")
    return frozenset(namespaces), words


def _checked_source(path: str) -> bytes:
    """Return the text of a module's file after checking its owner and mode; raises PdmError.

    A symbolic link is followed; the folders of the link and of the file are both checked.
    """
    real = os.path.realpath(path)
    try:
        for folder in sorted({os.path.realpath(os.path.dirname(path)), os.path.dirname(real)}):
            _prove(folder, os.stat(folder))
        fd = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise PdmError(f"{path}: not a regular file")
            _prove(real, status)
            with open(fd, "rb", closefd=False) as file:
                source = file.read(MAX_SOURCE + 1)
        finally:
            os.close(fd)
    except OSError as why:
        hint = _meant(path) if isinstance(why, FileNotFoundError) else ""
        raise PdmError(f"{why.filename or path}: {why.strerror}{hint}") from why
    if len(source) > MAX_SOURCE:
        raise PdmError(f"{path}: more than {MAX_SOURCE} octets")
    return source


def _meant(path: str) -> str:
    """Return a hint at the module whose name looks like that of a missing file."""
    from glob import glob    # here, because only mistakes need it

    folder, name = os.path.split(path)
    known = {each for folder in (folder, pdm_dir()) for each in glob("pdm_*.py", root_dir=folder)}
    return did_you_mean(_name(name), map(_name, known))


def _name(file: str) -> str:
    return file.removeprefix("pdm_").removesuffix(".py")


def _prove(path: str, status: os.stat_result) -> None:
    """Raise PdmError unless a file or folder belongs to root or to us, and nobody else can write to it."""
    if status.st_uid not in (0, os.geteuid()):
        raise PdmError(f"{path}: belongs to uid {status.st_uid}, not to root or uid {os.geteuid()}: "
                       f"chown root {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PdmError(f"{path}: can be written by group or others: chmod go-w {path}")


class _ProvedSource(SourceFileLoader):
    """Loads a module from text that was read and checked before, without any bytecode cache."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_data(self, path: Any) -> bytes:
        """Return the checked text, whatever the file holds now."""
        return self._source

    def path_stats(self, path: Any) -> Any:
        """Raise OSError: without a date to compare with, no bytecode is used or made."""
        raise OSError("no bytecode")


def _execute(full_name: str, path: str, source: bytes) -> ModuleType:
    """Run the source of a module; raises PdmError with file and line."""
    spec = spec_from_file_location(full_name, path, loader=_ProvedSource(full_name, path, source))
    if spec is None or spec.loader is None:
        raise PdmError(f"{path}: cannot be loaded")
    module = module_from_spec(spec)
    sys.modules[full_name] = module    # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except SyntaxError as why:
        del sys.modules[full_name]
        raise PdmError(f"{why.filename or path}:{why.lineno or 0}: {why.msg}") from why
    except BaseException as why:    # foreign code: its fault is a report, not ours
        del sys.modules[full_name]
        if is_interruption(why):
            raise
        raise PdmError(f"{_place_in(path, why.__traceback__)}: {type(why).__name__}: {_one_line(why)}") from why
    return module


def _module_class(module: ModuleType, path: str) -> Any:
    """Return the class `Module` of a module's file; raises PdmError if it cannot be used."""
    kind: Any = getattr(module, "Module", None)
    if not isinstance(kind, type) or not issubclass(kind, PdmModule):
        raise PdmError(f"{path}: has no class Module derived from popular.pdm.api.PdmModule")
    version: Any = kind.API
    if not (isinstance(version, tuple) and len(version) == 2 and all(isinstance(part, int) for part in version)):
        raise PdmError(f"{path}: its API is {version!a}, but must be a pair of numbers, for example {API}")
    if version[0] != API[0] or version[1] > API[1]:
        raise PdmError(f"{path}: is written for API {version[0]}.{version[1]}, "
                       f"this POPular has {API[0]}.{API[1]}")
    if kind.check is PdmModule.check and kind.auth is PdmModule.auth and kind.token is PdmModule.token:
        raise PdmError(f"{path}: its class Module has none of check, auth and token")
    return kind


def _place_in(path: str, trace: TracebackType | None) -> str:
    """Return `path` and the line in it that an exception passed last."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{path}:{line}"


def _one_line(why: BaseException) -> str:
    return " ".join(str(why).split()) or type(why).__name__
