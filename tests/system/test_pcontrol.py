"""pcontrol as it is called by hand and by init scripts (spec 4, 11), on real daemons."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.control.grammar import MAX_COMMAND_LINE
from popular.version import VERSION
from tests.conftest import DAEMONS
from tests.harness.control import listening, tell, variable
from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.pstatus import pstatus, state_file
from tests.harness.system import end_process, is_alive, wait_for
from tests.harness.tools import run_tool
from tests.harness.toyclient import is_refused

Start = Callable[..., Daemon]
Done = subprocess.CompletedProcess[str]


def pcontrol(*words: object, stdin: str = "") -> Done:
    """Run pcontrol to its end."""
    return run_tool("pcontrol", *map(str, words), stdin=stdin)


@pytest.fixture
def pserv(start: Start, spool: Path) -> Daemon:
    """A pserv that is configured by commands alone."""
    return start("pserv", {"pserv": {"mailboxdir": spool}})


@pytest.fixture
def rc(rundir: Path) -> Callable[[str], Path]:
    """A function (text) that writes an rc file."""
    def write(text: str) -> Path:
        path = rundir / "it.rc"
        path.write_text(text)
        return path
    return write


def answer(done: Done) -> tuple[int, str, str]:
    """Return exit code and both outputs."""
    return done.returncode, done.stdout, done.stderr


def test_spec_4_a_command_from_the_command_line(pserv: Daemon) -> None:
    assert answer(pcontrol("-r", pserv.rundir, "-c", "show maxline")) == (0, "maxline = 255\n", "")
    assert answer(pcontrol("--rundir", pserv.rundir, "--program=pserv", "--command=set maxline 300")) == (0, "", "")
    assert variable(pserv, "maxline") == "300"
    assert answer(pcontrol("-s", pserv.rundir / "pserv.ctrl", "-c", "set maxline 300"))[:2] == (0, "unchanged\n")


def test_spec_4_files_are_read_in_their_order(pserv: Daemon, rc: Callable[[str], Path], rundir: Path) -> None:
    first = rc("# a comment\n\n  # another\nset maxline 300\nshow maxline\n")
    second = rundir / "second.rc"
    second.write_text("show maxline")    # without a line end
    done = pcontrol("-r", pserv.rundir, first, "-", second, stdin="set maxline 301\r\nshow maxline\n")
    assert answer(done) == (0, "maxline = 300\nmaxline = 301\nmaxline = 301\n", "")


def test_standard_input_is_read_when_it_is_no_terminal(pserv: Daemon) -> None:
    assert answer(pcontrol("-r", pserv.rundir, stdin="version\n")) == (0, f"pserv (POPular) {VERSION}\n", "")


@pytest.mark.parametrize(("options", "code", "out"), [
    pytest.param([], 1, "", id="stops at the first error"),
    pytest.param(["-i"], 1, "maxline = 255\n", id="ignores errors"),
    pytest.param(["--ignore-errors"], 1, "maxline = 255\n", id="long"),
])
def test_spec_4_an_error_names_file_and_line(pserv: Daemon, rc: Callable[[str], Path], options: list[str], code: int,
                                             out: str) -> None:
    path = rc("# comment\nset maxline 1\nshow maxline\n")
    done = pcontrol("-r", pserv.rundir, *options, path)
    why = "maxline: '1' is not between 64 and 8192"
    assert answer(done) == (code, out, f"pcontrol: {path}:2: {why}\n")


@pytest.mark.parametrize(("options", "out"), [
    pytest.param([], "server a added\na 127.0.0.1:{port} enabled=on tls=off tlsmin=1.2\n", id="plain"),
    pytest.param(["-q"], "a 127.0.0.1:{port} enabled=on tls=off tlsmin=1.2\n", id="quiet"),
    pytest.param(["--verbose"], "> server add a 127.0.0.1:0\n+OK server a added\n"
                 "> server list\na 127.0.0.1:{port} enabled=on tls=off tlsmin=1.2\n+OK\n", id="verbose"),
])
def test_spec_4_quiet_and_verbose(pserv: Daemon, options: list[str], out: str) -> None:
    done = pcontrol("-r", pserv.rundir, *options, "-c", "server add a 127.0.0.1:0", "-c", "server list")
    assert answer(done) == (0, out.format(port=listening(pserv, "a", "server")[0].port), "")


def test_lines_of_a_refusal_go_to_standard_error(pserv: Daemon) -> None:
    code, out, err = answer(pcontrol("-r", pserv.rundir, "-c", "server"))
    assert (code, out) == (1, "")
    assert err.startswith("usage: server add") and err.endswith("pcontrol: command 1: no such command: 'server'\n")


@pytest.mark.parametrize("words", [
    pytest.param(["-x"], id="unknown option"), pytest.param(["-p", "pcheckd"], id="program"),
    pytest.param(["-s", "/x", "-p", "pserv"], id="both"), pytest.param(["-c"], id="no command")])
def test_wrong_usage_is_64(words: list[str]) -> None:
    code, out, err = answer(pcontrol(*words))
    assert (code, out) == (64, "") and "Try 'pcontrol --help'." in err


def test_commands_and_files_together_are_wrong_usage(pserv: Daemon) -> None:
    assert pcontrol("-r", pserv.rundir, "-c", "version", "file").returncode == 64


@pytest.mark.parametrize("words", [[], ["-p", "pproxy"], ["-s", "{rundir}/none"]])
def test_no_daemon_is_2(rundir: Path, words: list[str]) -> None:
    done = pcontrol("-r", rundir, *(word.format(rundir=rundir) for word in words), "-c", "version")
    assert done.returncode == 2
    assert done.stdout == "" and "No such file or directory" in done.stderr


def test_a_file_that_cannot_be_read_is_1(pserv: Daemon) -> None:
    done = pcontrol("-r", pserv.rundir, "/no/such")
    assert answer(done) == (1, "", "pcontrol: /no/such: No such file or directory\n")


def test_a_line_that_is_too_long_is_not_sent(pserv: Daemon, rc: Callable[[str], Path]) -> None:
    path = rc("version " + "x" * MAX_COMMAND_LINE + "\n")
    code, _, err = answer(pcontrol("-r", pserv.rundir, path))
    assert code == 1 and f"{path}:1: a command must be one line of at most {MAX_COMMAND_LINE} octets" in err


def test_the_first_program_that_runs_is_taken(start: Start, pserv: Daemon) -> None:
    assert pcontrol("-r", pserv.rundir, "-c", "show id").stdout == "id = pserv\n"
    start("pproxy", {})
    assert pcontrol("-r", pserv.rundir, "-c", "show id").stdout == "id = pproxy\n"


@pytest.mark.parametrize("what", ["all", "parent", "delayed"])
def test_ending_the_daemon_is_no_error(pserv: Daemon, what: str) -> None:
    children = pserv.children()
    assert answer(pcontrol("-r", pserv.rundir, "-c", f"shutdown {what}")) == (0, "", "")
    assert pserv.wait() == 0
    wait_for(lambda: not any(map(is_alive, children)), 10.0, "the end of the idle children, now ours")


def test_help_and_version() -> None:
    assert f"pcontrol (POPular) {VERSION}" in pcontrol("--version").stdout
    assert "--ignore-errors" in pcontrol("--help").stdout


RC = """\
# as an init script sends it
set maxauthtries 5
capa load ours
backend add store xpop {store}
pdm add users passwd {users}
vserv add main 127.0.0.1:{port} namespace=example.org capa=ours banner="hello # there"
"""


@pytest.fixture
def site(start: Start, pserv: Daemon, make_mailbox: Callable[..., Path], rundir: Path) -> dict[str, object]:
    """A pserv with mail, and a proxy that knows nothing yet."""
    make_mailbox("j/joe", new=[b"Subject: x\r\n\r\nhello\r\n"])
    (rundir / "users").write_text("joe:{PLAIN}secret:store::j/joe\n")
    (rundir / "capa").mkdir()
    (rundir / "capa/ours").write_text("TOP\nX-OURS\n")
    tell(pserv, "server add main 127.0.0.1:0")
    start("pproxy", {"pproxy": {"capadir": rundir / "capa", "authdelay": 0}})
    return {"store": listening(pserv, "main", "server")[0], "users": rundir / "users", "port": 0}


def fetch(endpoint: Endpoint) -> list[bytes]:
    """Fetch the first mail through the proxy, without reading it for good."""
    with PopClient(endpoint) as client:
        assert client.login("joe", "secret").startswith(b"+OK 1 messages")
        return client.multi("TOP 1 5")


def test_spec_11_an_rc_file_once_twice_and_edited(rc: Callable[[str], Path], site: dict[str, object],
                                                  request: pytest.FixtureRequest, rundir: Path) -> None:
    [proxy] = [daemon for daemon in request.node.stash[DAEMONS] if daemon.program == "pproxy"]

    def feed(text: str, *options: str) -> str:
        done = pcontrol("-r", rundir, "--program=pproxy", *options, rc(text))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    feed(RC.format(**site), "-q")
    [port] = listening(proxy, "main")
    fixed = RC.format(**{**site, "port": port.port})
    feed(fixed)
    assert fetch(port)[0] == b"Subject: x"
    before = tell(proxy, "show config")
    generation = generation_of(proxy)

    told = feed(fixed)    # again: nothing changes
    assert told.splitlines() == ["unchanged", "capa ours unchanged", "backend store unchanged", "pdm users unchanged",
                                 "vserv main unchanged"]
    assert tell(proxy, "show config") == before
    assert generation_of(proxy) == generation

    told = feed(fixed.replace("hello # there", "bye").replace("maxauthtries 5", "maxauthtries 6"))    # exactly the edit
    assert told.splitlines() == ["capa ours unchanged", "backend store unchanged", "pdm users unchanged",
                                 "vserv main changed"]
    changed = set(tell(proxy, "show config")[0].lines) ^ set(before[0].lines)
    assert {line.strip() for line in changed} == {
        "maxauthtries = 5", "maxauthtries = 6", 'banner = "hello # there"', "banner = bye"}
    with PopClient(port) as client:
        assert client.greeting() == b"bye"
        assert client.multi("CAPA") == [b"TOP", b"X-OURS"]
    assert fetch(port)[0] == b"Subject: x"

    (rundir / "printed.conf").write_text("\n".join(tell(proxy, "show config")[0].lines) + "\n")
    tell(proxy, "vserv remove main")
    assert is_refused(port)
    again = request.getfixturevalue("start")("pproxy", (rundir / "printed.conf").read_text(), name="again")
    assert fetch(again.endpoint("main"))[0] == b"Subject: x"    # the printed file means the same


def generation_of(daemon: Daemon) -> object:
    """Return the number of the configuration in force, which each change counts up."""
    told = pstatus("--json", "-f", state_file(daemon)).stdout
    return json.loads(told)["generation"]


PROMPT = "pcontrol> "


class Terminal:
    """pcontrol at a terminal."""

    def __init__(self, words: Iterable[object]) -> None:
        self.told = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, str(ROOT / "bin/pcontrol"), *map(str, words)],
                      {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"})

    def wait(self, text: str, seconds: float = 40.0) -> None:
        """Read until `text` has been shown since the last wait."""
        assert self.shows(text, seconds), f"waited for {text!r}, found {self.told!r}"

    def shows(self, text: str, seconds: float) -> bool:
        """Tell whether `text` is shown in time; forgets what was shown before its end."""
        deadline = time.monotonic() + seconds
        while text not in self.told:
            if not select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
            self.told += os.read(self.fd, 65536).decode()
        self.told = self.told.partition(text)[2]
        return True

    def type(self, text: str) -> None:
        """Wait for the prompt, for what is typed before it may get lost, and press keys."""
        self.wait(PROMPT)
        os.write(self.fd, text.encode())

    def interrupt(self) -> None:
        """Press ^C at the prompt, again where Python's readline misses it: just before it waits for a key."""
        self.wait(PROMPT)
        for _ in range(15):
            os.write(self.fd, b"\x03")
            if self.shows(PROMPT, 1.0):
                self.told = PROMPT + self.told
                return

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        wait_for(lambda: not is_alive(self.pid), 15.0, "the end of pcontrol")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal() -> Iterable[Callable[..., Terminal]]:
    """A function (words…) that starts pcontrol at a terminal."""
    opened: list[Terminal] = []

    def begin(*words: object) -> Terminal:
        opened.append(Terminal(words))
        return opened[-1]

    yield begin
    for each in opened:
        end_process(each.pid)
        os.close(each.fd)


