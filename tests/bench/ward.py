"""A contender as the run sees it: where it listens, what CPU time and memory it uses.

    with Ward.start("nginx", folder, store, owner) as ward:
        ... ward.endpoint, ward.cpu(), ward.memory() ...

The contender lives below a warden, a process of its own in a session of its own, so that Ctrl-C reaches only the
benchmark, which then ends its wards one after the other.  Raises CannotStart and WardGone.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from popular.addresses import Endpoint
from tests.bench.foreground import CannotStart
from tests.bench.memory import Weight
from tests.bench.popular_chain import Refused, Shape
from tests.bench.population import Store
from tests.harness.daemon import ROOT

_START_SECONDS = 180.0
_ANSWER_SECONDS = 60.0
_SETTLE_SECONDS = 3.0
_MEMORY_SECONDS = 15.0     # the same for memory; a look at 2,000 processes takes a second or two
_QUIET = 0.0005            # CPU seconds in _PAUSE at most, of a contender that has nothing to do any more
_STILL = 0.001             # of all memory, and _STILL_OCTETS, that two readings may be apart
_STILL_OCTETS = 64 << 10
_PAUSE = 0.05

Reading = TypeVar("Reading")


class WardGone(Exception):
    """A contender or its warden ended or broke in the middle of a run."""


@dataclass(slots=True)
class Ward:
    """One contender at work."""

    name: str
    process: "subprocess.Popen[bytes]"
    errors: Path
    endpoints: tuple[Endpoint, ...] = ()       # where clients connect; several with several virtual servers
    tls: Endpoint | None = None
    checks: Endpoint | None = None
    start_seconds: float | None = None         # of our proxy, until it listened
    how: str = ""                              # its CPU time is counted
    blind: tuple[str, ...] = ()                # programs whose ended children are not counted

    @classmethod
    def start(cls, name: str, folder: Path, store: Store, owner: tuple[int, int], *, shape: Shape = Shape(),
              use_groups: bool = True) -> "Ward":
        """Start a contender in `folder`, which is made; raises CannotStart."""
        folder.mkdir()
        folder.chmod(0o755)
        errors = folder / "warden.err"
        with errors.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, "-m", "tests.bench.warden"], cwd=ROOT, start_new_session=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        ward = cls(name, process, errors)
        try:
            told = ward._ask({"do": "start", "contender": name, "folder": str(folder), "store": str(store.folder),
                              "owner": owner, "shape": astuple(shape), "use_groups": use_groups}, _START_SECONDS)
        except WardGone as why:
            ward.close()
            raise CannotStart(str(why)) from None
        except BaseException:
            ward.close()
            raise
        ward.endpoints = tuple(Endpoint(*words) for words in told["endpoints"])
        ward.tls = Endpoint(*told["tls"]) if told["tls"] else None
        ward.checks = Endpoint(*told["checks"]) if told["checks"] else None
        ward.start_seconds = told["start"]
        ward.how, ward.blind = told["how"], tuple(told["blind"])
        return ward

    def __enter__(self) -> "Ward":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect, the first of all."""
        return self.endpoints[0]

    def cpu(self) -> float:
        """Return the CPU seconds that the contender has used so far."""
        return float(self._ask({"do": "cpu"}, _ANSWER_SECONDS)["cpu"])

    def settled_cpu(self) -> float:
        """Return the same when the contender has come to rest, or after some seconds."""
        return settled(self.cpu, lambda last, now: now - last < _QUIET, _SETTLE_SECONDS)

    def memory(self) -> dict[str, int]:
        """Return the PSS in octets by program."""
        return dict(self._ask({"do": "memory"}, _ANSWER_SECONDS)["memory"])

    def settled_memory(self) -> dict[str, int]:
        """Return the same when CPU time and memory stand still, or after some seconds."""
        self.settled_cpu()
        return settled(self.memory, is_still, _MEMORY_SECONDS)

    def master_memory(self) -> Weight:
        """Return the memory of the master of our proxy."""
        return Weight(*self._ask({"do": "master"}, _ANSWER_SECONDS)["master"])

    def reload(self) -> float:
        """Let our proxy read a changed file; returns the seconds until new clients see it, and raises Refused."""
        told = self._ask({"do": "reload"}, _ANSWER_SECONDS)
        if "refused" in told:
            raise Refused(told["refused"])
        return float(told["reload"])

    def close(self) -> None:
        """End the contender and its warden; twice is fine."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()       # the warden sees the end of its input
        try:
            self.process.wait(60.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _ask(self, order: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            os.write(self.process.stdin.fileno(), json.dumps(order).encode() + b"\n")
        except BrokenPipeError:
            raise WardGone(self._why("its warden has ended")) from None
        text = b""
        deadline = time.monotonic() + seconds
        while not text.endswith(b"\n"):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise WardGone(self._why(f"no answer in {seconds:.0f} s"))
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise WardGone(self._why("its warden has ended"))
            text += data
        told: dict[str, Any] = json.loads(text)
        if "error" in told:
            raise WardGone(f"{self.name}: {told['error']}")
        return told

    def _why(self, what: str) -> str:
        return f"{self.name}: {what}\n{self.errors.read_text(errors='replace')[-1000:]}".strip()


def settled(read: Callable[[], Reading], is_alike: Callable[[Reading, Reading], bool], seconds: float) -> Reading:
    """Return what `read` tells once two readings in a row, _PAUSE apart, are alike; after `seconds` the last one."""
    deadline = time.monotonic() + seconds
    last = read()
    while time.monotonic() < deadline:
        time.sleep(_PAUSE)
        last, before = read(), last
        if is_alike(before, last):
            break
    return last


def is_still(before: Mapping[str, int], now: Mapping[str, int]) -> bool:
    """Tell whether two readings of the memory, octets by program, are as good as the same."""
    apart = sum(abs(now.get(name, 0) - before.get(name, 0)) for name in {*before, *now})
    return apart <= max(_STILL_OCTETS, _STILL * sum(now.values()))
