"""The process that one contender lives below: starts it, tells its CPU time and memory, ends it for sure.

    python -m tests.bench.warden

Reads one line of JSON at a time and answers each with one: first what to start, then `cpu`, `memory`, `stop`, and,
where the contender is POPular from end to end, `reload` and `master`.
When its input ends, because the benchmark ended however it did, it ends everything below it, by pid; as
the reaper of orphans it has every process that the contender made below it.
"""

import ctypes
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

from tests.bench.contenders import Place, Running, contender
from tests.bench.cputime import Meter, make_meter
from tests.bench.foreground import CannotStart
from tests.bench.memory import pss_by_program
from tests.bench.popular_chain import PopularChain, Refused, Shape
from tests.bench.population import Store
from tests.harness.system import adopt_orphans, descendants_of, end_process, is_alive, reap, wait_for

_PR_SET_NAME = 15
_REAP_SECONDS = 0.5
_POLITE_SECONDS = 5.0


class Warden:
    """One contender and what is known of it."""

    def __init__(self, answer: Callable[[dict[str, Any]], None]) -> None:
        self._answer = answer
        self._running: Running | None = None
        self._meter: Meter | None = None

    def obey(self, order: dict[str, Any]) -> bool:
        """Do one thing and answer; False when it was the last."""
        match order["do"]:
            case "start":
                return self._start(order)
            case "cpu":
                assert self._meter is not None
                self._answer({"cpu": self._meter.seconds()})
            case "memory":
                self._answer({"memory": pss_by_program(os.getpid())})
            case "reload":
                self._reload()
            case "master":
                self._answer({"master": self._ours().master_memory()})
            case "stop":
                return False
        return True

    def _start(self, order: dict[str, Any]) -> bool:
        self._meter = make_meter(use_groups=order["use_groups"])
        place = Place(Path(order["folder"]), Store(Path(order["store"])), tuple(order["owner"]), Shape(*order["shape"]))
        try:
            self._running = contender(order["contender"]).start(place)
        except CannotStart as why:
            self._answer({"error": str(why)})
            return False
        checks, tls = self._running.checks, self._running.tls
        is_ours = isinstance(self._running, PopularChain)
        endpoints = self._ours().endpoints if is_ours else [self._running.endpoint]
        self._answer({"endpoints": [astuple(endpoint) for endpoint in endpoints],
                      "tls": astuple(tls) if tls else None,
                      "checks": astuple(checks) if checks else None,
                      "start": self._ours().start_seconds if is_ours else None,
                      "how": self._meter.how, "blind": self._meter.blind()})
        return True

    def _reload(self) -> None:
        try:
            self._answer({"reload": self._ours().reload()})
        except Refused as why:
            self._answer({"refused": str(why)})

    def _ours(self) -> PopularChain:
        """Return the contender, which is POPular from end to end."""
        assert isinstance(self._running, PopularChain)
        return self._running

    def close(self) -> None:
        """End the contender, first politely, then everything that is still there."""
        if self._running is not None:
            with suppress(AssertionError, OSError):
                self._running.close()
        end_all_below(os.getpid())
        if self._meter is not None:
            self._meter.close()


def end_all_below(top: int) -> None:
    """End every process below `top`, and what those start meanwhile."""
    def is_empty() -> bool:
        reap()
        return not [pid for pid in descendants_of(top) if is_alive(pid)]

    for pid in descendants_of(top):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    with suppress(AssertionError):
        wait_for(is_empty, _POLITE_SECONDS, "the end of all processes")
    while not is_empty():
        for pid in descendants_of(top):
            with suppress(AssertionError):
                end_process(pid)


def serve(source: int, warden: Warden) -> None:
    """Obey the orders that come through `source` until it ends."""
    text = b""
    while True:
        if not select.select([source], [], [], _REAP_SECONDS)[0]:
            reap()
            continue
        data = os.read(source, 65536)
        if not data:
            return
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            if not warden.obey(json.loads(line)):
                return


def main() -> int:
    """Serve one contender."""
    adopt_orphans()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"bench-warden", 0, 0, 0)
    channel = os.dup(1)
    os.dup2(2, 1)      # what a contender prints is no answer of ours

    def answer(words: dict[str, Any]) -> None:
        os.write(channel, json.dumps(words).encode() + b"\n")

    warden = Warden(answer)
    try:
        serve(0, warden)
    except Exception:    # the benchmark must learn it, or it would wait for ever
        answer({"error": traceback.format_exc()})
        return 1
    finally:
        warden.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
