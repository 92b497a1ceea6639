"""pstatus --top on a pseudo-terminal: keys are typed, and the screen is read as a terminal emulator shows it."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.statefile.writer import StateFile
from popular.tools.pstatus.snapshot import Selection, take
from popular.tools.pstatus.top.frame import frame
from popular.tools.pstatus.top.text import FANCY
from popular.tools.pstatus.top.view import View, chosen
from popular.tools.pstatus.top.watch import Follower
from tests.harness.statefiles import Made, many, put, statefile_with
from tests.harness.control import tell
from tests.harness.daemon import ROOT
from tests.harness.fake_backend import FakeBackend, ReadToEnd
from tests.harness.needs import need_program
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, script_for, store
from tests.harness.pstatus import PSTATUS, wait_slot
from tests.harness.ptyscreen import ENTER_SCREEN, HIDE_CURSOR, LEAVE_SCREEN, Terminal
from tests.harness.system import is_alive, wait_for

UP, DOWN, PAGE_DOWN, HOME, END, ESCAPE = "\x1b[A", "\x1b[B", "\x1b[6~", "\x1b[H", "\x1b[F", "\x1b"
COLOR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")

WHY_NOT = "pstatus: --top cannot draw on a terminal of the kind TERM=dumb; -l shows lines"

Pop = Callable[..., PopClient]


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFile]:
    """A proxy's state file with 1,000 sessions."""
    with statefile_with(tmp_path_factory.mktemp("top") / "pproxy.state", many(1000)) as statefile:
        yield statefile


def top(statefile: StateFile | Path | str, *options: str, **more: object) -> Terminal:
    """Start pstatus --top for a state file."""
    path = statefile.path if isinstance(statefile, StateFile) else str(statefile)
    return Terminal([*PSTATUS, "--top", "-l", "100ms", "-f", path, *options], **more)    # type: ignore[arg-type]


def table(lines: list[str]) -> list[list[str]]:
    """Return the words of the rows below the heading; none where another page is shown."""
    start = next((number for number, line in enumerate(lines) if "state" in line and "client" in line), len(lines))
    return [words for line in lines[start + 1:-1] if (words := line.split())]


def wait_first(terminal: Terminal, slot: int) -> list[list[str]]:
    """Wait until this slot is the first of the table; returns the rows."""
    terminal.wait_text("state", "client")
    wait_for(lambda: [row[0] for row in table(terminal.lines)[:1]] == [str(slot)], 15.0,
             f"slot {slot} on top of\n{terminal.text}")
    return table(terminal.lines)


def leave(terminal: Terminal, keys: str = "q") -> None:
    """End it, and see that the terminal is as it was."""
    terminal.type(keys)
    assert terminal.wait() == 0
    assert terminal.is_as_before()
    assert b"Traceback" not in terminal.written


def test_a_thousand_sessions(thousand: StateFile) -> None:
    with top(thousand) as terminal:
        lines = terminal.wait_text("1000 of 1000 sessions OK", "1000 sessions by slot", "sessions/s")
        assert ENTER_SCREEN in terminal.written and HIDE_CURSOR in terminal.written
        assert lines[0].startswith(" pproxy 2.0.0 on ") and re.search("every 0.1s  [0-9:]{8}$", lines[0])
        assert [row[0] for row in table(lines)] == [str(slot) for slot in range(15)]
        last = table(lines)[14]
        assert last == ["14", "empty", last[2], "10.0.0.14:40014", "main", "store0", "14.0k", "user014"]
        terminal.type("O")
        assert [row[0] for row in wait_first(terminal, 999)] == [str(slot) for slot in range(999, 984, -1)]
        terminal.type("r")
        wait_first(terminal, 0)
        terminal.type(">R<<")
        terminal.wait_text("by in")
        leave(terminal)
    assert COLOR.search(terminal.written)
    assert terminal.written.count(LEAVE_SCREEN) == 1


