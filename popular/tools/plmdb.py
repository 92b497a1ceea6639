"""plmdb: make and change the users file of the module lmdb, with the text that the module passwd reads.

    plmdb [--all | --delete | --dump] FILE [TEXT]

Lines of TEXT (stdin if omitted or `-`) are `USER:HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]`, in any order;
empty lines and lines that begin with `#` are skipped.  Their users are added to FILE, or replaced.  With
`--all`, users that TEXT lacks are removed; with `--delete`, those are that TEXT has, of whose lines only the
names count.  `--dump` writes all lines to standard output, sorted as the module passwd wants them.

FILE changes in one transaction: who reads it meanwhile sees all of the change or nothing, and so it is after
a crash.  If a line is wrong or a user is given twice, all mistakes are reported and FILE is not changed.  FILE and
FILE-lock, when they are new, can be read and written by owner and group, FILE only read by the group; of root's, the
group is that of the daemons.  Exit codes:

    0   FILE is on disk
    64  wrong command line
    65  a line of TEXT is wrong
    66  TEXT, or FILE with `--dump`, cannot be read
    69  the Python package lmdb is missing
    70  an unexpected error
    73  FILE cannot be written
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from popular.config.parser import Parser
from popular.errors import PdmError
from popular.pdm.drivers import driver
from popular.stderr import complain_as
from popular.store.folders import sync_folder
from popular.tools.pmakecdb import GROUP, BadText, give_to_group, group_id, open_text, parse
from popular.tools.printing import main_of_secrets
from popular.version import VERSION

MAX_DATABASE = 64 << 30      # octets of FILE
READERS = 4096           # look-ups at one time, as in the module
FILE_MODE = 0o640
LOCK_MODE = 0o660        # readers write their numbers there

_complain = partial(complain_as, "plmdb")


def main() -> int:
    """Run `plmdb`; returns its exit code."""
    return main_of_secrets(run, _complain)


def run(argv: Sequence[str]) -> int:
    """Do what `argv` wants; return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        lmdb = driver("lmdb", "lmdb")
    except PdmError as why:
        _complain(str(why))
        return os.EX_UNAVAILABLE
    try:
        if arguments.dump:
            return _dump(lmdb, arguments.file)
        return _change(lmdb, arguments)
    except BadText:
        return os.EX_DATAERR
    except (OSError, lmdb.Error) as why:
        _complain(f"{arguments.file}: {why.strerror if isinstance(why, OSError) else why}")
        return os.EX_NOINPUT if arguments.dump else os.EX_CANTCREAT


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(prog="plmdb", description="Make or change the users file of the module lmdb from lines of users.",
                    allow_abbrev=False, add_help=False)
    deeds = parser.add_mutually_exclusive_group()
    deeds.add_argument("-a", "--all", action="store_true", help="remove the users that TEXT lacks")
    deeds.add_argument("-d", "--delete", action="store_true", help="remove the users that TEXT has")
    deeds.add_argument("--dump", action="store_true", help="write the lines of all users; TEXT is not read")
    parser.add_argument("-g", "--group", type=group_id, metavar="GROUP",
                        help=f"the group of a new FILE that root makes (default {GROUP}, if it exists)")
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"plmdb {VERSION}")
    parser.add_argument("file", metavar="FILE", help="the database")
    parser.add_argument("text", metavar="TEXT", nargs="?", default="-",
                        help="lines USER:HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]; - is standard input (default -)")
    return parser


def _change(lmdb: Any, arguments: Any) -> int:
    """Add, replace or delete users; raises BadText, OSError and the driver's Error."""
    try:
        with open_text(arguments.text) as text:
            lines = text.read().split(b"\n")
    except OSError as why:
        _complain(f"{arguments.text}: {why.strerror}")
        return os.EX_NOINPUT
    pairs = [] if arguments.delete else sorted(parse(lines, arguments.text, _complain))
    with lmdb.open(arguments.file, subdir=False, map_size=min(MAX_DATABASE, sys.maxsize >> 1), mode=0o600,
                   max_readers=READERS) as environment:
        is_new = environment.info()["last_txnid"] == 0    # made now, or by a plmdb that came no further
        if is_new:
            _give(arguments.file, arguments.group)
        environment.reader_check()    # those that were killed would keep old pages
        with environment.begin(write=True) as transaction:
            if arguments.all:
                _remove_others(transaction, {key for key, _ in pairs})
            is_empty = transaction.stat()["entries"] == 0
            with transaction.cursor() as cursor:
                cursor.putmulti(pairs, append=is_empty)
            for key in _names(lines) if arguments.delete else ():
                transaction.delete(key)
    if is_new:
        sync_folder(os.path.dirname(os.path.realpath(arguments.file)))
    return 0


def _dump(lmdb: Any, path: str) -> int:
    """Write all lines; raises OSError and the driver's Error."""
    os.stat(path)
    with lmdb.open(path, subdir=False, readonly=True, create=False, max_readers=READERS) as environment:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            for key, record in cursor:
                sys.stdout.buffer.write(b"%b:%b\n" % (key, record))
    sys.stdout.buffer.flush()
    return 0


def _names(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the names in lines that may have no more than a name."""
    for line in lines:
        name = line.removesuffix(b"\r").partition(b":")[0]
        if name and not name.startswith(b"#"):
            yield name


def _remove_others(transaction: Any, kept: set[bytes]) -> None:
    """Delete all users but some."""
    with transaction.cursor() as cursor:
        is_there = cursor.first()
        while is_there:    # deleting moves on to the next
            is_there = cursor.next() if cursor.key() in kept else cursor.delete() and bool(cursor.key())


def _give(path: str, group: int | None) -> None:
    """Let the daemons read a new file and use its lock; raises OSError."""
    for name, mode in ((path, FILE_MODE), (f"{path}-lock", LOCK_MODE)):    # by name: to close it would unlock it
        if os.geteuid() == 0:
            give_to_group(name, group)
        os.chmod(name, mode)
