"""The workload `check`: how many mail checks pcheckd answers, and how long they take when it has time.

First as many as it can with `concurrency` questions on their way; then paced, 10,000 a second, which is half of
what a core is to answer, or at half the rate where that is less.  One
process: it is the bottleneck for one pcheckd process more often than not, and then no rate is told; the
cost per 1,000 answers is right all the same.
"""

import os
import select
import socket
import time
from collections.abc import Iterator
from itertools import cycle

from popular.addresses import Endpoint
from tests.bench.histogram import Histogram
from tests.bench.population import Population, mailbox_of
from tests.bench.results import Turn
from tests.bench.ward import Ward

_LOST = 1.0              # seconds without an answer, then what is on its way is given up
_CALM = 10_000.0         # questions a second
_MAX_OPEN = 100          # of them on their way, or a flood would follow where this process had to stand still
_MAX_BUSY = 0.9          # of its core, then the questioner is the bottleneck


class Questioner:
    """Asks and counts the answers."""

    def __init__(self, endpoint: Endpoint, population: Population) -> None:
        """Prepare questions, four of five for empty mailboxes."""
        empty, mail = population.empty_users(), population.mail_users()
        names = [name for number, name in enumerate(empty) for name in
                 ([name, mail[number // 4 % len(mail)]] if number % 4 == 3 else [name])]
        self._questions: Iterator[bytes] = cycle([f"*M{mailbox_of(name)}".encode() for name in names])
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect((endpoint.host, endpoint.port))
        self._sock.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._sock, select.POLLIN)
        self.answers = self.wrong = self.lost = 0
        self.times = Histogram()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def ask_at_once(self, concurrency: int, seconds: float) -> None:
        """Keep `concurrency` questions on their way."""
        deadline = time.monotonic() + seconds
        open_now = 0
        while time.monotonic() < deadline:
            while open_now < concurrency:
                self._sock.send(next(self._questions))
                open_now += 1
            if not self._poll.poll(_LOST * 1000):
                self.lost += open_now
                open_now = 0
            open_now = max(0, open_now - self._take())
        while open_now > 0 and self._poll.poll(_LOST * 1000):
            open_now -= self._take()
        self.lost += max(0, open_now)

    def ask_paced(self, rate: float, seconds: float) -> None:
        """Ask one question each 1/rate seconds and time each answer; answers come in the order of the questions."""
        begun = time.monotonic_ns()
        gap = int(1e9 / rate)
        count = int(rate * seconds)
        asked: list[int] = []
        taken = 0
        while taken < count:
            now = time.monotonic_ns()
            due = begun + len(asked) * gap
            may_ask = len(asked) < min(count, taken + _MAX_OPEN)
            if may_ask and now >= due:
                asked.append(time.monotonic_ns())
                self._sock.send(next(self._questions))
                continue
            if self._poll.poll((due - now) / 1e6 if may_ask else _LOST * 1000):
                answers = self._take()
                now = time.monotonic_ns()
                for place in range(taken, taken + answers):
                    self.times.add((now - asked[place]) // 1000)
                taken += answers
            elif not may_ask:
                self.lost += count - taken
                return

    def _take(self) -> int:
        count = 0
        while True:
            try:
                answer = self._sock.recv(512)
            except BlockingIOError:
                return count
            count += 1
            self.answers += 1
            self.wrong += not answer.startswith(b"+OK ")


def measure_checks(ward: Ward, population: Population, concurrency: int, seconds: float, number: int) -> Turn:
    """Measure one turn."""
    assert ward.checks is not None
    loud = Questioner(ward.checks, population)
    try:
        loud.ask_at_once(concurrency, 0.1)
        loud.answers = loud.lost = 0
        before, begun, own = ward.settled_cpu(), time.monotonic(), time.process_time()
        loud.ask_at_once(concurrency, seconds)
        took, own = time.monotonic() - begun, time.process_time() - own
        cpu = ward.settled_cpu() - before
    finally:
        loud.close()
    rate = loud.answers / took
    is_bottleneck = own > _MAX_BUSY * took
    calm = Questioner(ward.checks, population)
    try:
        calm.ask_paced(min(max(rate / 2, 10.0), _CALM), seconds)
    finally:
        calm.close()
    failed = {"wrong answer": loud.wrong + calm.wrong, "no answer": loud.lost + calm.lost}
    return Turn("check", ward.name, concurrency, number, loud.answers, cpu=cpu,
                cost=1000 * cpu / loud.answers if loud.answers else None, rate=None if is_bottleneck else rate,
                p50=calm.times.quantile(0.5), p99=calm.times.quantile(0.99), failed=sum(failed.values()),
                failures={why: count for why, count in failed.items() if count},
                is_bottleneck=is_bottleneck, generator=own / (took * (os.cpu_count() or 1)),
                more={"answers per core": loud.answers / cpu if cpu > 0 else 0.0})
