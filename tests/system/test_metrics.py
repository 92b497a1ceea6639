"""Metrics served by a running daemon: by whom, until when, and that they agree with the log."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import control, refused, tell
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.metrics import Metrics, get, promtool, scrape, where
from tests.harness.popclient import PopClient
from tests.harness.ports import free_endpoint
from tests.harness.proxy import CASPER, PASSWORD, StartProxy, store
from tests.harness.site import MailSite, deliver, record
from tests.harness.system import children_of, descriptors_of, is_alive, title_of, wait_for
from tests.harness.toyclient import is_refused

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
ANY_PORT = "127.0.0.1:0"

Pop = Callable[..., PopClient]


@pytest.fixture
def daemon(proxy: StartProxy) -> Daemon:
    """A pproxy that serves metrics."""
    return proxy(store(NOWHERE), metrics=ANY_PORT, minspare=2, maxspare=2)


def servers(daemon: Daemon, master: int = 0) -> list[int]:
    """Return the processes that serve metrics for a master."""
    return [pid for pid in children_of(master or daemon.master) if title_of(pid) == f"{daemon.program}: metrics"]


def server(daemon: Daemon, *, other_than: int = 0) -> int:
    """Return the one process that serves metrics, as soon as there is one and no other."""
    def found() -> int:
        pids = servers(daemon)
        return pids[0] if len(pids) == 1 and pids[0] != other_than and is_alive(pids[0]) else 0

    return wait_for(found, 10.0, "a process that serves metrics")


def kinds(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to, without numbers, sorted."""
    return sorted(re.sub(r"\d+", "N", os.path.basename(target)) for target in descriptors_of(pid).values())


def pserv_settings(spool: Path, **more: object) -> dict[str, dict[str, object]]:
    return {"pserv": {"mailboxdir": spool, **more}, "server": {"main": {"address": ANY_PORT}}}


# Who serves

def test_pproxy_and_pserv_serve_what_promtool_likes(daemon: Daemon, start: Callable[..., Daemon], spool: Path) -> None:
    pserv = start("pserv", pserv_settings(spool, metrics=ANY_PORT, maxlocalload=10_000))
    for each in (daemon, pserv):
        found = scrape(where(each))
        assert found.by("up", "program") == {each.program: 1}
        assert found.get("start_time_seconds", program=each.program) > 1e9
        done = promtool("check", "metrics", text=found.text)
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        assert get(where(each), "/")[0] == 404
    assert found.get("system_load_limit", program="pserv") == 10_000


def test_it_is_no_child_of_the_pool(daemon: Daemon, pop: Pop) -> None:
    pid = server(daemon)
    wait_for(lambda: scrape(where(daemon)).get("children_idle", program="pproxy") == 2, 10.0, "idle children")
    assert len(daemon.children()) == 3
    assert scrape(where(daemon)).get("forks_total", program="pproxy") == 2
    tell(daemon, "shutdown children")
    wait_for(lambda: len(daemon.children()) == 3, 10.0, "new children")
    assert server(daemon) == pid
    pop(daemon.endpoint()).greeting()


def test_it_holds_its_own_listener_and_nothing_of_the_masters(daemon: Daemon) -> None:
    pid = server(daemon)
    scrape(where(daemon))
    wanted = sorted([
        "null", "null", "null", "null", "pproxy.err", "pproxy.err", "pproxy.log",
        "pproxy.state",                         # the memory of the state file
        "socket:[N]",                           # the listener
        "pipe:[N]", "pipe:[N]", "pipe:[N]"])    # death pipe, own signals
    wait_for(lambda: kinds(pid) == wanted, 10.0, f"{wanted}, not {kinds(pid)}")
    status = Path(f"/proc/{pid}/status").read_text()
    assert int(re.findall(r"SigBlk:\s*(\w+)", status)[0], 16) == 0
    listeners = {target for target in descriptors_of(pid).values() if target.startswith("socket:")}
    pool = [child for child in daemon.children() if child != pid]
    wait_for(lambda: [title_of(child) for child in pool] == ["pproxy: idle"] * 2, 10.0, "children")
    assert not any(listeners & set(descriptors_of(child).values()) for child in pool), "no child of the pool has it"


