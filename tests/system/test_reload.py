"""Reading the INI file again while sessions run."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.control.client import ControlClient
from tests.harness.control import control, greeting, listening, refused, tell, variable
from tests.harness.daemon import Daemon, Settings
from tests.harness.popclient import PopClient
from tests.harness.proxy import start_proxy, store
from tests.harness.release import Release
from tests.harness.system import descendants_of, is_alive, wait_for
from tests.harness.toyclient import is_refused

NOWHERE = Endpoint("127.0.0.1", 1)

Start = Callable[..., Daemon]


@pytest.fixture
def proxy(start: Start, rundir: Path) -> Daemon:
    """A proxy whose backend is out of reach."""
    return start_proxy(start, rundir, store(NOWHERE), maxerrors=7)


def edit(daemon: Daemon, *changes: tuple[str, str]) -> None:
    """Replace words of the INI file."""
    text = daemon.config.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    daemon.config.write_text(text)


def reload(daemon: Daemon) -> tuple[str, ...]:
    """Reload; returns what changed."""
    [reply] = tell(daemon, "reload")
    assert reply.text.partition(";")[0] in ("reloaded", "reloaded, no setting changed")
    return reply.lines


def test_an_unchanged_file_changes_nothing(proxy: Daemon) -> None:
    children = wait_for(lambda: found if len(found := proxy.children()) == 4 else [], 10.0, "the first children")
    assert reload(proxy) == ()
    assert reload(proxy) == ()
    wait_for(lambda: proxy.children() == children, 10.0, "the same children, and no others")
    assert len(proxy.wait_log("reloaded changes=0", count=2)) == 2


def test_an_edited_file_takes_effect_and_tells_what_changed(proxy: Daemon, pop: Callable[..., PopClient]) -> None:
    running = pop(proxy.endpoint())
    assert running.greeting() == b"POPular ready"
    edit(proxy, ("[[main]]", "[[two]]\naddress = 127.0.0.1:0\n[[main]]\nbanner = edited"), ("maxerrors = 7", ""))
    assert reload(proxy) == ("variable maxerrors", "vserv two: added", "vserv main: banner")
    assert greeting(proxy.endpoint()) == b"edited"
    assert variable(proxy, "maxerrors") == "25"
    [two] = listening(proxy, "two")
    edit(proxy, ("[[two]]\naddress = 127.0.0.1:0\n", ""))
    assert reload(proxy) == ("vserv two: removed",)
    assert is_refused(two)
    running.ok("NOOP")
    running.ok("QUIT")


def test_the_master_frees_what_changes_replace(proxy: Daemon) -> None:
    """What it had loaded before its first child is immortal, where Python can do that, but no configuration is."""
    changes = [f"set maxerrors {8 + number % 2}" for number in range(100)]
    tell(proxy, *changes)
    before = _resident(proxy.pid)
    tell(proxy, *changes)
    assert _resident(proxy.pid) - before < 1 << 20


def _resident(pid: int) -> int:
    """Return how many octets of memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_file_that_is_larger_than_a_pipe(proxy: Daemon) -> None:
    more = "".join(f"    [[more{number}]]\n    protocol = xpop\n    address = {NOWHERE}\n" for number in range(1000))
    edit(proxy, ("[backend]\n", f"[backend]\n{more}"))
    assert len(reload(proxy)) == 1000
    edit(proxy, ("maxerrors = 7", "maxerrors = none"))
    assert len(refused(proxy, "reload").lines) == 1


def test_mistakes_change_nothing_and_are_all_told(proxy: Daemon) -> None:
    before = tell(proxy, "show config")
    edit(proxy, ("maxerrors = 7", "maxerrors = 0\nnonsense = 1\ncapadir = /no/such"),
         ("[[main]]", "[[main]]\nbanner = edited\ncapa = none"))
    reply = refused(proxy, "reload")
    assert reply.text == "nothing was changed"
    told = "\n".join(reply.lines)
    assert all(word in told for word in ("maxerrors: '0' is not between", "unknown key 'nonsense'", "/no/such"))
    lines = proxy.wait_log("command_failed", count=len(reply.lines))    # each reason has a line
    assert all("words='reload'" in line for line in lines)
    assert all(any(word in line for line in lines) for word in ("maxerrors", "nonsense", "/no/such"))
    assert tell(proxy, "show config") == before
    assert greeting(proxy.endpoint()) == b"POPular ready"


