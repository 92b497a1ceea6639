"""Control commands on real daemons: what they do, when it is seen, and what they never disturb."""

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import control, greeting, listening, refused, tell, variable
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import FakeBackend
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, PASSWORD, XENIA, script_for, start_proxy, store
from tests.harness.pstatus import pstatus, state_file
from tests.harness.system import title_of, wait_for
from tests.harness.toyclient import is_refused

NOWHERE = Endpoint("127.0.0.1", 1)

Pop = Callable[..., PopClient]
Start = Callable[..., Daemon]


@pytest.fixture
def proxy(start: Start, rundir: Path) -> Daemon:
    """A proxy whose backend is out of reach."""
    return start_proxy(start, rundir, store(NOWHERE))


def login(endpoint: Endpoint) -> bytes:
    """Log a new client in; returns the answer to PASS."""
    with PopClient(endpoint) as client:
        return client.login(XENIA, PASSWORD)


def test_what_is_set_is_seen_by_the_next_connection(proxy: Daemon) -> None:
    for number in range(5):
        tell(proxy, f"vserv set main banner={number}")
        assert greeting(proxy.endpoint()) == b"%d" % number


def test_without_sync_children_follow_soon(proxy: Daemon) -> None:
    with control(proxy) as client:
        assert client.ask("vserv set main banner=soon").ok
        wait_for(lambda: greeting(proxy.endpoint()) == b"soon", 5.0, "the new banner")


def test_a_running_session_keeps_what_it_began_with(proxy: Daemon, pop: Pop) -> None:
    client = pop(proxy.endpoint())
    client.greeting()
    tell(proxy, "backend set store softfail=off")
    client.ok(f"USER {XENIA}")
    client.ok(f"PASS {PASSWORD}")
    assert login(proxy.endpoint()).startswith(b"-ERR [SYS/TEMP]")


def test_idle_children_are_replaced_once_for_many_commands(proxy: Daemon) -> None:
    before = forks(proxy)
    with control(proxy) as client:
        client._sock.sendall(b"".join(b"vserv set main banner=%d\n" % number for number in range(200)))
        assert all(client.receive().ok for _ in range(200))
        assert client.ask("sync").ok
    assert greeting(proxy.endpoint()) == b"199"
    assert forks(proxy) - before <= 3 * 8


def forks(daemon: Daemon) -> int:
    """Return how many children there have been, as pstatus tells."""
    told = pstatus("--json", "-f", state_file(daemon)).stdout
    found = re.search(r'"forks": ?([0-9]+)', told)
    assert found
    return int(found[1])


def test_a_virtual_server_comes_and_goes(proxy: Daemon, pop: Pop) -> None:
    tell(proxy, "vserv add two 127.0.0.1:0 [::1]:0 banner=two")
    first, second = listening(proxy, "two")
    assert greeting(first) == greeting(second) == b"two"
    running = pop(first)
    running.greeting()
    with control(proxy) as client:
        assert client.ask("vserv remove two").ok
        assert is_refused(first) and is_refused(second)    # at once, though a session holds the port
    with socket.create_server((first.host, first.port)):
        pass
    running.ok("NOOP")
    running.ok("QUIT")
    assert greeting(proxy.endpoint()) == b"POPular ready"


def test_a_port_goes_over_to_another_virtual_server(proxy: Daemon) -> None:
    tell(proxy, "vserv add two 127.0.0.1:0 banner=two")
    [port] = listening(proxy, "two")
    tell(proxy, f"vserv set two address={port}")
    tell(proxy, "vserv remove two", f"vserv add three {port} banner=three")
    assert greeting(port) == b"three"
    assert "another program listens there" in refused(proxy, f"vserv add four {port}").text


def test_an_address_that_grows_keeps_its_port(proxy: Daemon) -> None:
    tell(proxy, "vserv add two 127.0.0.1:0 banner=two")
    port = listening(proxy, "two")[0].port
    tell(proxy, f"vserv set two address=0.0.0.0:{port}")
    assert greeting(Endpoint("127.0.0.2", port)) == b"two"
    tell(proxy, f"vserv set two address=127.0.0.3:{port}")
    assert greeting(Endpoint("127.0.0.3", port)) == b"two"
    assert is_refused(Endpoint("127.0.0.2", port))