def test_without_a_state_file_there_are_metrics(proxy: StartProxy, rundir: Path) -> None:
    (rundir / "pproxy.state").mkdir()
    daemon = proxy(store(NOWHERE), metrics=ANY_PORT)
    assert scrape(where(daemon)).get("sessions_limit", program="pproxy") == 1000


@pytest.mark.may_bug
def test_one_that_dies_is_replaced_and_the_log_says_so(daemon: Daemon) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        pid = server(daemon)
        os.kill(pid, number)
        assert scrape(where(daemon)).get("child_deaths_total", program="pproxy") == 0, "connections wait"
        assert server(daemon, other_than=pid)
    [line] = daemon.log_lines("metrics_failed")
    assert "ADM 021e" in line and line.endswith("why='SIGKILL' delay=1.000"), "once a minute"


# When

def test_the_variable_is_followed(proxy: StartProxy) -> None:
    daemon = proxy(store(NOWHERE))
    assert servers(daemon) == []
    first, second = free_endpoint(), free_endpoint()
    tell(daemon, f"set metrics {first}")
    old = server(daemon)
    assert scrape(first).get("config_generation", program="pproxy") == 1
    tell(daemon, "set maxsession 77")
    assert scrape(first).get("sessions_limit", program="pproxy") == 77
    assert server(daemon) == old, "another change is none for it"
    tell(daemon, f"set metrics {second}")
    assert is_refused(first)
    assert scrape(second).get("sessions_limit", program="pproxy") == 77
    assert "in use" in refused(daemon, f"set metrics {daemon.endpoint()}").text
    assert "an address" in refused(daemon, "set metrics nonsense").text
    assert scrape(second)
    tell(daemon, "set metrics ''")
    assert is_refused(second)
    wait_for(lambda: not servers(daemon), 10.0, "its end")
    assert not daemon.log_lines("metrics_failed")


def test_reload_and_hup(daemon: Daemon) -> None:
    first, pid = where(daemon), server(daemon)
    daemon.logfile.rename(daemon.logfile.with_suffix(".old"))
    daemon.signal(signal.SIGHUP)
    daemon.wait_log("log_reopened")
    new = server(daemon, other_than=pid)
    assert str(daemon.logfile) in descriptors_of(new).values(), "it does not hold the old log"
    assert scrape(first)
    second = free_endpoint()
    daemon.config.write_text(daemon.config.read_text().replace(f"metrics = {ANY_PORT}", f"metrics = {second}"))
    tell(daemon, "reload")
    assert scrape(second)
    assert is_refused(first)


