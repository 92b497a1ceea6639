"""Which messages of the catalogue were really written while the tests ran.

Every test's folders are looked through when it is over: whatever daemon or tool ran in it has left
its log there.  Lines that a test wrote itself count as well, except where the log as such is tested
(with rows that are only examples).
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

DEPTH = 4                                # folders below a test's own
NO_LOGS = frozenset(("new", "cur", "tmp"))    # of mailboxes, which may be many

_HEAD = re.compile(rb'\d{8} \d{6} |\{"time":"|<\d+>')
_CLASSIC = re.compile(rb"^\d{8} \d{6} \S+ \S+ (\d+) \S+ [A-Z]{3} ([0-9a-f]{4}) ([a-z0-9_]+)", re.MULTILINE)
_JSON = re.compile(rb'"pid":(\d+),"session":"[^"]*","level":"[A-Z]{3}","number":"([0-9a-f]{4})","name":"([a-z0-9_]+)"')


class Seen:
    """The messages that were seen in logs, by number and name."""

    def __init__(self) -> None:
        self.messages: set[tuple[int, str]] = set()

    def look_through(self, folder: Path, *, is_about_logs: bool = False) -> None:
        """Note every message in the logs below `folder`; `is_about_logs`: but none that this process wrote."""
        for path in files_below(folder):
            self.messages |= {(number, name) for pid, number, name in messages_in(path)
                              if not (is_about_logs and pid == os.getpid())}


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files in which logs could be."""
    for where, folders, names in os.walk(folder):
        deep = len(Path(where).relative_to(folder).parts) >= DEPTH
        folders[:] = [] if deep else [name for name in folders if name not in NO_LOGS]
        for name in names:
            path = Path(where, name)
            if path.is_file() and not path.is_symlink():
                yield path


def messages_in(path: Path) -> Iterable[tuple[int, int, str]]:
    """Return process id, number and name of each event in a file; none when it is no log."""
    try:
        with path.open("rb") as file:
            start = file.read(20)
            data = start + file.read() if _HEAD.match(start) else b""
    except OSError:    # not ours to read
        return []
    return [(int(pid), int(number, 16), name.decode())
            for form in (_CLASSIC, _JSON) for pid, number, name in form.findall(data)]


def is_full_run(args: Iterable[str], options: Iterable[object], collected: Iterable[Path], root: Path) -> bool:
    """Tell whether all tests below `root` are run: no single ones in `args`, none left out by `options`."""
    return (not any("::" in word for word in args) and not any(options)
            and {path.resolve() for path in collected} >= {path.resolve() for path in root.rglob("test_*.py")})
