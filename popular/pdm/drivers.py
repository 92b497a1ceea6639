"""Python packages that are loaded when they are first needed: for some stored passwords, and drivers of databases.

Loaded in the master, they would make every fork slower, as they add half again to its memory mappings; loaded
in a child that serves one session, they slow that session down.  So the master starts without them.  A child
that had to load one reports its number (`news`) to the master, which then loads it for later children.  Such a
number can only mean one of the modules named here, whoever sends it.

A time limit does not interrupt the loading: a package that was loaded in part may never work in this process again.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from popular.errors import PdmError
from popular.pdm.timelimit import undisturbed


class Drivers:
    """The modules of one table, as far as this process has loaded them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Start with none; a module's number is its index in `names`."""
        self.news: list[int] = []    # numbers of those that this process was the first to look for
        self._names = names
        self._sought: set[str] = set()
        self._loaded: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return the module `name` of the table; None if it is not installed; raises what loading it raises."""
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._sought:
            self._sought.add(name)    # this first: loading it may fail, again and again
            self.news.append(self._names.index(name))
        try:
            with undisturbed():
                self._loaded[name] = importlib.import_module(name)
        except ImportError:
            return None
        return self._loaded[name]

    def supply(self, number: int) -> bool:
        """Load module `number` for later processes unless that was tried before; return whether it was loaded."""
        if number >= len(self._names) or self._names[number] in self._sought:
            return False
        name = self._names[number]
        self._sought.add(name)
        try:
            self._loaded[name] = importlib.import_module(name)
        except BaseException:    # foreign code, perhaps being replaced just now; it must not end the master
            return False
        return True


def driver(name: str, package: str) -> Any:
    """Return the module `name` of a Python package, for `open` of a database module; raises PdmError without it.

    Database modules do not import drivers themselves, because the master loads them and need not grow.  What the driver
    would log on standard error is dropped: it may hold secrets, and failures are told by exceptions.
    """
    try:
        with undisturbed():
            found = importlib.import_module(name)
    except ImportError as why:
        raise PdmError(f"needs the Python package {package}: {why}") from None
    if logging := sys.modules.get("logging"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return found
