"""pstatus without daemons: options, what it shows of prepared files, and what hostile files do to it."""

import json
import os
import pty
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.statefile.layout import FAILURES, PROXY, SERVER, SessionState
from popular.statefile.slot import ChildSlot
from popular.statefile.writer import StateFile
from popular.tools.pstatus import main as tool
from popular.tools.pstatus.table import printable, size, span
from popular.version import VERSION
from tests.harness.pstatus import PSTATUS, pstatus
from tests.harness.system import wait_for

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def statefile(tmp_path: Path) -> Iterator[StateFile]:
    """A proxy's state file: a busy slot 1, an idle slot 3, six slots used."""
    statefile = StateFile(PROXY, 50, str(tmp_path / "pproxy.state"))
    statefile.make_room(50)
    statefile.learn([("vserv", "main"), ("backend", "store1")])
    statefile.tell(maxsession=50, maxlocalload=20, load=18.5, load_state=1)
    statefile.use(5)
    busy = statefile.slot(1)
    busy.begin(Endpoint("192.0.2.7", 50123), "main")
    busy.call_session("px-040821121929-4712")
    busy.call_user("joe")
    busy.call_backend("store1")
    for _ in range(2):
        statefile.count_failure(busy.failure("store1", "tls"))
    busy.enter(SessionState.RELAY, 1234, 5_600_000)
    for counter, amount in (("logins", 3), ("empty", 2), ("checks_empty", 2), ("check_microseconds", 5000)):
        busy.count(counter, amount)
    idle = statefile.slot(3)
    idle.idle()
    statefile.count("forks")
    yield statefile
    busy.release()
    idle.release()
    statefile.close()


