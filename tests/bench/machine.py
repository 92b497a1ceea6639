"""What a run was made on: machine, system, versions of everyone, and the commit."""

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from popular.version import VERSION
from tests.bench.foreground import find_program
from tests.harness.daemon import ROOT

_VERSIONS: dict[str, Sequence[str]] = {
    "dovecot": ("--version",), "nginx": ("-v",), "perdition": ("--help",), "haproxy": ("-v",)}


def describe() -> dict[str, Any]:
    """Return it all, for the results."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "commit": commit(),
        "popular": VERSION,
        "python": platform.python_version(),
        "system": _pretty_name(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load_before": os.getloadavg()[0],
        "peers": {name: version for name in _VERSIONS if (version := _version(name))},
    }


def commit() -> str:
    """Return the commit of this checkout, with + behind it when something is changed; empty without git."""
    try:
        words = [subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                check=True, timeout=10).stdout.decode().strip()
                 for arguments in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "-uno"))]
    except (OSError, subprocess.SubprocessError):
        return ""
    return words[0] + ("+" if words[1] else "")


def _version(name: str) -> str:
    program = find_program(name)
    if program is None:
        return ""
    done = subprocess.run([program, *_VERSIONS[name]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10,
                          check=False)
    lines = done.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else ""


def _pretty_name() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return platform.system()
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
