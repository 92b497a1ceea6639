"""The process of a nursery (tests.harness.nursery): programs start as forks of processes that have imported them.

    python -I -S cradle.py FD PREFIX ENCODING ERRORS PATH...    FD: the end of a line to the nursery; PATH: sys.path

Each program that is asked for gets such a process, its room.  What a room forks does what `bin/PROGRAM` does.
The room of a daemon imports what the master imports, and only then the starter.  Where a starter becomes the master by
exec, the fork goes on as the master without one: with the descriptors, the environment, the signals and the modules
that it would have in a fresh interpreter.  It rehearses fewer sessions, which were two thirds of its start.
"""

import gc
import importlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

SPECS = {    # by daemon, the module that its master imports
    "pproxy": "popular.pproxy.spec", "pserv": "popular.pserv.spec", "plmtpd": "popular.plmtpd.spec",
    "pcheckd": "popular.pcheckd.spec", "ringd": "popular.ringd.spec", "toy": "tests.harness.toy"}

LIVES = 4    # sessions that a master rehearses (popular.daemon.child.warmup): each kind once

_MAX_REQUEST = 1 << 20    # octets
_MAX_FDS = 4              # standard input, output and errors, and the descriptor of --ready-fd


def serve(line: socket.socket) -> None:
    """Start programs until the other end is closed."""
    rooms: dict[str, tuple[socket.socket, int]] = {}
    while True:
        request, fds, _, _ = socket.recv_fds(line, _MAX_REQUEST, _MAX_FDS)
        if not request:
            break
        script = json.loads(request)["script"]
        if script not in rooms:
            rooms[script] = _open_room(line, script, fds)
        socket.send_fds(rooms[script][0], [request], fds)
        for fd in fds:
            os.close(fd)
    for door, pid in rooms.values():
        door.shutdown(socket.SHUT_RDWR)    # other rooms have copies
        os.waitpid(pid, 0)


def _open_room(line: socket.socket, script: str, not_kept: Sequence[int]) -> tuple[socket.socket, int]:
    """Return our end of the line to a new process for one program, and its process id."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        for fd in not_kept:
            os.close(fd)
        try:
            _be_room(line, theirs, script)
        finally:
            os._exit(0)
    theirs.close()
    return ours, pid


def _be_room(line: socket.socket, door: socket.socket, script: str) -> None:
    """Import a program, and fork it for each request."""
    folder, name = os.path.dirname(script), os.path.basename(script).removesuffix(".py")
    if name in SPECS:
        importlib.import_module("popular.daemon.start.slim").import_dataclasses()
        importlib.import_module("popular.daemon.start.boot")
        importlib.import_module(SPECS[name])
        setattr(importlib.import_module("popular.daemon.child.warmup"), "LIVES", LIVES)
    lean = frozenset(sys.modules)
    with open(script, encoding="utf-8") as file:
        found = re.search(r"^ *from (\S+) import main\b", file.read(), re.MULTILINE)
    assert found is not None, script
    module = importlib.import_module(found[1])
    if name == "toy":    # which makes itself a starter only when it is one
        module = importlib.import_module(SPECS[name])
    die_with_parent = importlib.import_module("tests.harness.system").die_with_parent
    if name != "toy":
        sys.path[0] = folder    # as for a program there
    gc.collect()
    gc.freeze()
    while True:
        request, fds, _, _ = socket.recv_fds(door, _MAX_REQUEST, _MAX_FDS)
        if not request:
            return
        between = os.fork()
        if between == 0:
            _bear(line, json.loads(request), fds, lean, module.main, die_with_parent)
        for fd in fds:
            os.close(fd)
        os.waitpid(between, 0)


def _bear(line: socket.socket, request: dict[str, Any], fds: Sequence[int], lean: frozenset[str],
          main: Callable[[], int], die_with_parent: Callable[[], None]) -> NoReturn:
    """In between: fork the program and end, so that it becomes a child of the test process, which it then tells."""
    if os.fork():
        os._exit(0)
    while os.getppid() != request["parent"]:    # soon
        time.sleep(0.0002)
    line.send(str(os.getpid()).encode())
    die_with_parent()
    arguments = request["arguments"]
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
        os.close(fd)
    for fd in fds[3:]:
        os.set_inheritable(fd, True)
        arguments = ["--ready-fd", str(fd), *arguments]
    os.chdir(request["folder"])
    _set_environment(request["environment"])
    _open_streams()
    sys.argv = [request["script"], *arguments]
    setattr(os, "execve", partial(_go_on, os.execve, lean))
    _end_with(main)


def _go_on(execve: object, lean: frozenset[str], path: str, words: Sequence[str],
           environment: dict[str, str]) -> NoReturn:
    """Be what a program becomes by exec: a fresh interpreter with code on its command line."""
    setattr(os, "execve", execve)
    _, isolated, bare, option, code, *arguments = words
    assert (path, isolated, bare, option) == (sys.executable, "-I", "-S", "-c")
    sys.stdout.flush()
    gc.collect()    # or what is closed by it later closes somebody else's descriptor
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.get_inheritable(int(name)):
                os.close(int(name))
        except OSError:    # that of the listing
            continue
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _set_environment(environment)
    for name in set(sys.modules) - lean:
        del sys.modules[name]
    sys.argv = ["-c", *arguments]
    _end_with(lambda: exec(code, {"__name__": "__main__"}))


def _end_with(main: Callable[[], int | None]) -> NoReturn:
    """Run a main program and end as Python does behind it."""
    code: int | None = 1
    try:
        code = main()
    except SystemExit as why:
        code = why.code if isinstance(why.code, int) else int(why.code is not None)
        if isinstance(why.code, str):
            print(why.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _open_streams() -> None:
    """Let the standard streams be what a fresh interpreter would make of the descriptors."""
    _, _, encoding, errors = sys.argv[1:5]
    sys.stdin = open(0, encoding=encoding, errors=errors, closefd=False)
    sys.stdout = open(1, "w", encoding=encoding, errors=errors, closefd=False)
    sys.stderr = open(2, "w", buffering=1, encoding=encoding, errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    sys.prefix, sys.path[:] = sys.argv[2], sys.argv[5:]
    if set_title := importlib.import_module("popular.unix.title").load_setproctitle():
        set_title("nursery")    # finds its room while the environment is still where the kernel put it
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        serve(ours)
