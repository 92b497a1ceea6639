"""The load generator against a small server: it counts what was right and tells what was wrong."""

import socket
import threading

import pytest

from popular.addresses import Endpoint
from tests.bench.load import LoadResult, Plan, run_load
from tests.bench.scripts import Step
from tests.bench.workloads import rate_of

SCRIPT = (Step(b"", b"+OK"), Step(b"STAT\r\n", b"+OK 1 "), Step(b"RETR 1\r\n", b"+OK", True, 20),
          Step(b"QUIT\r\n", b"+OK"))
GOOD = {b"STAT": [b"+OK 1 17\r\n"], b"RETR": [b"+OK\r\nfirst line\r\n..\r\n.", b"\r\n"], b"QUIT": [b"+OK\r\n"]}


class Server:
    """Serves one connection after the other; an answer goes out in the parts that are given."""

    def __init__(self, answers):
        self._answers = answers
        self.served = 0
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()

    def _run(self):
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            self.served += 1
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(client)

    def _serve(self, client):
        try:
            client.sendall(b"+OK ready\r\n")
            while command := client.recv(512):
                for part in self._answers[command.split()[0]]:
                    if not part:
                        return
                    client.sendall(part)
        except OSError:
            return


def play(answers, seconds=0.1, **more):
    """Play sessions for a moment; returns what was seen."""
    with Server(answers) as server:
        return run_load(Plan([server.endpoint], [SCRIPT], 2, seconds, **more))


def test_good_sessions_are_counted():
    result = play(GOOD, seconds=1.0)    # time for a session on a busy machine, too
    assert result.failed == {}
    assert result.sessions == result.times.total() >= result.in_time > 0
    octets = len(b"+OK ready\r\n") + sum(len(part) for parts in GOOD.values() for part in parts)
    assert result.octets == octets * result.sessions
    assert len(result.cpu) == 2 and result.seconds >= 1.0


def test_as_many_sessions_as_there_are_at_once_begin_however_late_it_is():
    result = play(GOOD, seconds=0.0)
    assert (result.sessions, result.in_time, result.failed) == (2, 0, {})


def test_sessions_go_to_all_addresses_in_turn():
    with Server(GOOD) as first, Server(GOOD) as second:
        result = run_load(Plan([first.endpoint, second.endpoint], [SCRIPT], 3, 0.1, processes=3))
    assert result.failed == {}
    assert first.served + second.served == result.sessions
    assert abs(first.served - second.served) <= 3


@pytest.mark.parametrize("command, parts, why", [
    (b"STAT", [b"+OK 0 0\r\n"], "STAT was answered b'+OK 0 0\\r\\n' (STAT)"),
    (b"STAT", [b"-ERR no\r\n"], "STAT was answered b'-ERR no\\r\\n' (STAT)"),
    (b"STAT", [b""], "closed by the server (STAT)"),
    (b"RETR", [b"+OK\r\n.\r\n"], "RETR brought 8 octets, wanted 20 (RETR)"),
])
def test_wrong_sessions_are_failures(command, parts, why):
    result = play({**GOOD, command: parts}, processes=1)
    assert result.sessions == 0
    assert why in result.failed


def test_a_server_that_is_not_there_is_a_failure():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        endpoint = Endpoint("127.0.0.1", sock.getsockname()[1])
    result = run_load(Plan([endpoint], [SCRIPT], 1, 0.1))
    assert result.sessions == 0 and result.failed.total() > 0


@pytest.mark.parametrize("micros, wanted", [(1_000, 40.0), (900_000, 25.0)], ids=["short", "long"])
def test_rate_of_sessions_as_long_as_the_window(micros, wanted):
    result = LoadResult(sessions=50, in_time=40, seconds=2.0, window=1.0)
    result.times.add(micros)
    assert rate_of(result) == wanted