def test_mistakes_beyond_single_rows_change_nothing(proxy: Daemon) -> None:
    edit(proxy, ("[[main]]", "[[main]]\ncapa = none"), ("module = passwd", "module = no_such"))
    reply = refused(proxy, "reload")
    assert len(reply.lines) == 2
    assert "capa/none: No such file" in reply.lines[0] and "[pdm] users" in reply.lines[1]


def test_a_port_that_is_refused_changes_nothing(proxy: Daemon) -> None:
    edit(proxy, ("[[main]]", f"[[two]]\naddress = 192.0.2.1:{proxy.endpoint().port}\n[[main]]\nbanner = edited"))
    assert "no interface of this host has that address" in refused(proxy, "reload").text
    assert greeting(proxy.endpoint()) == b"POPular ready"
    [line] = proxy.wait_log("command_failed")
    assert "words='reload' why='cannot listen on 192.0.2.1" in line


def test_a_file_that_is_gone_changes_nothing(proxy: Daemon) -> None:
    proxy.config.unlink()
    reply = refused(proxy, "reload")
    assert "No such file or directory" in reply.lines[0]
    assert greeting(proxy.endpoint()) == b"POPular ready"


def test_what_commands_did_stays(proxy: Daemon) -> None:
    tell(proxy, "set maxauthtries 9", "set maxerrors 9", "vserv set main banner=mine", "vserv add two 127.0.0.1:0")
    edit(proxy, ("[[main]]", "[[main]]\nbanner = theirs"))
    assert reload(proxy) == (
        "warning: maxerrors: '7' in the file is not used, because a command set '9'; to use it: unset maxerrors",
        "warning: vserv main: banner: 'theirs' in the file is not used, because a command set 'mine'; "
        "to use it: vserv unset main banner")
    assert (variable(proxy, "maxauthtries"), variable(proxy, "maxerrors")) == ("9", "9")
    assert greeting(proxy.endpoint()) == b"mine"
    assert greeting(listening(proxy, "two")[0])
    assert proxy.wait_log("file_values_unused count=2 values='maxerrors, vserv main: banner'")
    tell(proxy, "unset maxerrors", "vserv unset main banner")
    assert (variable(proxy, "maxerrors"), greeting(proxy.endpoint())) == ("7", b"theirs")
    assert reload(proxy) == ()
    tell(proxy, "vserv remove main")
    assert reload(proxy) == ("vserv main: added",)


def test_a_drained_backend_still_follows_the_file(proxy: Daemon) -> None:
    """Its address in the file was ignored by each reload, with `nothing changed`, once it had been drained."""
    tell(proxy, "backend drain store", "backend enable store")
    edit(proxy, ("address = 127.0.0.1:1", "address = 127.0.0.1:2"))
    assert reload(proxy) == ("backend store: address",)
    tell(proxy, "backend drain store")
    edit(proxy, ("address = 127.0.0.1:2", "address = 127.0.0.1:3"))
    assert reload(proxy)[0] == "backend store: address"
    [reply] = tell(proxy, "backend list")
    assert "127.0.0.1:3" in reply.lines[0] and "drain=on" in reply.lines[0]


def test_the_command_line_still_beats_the_file(start: Start, rundir: Path) -> None:
    proxy = start_proxy(start, rundir, store(NOWHERE), options=["--debug"])
    edit(proxy, ("[pproxy]", "[pproxy]\ndebug = off\nlogfile = /tmp/other"))
    assert reload(proxy) == ()
    assert variable(proxy, "debug") == "on"
    assert variable(proxy, "logfile") == str(proxy.logfile)


def test_what_is_fixed_is_told(proxy: Daemon) -> None:
    edit(proxy, ("[pproxy]", "[pproxy]\nsessionlimit = 77"))
    assert reload(proxy) == ("warning: sessionlimit: '77' in the file is not used before the next start",)
    assert variable(proxy, "sessionlimit") == "10000"


def test_names_of_backends_are_resolved(proxy: Daemon) -> None:
    edit(proxy, ("[[store]]", "[[other]]\nprotocol = xpop\naddress = localhost:1110\n[[store]]"))
    assert reload(proxy) == ("backend other: added",)
    [reply] = tell(proxy, "backend list")
    assert re.match(r"other xpop (127\.0\.0\.1|\[::1\]):1110 ", reply.lines[0])


