"""A machine of a test's own, on which commands can be typed as they stand in a text, with the paths that stand there.

    answers = typed(tmp_path, ["useradd --system pop", "echo hello > /etc/hello"])

The commands run one after the other in one shell, as root, among the programs of this machine and those of POPular, on
a disk in memory and a network with nothing but loopback.  All that they start ends with the last one.  Linux, root.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.daemon import ROOT
from tests.harness.needs import lacking, need_program

_MARK = "@@ house @@"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command did."""

    code: int
    output: str    # standard output and error


def typed(folder: Path, commands: Sequence[str], paths: Sequence[Path] = (), seconds: float = 100.0) -> list[Answer]:
    """Type the commands and return what each did; `folder` is for our own needs, and stays as empty as it was.

    Of this machine, the folders `paths` are there, too.

    Skips the test, with CI=true fails it, where no such machine can be had.  Raises AssertionError when the shell ended
    before the last command.
    """
    if os.geteuid() != 0:
        lacking("root")
    for name in ("unshare", "ip", "chroot"):
        need_program(name)
    new = folder / "root"
    new.mkdir()
    script = folder / "script"
    script.write_text(_script(commands))
    python = {str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix) if path != "/usr"}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", str(ROOT / "tests/harness/house.sh"),
         str(new), str(script), *sorted({str(ROOT), str(folder), *python, *map(str, paths)})],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, env=_environment(),
        cwd="/")
    new.rmdir()
    script.unlink()
    text = done.stdout.decode("utf-8", "replace")
    if text.startswith("unshare: "):
        lacking(f"the right to make namespaces ({text.strip()})")
    before, *parts = text.split(f"{_MARK}\n")
    assert len(parts) == 2 * len(commands) and not before, text
    return [Answer(int(code), output) for output, code in zip(parts[::2], parts[1::2])]


def _script(commands: Sequence[str]) -> str:
    """Return a shell script that marks where the output of each command and its exit code are."""
    lines = ["cd /root"]
    for command in commands:
        lines += [f"echo '{_MARK}'", f"{command}", f"house_code=$?; echo '{_MARK}'; echo $house_code"]
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    programs = [str(ROOT / "bin"), str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {"PATH": ":".join(programs), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
            "HOME": "/root"}
