"""Some lives of a child, played in the master before it has children.

Python writes to a function's code and to caches while it runs for the first times, and is quick with
what it has learned.  A child that serves one session would learn everything anew, in copies of the
master's pages, and take it to its grave.  So what happens in a session happens in the master first:
with a listener, pipes, a state file and a log that are thrown away, and with a forked process as
everybody whom a child talks to.

Runs in the master at its start only, before it handles signals.  Raises nothing: where a rehearsal
goes wrong, sessions cost more, and nothing else is different.
"""

import os
import signal
from contextlib import ExitStack
from dataclasses import replace
from types import FrameType
from typing import NoReturn

from popular.addresses import Endpoint
from popular.daemon.spec import Listen, Listener, Stage
from popular.errors import StartError
from popular.net.listen import bind_tcp, bound_endpoint
from popular.proc.child import Inheritance, rehearse_child
from popular.statefile.layout import StateFileKind
from popular.statefile.writer import StateFile
from popular.unix.descriptors import MastersOwn

LIVES = 32        # Python specialises code at its eighth call, and most of what is in it at the second try
_LONGEST = 5.0    # seconds of everything; usually it takes a tenth of one
_AGAIN = 0.5      # seconds between two interruptions, should one be caught by who knows nothing of it


class TakesTooLong(Exception):
    """The rehearsal has to end."""


def rehearse(stage: Stage, kind: StateFileKind, inheritance: Inheritance) -> None:
    """Play `LIVES` sessions on `stage`, with a child's `inheritance` but its log and state file; closes it."""
    with ExitStack() as after:
        after.callback(stage.close)
        try:
            _play(stage, kind, inheritance, after)
        except (OSError, StartError, TakesTooLong):
            pass


def _play(stage: Stage, kind: StateFileKind, inheritance: Inheritance, after: ExitStack) -> None:
    sock = bind_tcp(Endpoint("127.0.0.1", 0), LIVES)
    after.callback(sock.close)
    listen = Listen("tcp", stage.owner, bound_endpoint(sock), LIVES)
    statefile = StateFile(kind, 1)
    after.callback(statefile.close)
    scene = replace(inheritance, log=stage.log, statefile=statefile, masters_own=MastersOwn())
    others = os.fork()
    if others == 0:
        _be_the_others(stage, listen.endpoint)
    after.callback(_end, others)
    signal.signal(signal.SIGALRM, _interrupt)
    after.callback(signal.signal, signal.SIGALRM, signal.SIG_DFL)
    after.callback(signal.setitimer, signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST, _AGAIN)
    for _ in range(LIVES):
        with sock.dup() as twin:    # a child closes its listener
            twin.setblocking(False)
            listener = Listener(listen.owner, listen.endpoint, twin, listen)
            if not rehearse_child(scene, lambda child: stage.job.run(child, [listener])):
                break


def _be_the_others(stage: Stage, endpoint: Endpoint) -> NoReturn:
    try:
        for number in range(LIVES):
            stage.be_the_others(endpoint, number)
    finally:
        os._exit(0)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise TakesTooLong
