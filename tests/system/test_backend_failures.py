"""Backends that fail in every way there is: what the metrics count, and which alerts Prometheus gives for it."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from popular.statefile.layout import FAILURES
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import Close, FakeBackend, Hold, ReadLines, Say, Step
from tests.harness.metrics import Metrics, promtool, scrape, where
from tests.harness.popclient import PopClient
from tests.harness.pstatus import pstatus, state_file
from tests.harness.system import wait_for

RULES = ROOT / "etc/prometheus/popular.rules.yml"
ROUNDS = 9    # of one login at each backend; a minute apart for Prometheus, so more than the alert's five minutes
SCRIPTS: Mapping[str, tuple[dict[str, object], list[Step]]] = {
    "closed": ({}, [ReadLines(3), Close()]),
    "tls": ({"tls": "implicit", "verify": "off"}, [Say(b"+OK hello\r\n"), Close()]),
    "protocol": ({}, [ReadLines(3), Say(b"220 ready\r\n"), Close()]),
    "silence": ({"logintimeout": "200ms"}, [ReadLines(3), Hold(), Close()]),
    "drained": ({"drain": "on"}, []),
    "busy": ({"backendsessions": 1}, [ReadLines(3), Say(b"+OK hello\r\n"), Hold(), Close()]),
    "local": ({"source": "192.0.2.1"}, []),    # not an address of this host
}

Pop = Callable[..., PopClient]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What ends with the test."""
    with ExitStack() as stack:
        yield stack


def refusing(stack: ExitStack) -> object:
    """Return an address that refuses connections."""
    reserved = stack.enter_context(socket.socket())
    reserved.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{reserved.getsockname()[1]}"


def deaf(stack: ExitStack) -> object:
    """Return an address where connections wait for ever: the backlog is full."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(listener.getsockname())
    return f"127.0.0.1:{listener.getsockname()[1]}"


def failing(stack: ExitStack) -> tuple[dict[str, dict[str, object]], dict[str, FakeBackend]]:
    """Return backends, each named after the way in which it fails, and those of them that are fakes."""
    backends: dict[str, dict[str, object]] = {
        "refused": {"protocol": "xpop", "address": refusing(stack)},
        "timeout": {"protocol": "xpop", "address": deaf(stack), "connecttimeout": "200ms"}}
    fakes = {}
    for kind, (settings, script) in SCRIPTS.items():
        fakes[kind] = stack.enter_context(FakeBackend(script))
        backends[kind] = {"protocol": "xpop", "address": fakes[kind].endpoint, **settings}
    return backends, fakes


def series(looks: list[Metrics]) -> str:
    """Return what was scraped as promtool takes it: each sample a minute after the one before."""
    lines = ""
    for (name, labels), _ in looks[-1].values.items():
        shown = ", ".join(f'{label}="{value}"' for label, value in sorted(labels))
        values = " ".join(f"{look.values.get((name, labels), 0):g}" for look in looks)
        lines += f"      - {{series: '{name}{{{shown}, instance=\"p:9110\"}}', values: '{values}'}}\n"
    return lines


def visit(daemon: Daemon, pop: Pop, user: str, softfail: str) -> None:
    """Log in once at a backend that fails."""
    client = pop(daemon.endpoint("main"))
    assert client.login(user, "pw").startswith(b"+OK 0 " if softfail == "on" else b"-ERR [SYS/TEMP] ")
    client.ok("QUIT")
    client.sock.close()


@pytest.mark.limit(120)
@pytest.mark.parametrize("softfail", ["on", "off"])
def test_each_kind_is_counted_and_each_but_a_drain_gives_an_alert(
        start: Callable[..., Daemon], pop: Pop, stack: ExitStack, rundir: Path, tmp_path: Path, softfail: str) -> None:
    backends, fakes = failing(stack)
    assert set(backends) == set(FAILURES) - {"down"}, "which only others come before; see test_limping_backends.py"
    users = rundir / "users"
    users.write_text("".join(f"{kind}:{{PLAIN}}pw:{kind}::box\n" for kind in sorted(backends)))
    daemon = start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": softfail, "metrics": "127.0.0.1:0", "downtries": 0},
        "vserv": {"main": {"address": "127.0.0.1:0"}}, "backend": backends,
        "pdm": {"users": {"module": "passwd", "args": users}}})
    assert pop(daemon.endpoint("main")).login("busy", "pw") == b"+OK hello"    # the one session that there may be
    looks = [scrape(where(daemon))]
    for number in range(ROUNDS):
        for kind in backends:
            visit(daemon, pop, kind, softfail)
        fakes["silence"].release(number)
        wanted = {(kind, kind): number + 1 for kind in backends}
        wait_for(lambda: counted(scrape(where(daemon))) == wanted, 10.0, "what the master counts")
        looks.append(scrape(where(daemon)))
    assert looks[0].by("backend_failures_total", "backend").keys() == {*backends, ""}, "each is there from the start"
    outcomes = looks[-1].by("sessions_ended_total", "outcome")
    fakes["busy"].release()
    assert outcomes["soft_failure"] == (ROUNDS * len(backends) if softfail == "on" else 0)
    assert f"silence {ROUNDS} silence" in " ".join(pstatus("-f", state_file(daemon)).stdout.split())
    want_alerts(tmp_path, looks, [kind for kind in backends if kind != "drained"])


def counted(found: Metrics) -> dict[tuple[str, str], float]:
    """Return failures by backend and kind, those that there are."""
    return {(dict(labels)["backend"], dict(labels)["kind"]): value for (name, labels), value in found.values.items()
            if name == "popular_backend_failures_total" and value}


def want_alerts(folder: Path, looks: list[Metrics], kinds: Iterable[str]) -> None:
    """Have promtool say that the shipped rules give one alert for each of these, and no other, for what was scraped."""
    test = folder / "alerts.yml"
    wanted = "".join(f"          - {{labels: '{{alertname=\"PopularBackendOutOfReach\", backend=\"{kind}\", "
                     f"kind=\"{kind}\"}}', value: 1}}\n" for kind in kinds)
    test.write_text(
        f"rule_files: [{RULES}]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{series(looks)}"
        "    promql_expr_test:\n      - expr: count by (alertname, backend, kind) (ALERTS{alertstate=\"firing\"})\n"
        f"        eval_time: {ROUNDS}m\n        exp_samples:\n{wanted}")
    done = promtool("test", "rules", str(test))
    assert done.returncode == 0, done.stdout + done.stderr
