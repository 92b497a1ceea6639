"""Immortal objects (PEP 683): the program in the master's memory, whose references children do not count.

A child that only uses an object changes its count of references, and so gets a copy of the page that it lies in.  From
Python 3.12 on, there is a count that Python never changes: that of None, for example.  Other objects can have it, too,
but Python has no way to set it, so this module writes it.

Such an object is never freed.  So this takes only what lives as long as the master, which is what modules hold and what
each child inherits, and of that only kinds that have nothing to be closed.  What a reload replaces is not among it.

Runs in masters.  Raises nothing.
"""

import gc
import re
import struct
import sys
import types
from collections.abc import Iterable
from ctypes import c_uint32
from enum import Enum

from popular.log.writer import Log
from popular.proc.messages import OBJECTS_MORTAL

# The lower half of the count of references of an immortal object, for the versions of CPython that were tried.
_COUNTS = {(3, 12): 0xFFFF_FFFF, (3, 13): 0xFFFF_FFFF}

_KINDS = frozenset((
    types.BuiltinFunctionType, types.CellType, types.ClassMethodDescriptorType, types.CodeType, types.FunctionType,
    types.GenericAlias, types.GetSetDescriptorType, types.MappingProxyType, types.MemberDescriptorType,
    types.MethodDescriptorType, types.MethodType, types.MethodWrapperType, types.ModuleType, types.UnionType,
    types.WrapperDescriptorType, classmethod, property, staticmethod, re.Pattern, struct.Struct,
    str, bytes, int, float, tuple, frozenset, list, set, dict))
_OURS = "popular."    # instances of classes there, none of which has a finalizer

_MANY = 1000    # references, for a trial


def make_immortal(roots: Iterable[object], log: Log) -> None:
    """Make `roots` and what they reach immortal; log it if this Python has immortal objects, but unknown ones."""
    version = sys.version_info[:2]
    if version < min(_COUNTS):
        return
    count = _COUNTS.get(version)
    why = f"Python {version[0]}.{version[1]} is not known" if count is None else _trouble(count)
    if count is None or why:
        log.note(OBJECTS_MORTAL, why=why)
        return
    _immortalize(list(roots), count)


def _immortalize(waiting: list[object], count: int) -> None:
    """Make these and what they reach immortal.

    There is no large table of what was found: after one was freed, the heap grew with each change of a setting.
    """
    classes: set[int] = set()
    while waiting:
        thing = waiting.pop()
        field = c_uint32.from_address(id(thing))
        if field.value != count:
            field.value = count
        elif not isinstance(thing, type) or id(thing) in classes:    # Python's own are immortal from the start
            continue
        if isinstance(thing, type):
            classes.add(id(thing))
        waiting += filter(_may_live_forever, gc.get_referents(thing))


def _may_live_forever(thing: object) -> bool:
    kind = type(thing)
    return kind in _KINDS or isinstance(thing, (type, Enum)) or kind.__module__.startswith(_OURS)


def _trouble(count: int) -> str:
    """Return why counts cannot be written; empty if one could be, and then had the effect."""
    if sys.implementation.name != "cpython" or sys.abiflags or sys.maxsize < 1 << 32:
        return "this build of Python has other objects"
    thing = object()
    field = c_uint32.from_address(id(thing))
    before = field.value
    references = [thing] * _MANY
    if field.value != before + _MANY or c_uint32.from_address(id(None)).value != count:
        return "counts of references are not where they are expected"
    field.value = count
    references.clear()
    if field.value != count or sys.getrefcount(thing) != count:
        return "a count of references that was written has no effect"
    return ""
