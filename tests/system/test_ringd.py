"""ringd (spec 8.3 and 10.3): low ports for pproxy, shared and counted, whatever happens to either of them."""

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.errors import StartError
from popular.net.ring.client import RingClient
from popular.unix.rights import acting_as, find_rights
from tests.harness.daemon import ROOT, Daemon, StartFailed
from tests.harness.network import own_network
from tests.harness.popclient import PopClient
from tests.harness.proxy import start_proxy
from tests.harness.system import children_of, descriptors_of, is_alive, wait_for
from tests.harness.tools import run_tool
from tests.harness.toyclient import is_refused

NOBODY_THERE = Endpoint("127.0.0.1", 1)    # a backend that no test reaches

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has low ports and other users")


@pytest.fixture
def port() -> Iterator[Endpoint]:
    """The POP3 port of an own network; without one, a free port that whoever runs the tests may open."""
    try:
        with own_network():
            yield Endpoint("127.0.0.1", 110)
    except PermissionError:
        yield free_port()


def free_port() -> Endpoint:
    """Return a port below 1024 if there is the right to open it, else a high one."""
    for number in [*range(600, 1024), 0]:
        try:
            with socket.create_server(("127.0.0.1", number)) as sock:
                return Endpoint("127.0.0.1", sock.getsockname()[1])
        except OSError:
            continue
    raise AssertionError("no port is free")


@pytest.fixture
def start_ringd(start: Callable[..., Daemon], port: Endpoint, rundir: Path) -> Callable[..., Daemon]:
    """A function that starts ringd for the user who runs the tests, for the one port."""
    def start_one(**settings: object) -> Daemon:
        user = {} if os.geteuid() == 0 else {"user": pwd.getpwuid(os.getuid()).pw_name}
        return start("ringd", {"ringd": {"ports": port.port, **user, **settings}})

    return start_one


@pytest.fixture
def ringd(start_ringd: Callable[..., Daemon]) -> Daemon:
    """A ringd."""
    return start_ringd()


@pytest.fixture
def low(port: Endpoint) -> Endpoint:
    """The port, when it is one that pproxy asks ringd for."""
    if port.port >= 1024:
        pytest.skip("only root has low ports")
    return port


def sock_of(rundir: Path) -> str:
    """Return the name of ringd's socket."""
    return str(rundir / "ringd.sock")


def proxy_on(start: Callable[..., Daemon], rundir: Path, endpoint: Endpoint, name: str = "", maxuse: int = 1) -> Daemon:
    """Start a pproxy on one port by ringd."""
    backend = {"store": {"protocol": "xpop", "address": NOBODY_THERE}}
    return start_proxy(start, rundir, backend, vserv={"address": endpoint}, name=name, maxuse=maxuse,
                       ringd=sock_of(rundir))


def greets(endpoint: Endpoint) -> bool:
    """Tell whether a POP3 server is there."""
    with PopClient(endpoint) as client:
        return bool(client.greeting())


def counts(ringd: Daemon) -> list[str]:
    """Return how many references there were after each change, as the log has it."""
    return [line.split("references=")[1].split()[0] for line in ringd.log_lines("references=")]


def wait_counts(ringd: Daemon, *wanted: int) -> None:
    """Wait until there were these numbers of references, one after the other."""
    wait_for(lambda: counts(ringd) == [str(number) for number in wanted], 10.0, f"references {wanted}")


def test_a_proxy_serves_a_port_of_ringd(start, rundir, ringd, low):
    proxy = proxy_on(start, rundir, low)
    assert proxy.endpoint("main") == low and greets(low)
    assert counts(ringd) == ["1"]
    assert proxy.stop() == 0
    wait_counts(ringd, 1, 0)
    assert is_refused(low)


def test_spec_8_3_two_proxies_share_a_port(start, rundir, ringd, low):
    first = proxy_on(start, rundir, low)
    second = proxy_on(start, rundir, low, name="second")
    assert counts(ringd) == ["1", "2"]
    os.kill(first.pid, signal.SIGSTOP)
    stopped = [first.pid, *first.children()]
    for pid in stopped[1:]:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T") for pid in stopped),
             10.0, "all of the first proxy to stand still")
    try:
        assert greets(low), "the other one accepts what comes"
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    first.stop()
    wait_counts(ringd, 1, 2, 1)
    assert greets(low)
    second.stop()
    wait_counts(ringd, 1, 2, 1, 0)
    assert is_refused(low)


@pytest.mark.parametrize("maxuse", [1, 5])
def test_spec_8_3_a_killed_proxy_gives_back_what_it_had(start, rundir, ringd, low, maxuse):
    proxy = proxy_on(start, rundir, low, maxuse=maxuse)
    children = proxy.children()
    with PopClient(low) as client:
        client.greeting()
        proxy.kill()
        wait_counts(ringd, 1, 0)
        assert is_refused(low), "also while a session goes on"
        assert client.command(b"NOOP")
    wait_for(lambda: not any(map(is_alive, children)), 10.0, "the end of the children")
    (rundir / "pproxy.pid").unlink(missing_ok=True)
    again = proxy_on(start, rundir, low)
    assert greets(again.endpoint("main"))


