"""What a run was made on: machine, system, versions of everyone, and the commit."""

import os
import platform
import subprocess
import time
from collections import Counter
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
        "usable_cores": len(os.sched_getaffinity(0)),
        "threads_per_core": threads_per_core(),
        "congestion": _congestion(),
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


def threads_per_core(folder: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """Return how many of what the kernel calls a CPU share one core, the most there are; None when it does not tell."""
    try:
        cores = [path.read_text().strip() for path in folder.glob("cpu[0-9]*/topology/core_cpus_list")]
    except OSError:
        return None
    return max(Counter(cores).values(), default=None)


def _congestion() -> str:
    """Return the TCP congestion control, which also paces what goes over loopback; empty when it cannot be read."""
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return ""


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
