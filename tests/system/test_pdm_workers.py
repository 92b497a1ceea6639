"""PDM workers: who asks the modules that may wait, how many there are, and what happens when a question goes wrong."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import control, tell
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import StartProxy, store
from tests.harness.pstatus import status
from tests.harness.system import descendants_of, descriptors_of, end_process, is_alive, title_of, wait_for

PASSWORD = "open sesame"

MODULE = """
import os, signal, time
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule

class Module(PdmModule):
    API = (1, 1)
    blocking = True

    def open(self):
        with open(self.args[0], "a") as file:
            print("open", os.getpid(), *self.args[1:], file=file)

    def close(self):
        with open(self.args[0], "a") as file:
            print("close", os.getpid(), file=file)

    def check(self, request):
        if request.user == "slow":
            time.sleep(0.5)
        elif request.user == "hangs":
            time.sleep(600)
        elif request.user == "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            time.sleep(600)
        elif request.user == "dies":
            os._exit(3)
        elif request.user == "broken":
            raise RuntimeError(request.password)
        elif request.user == "prints":
            print("I print", request.password.decode())
        elif request.user == "unknown":
            return UNKNOWN
        if request.password != b"%s":
            return Answer(Outcome.DENIED, Found("store", "xpop", "x"), f"asked by {os.getpid()}")
        return Answer(Outcome.OK, Found("store", "xpop", "x"))

    def auth(self, request, found):
        return Answer(Outcome.OK) if request.password == b"master of " + found.mailbox.encode() else UNKNOWN

    def find(self, user, namespace):
        return None if user == "unknown" else Found("store", "pop3", user=user, password=b"secret")
""" % PASSWORD

HOSTILE = """
import os, socket
from popular.pdm.api import UNKNOWN, PdmModule

class Module(PdmModule):
    def check(self, request):
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                sock = socket.socket(fileno=os.dup(fd))
            except OSError:
                continue
            if sock.type == socket.SOCK_SEQPACKET:
                sock.shutdown(socket.SHUT_WR)
        return UNKNOWN