def test_spec_4_interactive_with_history_and_completion(pserv: Daemon, terminal: Callable[..., Terminal]) -> None:
    console = terminal("-r", pserv.rundir)
    console.wait("/h for help, /q to quit")
    console.type("show maxli\t\n")
    console.wait("maxline = 255")
    console.wait("+OK")
    console.type("\x1b[A\n")    # the arrow key up: the same again
    console.wait("maxline = 255")
    console.type("sho\tbackl\t\n")
    console.wait("backlog = 1024")
    console.type("nonsense\n")
    console.wait("-ERR no such command: 'nonsense'; try help")
    console.type("/h debug\n")
    console.wait("/q          quit")
    console.wait("debug session on|off")
    console.type("/h ses\n")
    console.wait("session list")
    console.type("/h session k\n")
    console.wait("session kill <sid>")
    console.type("/h nix\n")
    console.wait("-ERR no command begins with 'nix'")
    console.type("/nonsense\n")
    console.wait("no such command of pcontrol: /nonsense; try /h")
    console.interrupt()
    console.type("/q\n")
    assert console.end() == 0


def test_a_console_outlives_its_daemon(start: Start, pserv: Daemon, terminal: Callable[..., Terminal],
                                       spool: Path) -> None:
    console = terminal("-r", pserv.rundir)
    console.wait("/h for help, /q to quit")
    pserv.signal(signal.SIGTERM)
    assert pserv.wait() == 0
    start("pserv", {"pserv": {"mailboxdir": spool, "maxline": 300}})
    console.type("show maxline\n")
    console.wait("maxline = 300")
    console.type("\x04")
    assert console.end() == 0


def test_a_console_whose_daemon_is_gone_ends_with_2(pserv: Daemon, terminal: Callable[..., Terminal]) -> None:
    console = terminal("-r", pserv.rundir)
    console.wait("/h for help, /q to quit")
    assert pserv.stop() == 0
    console.type("version\n")
    assert console.end() == 2
