"""pmakecdb: make a constant database for the module cdb from the text that the module passwd reads.

    pmakecdb FILE [TEXT]

TEXT (stdin if omitted or `-`) has lines `USER:HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]`, in any
order; empty lines and lines that begin with `#` are skipped.  FILE is replaced as a whole: the new
database is written beside it, synced to disk and renamed, so a reader sees the old or the new one.  It keeps owner
and mode of the file that it replaces; a new one can be read by owner and group.  If root makes it, it gets the group
of the daemons, which could not read it otherwise.  If a line is wrong or a user is given twice, all mistakes are
reported and FILE is not changed.  Exit codes:

    0   FILE is on disk
    64  wrong command line
    65  a line of TEXT is wrong
    66  TEXT cannot be read
    70  an unexpected error
    73  FILE cannot be written
"""

import argparse
import grp
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from popular.config.parser import Parser
from popular.pdm import records
from popular.pdm.api import Answer, Outcome
from popular.pdm.asking.validation import fault_of
from popular.pdm.databases import cdbfile
from popular.stderr import complain_as
from popular.store.folders import sync_folder
from popular.tools.printing import main_of_secrets
from popular.version import VERSION

NEW_MODE = 0o640
GROUP = "pop"    # of the daemons by default

_complain = partial(complain_as, "pmakecdb")


class BadText(Exception):
    """TEXT has mistakes; they have been reported."""


def main() -> int:
    """Run `pmakecdb`; returns its exit code."""
    return main_of_secrets(run, _complain)


def run(argv: Sequence[str]) -> int:
    """Make the database that `argv` names; return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        with open_text(arguments.text) as text:
            lines = text.read().split(b"\n")
    except OSError as why:
        _complain(f"{arguments.text}: {why.strerror}")
        return os.EX_NOINPUT
    try:
        users = parse(lines, arguments.text, _complain)
        replace_file(arguments.file, lambda output: cdbfile.write(output, users), arguments.group)
    except BadText:
        return os.EX_DATAERR
    except (OSError, ValueError) as why:
        _complain(f"{arguments.file}: {why.strerror if isinstance(why, OSError) else why}")
        return os.EX_CANTCREAT
    return 0


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(prog="pmakecdb", description="Make a constant database for the module cdb from lines of users.",
                    allow_abbrev=False, add_help=False)
    parser.add_argument("-g", "--group", type=group_id, metavar="GROUP",
                        help=f"the group of a new FILE that root makes (default {GROUP}, if it exists)")
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"pmakecdb {VERSION}")
    parser.add_argument("file", metavar="FILE", help="the database")
    parser.add_argument("text", metavar="TEXT", nargs="?", default="-",
                        help="lines USER:HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]; - is standard input (default -)")
    return parser


def group_id(name: str) -> int:
    """Return the number of a group.  Raises ArgumentTypeError."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise argparse.ArgumentTypeError(f"no such group '{name}'") from None


def open_text(path: str) -> BinaryIO:
    """Open TEXT; raises OSError."""
    return open(sys.stdin.fileno(), "rb", closefd=False) if path == "-" else open(path, "rb")


def parse(lines: Iterable[bytes], where: str, complain: Callable[[str], None]) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and record of each line; reports mistakes, and raises BadText at the end if there were any."""
    seen: set[bytes] = set()
    mistakes = 0
    for number, line in enumerate(lines, 1):
        line = line.removesuffix(b"\r")
        if not line or line.startswith(b"#"):
            continue
        key, _, record = line.partition(b":")
        fault = "the user is given twice" if key in seen else fault_of_line(key, record)
        if fault:
            complain(f"{where}:{number}: {fault}")
            mistakes += 1
        else:
            seen.add(key)
            yield key, record
    if mistakes:
        raise BadText


def fault_of_line(key: bytes, record: bytes) -> str:
    """Return what is wrong with a user's name or record, or an empty string."""
    if records.key_of(key.decode("utf-8", "surrogateescape")) is None:
        return f"must have a user's name of 1 to {records.MAX_KEY} octets before the first colon"
    try:
        return fault_of(Answer(Outcome.OK, records.parse_record(record).found))
    except ValueError as why:
        return str(why)


def replace_file(path: str, write: Callable[[BinaryIO], object], group: int | None = None) -> None:
    """Let `write` make a file beside `path`, sync it to disk and rename it; raises what `write` raises, and OSError.

    `group`: the group of a new file, if root makes it; None: that of the daemons.
    """
    target = os.path.realpath(path)
    new = f"{target}.{os.getpid()}.new"
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w+b") as output:
            write(output)
            output.flush()
            _keep_rights(fd, target, group)
            os.fsync(fd)
        os.rename(new, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise
    sync_folder(os.path.dirname(target))


def _keep_rights(fd: int, old: str, group: int | None) -> None:
    """Give the new file the owner and mode of the one that it replaces.  Raises OSError."""
    try:
        status = os.stat(old)
    except FileNotFoundError:
        if os.geteuid() == 0:
            give_to_group(fd, group)
        os.fchmod(fd, NEW_MODE)
        return
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


def give_to_group(file: int | str, group: int | None) -> None:
    """Let the daemons read a file of root's; if their default group is missing, do nothing.  Raises OSError."""
    if group is None:
        try:
            group = grp.getgrnam(GROUP).gr_gid
        except KeyError:
            return
    os.chown(file, -1, group)