@pytest.mark.parametrize("line", [
    pytest.param("vserv add two 127.0.0.1:0 {port}", id="port in use"),
    pytest.param("vserv add two 127.0.0.1:0 capa=none", id="no such list"),
    pytest.param("vserv set main address=store1:110", id="a name to listen on"),
    pytest.param("pdm add two any nowhere", id="module's arguments"),
    pytest.param("pdm add two no_such_module", id="no such module"),
    pytest.param("set maxspare 1", id="against another variable"),
    pytest.param("backend add two xpop 127.0.0.1:1 source=here", id="source"),
    pytest.param("capa load none", id="no such file"),
])
def test_a_command_that_fails_changes_nothing(proxy: Daemon, line: str, rundir: Path) -> None:
    before = tell(proxy, "show config", "vserv list", "pdm list")
    descriptors = len(os.listdir(f"/proc/{proxy.pid}/fd"))
    with control(proxy) as client:    # one descriptor more for a moment
        with socket.create_server(("127.0.0.1", 0)) as other:
            reply = client.ask(line.format(port=f"127.0.0.1:{other.getsockname()[1]}"))
    assert not reply.ok and reply.text
    assert tell(proxy, "show config", "vserv list", "pdm list") == before
    # Fewer, if the connection that asked first was not yet closed when they were counted.
    wait_for(lambda: len(os.listdir(f"/proc/{proxy.pid}/fd")) <= descriptors, 5.0, "the descriptors there were")
    assert greeting(proxy.endpoint()) == b"POPular ready"
    assert proxy.wait_log("command_refused")


def test_a_disabled_virtual_server_plays_empty_mailboxes(proxy: Daemon) -> None:
    tell(proxy, "backend set store softfail=off", "vserv disable main")
    assert login(proxy.endpoint()).startswith(b"+OK 0 messages")
    tell(proxy, "vserv enable main")
    assert login(proxy.endpoint()).startswith(b"-ERR [SYS/TEMP]")


def test_a_disabled_backend_plays_empty_mailboxes(proxy: Daemon) -> None:
    tell(proxy, "backend set store softfail=off", "backend disable store")
    assert login(proxy.endpoint()).startswith(b"+OK 0 messages")
    tell(proxy, "backend enable store")
    assert login(proxy.endpoint()).startswith(b"-ERR [SYS/TEMP]")


@pytest.mark.parametrize(("softfail", "answer"), [("on", b"+OK 0 messages"), ("off", b"-ERR [SYS/TEMP]")])
def test_a_drained_backend_finishes_and_gets_no_new_sessions(start: Start, rundir: Path, pop: Pop, softfail: str,
                                                             answer: bytes) -> None:
    with FakeBackend(script_for(XENIA)) as backend:
        proxy = start_proxy(start, rundir, store(backend, softfail=softfail))
        running = pop(proxy.endpoint())
        assert running.login(XENIA, PASSWORD).startswith(b"+OK 1 message")
        tell(proxy, "backend drain store")
        assert login(proxy.endpoint()).startswith(answer)
        running.ok("STAT")
        running.ok("QUIT")
    assert proxy.wait_log("it is drained")


def test_modules_are_taken_out_put_in_and_asked_anew(proxy: Daemon, rundir: Path) -> None:
    [listed] = tell(proxy, "pdm list")
    tell(proxy, "pdm unload users")
    assert login(proxy.endpoint()).startswith(b"-ERR [AUTH]")
    tell(proxy, f"pdm load {listed.lines[0]}")
    assert login(proxy.endpoint()).startswith(b"+OK")
    assert tell(proxy, "pdm reload", "pdm reload users")[0].text == "reloaded"
    assert login(proxy.endpoint()).startswith(b"+OK")


