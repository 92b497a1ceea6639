"""Running the starter again out of a master, in a process of its own: for `reload` and `upgrade`.

It is what lies on disk now, found where the running one was found.  Master only.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NoReturn

from popular.unix.signals import HANDLED

_MAX_SAID = 1000    # octets of a go-between

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


def run_orphan(origin: Origin, words: Sequence[str], streams: Mapping[int, int],
               kept: Iterable[int] = ()) -> tuple[int, int]:
    """Do the same for a process that is not to be our child, but init's; returns its pid and a pidfd of it.

    A service manager waits for the end of its own children only, and what is started here becomes its main
    process.  Raises OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)    # the handlers of the go-between are ours
        try:
            between = os.fork()
            if between == 0:
                _go_between(theirs, lambda: run_starter(origin, words, streams, kept))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        os.waitpid(between, 0)
        said, pidfds, _, _ = socket.recv_fds(ours, _MAX_SAID, 1)
    if not pidfds:
        raise OSError(0, said.decode() or "the new process could not be started")
    os.set_inheritable(pidfds[0], False)
    return int(said), pidfds[0]


def _go_between(parent: socket.socket, run: Callable[[], int]) -> NoReturn:
    """Be the parent of a process until our own parent has its pidfd; what cannot be started is reported."""
    try:
        pid = run()
        socket.send_fds(parent, [b"%d" % pid], [os.pidfd_open(pid)])
    except OSError as why:
        parent.send(f"{why.strerror}".encode())
    finally:
        os._exit(os.EX_OK)
