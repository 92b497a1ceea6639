"""Running the starter again out of a master, in a process of its own: for `reload` and `upgrade`.

It is what lies on disk now, found where the running one was found.  Master only.
"""

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

_BOOTSTRAP = """\
import importlib, json, os, sys
origin = json.loads(sys.argv[1])
sys.path[:] = origin["path"]
sys.prefix = origin["prefix"]
try:
    os.chdir(origin["folder"])
except OSError:    # closed to the service user; relative names will not be found
    pass
sys.argv[:] = [origin["main"], *origin["words"]]
sys.exit(importlib.import_module(origin["main"]).main())
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """How the daemon was started."""

    path: tuple[str, ...]    # sys.path
    prefix: str              # sys.prefix
    main: str                # the module whose `main` is the starter
    argv: tuple[str, ...]
    folder: str              # from which relative names among `argv` count


def run_starter(origin: Origin, words: Sequence[str], streams: Mapping[int, int], kept: Iterable[int] = ()) -> int:
    """Start the starter with `words` on its command line; returns its pid.  Raises OSError.

    `streams` are descriptors for its output and errors, by their numbers there, nowhere without; `kept` are
    those that it finds under the same numbers as here.  It reads nothing.
    """
    arguments = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, json.dumps({**asdict(origin), "words": list(words)})]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    places = {0: null, 1: null, **{fd: fd for fd in kept}, **streams}    # moving one to itself lets it live on
    try:
        return os.posix_spawn(
            sys.executable, arguments, dict(os.environ), setsigmask=(), setsigdef=(signal.SIGPIPE,),
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in places.items()])
    finally:
        os.close(null)
