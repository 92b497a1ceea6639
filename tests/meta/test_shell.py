"""Shell scripts: shellcheck finds nothing in any of them, and the init scripts differ in their heads only."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.needs import need_program

ROOT = Path(__file__).resolve().parents[2]
DAEMONS = ("pcheckd", "plmtpd", "pproxy", "pserv", "ringd")
FAMILIES = ("debian", "redhat")
NOT_OURS = frozenset((".git", ".venv", ".hypothesis", "build", "dist", "run", "__pycache__"))

_IS_SHELL = re.compile(rb"(#!.*[/ ](da|ba)?sh\b|# shellcheck shell=)")


def shell_scripts(root: Path) -> Iterator[Path]:
    """Yield every file whose first line says that a shell reads it."""
    for where, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - NOT_OURS)
        for name in sorted(names):
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if _IS_SHELL.match(file.read(100)):
                        yield path


def test_shellcheck_finds_nothing():
    scripts = [str(path.relative_to(ROOT)) for path in shell_scripts(ROOT)]
    assert {".ci/run", "scripts/install.sh", "etc/init.d/functions", "etc/default/popular",
            *(f"etc/init.d/{family}/{daemon}" for family in FAMILIES for daemon in DAEMONS)} <= set(scripts)
    found = subprocess.run([need_program("shellcheck"), "--external-sources", "--source-path", ROOT, *scripts],
                           cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (found.stdout, found.stderr, found.returncode) == ("", "", 0)


def test_shell_scripts_are_found_by_their_first_line(tmp_path):
    texts = {"a": "#!/bin/sh\n", "b": "#! /usr/bin/env bash\n", "c": "# shellcheck shell=sh\n",
             "d": "#!/usr/bin/env python3\n", "e": "text\n#!/bin/sh\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert [path.name for path in shell_scripts(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("family", FAMILIES)
def test_init_scripts_of_a_family_do_the_same(family):
    texts = {daemon: (ROOT / "etc/init.d" / family / daemon).read_text() for daemon in DAEMONS}
    bodies = {text.partition("\nDESC=")[2].partition("\n")[2] for text in texts.values()}
    assert len(bodies) == 1
    for daemon, text in texts.items():
        head = text.partition("\nDESC=")[0]
        assert head.endswith(f"\nNAME={daemon}")
        named = re.findall(r"^# (?:Provides|processname|config|pidfile): +(?:\S*/)?(\w+)", head, re.MULTILINE)
        assert set(named) == {daemon}