def test_the_log_tells_who_gave_which_command(proxy: Daemon) -> None:
    tell(proxy, "set maxauthtries 5", "prng add x")
    refused(proxy, "pdm ad users sql secret")
    [line] = proxy.wait_log("words='set maxauthtries 5'")
    assert f"source='uid {os.geteuid()}'" in line
    [line] = proxy.wait_log("command_refused")
    assert "words='pdm ***'" in line
    assert not proxy.log_lines("secret")


def test_debug_is_switched_for_all_or_for_sessions(proxy: Daemon) -> None:
    def has_debug(endpoint: Endpoint) -> bool:
        count = len(proxy.log_lines(" DBG "))
        with PopClient(endpoint) as client:
            client.greeting()
            client.ok("NOOP")
            client.ok("QUIT")
            client.rest()
        return len(proxy.log_lines(" DBG ")) > count

    assert not has_debug(proxy.endpoint())
    for line in ("debug", "debug session"):
        tell(proxy, f"{line} on")
        assert has_debug(proxy.endpoint())
        tell(proxy, f"{line} off")
        assert not has_debug(proxy.endpoint())


def test_reopen_opens_the_log_anew(proxy: Daemon) -> None:
    proxy.logfile.rename(proxy.logfile.with_suffix(".old"))
    tell(proxy, "reopen")
    assert proxy.wait_log("log_reopened")


def test_sessions_are_listed_and_ended(proxy: Daemon, pop: Pop) -> None:
    client = pop(proxy.endpoint())
    client.greeting()
    client.ok("NOOP")
    [reply] = tell(proxy, "session list")
    [line] = reply.lines
    sid = line.split()[0]
    assert sid.startswith("px-") and "state='auth'" in line and "vserv='main'" in line
    tell(proxy, f"session kill {sid}")
    assert client.rest() == b""
    wait_for(lambda: not tell(proxy, "session list")[0].lines, 5.0, "the master to collect the child")
    assert "no such session" in refused(proxy, f"session kill {sid}").text
    assert tell(proxy, "session list")[0].lines == ()


def test_sessions_of_a_user_are_listed_and_ended(proxy: Daemon, pop: Pop) -> None:
    clients = [pop(proxy.endpoint()) for _ in range(3)]
    for client, user in zip(clients, (XENIA, XENIA, CASPER)):
        assert client.login(user, PASSWORD).startswith(b"+OK")

    def users(words: str) -> list[str]:
        return sorted(line.partition("user='")[2].partition("'")[0] for line in tell(proxy, words)[0].lines)

    assert users(f"session list user={XENIA}") == [XENIA, XENIA]
    assert users("session list client=127.0.0.1 vserv=main") == [CASPER, XENIA, XENIA]
    assert users(f"session list user={XENIA} vserv=other") == []
    assert tell(proxy, f"session kill user={XENIA}")[0].text == "2 sessions killed"
    assert [client.rest() for client in clients[:2]] == [b"", b""]
    clients[2].ok("NOOP")
    wait_for(lambda: not users(f"session list user={XENIA}"), 5.0, "the master to collect the children")
    assert "no such session" in refused(proxy, f"session kill user={XENIA}").text
    assert "there are pid, state, client, vserv, user, backend" in refused(proxy, "session list owner=main").text