def test_filters_are_typed_in_a_terminal_without_colours(thousand: StateFile) -> None:
    with top(thousand, env={"TERM": "vt100"}) as terminal:
        terminal.wait_text("1000 sessions")
        terminal.type("uUSER12")
        terminal.wait_text("user (a part, or =all of it): USER12")
        terminal.type("\r")
        lines = terminal.wait_text("10 sessions by slot, user USER12")
        assert [row[-1] for row in table(lines)] == [f"user{number}" for number in range(120, 130)]
        terminal.type("v=tls\r")
        terminal.wait_text("5 sessions by slot, user USER12, vserv =tls")
        terminal.type("bstore0\r")
        terminal.wait_text("0 sessions", "no session that passes the filters")
        terminal.type("x")
        terminal.wait_text("1000 sessions by slot\n")
        terminal.type("c10.0.2.0/28\r")
        terminal.wait_text("16 sessions by slot, client 10.0.2.0/28")
        terminal.type("c\b\b99\r")
        terminal.wait_text("10.0.2.0/99 is not an address, ADDRESS/BITS", "16 sessions")
        terminal.type("unever" + ESCAPE)
        terminal.wait_text("h help  q end", "16 sessions by slot, client 10.0.2.0/28\n")
        leave(terminal, "\x03")
    assert not COLOR.search(terminal.written)


def test_cursor_details_and_help_where_no_colours_are_wanted(thousand: StateFile) -> None:
    with top(thousand, env={"NO_COLOR": "1"}) as terminal:
        terminal.wait_text("1000 sessions")
        terminal.type(DOWN * 3 + UP + "\r")
        lines = terminal.wait_text("Session: Esc goes back", "sid-2")
        assert any(line.split() == ["client", "10.0.0.2:40002"] for line in lines)
        terminal.type("\r" + PAGE_DOWN)
        wait_first(terminal, 2)
        terminal.type(END)
        wait_for(lambda: table(terminal.lines)[-1][0] == "999", 15.0, "the last session")
        terminal.type(HOME)
        wait_first(terminal, 0)
        terminal.type("?")
        terminal.wait_text("q, Ctrl-C  End.")
        terminal.type(DOWN * 40)
        terminal.wait_text("S state", "192.0.2.0/24.")
        terminal.type(ESCAPE)
        terminal.wait_text("by slot")
        leave(terminal)
    assert not COLOR.search(terminal.written)


def test_sizes(thousand: StateFile) -> None:
    with top(thousand) as terminal:
        terminal.wait_text("1000 sessions by slot")
        for rows, columns, words in ((40, 120, ["pid", "rate", "user"]), (50, 200, ["nth", "age", "idle", "session"]),
                                     (10, 30, ["slot", "user"]), (3, 10, ["too small"]), (24, 80, ["backend", "out"])):
            terminal.resize(rows, columns)
            lines = terminal.wait_text(*words)
            if columns >= 80:
                assert len(table(lines)) == rows - next(i for i, line in enumerate(lines) if "state" in line) - 2
        terminal.screen.erase_in_display(2)    # as if another program had written there
        assert "client" not in terminal.text
        terminal.type("\x0c")
        terminal.wait_text("client", "user000")
        leave(terminal)


def test_pause_and_interval_in_a_terminal_with_ascii_only(tmp_path: Path) -> None:
    env = {"PYTHONIOENCODING": "ascii", "TERM": "newer-than-terminfo"}
    with statefile_with(tmp_path / "pproxy.state", many(3)) as statefile, top(statefile, env=env) as terminal:
        terminal.wait_text("3 of 3 sessions", "slot^")
        terminal.type("p")
        terminal.wait_text("PAUSED")
        put(statefile, 1, None)
        terminal.type("a")
        terminal.wait_text("3 slots by slot")
        assert "3 of 3 sessions" in terminal.text
        terminal.type(" ")
        terminal.wait_text("2 of 3 sessions", "1 idle children", "idle", "every 0.1s")
        terminal.type("i30s\r")
        terminal.wait_text("every 30s")
        terminal.type("inever\r")
        terminal.wait_text("never is not a time")
        leave(terminal)
    assert terminal.written.isascii()


def test_a_daemon_that_ends_and_the_next(tmp_path: Path) -> None:
    path = tmp_path / "pproxy.state"
    with statefile_with(path, many(3)) as statefile, top(path) as terminal:
        terminal.wait_text("3 of 3 sessions")
        statefile.remove()
        terminal.wait_text("No such file or directory; this was seen last, at ", "user000")
        with statefile_with(path, many(2)) as following:
            following.tell(pid=1)
            terminal.wait_text("Another pproxy has taken over: master 1", "2 of 2 sessions")
            leave(terminal)


