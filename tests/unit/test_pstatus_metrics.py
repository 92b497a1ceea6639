"""`pstatus --metrics`: which daemons it tells of, and the file that it writes for a collector."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.statefile.layout import PROXY, SERVER
from popular.statefile.prometheus import StateSnapshot, exposition
from popular.statefile.writer import StateFile
from popular.tools.pstatus import main as tool
from tests.harness.metrics import Metrics, promtool
from tests.harness.pstatus import pstatus

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def statefiles(tmp_path: Path) -> Iterator[list[StateFile]]:
    """The state files of a pproxy and a pserv of this process."""
    made = [StateFile(PROXY, 5, str(tmp_path / "pproxy.state")), StateFile(SERVER, 5, str(tmp_path / "pserv.state"))]
    for statefile in made:
        statefile.learn((cls, "main") for cls in statefile.kind.classes)
        statefile.make_room(5)
        statefile.count("forks")
    yield made
    for statefile in made:
        statefile.close()


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function (options) that runs pstatus in this process; returns exit code, output and errors."""
    def run_one(*options: str | Path) -> tuple[int, str, str]:
        rundir = [] if "-f" in options else ["-R", str(tmp_path)]
        try:
            code = tool.run(["--metrics", *rundir, *map(str, options)])
        except SystemExit as end:
            code = int(str(end.code))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run_one


def test_all_daemons_as_one_text(run: Run, statefiles: list[StateFile]) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    assert Metrics.read(out).by("forks_total", "program") == {"pproxy": 1, "pserv": 1}
    looks = [StateSnapshot.at(statefile.read, 0.1) for statefile in statefiles]
    assert out == exposition(looks), "what a daemon serves"
    done = promtool("check", "metrics", text=out)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_one_daemon(run: Run, statefiles: list[StateFile], tmp_path: Path, program: str) -> None:
    code, out, _ = run("-p", program)
    assert (code, Metrics.read(out).by("up", "program")) == (0, {program: 1})
    assert run("-f", tmp_path / f"{program}.state") == (0, out, "")


def test_a_daemon_that_is_not_there_is_left_out(run: Run, statefiles: list[StateFile]) -> None:
    statefiles[1].remove()
    code, out, err = run()
    assert (code, Metrics.read(out).by("up", "program"), err) == (0, {"pproxy": 1}, "")


def test_one_that_was_killed_is_told(run: Run, statefiles: list[StateFile]) -> None:
    statefiles[1].tell(pid=0)
    code, out, _ = run()
    assert (code, Metrics.read(out).by("up", "program")) == (0, {"pproxy": 1, "pserv": 0})


def test_a_file_is_replaced_as_a_whole(run: Run, statefiles: list[StateFile], tmp_path: Path) -> None:
    output = tmp_path / "popular.prom"
    output.write_text("old\n")
    Path(f"{output}.new").write_text("left over\n")
    before = os.umask(0o077)
    try:
        with output.open() as reader:
            assert run("--output", output) == (0, "", "")
            assert reader.read() == "old\n", "whoever had it open sees no part of the new one"
    finally:
        os.umask(before)
    assert output.read_text() == run()[1] != ""
    assert stat.S_IMODE(output.stat().st_mode) == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["popular.prom", "pproxy.state", "pserv.state"]


def test_no_link_is_followed(run: Run, statefiles: list[StateFile], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    for name in ("popular.prom", "popular.prom.new"):
        (tmp_path / name).symlink_to(victim)
    assert run("--output", tmp_path / "popular.prom")[0] == 0
    assert victim.read_text() == "precious\n" and not (tmp_path / "popular.prom").is_symlink()


@pytest.mark.parametrize(("spoil", "code", "why"), [
    pytest.param(lambda folder: None, 1, "plmtpd.state: No such file or directory", id="none"),
    pytest.param(lambda folder: (folder / "pproxy.state").write_text("x"), 65, "pproxy.state: not a state file",
                 id="no state file"),
    pytest.param(lambda folder: (folder / "pproxy.state").symlink_to("pproxy.state"), 1, "levels of symbolic links",
                 id="not to be read"),
])
def test_what_cannot_be_told_leaves_no_old_file(run: Run, tmp_path: Path, spoil: Callable[[Path], object], code: int,
                                                why: str) -> None:
    spoil(tmp_path)
    output = tmp_path / "popular.prom"
    output.write_text("old\n")
    found, out, err = run("--output", output)
    assert (found, out) == (code, "") and why in err and err.count("\n") == 1
    assert not output.exists()


def test_a_folder_that_is_not_there(run: Run, statefiles: list[StateFile], tmp_path: Path) -> None:
    output = tmp_path / "missing" / "popular.prom"
    assert run("--output", output) == (1, "", f"pstatus: {output}: No such file or directory\n")
    (tmp_path / "popular.prom").mkdir()
    assert run("--output", tmp_path / "popular.prom")[0] == 1
    assert not (tmp_path / "popular.prom.new").exists()


@pytest.mark.parametrize("options", [["-a"], ["--json"], ["-l"], ["-r", "1"], ["--top"]])
def test_options_that_do_not_go_together(run: Run, statefiles: list[StateFile], options: list[str]) -> None:
    code, out, err = run(*options)
    assert (code, out) == (64, "") and "argument --metrics: not allowed" in err


def test_the_command_line(statefiles: list[StateFile], tmp_path: Path) -> None:
    done = pstatus("--output", "x", "-R", tmp_path)
    assert done.returncode == 64 and "only allowed with argument --metrics" in done.stderr
    done = pstatus("--metrics", "-R", tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("# HELP popular_up ")
