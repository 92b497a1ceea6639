"""Objects that live as long as the master: which, that Python can live with them, and what is done without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from popular.log.message import Event
from popular.log.writer import Log
from popular.proc import immortal

ROOT = Path(__file__).resolve().parents[2]
VERSION = sys.version_info[:2]

needs_them = pytest.mark.skipif(VERSION not in immortal._COUNTS, reason="this Python has none, or unknown ones")

START = f"""
import gc, importlib, json, sys
sys.path.insert(0, {str(ROOT)!r})
from popular.log.writer import Log
from popular.proc import immortal

class Silent:
    def write(self, event):
        sys.exit(event.message.name)

log = Log("test", Silent())
"""
HELD = START + """
import enum, mmap, socket, types

class Other:
    pass

held = types.ModuleType("held")
held.function = lambda word="word-of-its-own", *words: [socket.socket(*words), Other]
held.number, held.table, held.of_classes = 123456, {"key-of-its-own": ("tuple",)}, immortal
held.member = enum.Enum("Member", "ONE").ONE
held.log = log
held.other, held.map, held.octets = Other(), mmap.mmap(-1, 10), bytearray(b"octets")
held.file, held.view = open(__import__("os").devnull), memoryview(b"view")
held.generator, held.iterator = (each for each in "abc"), iter([1])
mortals = ("other", "map", "octets", "file", "view", "generator", "iterator")
immortal.make_immortal([held], log)
lasting = [name for name, value in vars(held).items() if sys.getrefcount(value) == sys.getrefcount(None)]
within = held.function.__code__, held.function.__defaults__[0], held.table["key-of-its-own"], type(held.member), Silent
print(json.dumps([[name for name in mortals if name in lasting],
                  [name for name in vars(held) if name not in (*lasting, *mortals)],
                  [sys.getrefcount(each) == sys.getrefcount(None) for each in within]]))
held.file.close()
"""
WHOLE = START + """
spec = importlib.import_module("popular.pproxy.spec").SPEC
importlib.import_module("popular.daemon.start.boot")
for _ in range(2):
    immortal.make_immortal([*sys.modules.values()], log)
    gc.unfreeze()
    gc.collect()
    gc.freeze()
assert sys.getrefcount(spec) == sys.getrefcount(None)
"""


def run(script: str) -> str:
    """Return what a script prints in an interpreter that checks its memory, also at its end."""
    result = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", script], capture_output=True, text=True,
                            timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@needs_them
def test_what_holds_something_to_be_closed_stays_mortal() -> None:
    assert json.loads(run(HELD)) == [[], [], [True] * 5]


@needs_them
def test_the_whole_program_can_be_immortal_and_end() -> None:
    assert run(WHOLE) == ""


class Lines:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.whys: list[object] = []

    def write(self, event: Event) -> None:
        """Keep the reason."""
        assert event.message.name == "objects_mortal"
        self.whys.append(event.fields["why"])

    def reopen(self) -> None:
        """Do nothing."""

    def fileno(self) -> int:
        """Return no descriptor."""
        return -1


@pytest.mark.parametrize("counts, why", [
    ({(3, 99): 1}, []),
    ({(3, 0): 1}, [f"Python 3.{VERSION[1]} is not known"]),
    ({VERSION: 1}, ["counts of references are not where they are expected"]),
])
def test_another_python_is_left_as_it_is(monkeypatch, counts, why) -> None:
    monkeypatch.setattr(immortal, "_COUNTS", counts)
    lines = Lines()
    thing = object()
    count = sys.getrefcount(thing)
    immortal.make_immortal([thing], Log("test", lines))
    assert lines.whys == why
    assert sys.getrefcount(thing) == count


@pytest.mark.parametrize("module, name, value", [
    ("sys", "abiflags", "t"), ("sys", "maxsize", (1 << 31) - 1), ("sys.implementation", "name", "pypy")])
def test_other_builds_are_left_as_they_are(monkeypatch, module, name, value) -> None:
    monkeypatch.setattr(f"{module}.{name}", value)
    assert immortal._trouble(1) == "this build of Python has other objects"