@pytest.fixture
def run(statefile: StateFile, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function (options) that runs pstatus in this process; returns exit code, output and errors."""
    def run_one(*options: str) -> tuple[int, str, str]:
        try:
            code = tool.run(["-R", os.path.dirname(statefile.path), *options] if "-f" not in options else list(options))
        except SystemExit as end:
            code = int(str(end.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_one


def slots_of(out: str) -> list[int]:
    """Return the numbers of the slots in a table."""
    return [int(line.split()[0]) for line in out.partition("\nslot ")[2].splitlines()[1:]]


def test_the_table(run: Run, statefile: StateFile) -> None:
    code, out, err = run("-r", "1-3")
    assert (code, err) == (0, "")
    assert out.splitlines()[:-4] == [
        f"pproxy      {VERSION} on {os.uname().nodename}, master {os.getpid()} (running), up 0s, configuration 0",
        "now         1 of 50 sessions (OK), 1 idle children, load 18.50 of 20 (WARN)",
        "sessions    1 begun; 2 empty; 2 empty mailboxes played",
        "logins      3 granted",
        "mail check  2 without mail; 2.5 ms each",
        "children    1 forked",
        "octets      1.2k in, 5.6M out",
        "vserv       main 1",
        "backend     store1 1",
        "failed      store1 2 tls",
        "",
    ]
    assert [line.split() for line in out.splitlines()[-4:]] == [
        "slot pid nth state age since idle client vserv backend in out user session".split(),
        f"1 {os.getpid()} 1 relay 0s 0s 0s 192.0.2.7:50123 main store1 1.2k 5.6M joe px-040821121929-4712".split(),
        "2 - - free - - - - - - - - - -".split(),
        f"3 {os.getpid()} - idle - 0s - - - - - - - -".split(),
    ]


@pytest.mark.parametrize("options, slots", [
    pytest.param([], [0, 1, 2, 3, 4, 5], id="all that were used"),
    pytest.param(["-a"], [1], id="-a"),
    pytest.param(["--active"], [1], id="--active"),
    pytest.param(["-r", "2-4"], [2, 3, 4], id="-r 2-4"),
    pytest.param(["--range=3"], [3], id="one slot"),
    pytest.param(["-r", "4-"], [4, 5], id="to the end"),
    pytest.param(["-r", "4-9999999"], [4, 5], id="beyond the end"),
    pytest.param(["-r", "40-41"], [], id="never used"),
    pytest.param(["-a", "-r", "2-4"], [], id="both"),
    pytest.param(["-p", "pproxy"], [0, 1, 2, 3, 4, 5], id="-p"),
])
def test_spec_6_which_slots(run: Run, options: list[str], slots: list[int]) -> None:
    code, out, _ = run(*options)
    assert code == 0
    assert slots_of(out) == slots
    code, out, _ = run(*options, "--json")
    assert [slot["slot"] for slot in json.loads(out)["slots"]] == slots


@pytest.mark.parametrize("options", [
    ["-f", "x", "-p", "pproxy"], ["-p", "pcheckd"], ["-r", "5-3"], ["-r", "x"], ["-r", "1-2-3"], ["-r", ""],
    ["-r", "1,2"], ["-l", "0"], ["-l", "soon"], ["-f", "x", "-R", "y"], ["--what"], ["word"], ["-f"],
    ["--top", "--json"], ["--top", "-l", "soon"],
], ids=" ".join)
def test_wrong_words(run: Run, options: list[str]) -> None:
    code, out, err = run(*options)
    assert (code, out) == (64, "")
    assert err.startswith("usage: pstatus") and "Traceback" not in err


@pytest.mark.parametrize("path, code", [("/nowhere/pproxy.state", 1), ("/dev/null", 65)])
def test_top_of_what_is_not_there(run: Run, path: str, code: int) -> None:
    assert run("--top", "-f", path)[:2] == (code, "")


def test_help_and_version(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    options = ("-a", "--file FILE", "-p", "--loop [TIME]", "--range RANGE", "--json", "--rundir DIR")
    assert all(option in out for option in options)
    assert run("--version")[:2] == (0, f"pstatus {VERSION}\n")


def test_spec_6_pserv_is_the_second_choice(run: Run, statefile: StateFile, tmp_path: Path) -> None:
    other = StateFile(SERVER, 2, str(tmp_path / "pserv.state"))
    assert run()[1].startswith("pproxy ")
    assert run("-p", "pserv")[1].startswith("pserv ")
    statefile.remove()
    assert run()[1].startswith("pserv ")
    other.remove()
    code, out, err = run()
    assert (code, out) == (1, "")
    assert err == f"pstatus: {tmp_path}/plmtpd.state: No such file or directory\n"
    other.close()


def test_spec_6_the_type_is_that_of_the_magic(run: Run, tmp_path: Path) -> None:
    statefile = StateFile(SERVER, 2, str(tmp_path / "any name"))
    statefile.make_room(2)
    statefile.use(0)
    child = statefile.slot(0)
    child.begin(Endpoint("::1", 5), "main")
    child.call_user("3/2d/joe")
    child.enter(SessionState.TRANSACTION, 0, 0)
    code, out, _ = run("-f", statefile.path)
    assert code == 0
    assert out.startswith("pserv ") and "messages    none" in out and "mail check" not in out
    assert out.splitlines()[-2].split()[7:] == ["client", "server", "in", "out", "mailbox", "session"]
    assert out.splitlines()[-1].split()[7:] == ["[::1]:5", "-", "0", "0", "3/2d/joe", "-"]
    [slot] = json.loads(run("-f", statefile.path, "--json")[1])["slots"]
    assert (slot["server"], slot["mailbox"], "user" in slot, "backend" in slot) == ("", "3/2d/joe", False, False)
    child.release()
    statefile.close()


def test_json(run: Run, statefile: StateFile) -> None:
    code, out, _ = run("--json", "-a")
    assert code == 0 and out.count("\n") == 1
    found = json.loads(out)
    assert list(found) == [
        *"program version host file live running time pid started generation sessions load idle sharing".split(),
        *"totals per failures backends modules workers others replaced slots".split()]
    assert (found["program"], found["pid"], found["live"], found["running"]) == ("pproxy", os.getpid(), True, True)
    assert found["sessions"] == {"now": 1, "limit": 50, "state": "OK"}
    assert found["load"] == {"now": 18.5, "limit": 20.0, "state": "WARN"}
    assert found["per"] == {"vserv": {"main": 1}, "backend": {"store1": 1}}
    assert found["failures"]["store1"] == dict.fromkeys(FAILURES, 0) | {"tls": 2}
    assert set(found["totals"]) == set(PROXY.counters)
    [slot] = found["slots"]
    times = [slot.pop(name) for name in ("started", "entered", "activity")]
    assert sorted(times) == times and found["time"] - times[0] < 60
    assert slot == {
        "slot": 1, "pid": os.getpid(), "state": "relay", "number": 1, "sid": "px-040821121929-4712",
        "client": "192.0.2.7:50123", "vserv": "main", "backend": "store1", "user": "joe",
        "bytes_in": 1234, "bytes_out": 5_600_000}


def test_spec_6_a_copy_is_a_frozen_view(run: Run, statefile: StateFile, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(Path(statefile.path).read_bytes())
    os.utime(copy, (0, os.stat(statefile.path).st_mtime + 3725))
    statefile.clear(1)
    code, out, _ = run("-f", str(copy))
    assert code == 0
    assert "(a copy of the file), up 1h02m," in out
    assert out.splitlines()[-5].split()[3:7] == ["relay", "1h02m", "1h02m", "1h02m"]
    assert json.loads(run("-f", str(copy), "--json")[1])["live"] is False


def test_a_dead_master_is_told(run: Run, statefile: StateFile) -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    statefile.tell(pid=gone.pid)
    assert f"master {gone.pid} (not running)" in run()[1]


def test_names_are_harmless(run: Run, statefile: StateFile) -> None:
    slot = statefile.slot(4)
    slot.begin(Endpoint("192.0.2.8", 1), "main")
    slot.call_user("a b\x1b[31m\x9b\u202e\n\u00e4" + "x" * 80)
    slot.enter(SessionState.AUTH, 0, 0)
    out = run("-r", "4")[1]
    assert "a\\x20b\\x1b[31m\\x9b\\u202e\\x0a\u00e4x" in out
    assert out.splitlines()[-1].split()[-2].endswith("x..")
    assert json.loads(run("-r", "4", "--json")[1])["slots"][0]["user"].startswith("a b\x1b[31m\x9b\u202e\n\u00e4x")
    slot.release()


def test_a_slot_that_is_never_at_rest(run: Run, statefile: StateFile) -> None:
    struct.pack_into("=I", statefile._memory, statefile.layout.slot_at(2), 1)
    code, out, _ = run("-a", "-r", "2")
    assert code == 0
    assert out.splitlines()[-1].split()[:4] == ["2", "-", "-", "being-written"]
    assert json.loads(run("-r", "2", "--json")[1])["slots"] == [{"slot": 2, "state": None}]


@pytest.mark.parametrize("make, code, text", [
    pytest.param(lambda path: None, 1, "No such file or directory", id="missing"),
    pytest.param(lambda path: path.mkdir(), 65, "not a state file", id="folder"),
    pytest.param(lambda path: os.mkfifo(path), 65, "not a state file", id="pipe"),
    pytest.param(lambda path: path.write_bytes(b""), 65, "not a state file", id="empty"),
    pytest.param(lambda path: path.write_bytes(b"POPULAR\0PROXY\0\0\0" + struct.pack("=I", 1) + bytes(5000)), 65,
                 "a state file of version 1, not of version 5", id="original"),
    pytest.param(lambda path: path.write_bytes(b"POPULAR\0PROXY\0\0\0" + struct.pack("=I", 5) + b"\xff" * 5000), 65,
                 "not a state file of pproxy, pserv or plmtpd", id="hostile"),
    pytest.param(lambda path: path.symlink_to(path), 1, "Too many levels of symbolic links", id="loop"),
])
def test_files_that_are_none(run: Run, tmp_path: Path, make: Callable[[Path], Any], code: int, text: str) -> None:
    path = tmp_path / "a\nb"
    make(path)
    assert run("-f", str(path)) == (code, "", f"pstatus: {tmp_path}/a\\x0ab: {text}\n")


def test_rates_in_a_loop(statefile: StateFile, capsys: pytest.CaptureFixture[str],
                         monkeypatch: pytest.MonkeyPatch) -> None:
    slot = statefile.slot(0)
    turns = iter([5, 0, 0])

    def sleep(seconds: float) -> None:
        assert seconds == 2.0
        amount = next(turns, None)
        if amount is None:
            raise KeyboardInterrupt
        slot.count("logins", amount)
        clock[0] += seconds

    clock = [statefile._facts.started + 10]
    monkeypatch.setattr("time.time", lambda: clock[0])
    monkeypatch.setattr("time.sleep", sleep)
    assert tool.run(["-f", statefile.path, "-l", "2s"]) == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("logins")]
    assert found == ["logins      3 granted", "logins      8 granted (+2.5/s)", *["logins      8 granted"] * 2]
    slot.release()


def test_a_loop_outlives_a_restart(statefile: StateFile, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    news: list[StateFile] = []

    def come_back() -> None:
        news.append(StateFile(PROXY, 5, statefile.path))
        news[0].count("forks")

    turns: Iterator[Callable[[], None]] = iter([statefile.remove, come_back])

    def sleep(seconds: float) -> None:
        turn = next(turns, None)
        if turn is None:
            raise KeyboardInterrupt
        turn()

    monkeypatch.setattr("time.sleep", sleep)
    assert tool.run(["-R", str(tmp_path), "-p", "pproxy", "--loop"]) == 0
    out = capsys.readouterr().out
    assert out.count("pproxy      ") == 2 and "/s)" not in out
    assert "pstatus: No such file or directory\n" in out
    news[0].close()


def test_json_in_a_loop_is_a_line_a_look(statefile: StateFile) -> None:
    with subprocess.Popen([*PSTATUS, "-f", statefile.path, "--json", "-l", "100ms"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert ["rates" in look for look in looks] == [False, True, True]
    assert set(looks[1]["rates"]) == set(PROXY.counters)


def on_a_terminal(*options: str, rows: int, columns: int) -> str:
    """Run pstatus -l on a pseudo-terminal until it has drawn twice, end it as Ctrl-C does; returns all it wrote."""
    ours, theirs = pty.openpty()
    try:
        size = subprocess.run(["stty", "rows", str(rows), "columns", str(columns)], stdin=theirs, check=True)
        assert size.returncode == 0
        process = subprocess.Popen([*PSTATUS, "-l", "100ms", *options], stdin=theirs, stdout=theirs, stderr=theirs,
                                   env={**os.environ, "TERM": "xterm"}, start_new_session=True)
        os.set_blocking(ours, False)
        written = bytearray()

        def has_drawn(times: int) -> bool:
            try:
                written.extend(os.read(ours, 65536))
            except BlockingIOError:
                pass
            return written.count(b"\x1b[H") >= times

        wait_for(lambda: has_drawn(3), 15.0, "three screens")
        process.send_signal(signal.SIGINT)
        wait_for(lambda: has_drawn(0) and process.poll() is not None, 15.0, "the end of pstatus")
        assert process.wait(10) == 0
    finally:
        os.close(ours)
        os.close(theirs)
    return written.decode()


def test_on_a_terminal_it_is_refreshed_in_place(statefile: StateFile) -> None:
    written = on_a_terminal("-f", statefile.path, rows=40, columns=200)
    assert written.startswith("\x1b[2J\x1b[Hpproxy ")
    screens = [screen.split("\x1b[J")[0] for screen in written.split("\x1b[H")[1:-1]]
    assert all("px-040821121929-4712" in screen and screen.count("\r\n") == 18 for screen in screens)
    assert "Traceback" not in written


def test_on_a_small_terminal_nothing_scrolls(statefile: StateFile) -> None:
    written = on_a_terminal("-f", statefile.path, rows=10, columns=60)
    for screen in written.split("\x1b[H")[1:-1]:
        lines = screen.split("\x1b[J")[0].split("\r\n")
        assert len(lines) <= 9
        assert all(len(line.removesuffix("\x1b[K")) < 60 for line in lines)
        assert "more lines" in lines[-1]


def test_a_reader_who_leaves_early_is_no_error(statefile: StateFile) -> None:
    script = 'exec 3>&1; { "$@"; echo $? >&3; } | :'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *PSTATUS, "-f", statefile.path],
                          capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.parametrize("shell_words, code, err", [
    pytest.param(">/dev/full", 1, "pstatus: standard output: No space left on device\n", id="full"),
    pytest.param(">/dev/full 2>/dev/full", 1, "", id="nobody can be told, which is no fault of ours"),
    pytest.param(">&-", 0, "", id="closed"),
])
def test_output_that_goes_nowhere(statefile: StateFile, shell_words: str, code: int, err: str) -> None:
    done = subprocess.run(["/bin/sh", "-c", f'exec "$@" {shell_words}', "sh", *PSTATUS, "-f", statefile.path],
                          capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (code, err)


def test_a_locale_without_letters(statefile: StateFile) -> None:
    slot: ChildSlot = statefile.slot(1)
    slot.call_user("j\u00f6rg")
    slot.release()
    done = subprocess.run([*PSTATUS, "-f", statefile.path], capture_output=True, timeout=30, check=True,
                          env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert b"j\\xf6rg" in done.stdout


def test_as_a_program(statefile: StateFile) -> None:
    done = pstatus("-f", statefile.path, "-a")
    assert (done.returncode, done.stderr, slots_of(done.stdout)) == (0, "", [1])


@pytest.mark.parametrize("seconds, text", [
    (-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86399, "23h59m"),
    (86400, "1d00h"), (400 * 86400, "400d00h")])
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize("octets, text", [
    (0, "0"), (999, "999"), (1000, "1.0k"), (1_234_567, "1.2M"), (10 ** 12, "1.0T"), (2 ** 64 - 1, "18446.7P")])
def test_size(octets: float, text: str) -> None:
    assert size(octets) == text


@pytest.mark.parametrize("text, shown", [("joe", "joe"), ("x" * 41, "x" * 38 + ".."), ("\udcff", "\\udcff")])
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
