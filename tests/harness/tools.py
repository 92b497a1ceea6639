"""Running programs to their end, as an administrator does: by the nursery, if there is one, at a fifth of the cost.

Tests of signals, terminals, descriptors and environment start programs themselves.
"""

import os
import subprocess
import sys
from pathlib import Path

from tests.harness.daemon import ROOT, Daemon

SECONDS = 60.0    # that a program may take

Word = str | bytes | Path


def run_tool(program: str, *words: Word, stdin: str = "",
             folder: Path | str = "/") -> "subprocess.CompletedProcess[str]":
    """Run a program of bin/ in `folder`; raises subprocess.TimeoutExpired."""
    done = run_octets(program, *words, stdin=stdin.encode(), folder=folder)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_octets(program: str, *words: Word, stdin: bytes = b"",
               folder: Path | str = "/") -> "subprocess.CompletedProcess[bytes]":
    """Do the same with octets."""
    arguments = [os.fsdecode(word) for word in words]
    if Daemon.nursery is not None and Daemon.nursery.fits():
        return Daemon.nursery.run(program, arguments, stdin, str(folder), SECONDS)
    return subprocess.run([sys.executable, str(ROOT / "bin" / program), *arguments], input=stdin, capture_output=True,
                          timeout=SECONDS, cwd=folder)