def test_a_user_is_found_without_a_password(proxy: Daemon, rundir: Path) -> None:
    """Why can't joe log in: who knows him, and what is in the way."""
    [reply] = tell(proxy, f"user find {XENIA}")
    assert reply.lines == (
        "default users found module='passwd' backend='store' protocol='xpop' mailbox='x/xenia' user=''",
        f"default users route backend='store' protocol='xpop' address='{NOWHERE}'")
    tell(proxy, "backend drain store", "vserv disable main")
    lines = tell(proxy, f"user find {XENIA} default")[0].lines
    assert "backend-drained" in lines[2] and "vserv-disabled vserv='main'" in lines[3]
    tell(proxy, "backend add spare xpop 127.0.0.1:1", "backend set store replica=spare")
    assert "they are served by its replica spare" in tell(proxy, f"user find {XENIA} default")[0].lines[2]
    assert "no backend 'spare' is configured" in refused(proxy, "backend remove spare").text
    assert "no backend" in tell(proxy, "user find lost")[0].lines[1]
    reply = refused(proxy, "user find nobody")
    assert (reply.text, reply.lines) == ("no database module knows them", ("default users unknown module='passwd'",))
    assert tell(proxy, "vserv set main namespace=other", "user find casper")[1].lines[0].startswith("other users found")
    tell(proxy, "vserv set main userformat=lower")
    assert tell(proxy, "user find Casper")[0].lines[0].startswith("other users found")
    (rundir / "users").unlink()
    reply = refused(proxy, f"user find {XENIA}")
    assert "cannot-tell" in reply.lines[0] and "No such file" in reply.lines[0]
    assert reply.text == "no database module finds them, but some cannot tell"
    assert not proxy.log_lines(PASSWORD)


HANGING = """\
import time
from popular.pdm.api import PdmModule, UNKNOWN

class Module(PdmModule):
    API = (1, 1)
    def check(self, request):
        return UNKNOWN
    def find(self, user, namespace):
        {find}
"""


@pytest.mark.may_bug
@pytest.mark.parametrize(("find", "told"), [
    pytest.param("time.sleep(60)", "no answer within 0.2 s", id="hangs"),
    pytest.param("1 / 0", "ZeroDivisionError", id="fails"),
    pytest.param("return 7", "its place is int, not a Found", id="nonsense"),
    pytest.param("import os; os._exit(0)", "ended without an answer", id="dies"),
    pytest.param("raise NotImplementedError", "NotImplementedError", id="not there"),
])
def test_a_module_that_cannot_find_harms_nobody(start: Start, rundir: Path, find: str, told: str) -> None:
    modules = rundir / "modules"
    shutil.copytree(ROOT / "pdm_modules", modules)
    (modules / "pdm_bad.py").write_text(HANGING.format(find=find))
    old = HANGING.partition("    def find")[0].replace("(1, 1)", "(1, 0)")
    (modules / "pdm_old.py").write_text(old)
    proxy = start_proxy(start, rundir, store(NOWHERE), pdmdir=modules, pdmtimeout="200ms")
    tell(proxy, "pdm add old old")
    lines = tell(proxy, f"user find {XENIA}")[0].lines
    assert lines[2] == "default old cannot-tell module='old' why='it cannot look up users without a password'"
    tell(proxy, "pdm add bad bad")
    with control(proxy) as client:
        reply = client.ask(f"user find {XENIA}")
    assert told in "\n".join([*reply.lines, reply.text])
    assert login(proxy.endpoint()).startswith(b"+OK")
    wait_for(lambda: "asking" not in str([title_of(pid) for pid in proxy.children()]), 5.0, "the end of the process")


def test_pserv_is_steered_alike(start: Start, spool: Path, make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    tell(pserv, "server add two 127.0.0.1:0")
    [port] = listening(pserv, "two", "server")
    with PopClient(port) as client:
        assert client.xpop("joe").startswith(b"+OK 0 messages")
        tell(pserv, "server disable two")
        assert is_refused(port)
        client.ok("STAT")
    tell(pserv, "server enable two")
    with PopClient(listening(pserv, "two", "server")[0]) as client:
        assert client.xpop("joe").startswith(b"+OK")
    tell(pserv, "server remove main", "server remove two")
    assert variable(pserv, "id") == "pserv"


def test_spec_0_3_a_daemon_may_start_with_no_port(start: Start) -> None:
    proxy = start("pproxy", {"pproxy": {"minspare": 2, "maxspare": 2}})
    children = wait_for(lambda: found if len(found := proxy.children()) == 2 else [], 5.0, "two children")
    assert variable(proxy, "maxspare") == "2"
    assert proxy.children() == children    # and not new ones again and again
    tell(proxy, "vserv add main 127.0.0.1:0 banner=late")
    assert greeting(listening(proxy, "main")[0]) == b"late"
