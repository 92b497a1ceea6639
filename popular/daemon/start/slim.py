"""Keeping the master small where the standard library would make it large.

Run once, as the first thing in a fresh master's interpreter.  Raises nothing.
"""

import importlib
import sys
from types import ModuleType


def import_dataclasses() -> None:
    """Import dataclasses without inspect, ast, dis and tokenize: over a megabyte that every fork would copy.

    It needs inspect only to write a text for classes that have none, and ours have one, and from Python
    3.12 on to look at annotations.  For more it gets the real module at that moment, as does everybody who
    imports inspect.
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
    if name.startswith("__"):    # asked by the import system
        raise AttributeError(name)
    return getattr(importlib.import_module("inspect"), name)