def test_a_proxy_that_waits_for_its_sessions_gives_the_port_back_at_once(start, rundir, ringd, low):
    proxy = proxy_on(start, rundir, low, maxuse=5)
    with PopClient(low) as client:
        client.greeting()
        proxy.signal(signal.SIGPWR)
        wait_counts(ringd, 1, 0)
        assert is_refused(low)
        other = proxy_on(start, rundir, low, name="other")
        assert greets(low) and client.command(b"NOOP")
    assert proxy.wait() == 0
    assert other.stop() == 0


def test_no_child_keeps_the_connection(start, rundir, ringd, low):
    proxy = proxy_on(start, rundir, low)
    ends = {target for target in descriptors_of(proxy.pid).values() if target.startswith("socket:")}
    assert len(ends) == 5, "the listener, the connection, the control socket, and both ends of the door to children"
    for child in wait_for(lambda: children_of(proxy.pid)):
        wait_for(lambda: len(ends & {*descriptors_of(child).values()}) == 2, 10.0, "a child with listener and door")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_proxies_outlive_ringd(start, rundir, ringd, start_ringd, low, number):
    proxy = proxy_on(start, rundir, low)
    ringd.signal(number)
    ringd.wait()
    assert len(proxy.wait_log("ringd_gone")) == 1
    assert greets(low)
    again = start_ringd()
    assert greets(low), "which the new ringd knows nothing of"
    with pytest.raises(StartFailed) as why:
        proxy_on(start, rundir, low, name="second")
    assert "in use" in str(why.value)
    proxy.stop()
    assert greets(proxy_on(start, rundir, low, name="third").endpoint("main"))
    wait_for(lambda: counts(again)[-1] == "1")


def test_a_proxy_without_ringd_does_not_start(start, rundir, low):
    with pytest.raises(StartFailed) as why:
        proxy_on(start, rundir, low)
    assert why.value.code == 69
    assert f"cannot reach ringd at {sock_of(rundir)}: No such file" in why.value.stderr