def test_nothing_hostile_is_obeyed(tmp_path: Path) -> None:
    names = ["\x1b]0;title\x07", "\x1b[2Jgone", "\x9b31m", "\u202eevil", "\u65e5\u672c", "a\u0301\u0301",
             "\u05d0\u05d1", "\r\n\n\n", "\x0e\x0f", "\U0001f600"]
    sessions = [Made(name, name, 1, "main", "store0", name) for name in names]
    with (statefile_with(tmp_path / "pproxy.state", sessions) as statefile,
          top(statefile, rows=30, columns=200) as terminal):
        lines = terminal.wait_text("10 sessions by slot", r"\x1b]0;title\x07", r"\u202eevil", r"\u65e5\u672c")
        assert len(table(lines)) == len(names)
        terminal.type(DOWN * 2 + "k")
        terminal.wait_text(r"Kill, y or n?  \x9b31m of \x9b31m from")
        terminal.type("n\r")
        terminal.wait_text(r"user  \x9b31m")
        leave(terminal, ESCAPE + "q")
    raw = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.written.decode("utf-8"))
    assert "title\x07" not in raw and "\x1b]" not in raw and not set(raw) & set("\x9b\x0e\u202e\u65e5\u0301\u05d0")


# A real daemon

def test_a_session_is_killed(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(lambda number: script_for(XENIA, ReadToEnd())) as fake:
        daemon = proxy(store(fake))
        clients = [pop(daemon.endpoint()) for _ in range(3)]
        clients[0].login(XENIA, PASSWORD)
        for client in clients[1:]:
            client.greeting()
        sid = wait_slot(daemon, "relay")["sid"]
        with Terminal([*PSTATUS, "--top", "-R", str(daemon.rundir), "-l", "100ms"]) as terminal:
            terminal.wait_text("3 of ", "3 sessions by slot")
            terminal.type(f"u{XENIA}\rk")
            terminal.wait_text(f"Kill, y or n?  {sid} of {XENIA} from 127.0.0.1:")
            terminal.type("n")
            terminal.wait_text("Not killed.")
            assert wait_slot(daemon, "relay")["sid"] == sid
            terminal.type("k")
            terminal.wait_text("Kill, y or n?")
            terminal.type("y")
            terminal.wait_text(f"session {sid} killed", "2 of ", "no session that passes")
            assert clients[0].sock.recv(1) == b""
            clients[1].ok("NOOP")
            leave(terminal)


def test_an_upgrade_is_followed(proxy: StartProxy) -> None:
    daemon = proxy({})
    with Terminal([*PSTATUS, "--top", "-R", str(daemon.rundir), "-l", "100ms"], columns=120) as terminal:
        terminal.wait_text(f"master {daemon.pid}", "0 sessions by slot")
        tell(daemon, "upgrade")
        master = wait_for(lambda: daemon.master if daemon.master != daemon.pid else 0, 30.0, "the new master")
        terminal.wait_text(f"Another pproxy has taken over: master {master}, before {daemon.pid}.")
        terminal.wait_text(f"master {master}, up ")
        leave(terminal)


def test_a_session_that_cannot_be_killed(tmp_path: Path) -> None:
    with statefile_with(tmp_path / "pproxy.state", many(2)) as statefile, top(statefile) as terminal:
        terminal.wait_text("2 sessions")
        terminal.type("ky")
        terminal.wait_text("not killed: No such file or directory (/")
        terminal.type("aunobody\rk")
        terminal.wait_text("There is no session under the cursor.")
        statefile.tell(pid=2 ** 22 + 1)
        terminal.type("x")
        terminal.wait_text("is gone and has left its state file behind", "2 slots by slot\n")
        terminal.type("k")
        terminal.wait_text("Not killed: there is no daemon that could end it.")
        leave(terminal)


# The end, and where there is no screen

@pytest.mark.parametrize("number, code", [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_leave_the_terminal_as_it_was(thousand: StateFile, number: signal.Signals, code: int) -> None:
    with top(thousand) as terminal:
        terminal.wait_text("1000 sessions")
        assert not terminal.is_as_before()
        terminal.process.send_signal(number)
        assert terminal.wait() == code
        assert terminal.is_as_before() and b"Traceback" not in terminal.written


@pytest.mark.parametrize("fault", ["watch.Follower.look", "frame.frame"])
def test_a_fault_of_ours_leaves_the_terminal_as_it_was(thousand: StateFile, fault: str) -> None:
    code = ("import sys; from popular.tools.pstatus.main import main; "
            "from popular.tools.pstatus.top import frame, watch\n"
            f"def fault(*anything, **more): raise RuntimeError('on purpose')\n{fault} = fault\nsys.exit(main())")
    command = [sys.executable, "-c", code, "--top", "-f", thousand.path, "-l", "100ms"]
    with Terminal(command, env={"PYTHONPATH": str(ROOT), "PYTHON_COLORS": "0"}) as terminal:
        assert terminal.wait() == 1
        assert terminal.is_as_before() and ENTER_SCREEN in terminal.written
        assert b"RuntimeError: on purpose" in terminal.written[terminal.written.rfind(LEAVE_SCREEN):]


def test_a_terminal_that_goes_away(thousand: StateFile) -> None:
    with top(thousand) as terminal:
        terminal.wait_text("1000 sessions")
        terminal.hang_up()
        assert terminal.wait() in (1, 129), "no traceback, which cannot be written either"


def test_into_the_background_and_back(thousand: StateFile) -> None:
    bash = need_program("bash")
    with Terminal([bash, "--norc", "--noprofile", "-i"], env={"PS1": "shell> "}) as terminal:
        terminal.wait_text("shell>")
        terminal.type(shlex.join([*PSTATUS, "--top", "-f", thousand.path]) + "\n")
        terminal.wait_text("1000 sessions by slot")
        terminal.type("\x1a")
        terminal.wait_text("Stopped")
        assert LEAVE_SCREEN in terminal.written
        terminal.type("fg\n")
        terminal.wait_text("1000 sessions by slot", "h help")
        [pid] = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_top(int(pid), terminal.process.pid)]
        terminal.type("\x0cq")
        wait_for(lambda: terminal.lines and not is_alive(pid), 15.0, "its end")
        terminal.type("echo code $?\nexit\n")
        terminal.wait()
        assert "code 0" in terminal.lines


def is_top(pid: int, parent: int) -> bool:
    """Tell whether a process is a child of the shell."""
    try:
        return f"PPid:\t{parent}\n" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_terminal_that_cannot_be_drawn_on(thousand: StateFile) -> None:
    for env in ({"TERM": "dumb"}, {"TERM": None}):
        with top(thousand, env=env) as terminal:
            assert terminal.wait() == 69
            assert terminal.text.split() == WHY_NOT.split()


def test_without_a_terminal(thousand: StateFile) -> None:
    done = subprocess.run([*PSTATUS, "--top", "-f", thousand.path], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=30)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "pstatus: --top wants a terminal to read keys from and to draw on\n"


def test_without_the_library_all_but_top_works(thousand: StateFile) -> None:
    code = ("import sys; sys.modules['prompt_toolkit'] = None; "
            "from popular.tools.pstatus.main import main; sys.exit(main())")

    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code, "-f", thousand.path, *options], capture_output=True,
                              text=True, timeout=30, env={**os.environ, "PYTHONPATH": str(ROOT)})

    done = run("--top")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("pstatus: --top needs the Python module prompt_toolkit")
    assert done.stderr.count("\n") == 1
    assert run("-a").returncode == 0


def test_ten_thousand_slots_take_a_part_of_a_second(tmp_path: Path) -> None:
    """A look takes 0.13 s of CPU on a machine like those of CI; the bound is for what would make keys wait."""
    with statefile_with(tmp_path / "pproxy.state", many(10_000)) as statefile:
        follower = Follower(take(statefile.path), Selection())
        began = time.process_time()
        look = follower.look()
        view = View(sort="client")
        lines, _ = frame(look, chosen(look, view), view, 200, 50, FANCY)
        assert time.process_time() - began < 1.0
        assert "10000" in "".join(text for _, text in lines[1])
        with top(statefile) as terminal:
            terminal.wait_text("10000 of 10000 sessions")
            terminal.type("C" + END)
            wait_for(lambda: table(terminal.lines)[-1][0] == "9999", 20.0, "the last one")
            leave(terminal)
    shutil.rmtree(tmp_path)
