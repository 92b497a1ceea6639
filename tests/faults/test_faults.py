"""The short form of `make faults`: some faults of each scene, spread over all its system calls."""

import signal
from pathlib import Path

import pytest

from tests.faults.__main__ import Stage, shares, spread
from tests.faults.databases import OLD, ConstantDatabase
from tests.faults.inject import KILL, Fault, faults_of, run
from tests.faults.scene import Scene
from tests.faults.scenes import SCENES

FAULTS = 4    # of each scene; the whole takes a quarter of a minute
SHORT = [kind for kind in SCENES if not kind.is_variant]
VARIANTS = [kind for kind in SCENES if kind.is_variant]


@pytest.mark.limit(180)    # on a busy machine
@pytest.mark.parametrize("kind", SHORT, ids=lambda kind: kind.__name__)
def test_nothing_is_lost_or_torn_whatever_fails(tmp_path: Path, kind: type[Scene]) -> None:
    result = Stage(kind, tmp_path, 2).play(FAULTS)
    assert result.faults == FAULTS
    assert result.stories == []


@pytest.mark.parametrize("kind", VARIANTS, ids=lambda kind: kind.__name__)
def test_without_a_fault_all_goes_well(tmp_path: Path, kind: type[Scene]) -> None:
    scene = kind(tmp_path)
    scene.prepare()
    code, output = run(scene.program(), scene.stdin, scene.environment)
    assert (code, scene.check(code, output, None).wrong) == (0, []), output


def test_a_kill_kills(tmp_path: Path) -> None:
    scene = ConstantDatabase(tmp_path)
    scene.prepare()
    code, _ = run(scene.command(Fault("fsync", 1, KILL).words), scene.stdin, scene.environment)
    assert (code, scene.state()) == (-signal.SIGKILL, OLD)


def test_faults_begin_behind_the_marker() -> None:
    trace = "17 read(3, ...) = 1\n17 close(3) = 0\nopen MARK\nlstat(\"MARK\") = -1\nread(4) = 0\nexit_group(0) = ?\n"
    assert [str(fault) for fault in faults_of(trace, "MARK\")")] == [
        "read 2 EIO", "read 2 ENOMEM", "read 2 KILL", "exit_group 1 KILL"]


def test_faults_are_spread_and_shared() -> None:
    faults = [Fault("read", number, "EIO") for number in range(100)]
    assert [fault.ordinal for fault in spread(faults, 4)] == [0, 25, 50, 75]
    assert spread(faults, 1000) == faults
    assert shares([50, 1000, 400], 300) == [50, 125, 125]
    assert shares([50, 10], 300) == [50, 10]