@pytest.fixture
def rightless(rundir: Path) -> str:
    """A Python without the right to open low ports, as ordinary users have it; with ringd's own user id."""
    wrapper = rundir / "python"
    wrapper.write_text(f'#!/bin/sh\nexec setpriv --bounding-set=-net_bind_service {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


# What an administrator of the C version has (spec 1.2, 1.3, 11): variables, lists, modules, and a port below 1024.
C_RC = """\
# /etc/popular/pproxy.rc
prng add /dev/urandom 32
set allowsslv2 off
set authtimeout 2m
set maxsession 500
set maxlocalload 0
set backlog 128
set sidprefix px
set capadir {folder}
capa load default
backend add store1 CXPOP 10.0.0.5:1110
pdm load users passwd {folder}/users
pdm load support master {folder}/masterauth.conf
vserv add main {port} capa=default
show allowsslv2
"""


def feed(rundir: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Send an rc file as an init script does (spec 11)."""
    (rundir / "pproxy.rc").write_text(text)
    return run_tool("pcontrol", "--program=pproxy", "-r", rundir, rundir / "pproxy.rc")


@needs_root
def test_spec_11_the_rc_file_of_the_c_version_finds_ringd(start, rundir, start_ringd, low, rightless):
    """Without a word of ringd in it: there was none in the C version."""
    (rundir / "default").write_text("TOP\nUIDL\n")
    (rundir / "users").write_text("joe:{PLAIN}secret:store1::j/joe\n")
    rc = C_RC.format(folder=rundir, port=low)
    start("pproxy", {}, python=rightless)
    without = feed(rundir, rc)
    assert without.returncode == 1
    assert f"cannot listen on {low}: Permission denied" in without.stderr and "ringd(8)" in without.stderr
    assert f"cannot reach ringd at {sock_of(rundir)}: No such file" in without.stderr
    ringd = start_ringd()
    for _ in range(2):    # a reload sends it again
        done = feed(rundir, rc)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "allowsslv2 = off"
        assert greets(low) and counts(ringd) == ["1"]
    refused = feed(rundir, "set allowsslv2 on\n")
    assert refused.returncode == 1 and "allowsslv2: 'on' is not off" in refused.stderr
    feed(rundir, "vserv remove main\n")
    wait_counts(ringd, 1, 0)


@needs_root
def test_an_ini_file_without_ringd_finds_it_too(start, rundir, start_ringd, low, rightless):
    settings = {"vserv": {"main": {"address": low}}}
    with pytest.raises(StartFailed) as why:
        start("pproxy", settings, python=rightless)
    assert why.value.code == 69
    assert "Permission denied" in why.value.stderr and f"cannot reach ringd at {sock_of(rundir)}" in why.value.stderr
    ringd = start_ringd()
    proxy = start("pproxy", settings, python=rightless)
    assert greets(proxy.endpoint("main")) and counts(ringd) == ["1"]
    assert proxy.stop() == 0
    wait_counts(ringd, 1, 0)


def test_a_port_that_ringd_may_not_open_is_told(start, rundir, start_ringd, low):
    ringd = start_ringd(ports="1-109, 1023")
    if low.port != 110:
        pytest.skip("no network of our own")
    with pytest.raises(StartFailed) as why:
        proxy_on(start, rundir, low)
    assert why.value.stderr == (f"pproxy: cannot listen on {low} by ringd at {sock_of(rundir)}: "
                                "port 110 is not among those that ringd may open: 1-109, 1023\n")
    assert len(ringd.log_lines("port_refused")) == 1


@needs_root
def test_a_wrong_user_gets_nothing(rundir, ringd, port):
    nobody = find_rights("nobody", None)
    rundir.chmod(0o755)
    path = sock_of(rundir)
    with acting_as(nobody), pytest.raises(StartError, match="Permission denied"):
        RingClient.connect(path)
    os.chmod(path, 0o666)    # the file's rights are one barrier, who asks is another
    with acting_as(nobody):
        client = RingClient.connect(path)
    for _ in range(2):
        with pytest.raises(StartError, match="ringd.sock: not served for this user$"):
            client.acquire(port, 5)
    client.close()
    line = ringd.wait_log("client_refused")[0]
    assert f"client={os.getpid()} uid={nobody.uid} " in line
    assert counts(ringd) == [] and is_refused(port)


@needs_root
def test_another_program_of_a_wrong_user_gets_nothing(rundir, ringd, port):
    rundir.chmod(0o755)
    os.chmod(sock_of(rundir), 0o666)
    script = ("use Socket; socket(S, AF_UNIX, SOCK_SEQPACKET, 0) or die; connect(S, sockaddr_un($ARGV[0])) or die $!;"
              "$SIG{PIPE} = 'IGNORE'; recv(S, $answer, 999, 0); print $answer;"
              "send(S, \"bind 1 $ARGV[1]\\n\", 0); recv(S, $more, 999, 0); print $more;")
    done = subprocess.run(["setpriv", "--reuid", "nobody", "--clear-groups", "perl", "-e", script, sock_of(rundir),
                           str(port)], cwd="/", timeout=20, stdout=subprocess.PIPE, check=False)
    assert done.stdout == b"-ERR 0 not served for this user\n"
    assert is_refused(port)


@needs_root
def test_what_ringd_keeps_of_roots_rights(ringd):
    status = Path(f"/proc/{ringd.pid}/status").read_text().splitlines()
    found = {name: value.strip() for name, _, value in (line.partition(":") for line in status)}
    assert {found[name] for name in ("CapPrm", "CapEff")} == {f"{1 << 10:016x}"}
    assert {found[name] for name in ("CapInh", "CapAmb")} == {f"{0:016x}"}
    assert found["NoNewPrivs"] == "1"


def test_spec_5_4_hup_reopens_the_log(ringd, rundir, port):
    ringd.logfile.rename(rundir / "old.log")
    ringd.signal(signal.SIGHUP)
    ringd.wait_log("log_reopened")
    client = RingClient.connect(sock_of(rundir))
    client.acquire(port, 5).close()
    client.close()
    wait_counts(ringd, 1, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_an_orderly_end_leaves_nothing(ringd, rundir, number):
    ringd.signal(number)
    assert ringd.wait() == 0
    assert not (rundir / "ringd.sock").exists() and not (rundir / "ringd.pid").exists()
    assert ringd.log_lines()[-1].endswith("INF 02e0 shutdown_ringd command='shutdown'")


def run_ringd(rundir: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the starter to its end, as an administrator does."""
    words = [sys.executable, str(ROOT / "bin" / "ringd"), "-r", str(rundir), "-l", str(rundir / "ringd.log"), *options]
    return subprocess.run(words, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=40,
                          check=False)


def test_spec_10_3_runs_in_the_background(rundir):
    user = pwd.getpwuid(os.getuid()).pw_name
    done = run_ringd(rundir, "--user", user)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = int((rundir / "ringd.pid").read_text())
    RingClient.connect(sock_of(rundir)).close()    # at once
    assert run_ringd(rundir, "-u", user).returncode == 69, "one is enough"
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not is_alive(pid), 10.0, "the end of ringd")


@pytest.mark.parametrize("options, code, words", [
    pytest.param(["--help"], 0, "--user", id="help"),
    pytest.param(["--version"], 0, "ringd (POPular)", id="version"),
    pytest.param([], 78, "[ringd]: 'user' is missing: the user that pproxy runs as", id="no user"),
    pytest.param(["-u", "no-such-user"], 78, "no-such-user", id="a user that there is not"),
    pytest.param(["-u", "root", "-g", "no-such-group"], 78, "no-such-group", id="a group that there is not"),
    pytest.param(["--port", "110"], 64, "--port", id="an option that there is not"),
    pytest.param(["--check-config", "-u", "root", "--group", "root"], 0, "", id="all is well"),
])
def test_spec_10_3_options(rundir, options, code, words):
    if os.geteuid() != 0 and "root" in options:
        pytest.skip("only root serves others")
    done = run_ringd(rundir, *options)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert not (rundir / "ringd.sock").exists()
