"""pmailbox: print which mailbox a user has by a pattern: `pmailbox joe.doe` prints `9/3e/joe.doe`; or what one holds.

    pmailbox [--levels LEVELS | --pattern PATTERN] [--namespace NS] [--map] [USER]...
    pmailbox --usage [--mailboxdir DIR] [MAILBOX]...
    pmailbox --usage --user [--mailboxdir DIR] [--config FILE] [--namespace NS] [--backend ID]... [USER]...

The first form helps to fill a database or a map of a mail transfer agent; the database module any makes the same names.
It touches no mailbox.  Runs in its own process; nothing else imports it.  Without names, and for `-`, they are read
from standard input, one per line.  Exit codes:

    0   a line was printed for each name
    64  wrong command line
    65  some names give no mailbox, or theirs cannot be read; the others were printed
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

from popular.config.parser import Parser
from popular.names import is_id, is_mailbox
from popular.paths import CONFDIR, SPOOLDIR
from popular.pdm.pattern import MARKS, MAX_DIGITS, Pattern, pattern_of_levels
from popular.stderr import complain
from popular.tools.printing import main_of
from popular.version import VERSION

_LEVELS = "1,2"          # 16 folders with 256 each
NAMESPACE = "default"    # of a virtual server that has no other


def main() -> int:
    """Run `pmailbox`; returns its exit code."""
    return main_of(run, os.EX_DATAERR)


def run(argv: Sequence[str]) -> int:
    """Print a line for each user or mailbox that `argv` or standard input names; return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    names = users(arguments.name or ["-"])
    if arguments.usage:
        from popular.tools.pmailbox.usage import print_usage    # only this needs pproxy's settings

        return print_usage(arguments, names)
    if arguments.user:
        parser.error("--user needs --usage")
    pattern = arguments.pattern or arguments.levels
    code = 0
    for user in names:
        mailbox = pattern.mailbox(user, arguments.namespace or NAMESPACE)
        if mailbox is None or not is_mailbox(mailbox):
            complain(f"pmailbox: {user!a}: no mailbox can be made of this name")
            code = os.EX_DATAERR
            continue
        line = f"{user} {mailbox}" if arguments.map else mailbox
        sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
    return code


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(prog="pmailbox", description="Print which mailbox a user has by a pattern, or what it holds.",
                    allow_abbrev=False, add_help=False)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-l", "--levels", type=levels, default=_LEVELS, metavar="LEVELS",
                      help="folders above the mailbox: for each level its number of hexadecimal digits, separated by "
                           f"commas (default {_LEVELS})")
    form.add_argument("-p", "--pattern", type=pattern, metavar="PATTERN",
                      help=f"how the name is made, in place of --levels: any text with {MARKS.replace('%', '%%')}")
    parser.add_argument("-n", "--namespace", type=namespace, metavar="NS",
                        help=f"what %%n stands for (default {NAMESPACE}); with --user: the namespace (default: that of "
                             "the virtual servers, if they have the same)")
    parser.add_argument("--map", action="store_true", help="print the user and a space before each mailbox")
    parser.add_argument("--usage", action="store_true",
                        help="print messages, octets and name of each mailbox instead")
    parser.add_argument("-m", "--mailboxdir", default=SPOOLDIR, metavar="DIR",
                        help=f"with --usage: folder of the mailboxes (default {SPOOLDIR})")
    parser.add_argument("-u", "--user", action="store_true",
                        help="with --usage: the names are those of users, and before each are percent, size in MiB and "
                             "number of the quota in their record")
    parser.add_argument("-c", "--config", default=f"{CONFDIR}/pproxy.conf", metavar="FILE",
                        help=f"with --user: INI file of pproxy (default {CONFDIR}/pproxy.conf)")
    parser.add_argument("-b", "--backend", action="append", default=[], metavar="ID",
                        help="with --user: the backend that has the mailboxes in DIR; may be given several times "
                             "(default: the only one that has mailboxes)")
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"pmailbox {VERSION}")
    parser.add_argument("name", metavar="USER", nargs="*",
                        help="a user's name as their client sends it, or with --usage a mailbox; - is standard input, "
                             "one per line (default -)")
    return parser


def levels(text: str) -> Pattern:
    """Read the digits of each level; raises ArgumentTypeError."""
    words = text.split(",")
    if not all(word in {*"12345678"} for word in words):
        raise argparse.ArgumentTypeError("must be numbers from 1 to 8, separated by commas")
    if sum(map(int, words)) > MAX_DIGITS:
        raise argparse.ArgumentTypeError(f"at most {MAX_DIGITS} digits in total are possible")
    return Pattern(pattern_of_levels([int(word) for word in words]))


def pattern(text: str) -> Pattern:
    """Read a pattern; raises ArgumentTypeError."""
    try:
        return Pattern(text)
    except ValueError as why:
        raise argparse.ArgumentTypeError(str(why)) from None


def namespace(text: str) -> str:
    """Read a namespace; raises ArgumentTypeError."""
    if not is_id(text):
        raise argparse.ArgumentTypeError("must be an id of 1 to 64 letters, digits, ., - and _")
    return text


def users(words: Sequence[str]) -> Iterator[str]:
    """Yield every user that is named, those of standard input for `-`; empty lines there are skipped.

    As in a session, octets that are not UTF-8 are surrogates, whatever the locale: the digits depend on the octets.
    """
    for word in words:
        lines = sys.stdin.buffer if word == "-" else [os.fsencode(word)]
        for line in lines:
            user = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            if user or word != "-":
                yield user
