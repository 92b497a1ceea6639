"""The floors: what the same work costs in the smallest program that one can write for it, in Python and in C.

Where POPular costs more than it should, they tell how much of that interpreter, fork and kernel take from anyone.
The programs are in floors/; those in C are compiled here, statically where that is possible: what is mapped of a
library is paid for in every fork.  Behind the proxies stand our pcheckd and our pserv, as behind pproxy.

Runs in the warden.  Raises CannotStart.
"""

import subprocess
from contextlib import ExitStack
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.foreground import CannotStart, launch, need
from tests.bench.popular_chain import Shape, start_daemon, words_of
from tests.bench.population import Store
from tests.harness.daemon import StartFailed

Owner = tuple[int, int]
Command = list[str | Path]

SOURCES = Path(__file__).with_name("floors")
_FLAGS = ("-O2", "-Wall", "-Wextra")
_COMMON = "prefork.c"
_SPARE = 16                 # children that wait at first; later at least half as many, with one use each as many
_COMPILE_SECONDS = 60.0


class Floor:
    """Programs in the order in which they were started, the one that clients connect to last."""

    def __init__(self) -> None:
        self._parts = ExitStack()
        self.endpoint = Endpoint("", 0)
        self.checks: Endpoint | None = None     # none of its own: pcheckd is POPular's
        self.tls: Endpoint | None = None

    def close(self) -> None:
        """End them, the outermost first; twice is fine."""
        self._parts.close()

    def add(self, folder: Path, name: str, command: Command, *arguments: object) -> Endpoint:
        """Start a program whose first argument is its port; returns where it listens; raises CannotStart."""
        program = launch(folder, name, lambda port: [*command, str(port), *map(str, arguments)])
        self._parts.callback(program.close)
        self.endpoint = program.endpoint
        return program.endpoint

    def add_daemon(self, name: str, folder: Path, words: dict[str, object], shape: Shape) -> int:
        """Start pcheckd or pserv; returns its port; raises StartFailed."""
        daemon = start_daemon(name, folder, words, shape)
        self._parts.callback(daemon.close)
        return daemon.endpoint().port


def start_proxy(folder: Path, store: Store, owner: Owner, maxuse: int, shape: Shape, *, is_c: bool) -> Floor:
    """Start pcheckd, pserv and the smallest proxy before them, under the Python of `shape`; raises CannotStart."""
    command: Command = [shape.python, "-I", "-S", SOURCES / "floor_proxy.py"]
    if is_c:
        command = compiled(store, "floor_proxy")
    floor = Floor()
    try:
        words = {**words_of(folder, owner, maxuse, shape), "spool": store.spool}
        checks, backend = (floor.add_daemon(name, folder, words, shape) for name in ("pcheckd", "pserv"))
        floor.add(folder, "proxy", command, checks, backend, maxuse, _SPARE)
    except StartFailed as why:
        floor.close()
        raise CannotStart(str(why)) from None
    except BaseException:
        floor.close()
        raise
    return floor


def start_direct(folder: Path, store: Store, *, has_proxy: bool) -> Floor:
    """Start the smallest server, and where wanted a proxy before it that knows no POP3; raises CannotStart."""
    floor = Floor()
    try:
        server = floor.add(folder, "direct", compiled(store, "floor_direct"), store.spool, _SPARE)
        if has_proxy:
            floor.add(folder, "proxy", compiled(store, "floor_proxy"), 0, server.port, 1, _SPARE)
    except BaseException:
        floor.close()
        raise
    return floor


def compiled(store: Store, name: str) -> Command:
    """Compile one of the programs in C, once for each store; returns its command; raises CannotStart."""
    program = store.folder / name
    if program.exists():
        return [program]
    for link in (["-static"], []):
        done = subprocess.run([need("cc"), *_FLAGS, *link, "-o", program, SOURCES / f"{name}.c", SOURCES / _COMMON],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=_COMPILE_SECONDS, check=False)
        if done.returncode == 0:
            return [program]
    raise CannotStart(f"{name} cannot be compiled: {done.stdout.decode(errors='replace').strip()}")
