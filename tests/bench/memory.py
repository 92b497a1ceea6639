"""The memory of a process tree by program, each page shared by N processes counted as a Nth of it (PSS).

Runs in the warden.  Processes that end meanwhile, or may not be read, are left out.
"""

import contextlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.harness.system import descendants_of

_INTERPRETERS = ("python", "pypy")


def pss_by_program(top: int) -> dict[str, int]:
    """Return the PSS in octets of everything below `top`, summed up by program."""
    sums: Counter[str] = Counter()
    for pid in descendants_of(top):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            sums[program_of(pid)] += weight_of(pid).pss
    return dict(sums)


class Weight(NamedTuple):
    """The memory of one process in octets."""

    pss: int        # what it shares with N others counted as a Nth
    rss: int        # all of it, whoever else has it


def weight_of(pid: int) -> Weight:
    """Return the memory of one process; raises OSError, StopIteration."""
    lines = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return Weight(*(1024 * int(next(words[1] for words in lines if words[0] == name)) for name in ("Pss:", "Rss:")))


def program_of(pid: int) -> str:
    """Return the name of what a process runs: the daemon's name where an interpreter runs it; raises OSError."""
    title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    word = title.partition(" ")[0]
    if word.endswith(":"):                       # a title such as `pproxy: master`
        return word.rstrip(":")
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    if name.startswith(_INTERPRETERS):
        return next((Path(part).name for part in title.split()[1:] if "/" in part), name)
    return name
