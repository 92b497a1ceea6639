"""Modules that only some stored passwords need, loaded when the first such password is met.

Loaded in the master they would make every fork dearer, by half its memory mappings; loaded in a child of one
session, that session.  So the master begins without them, and a child that had to look for one tells it the
module's number (`news`); the master loads it too then, for the children to come.  Such a number means one
of the modules named here or nothing, whoever says it.
"""

import importlib
from collections.abc import Sequence
from typing import Any


class Drivers:
    """The modules of one table, as far as this process has them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin with none; a module's number is its place among `names`."""
        self.news: list[int] = []    # numbers of those that this process was the first to look for
        self._names = names
        self._sought: set[str] = set()
        self._loaded: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return the module `name` of the table, or None where it is not installed; raises what loading it raises."""
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._sought:
            self._sought.add(name)    # this first: who bounds our time may cut the loading short, again and again
            self.news.append(self._names.index(name))
        try:
            self._loaded[name] = importlib.import_module(name)
        except ImportError:
            return None
        return self._loaded[name]

    def supply(self, number: int) -> bool:
        """Load module `number` for processes to come, if nobody tried yet; tells whether it is there now."""
        if number >= len(self._names) or self._names[number] in self._sought:
            return False
        name = self._names[number]
        self._sought.add(name)
        try:
            self._loaded[name] = importlib.import_module(name)
        except BaseException:    # foreign code, maybe half replaced just now; the master must not end by it
            return False
        return True