def test_an_edited_capability_list_is_read(start: Start, rundir: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("TOP\n")
    proxy = start_proxy(start, rundir, store(NOWHERE), vserv={"capa": "ours"}, capadir=tmp_path)
    (tmp_path / "ours").write_text("TOP\nX-NEW\n")
    tell(proxy, "vserv set main banner=x")    # an unread list changes nothing
    with PopClient(proxy.endpoint()) as client:
        client.greeting()
        assert client.multi("CAPA") == [b"TOP"]
    assert "capa ours: list" in reload(proxy)
    with PopClient(proxy.endpoint()) as client:
        client.greeting()
        assert client.multi("CAPA") == [b"TOP", b"X-NEW"]


def test_only_one_reload_at_a_time(proxy: Daemon) -> None:
    fifo = block(proxy)
    with control(proxy) as first, control(proxy) as second:
        first._sock.sendall(b"reload\n")
        wait_for(lambda: reading(proxy), 10.0, "the reading process")
        assert second.ask("reload").text == "the file is being read already"
        assert second.ask("set maxauthtries 9").ok    # other commands go on
        fifo.write_text("[pproxy]\n")
        assert first.receive().ok
    assert variable(proxy, "maxauthtries") == "9"


def test_a_reload_whose_client_goes_is_given_up(proxy: Daemon) -> None:
    block(proxy)
    with control(proxy) as client:
        client._sock.sendall(b"reload\n")
        wait_for(lambda: reading(proxy), 10.0, "the reading process")
    wait_for(lambda: not reading(proxy), 10.0, "the end of the reading process")
    assert greeting(proxy.endpoint())
    [line] = proxy.wait_log("command_failed")
    assert "words='reload' why='given up" in line


def test_a_reading_process_that_dies_changes_nothing(proxy: Daemon) -> None:
    block(proxy)
    with control(proxy) as client:
        client._sock.sendall(b"reload\n")
        [pid] = wait_for(lambda: reading(proxy), 10.0, "the reading process")
        os.kill(pid, signal.SIGKILL)
        reply = client.receive()
    assert (reply.ok, reply.lines) == (False, ("the reading process said nothing",))


def test_a_file_that_cannot_be_read_in_time_changes_nothing(rundir: Path, tmp_path: Path) -> None:
    release = Release(tmp_path / "release")
    release.set("popular/daemon/reload/reload.py", READ_SECONDS=4.0)
    settings: Settings = {"pserv": {"mailboxdir": tmp_path, "maxerrors": 7},
                          "server": {"main": {"address": "127.0.0.1:0"}}}
    with Daemon.start("pserv", settings, rundir, env=release.env, root=release.root) as daemon:
        config = daemon.config.read_text()
        block(daemon)
        assert refused(daemon, "reload").text == "the file could not be read within 4 s; nothing was changed"
        wait_for(lambda: not reading(daemon), 10.0, "the end of the reading process")
        daemon.config.unlink()
        daemon.config.write_text(config.replace("maxerrors = 7", "maxerrors = 8"))
        assert reload(daemon) == ("variable maxerrors",)


def block(daemon: Daemon) -> Path:
    """Put a pipe in place of the INI file, which holds whoever reads it up."""
    daemon.config.unlink()
    os.mkfifo(daemon.config)
    return daemon.config


def reading(daemon: Daemon) -> list[int]:
    """Return the process that reads the file, once it runs a program of its own."""
    return [pid for pid in descendants_of(daemon.pid) if b"--dump-config" in arguments(pid)]


def arguments(pid: int) -> bytes:
    """Return the command line of a process as the kernel shows it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_relative_names_count_from_where_the_daemon_was_started(rundir: Path) -> None:
    config = rundir / "it.conf"
    config.write_text("[pserv]\nmailboxdir = .\n[server]\n[[main]]\naddress = 127.0.0.1:0\n")
    root = Path(__file__).resolve().parents[2]
    user = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    subprocess.run([sys.executable, root / "bin/pserv", "-c", "it.conf", "-r", "run", "-l", "log", *user],
                   cwd=rundir, check=True, timeout=40, env={**os.environ, "PYTHONPATH": str(root)})
    pid = int((rundir / "run/pserv.pid").read_text())
    try:
        config.write_text(config.read_text().replace("mailboxdir = .", f"mailboxdir = {rundir}/run"))
        with ControlClient(str(rundir / "run/pserv.ctrl")) as client:
            assert client.ask("reload").lines == ("variable mailboxdir",)
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not is_alive(pid), 10.0, "the end of the daemon")