"""

StartWorkers = Callable[..., Daemon]


@pytest.fixture
def workers(start: Callable[..., Daemon], tmp_path: Path) -> StartWorkers:
    def make(args: str = "", **variables: object) -> Daemon:
        os.chmod(tmp_path, 0o755)
        module = tmp_path / "pdm_remote.py"
        module.write_text(MODULE)
        module.chmod(0o644)
        return start("pproxy", {
            "pproxy": {"pdmdir": tmp_path, "pdmtimeout": "1s", "authdelay": 0, "sidprefix": "px", "pdmworkers": 2,
                       **variables},
            "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": store(Endpoint("127.0.0.1", 1)),
            "pdm": {"far": {"module": "remote", "args": f"{tmp_path / 'story'} {args}"}},
        })
    return make


def those(proxy: Daemon) -> list[int]:
    """Return the pids of the workers."""
    return [pid for pid in descendants_of(proxy.pid) if title_of(pid).endswith("pdm worker")]


def ready(proxy: Daemon, count: int = 2) -> list[int]:
    """Wait until there are so many workers, and return their pids."""
    return wait_for(lambda: pids if len(pids := those(proxy)) == count else [], 10.0, f"{count} workers")


def login(proxy: Daemon, user: str, password: str = PASSWORD) -> bytes:
    with PopClient(proxy.endpoint()) as client:
        return client.login(user, password)


def greet(client: PopClient, user: str = "joe") -> None:
    client.greeting()
    client.ok(f"USER {user}")


def test_modules_that_wait_are_asked_by_workers_only(workers: StartWorkers, tmp_path: Path) -> None:
    proxy = workers()
    pids = ready(proxy)

    def opened() -> set[int]:
        return {int(line.split()[1]) for line in (tmp_path / "story").read_text().splitlines()}

    wait_for(lambda: set(pids) <= opened(), 10.0, "workers that have opened the module before the first question")
    assert [login(proxy, "joe")[:3], login(proxy, "joe", "master of x")[:3]] == [b"+OK", b"+OK"]
    assert login(proxy, "joe", "wrong").startswith(b"-ERR [AUTH] ")
    assert login(proxy, "unknown").startswith(b"-ERR [AUTH] ")
    [line] = proxy.log_lines("login_refused user='joe'")
    assert int(line.split("asked by ")[1].split("'")[0]) in pids
    sessions = {int(line.split()[4]) for line in proxy.log_lines("session_start")}
    assert not opened() & sessions, "no child opens the module"
    found = status(proxy)
    assert found["workers"] == {"now": 2, "busy": 0}
    asked = found["modules"]["far"]
    assert (asked["questions"], asked["failed"]) == (6, 0) and 0 < asked["seconds"] < 60
    assert login(proxy, "prints").startswith(b"+OK")
    [line] = proxy.wait_log("pdm_output")
    assert "I print ***" in line and PASSWORD not in "".join(proxy.log_lines())


@pytest.mark.parametrize(("user", "why", "deaths"), [
    pytest.param("broken", "RuntimeError at ", 0, id="raises"),
    pytest.param("hangs", "no answer within 1 s", 0, id="hangs"),
    pytest.param("dies", "the PDM worker has died", 1, id="dies"),
    pytest.param("deaf", "no answer within 1 s", 1, id="hangs and listens to no signal"),
])
def test_a_question_that_goes_wrong_harms_nobody_else(workers: StartWorkers, user: str, why: str, deaths: int) -> None:
    proxy = workers(pdmworkers=1)
    [pid] = ready(proxy, 1)
    assert login(proxy, user).startswith(b"-ERR [SYS/TEMP] ")
    [line] = proxy.wait_log("login_failed")
    assert why in line and f"user='{user}'" in line and PASSWORD not in "".join(proxy.log_lines())
    if deaths:
        wait_for(lambda: not is_alive(pid), 10.0, "the end of the worker")
    [after] = ready(proxy, 1)
    assert (after == pid) is (deaths == 0)
    assert login(proxy, "joe").startswith(b"+OK")
    assert status(proxy)["totals"]["workers_died"] == deaths
    assert len(proxy.log_lines("pdm_worker_overdue")) == (user == "deaf")


def test_questions_queue_within_their_time(workers: StartWorkers) -> None:
    proxy = workers(pdmworkers=1, minspare=8, maxspare=8)
    ready(proxy, 1)
    clients = [PopClient(proxy.endpoint()) for _ in range(6)]
    for client in clients:
        greet(client, "slow")
        client.send(f"PASS {PASSWORD}\r\n".encode())
    answers = [client.line() for client in clients]
    for client in clients:
        client.close()
    granted = sum(answer.startswith(b"+OK") for answer in answers)
    assert 1 <= granted <= 2 and granted + sum(answer.startswith(b"-ERR [SYS/TEMP] ") for answer in answers) == 6
    assert login(proxy, "joe").startswith(b"+OK"), "what nobody waits for is not asked"


def test_workers_follow_the_configuration(workers: StartWorkers, tmp_path: Path) -> None:
    proxy = workers()
    before = ready(proxy)
    assert login(proxy, "joe").startswith(b"+OK")
    tell(proxy, "set debug on")
    assert login(proxy, "joe").startswith(b"+OK")
    assert those(proxy) == before, "nothing that they need has changed"
    tell(proxy, "set pdmworkers 1")
    [left] = ready(proxy, 1)
    assert left in before
    tell(proxy, f"pdm add near remote {tmp_path / 'story'} changed")
    wait_for(lambda: len(pids := those(proxy)) == 1 and left not in pids, 10.0, "a new worker")
    assert login(proxy, "joe").startswith(b"+OK")
    before = ready(proxy, 1)
    proxy.signal(signal.SIGHUP)
    wait_for(lambda: len(pids := those(proxy)) == 1 and pids != before, 10.0, "a worker with the new log file")
    [found] = tell(proxy, "user find joe")
    assert any("far" in line for line in found.lines) and "secret" not in repr(found)
    tell(proxy, "pdm remove far", "pdm remove near")
    wait_for(lambda: not those(proxy), 10.0, "the end of the workers")


@pytest.mark.parametrize("command", ["shutdown all", "shutdown delayed"])
def test_workers_end_with_the_daemon(workers: StartWorkers, command: str, tmp_path: Path) -> None:
    proxy = workers()
    pids = ready(proxy)
    with PopClient(proxy.endpoint()) as client:
        greet(client)
        with control(proxy) as console:
            console.ask(command)
        if command == "shutdown delayed":
            assert set(those(proxy)) == set(pids)
            assert client.command(f"PASS {PASSWORD}").startswith(b"+OK")
            wait_for(lambda: not those(proxy), 10.0, "the end of the workers, as everybody has logged in")
            client.ok("QUIT")
            story = (tmp_path / "story").read_text().split()
            assert story.count("open") == story.count("close"), "connections are closed in order"
    assert proxy.wait() == 0
    assert not any(map(is_alive, pids))


def test_sessions_go_on_without_the_master(workers: StartWorkers) -> None:
    proxy = workers()
    pids = ready(proxy)
    with PopClient(proxy.endpoint()) as client:
        greet(client)
        family = descendants_of(proxy.pid)
        proxy.kill()
        assert client.command(f"PASS {PASSWORD}").startswith(b"+OK")
        assert any(map(is_alive, pids))
        client.ok("QUIT")
    wait_for(lambda: not any(map(is_alive, pids)), 10.0, "the end of the workers: nobody can ask any more")
    for pid in family:
        if is_alive(pid):
            end_process(pid)


def test_an_upgrade_has_workers_of_its_own(workers: StartWorkers) -> None:
    proxy = workers()
    before = ready(proxy)
    with PopClient(proxy.endpoint()) as client:
        greet(client)
        with control(proxy) as console:
            assert console.ask("upgrade").ok
        assert login(proxy, "joe").startswith(b"+OK")
        assert set(before) <= set(those(proxy)), "a client of the old master has not logged in"
        assert client.command(f"PASS {PASSWORD}").startswith(b"+OK")
        wait_for(lambda: not any(map(is_alive, before)), 15.0, "the end of the old workers")
        client.ok("QUIT")


def test_children_cannot_report_as_workers(workers: StartWorkers) -> None:
    proxy = workers()
    pids = ready(proxy)
    assert login(proxy, "joe").startswith(b"+OK"), "so the next child is younger than the workers"
    children = wait_for(lambda: [pid for pid in descendants_of(proxy.pid) if title_of(pid).endswith("idle")])
    ends = [{target for target in descriptors_of(pid).values() if target.startswith("pipe:")}
            for pid in (*pids, *children)]
    assert len(ends[0] & ends[1]) == 2, "the pipe that shows the master's death, and the workers' doorbell"
    assert {len(ends[0] & each) for each in ends[2:]} == {1}, "not the doorbell"
    assert [pid for pid in (*pids, *children) if "popular-questions" in "".join(descriptors_of(pid).values())] == pids


def test_a_child_cannot_cut_off_the_workers_for_good(workers: StartWorkers, tmp_path: Path) -> None:
    proxy = workers()
    before = ready(proxy)
    module = tmp_path / "pdm_hostile.py"
    module.write_text(HOSTILE)
    module.chmod(0o644)
    tell(proxy, "pdm add hostile hostile", "sync")
    assert login(proxy, "unknown").startswith(b"-ERR [AUTH] ")
    proxy.wait_log("pdm_channel_broken")
    wait_for(lambda: login(proxy, "joe").startswith(b"+OK"), 10.0, "a child with the new sockets")
    assert not set(before) & set(ready(proxy))
    assert len(proxy.log_lines("pdm_channel_broken")) == 1 and status(proxy)["totals"]["workers_died"] == 0


@pytest.mark.usefixtures("by_exec")
def test_a_proxy_without_such_modules_does_not_pay_for_workers(proxy: StartProxy) -> None:
    daemon = proxy(store(Endpoint("127.0.0.1", 1)))
    assert "_blake2" not in Path(f"/proc/{daemon.pid}/maps").read_text()
