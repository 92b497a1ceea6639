"""What modules write: lines for the log, in which no password can be read."""

import subprocess
import sys
from pathlib import Path

import pytest

from popular.pdm.asking import output
from popular.pdm.asking.output import lines_of

SECRET = "sésame 'ö\\".encode()


@pytest.mark.parametrize("written, wanted", [
    pytest.param(b"asked for joe\n", [b"asked for joe"], id="harmless"),
    pytest.param(b"pw=" + SECRET + b"!\n", [b"pw=***!"], id="as it is"),
    pytest.param(f"pw={SECRET!r}\n".encode(), [b'pw=b"***"'], id="as octets"),
    pytest.param(f"pw={SECRET.decode()!r}\n".encode(), [b'pw="***"'], id="as a text"),
    pytest.param(f"pw={SECRET.decode()!a}\n".encode(), [b'pw="***"'], id="as an ASCII text"),
    pytest.param(SECRET.hex().encode(), [b"***"], id="in hex"),
    pytest.param(b"c8Opc2FtZSAnw7Zc", [b"***"], id="in base64"),
    pytest.param(b"\n  \na\r\nb", [b"a", b"b"], id="empty lines"),
    pytest.param(b"", [], id="nothing"),
])
def test_a_password_is_masked_in_whatever_form(written: bytes, wanted: list[bytes]) -> None:
    assert lines_of(written, (SECRET, b"")) == wanted


def test_of_an_output_that_was_cut_the_last_line_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_ROOM", 20)
    assert lines_of(b"one\ntwo\nthe password", (b"the password is",)) == [b"one", b"two"]
    assert lines_of(b"and the password is ", (b"the password is open",)) == []


SCRIPT = """
import os, subprocess, sys
from popular.log.writer import Log
from popular.pdm.asking.output import ModuleOutput

caught = ModuleOutput(Log.open("pproxy", sys.argv[1]))
caught.catch()
caught.catch()
caught.log("odd", b"secret")
for number in range(20_000):
    print("line", number, "secret")
caught.log("odd", b"secret")
print("print", end="")
sys.stderr.write(" stderr")
os.write(2, b" write ")
subprocess.run(["echo", "program secret"])
caught.log("odd", b"secret")
"""


def test_everything_that_a_process_writes_is_caught_and_bounded(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "log"], capture_output=True, timeout=30, check=True)
    assert done.stdout == done.stderr == b""
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == output.MAX_OUTPUT_LINES + 1
    assert lines[0].endswith("text='line 0 ***'")
    assert lines[-1].endswith(" ADM 0260 pdm_output module='odd' line=1 of=1 text='print stderr write program ***'")
    assert "secret" not in "".join(lines)
