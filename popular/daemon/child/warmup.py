"""Rehearsed sessions: the master runs the code of a child some times before it has children.

Python optimises a function during its first calls, and writes to its code and to caches.  A child that
serves one session would do that again in its own copies of the master's pages, and lose the result
when it ends.  So the master first runs sessions itself, with a temporary listener, pipes, state file
and log.  A forked process plays the client and the servers.

Runs in the master at its start only, before it handles signals.  Raises nothing: if a rehearsal
fails, sessions only cost more.
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
from popular.unix.walls.walls import Walls

LIVES = 32        # Python specialises code at its eighth call, and most of its instructions at the second try
_LONGEST = 5.0    # seconds in all; it usually takes a tenth of a second
_AGAIN = 0.5      # seconds until the next interruption, in case other code catches the first


class TakesTooLong(Exception):
    """The rehearsal has to end."""


def rehearse(stage: Stage, kind: StateFileKind, inheritance: Inheritance) -> None:
    """Play `LIVES` sessions on `stage` and close it; its log and a state file replace those of `inheritance`."""
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
    scene = replace(inheritance, log=stage.log, statefile=statefile, masters_own=MastersOwn(), walls=Walls())
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
