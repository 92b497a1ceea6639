"""Process titles, as `ps` shows them: `pproxy: master`, `pproxy: RELAY p1-… 192.0.2.7`.

The package setproctitle imports logging, which would burden every fork; so its extension is loaded
without the package.  Without it there are no titles, and nothing else changes.
"""

import glob
import os
import sys
from collections.abc import Callable, Iterable
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

_NAME = "_setproctitle"


class Title:
    """The title of one process and, after a fork, of its child."""

    def __init__(self, program: str, show: Callable[[str], None] | None) -> None:
        """Write titles that begin with `program` by calling `show`."""
        self._program = program
        self._show = show

    def set(self, text: str) -> None:
        """Show `PROGRAM: text`; never pass secrets."""
        if self._show is not None:
            self._show(f"{self._program}: {text}")


def load_setproctitle(path: Iterable[str] | None = None) -> Callable[[str], None] | None:
    """Return the function of the extension found on `path` (default sys.path), or None."""
    for folder in sys.path if path is None else path:
        for name in glob.glob(os.path.join(glob.escape(folder), "setproctitle", f"{_NAME}*.so")):
            loader = ExtensionFileLoader(_NAME, name)
            spec = spec_from_file_location(_NAME, name, loader=loader)
            if spec is None:
                continue
            try:
                module = module_from_spec(spec)
                loader.exec_module(module)
            except ImportError:    # made for another Python
                continue
            show: Callable[[str], None] = module.setproctitle
            return show
    return None