def test_a_visit_outlives_the_change(daemon: Daemon) -> None:
    pid = server(daemon)
    with socket.create_connection((where(daemon).host, where(daemon).port), 10.0) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")
        scrape(where(daemon))    # it has been accepted
        tell(daemon, "set metrics ''")
        assert is_refused(where(daemon)) and is_alive(pid)
        sock.sendall(b"\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL])
def test_it_ends_with_the_master(daemon: Daemon, number: signal.Signals) -> None:
    pid = server(daemon)
    with socket.create_connection((where(daemon).host, where(daemon).port), 10.0) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\n")
        scrape(where(daemon))    # the other visit has begun
        daemon.signal(number)
        daemon.wait()
        wait_for(lambda: is_refused(where(daemon)), 3.0, "the port")
        if number != signal.SIGKILL:
            wait_for(lambda: not is_alive(pid), 3.0, "its end, whatever it was doing")
    wait_for(lambda: not is_alive(pid), 3.0, "its end, for the visit is over")


def test_while_sessions_end_there_are_no_metrics(daemon: Daemon, pop: Pop) -> None:
    pid = server(daemon)
    client = pop(daemon.endpoint())
    client.greeting()
    daemon.signal(signal.SIGPWR)
    wait_for(lambda: not is_alive(pid), 10.0, "its end")
    assert is_refused(where(daemon))
    client.ok("QUIT")
    assert daemon.wait() == 0
    assert not daemon.log_lines("metrics_failed")


# Upgrades

def test_an_upgrade_takes_the_address_over(daemon: Daemon, pop: Pop) -> None:
    client = pop(daemon.endpoint())
    client.greeting()
    before = scrape(where(daemon))
    assert before.get("sessions_total", program="pproxy") == 1
    tell(daemon, "set maxsession 77")
    old = server(daemon)
    tell(daemon, "upgrade")
    assert daemon.master != daemon.pid
    wait_for(lambda: not is_alive(old), what="the end of the old one")
    assert is_alive(daemon.pid), "it did not wait for the end of its master"
    found = scrape(where(daemon))
    assert found.get("sessions_limit", program="pproxy") == 77
    assert found.get("sessions_total", program="pproxy") == 0, "those of the old master are its own"
    assert found.get("start_time_seconds", program="pproxy") > before.get("start_time_seconds", program="pproxy")
    client.ok("QUIT")
    tell(daemon, "set metrics ''")
    assert is_refused(where(daemon)), "the new master owns the port"
    assert not daemon.log_lines("metrics_failed")


def test_metrics_stay_those_of_the_old_master_when_the_new_one_dies(daemon: Daemon) -> None:
    started = scrape(where(daemon)).get("start_time_seconds", program="pproxy")
    old = server(daemon)
    os.kill(daemon.pid, signal.SIGUSR2)
    new = int(daemon.wait_log("upgrade_begun")[0].rpartition("process=")[2])
    wait_for(lambda: children_of(new), 10.0, "the new master's children")    # it takes charge PROOF_SECONDS later
    os.kill(new, signal.SIGKILL)
    daemon.wait_log("upgrade_failed")
    assert daemon.master == daemon.pid
    assert server(daemon) == old
    assert scrape(where(daemon)).get("start_time_seconds", program="pproxy") == started


def test_no_scrape_fails_while_masters_change(daemon: Daemon) -> None:
    def started() -> float:
        return scrape(where(daemon)).get("start_time_seconds", program="pproxy")

    first, master = started(), daemon.master
    with control(daemon) as asking:
        asking.send("upgrade")
        while True:    # until the pid file is the new one's
            found = started()
            if daemon.master != master:
                break
            assert found == first, "until it has taken over, the new one serves none"
        assert asking.receive().ok
    wait_for(lambda: started() > first, 10.0, "the new master's metrics")
    assert not daemon.log_lines("metrics_failed")


# Metrics and the log, under load

CROWDS = 3
SESSIONS = 60     # of each crowd


@pytest.fixture
def site(tmp_path: Path, rundir: Path, spool: Path) -> Iterator[MailSite]:
    """A whole system that serves metrics, for a crowd of clients."""
    deliver(spool, "f/full", b"Subject: x\n\n" + b"text\n" * 1000)
    deliver(spool, "e/empty", b"x\n")
    shutil.rmtree(spool / "e/empty/new")
    (spool / "e/empty/new").mkdir()
    records = [record("empty", "pw", "cxpop", "e/empty"), record("full", "pw", "cxpop", "f/full")]
    variables: dict[str, dict[str, object]] = {"pproxy": {"metrics": ANY_PORT, "maxuse": 3},
                                               "pserv": {"metrics": ANY_PORT}}
    with MailSite(rundir, spool, sorted(records), variables=variables) as site:
        yield site


def fields(line: str) -> dict[str, str]:
    """Return the parameters of a log line."""
    return {name: quoted or bare for name, quoted, bare in re.findall(r" (\w+)=(?:'([^']*)'|(\S*))", line)}


def at_rest(daemon: Daemon) -> Metrics:
    """Return the metrics once no session runs."""
    def look() -> Metrics | None:
        found = scrape(where(daemon))
        return found if sum(found.by("sessions_active", "state").values()) == 0 else None

    found = wait_for(look, 30.0, "the end of all sessions")
    assert found is not None
    return found


def want_no_fall(before: Metrics, after: Metrics) -> None:
    """Fail when a counter went back."""
    for (name, labels), value in before.values.items():
        assert not name.endswith("_total") or after.values[name, labels] >= value, (name, labels)


@pytest.mark.limit(120)
def test_metrics_agree_with_the_log(site: MailSite) -> None:
    proxy, pserv = site.pproxy, site.pserv
    endpoint = proxy.endpoint()
    words = [sys.executable, "-m", "tests.harness.crowd", endpoint.host, str(endpoint.port), str(SESSIONS)]
    crowds = [subprocess.Popen([*words, str(seed)], cwd=ROOT, stdout=subprocess.DEVNULL) for seed in range(CROWDS)]
    looks = [(scrape(where(proxy)), scrape(where(pserv)))]
    busiest = 0.0
    try:
        while any(crowd.poll() is None for crowd in crowds):
            told = len(proxy.log_lines(" session_end "))
            looks.append((scrape(where(proxy)), scrape(where(pserv))))
            ended = sum(looks[-1][0].by("sessions_ended_total", "outcome").values())
            assert told <= ended <= len(proxy.log_lines(" session_end ")) + 20, "what the log tells has been counted"
            busiest = max(busiest, sum(looks[-1][0].by("sessions_active", "state").values()))
    finally:
        codes = [crowd.wait(60.0) for crowd in crowds]
    assert codes == [0] * CROWDS
    looks.append((at_rest(proxy), at_rest(pserv)))
    for before, after in zip(looks, looks[1:]):
        for one, other in zip(before, after):
            want_no_fall(one, other)
    assert busiest > 0 and len(looks) > 10, "scraped under load"
    agree_with_proxy_log(looks[-1][0], proxy)
    agree_with_pserv_log(looks[-1][1], pserv)


def agree_with_proxy_log(found: Metrics, daemon: Daemon) -> None:
    """Compare the metrics of pproxy with its log."""
    who = {"program": "pproxy"}
    ends = [fields(line) for line in daemon.log_lines(" session_end ")]
    outcomes = Counter(end["outcome"].partition(":")[0].replace(" ", "_") for end in ends)
    told = found.by("sessions_ended_total", "outcome")
    assert {name: value for name, value in told.items() if value} == outcomes
    assert {"empty", "relayed"} <= set(outcomes)
    assert found.get("sessions_total", **who) == len(ends) >= CROWDS * SESSIONS * 0.8
    assert found.by("vserv_sessions_total", "vserv") == {"main": len(ends)}
    backends = Counter(end["backend"] for end in ends if end["backend"])
    assert found.by("backend_sessions_total", "backend") == {"cxpop": backends["cxpop"], "xpop": 0}
    for name, field in (("received_bytes_total", "bytes_in"), ("sent_bytes_total", "bytes_out")):
        assert found.get(name, **who) == sum(int(end[field]) for end in ends) > 0
    for (name, result), event in {("logins_total", "granted"): "login", ("logins_total", "refused"): "login_refused",
                                  ("mail_checks_total", "empty"): "mailbox_empty"}.items():
        assert found.get(name, result=result, **who) == len(daemon.log_lines(f" {event} ")) > 0
    checks = sum(found.by("mail_checks_total", "result").values())
    assert 0 < found.get("mail_check_seconds_total", **who) < checks * 5


def agree_with_pserv_log(found: Metrics, daemon: Daemon) -> None:
    """Compare the metrics of pserv with its log."""
    who = {"program": "pserv"}
    ends = [fields(line) for line in daemon.log_lines(" mailbox_closed ")]
    told = found.by("sessions_ended_total", "outcome")
    assert told["quit"] == sum(1 for end in ends if end["outcome"] == "quit") > 0
    assert told["quit"] + told["broken_off"] == len(ends)
    for name, field in (("messages_retrieved_total", "retrieved"), ("retrieved_bytes_total", "octets"),
                        ("messages_deleted_total", "deleted"), ("messages_not_deleted_total", "failed")):
        assert found.get(name, **who) == sum(int(end[field]) for end in ends)
    assert found.get("messages_retrieved_total", **who) > 0
    assert found.by("server_sessions_total", "server") == {"main": sum(told.values())}


def test_a_scrape_under_load_has_every_state(proxy: StartProxy, pop: Pop) -> None:
    with FakePcheckd(always(Reply(b"+OK 0 no mail\n"))) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), metrics=ANY_PORT)
        clients = [pop(daemon.endpoint()) for _ in range(3)]
        for client in clients:
            client.greeting()
        clients[0].ok("NOOP")
        clients[1].command(f"USER {CASPER}")
        clients[1].command(f"PASS {PASSWORD}")
        wanted = {"greeting": 1.0, "auth": 1.0, "empty": 1.0}
        wait_for(lambda: {name: value for name, value in scrape(where(daemon)).by("sessions_active", "state").items()
                          if value} == wanted, 10.0, "three sessions")
