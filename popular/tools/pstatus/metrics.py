"""The output of pstatus for Prometheus, through the textfile collector of its node_exporter.

Part of the tool pstatus.  Raises NotAStateFile for anything but a state file, and OSError if reading or writing fails.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from popular.statefile.prometheus import StateSnapshot, exposition
from popular.statefile.reader import NotAStateFile
from popular.tools.pstatus.snapshot import Snapshot, take

_MODE = 0o644    # the collector is another user


@dataclass(frozen=True, slots=True)
class MetricsWanted:
    """What to output."""

    paths: Sequence[str]    # state files; missing ones are left out
    output: str | None      # None: standard output


def tell(wanted: MetricsWanted) -> None:
    """Output the metrics of all daemons with state files.

    Without such a file, or if one cannot be read, the output file is removed, because it would be out of date.
    """
    try:
        text = exposition([StateSnapshot(one.head, one.rows, one.totals, one.per_name, one.failures, one.backends,
                                         one.is_running)
                           for one in snapshots(wanted.paths)])
    except (OSError, NotAStateFile):
        if wanted.output is not None:
            _remove(wanted.output)
        raise
    if wanted.output is None:
        print(text, end="", flush=True)
    else:
        replace(wanted.output, text)


def snapshots(paths: Sequence[str]) -> list[Snapshot]:
    """Read those state files that exist; raises FileNotFoundError if none does."""
    found: list[Snapshot] = []
    for path in paths:
        try:
            found.append(take(path))
        except FileNotFoundError:
            continue
        except NotAStateFile as why:
            raise NotAStateFile(f"{path}: {why}") from why
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), paths[-1])
    return found


def replace(path: str, text: str) -> None:
    """Replace a file, so that nobody ever reads a part of it."""
    fresh = f"{path}.new"    # not *.prom, so that it is not collected
    _remove(fresh)
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            os.fchmod(fd, _MODE)
            file.write(text)
        os.rename(fresh, path)
    except OSError as why:
        _remove(fresh)
        raise OSError(why.errno, why.strerror, path) from why


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:    # missing, or the folder is not writable, which writing will report
        pass
