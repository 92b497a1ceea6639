"""Keeping parts of the standard library out of the master's memory.

Run once, before anything else in a fresh master's interpreter.  Raises nothing.
"""

import importlib
import sys
from types import ModuleType


def import_dataclasses() -> None:
    """Import dataclasses without inspect, ast, dis and tokenize, which would add over a megabyte to every fork.

    dataclasses needs inspect only to make docstrings for classes without one, which we do not have, and,
    from Python 3.12 on, to read annotations.  If it needs more, it gets the real module then; so does any other
    module that imports inspect.
    """
    if "inspect" in sys.modules or "dataclasses" in sys.modules:
        return
    stand_in = ModuleType("inspect")
    setattr(stand_in, "get_annotations", _annotations_of)
    setattr(stand_in, "__getattr__", _from_inspect)
    sys.modules["inspect"] = stand_in
    try:
        importlib.import_module("dataclasses")
    finally:
        del sys.modules["inspect"]


def _annotations_of(cls: type) -> dict[str, object]:
    return dict(cls.__dict__.get("__annotations__", {}))


def _from_inspect(name: str) -> object:
    if name.startswith("__"):    # requested by the import system
        raise AttributeError(name)
    return getattr(importlib.import_module("inspect"), name)
