"""pmigrate: move mailboxes of other servers to POPular, each message with its unique id (UIDL).

    pmigrate copy | inplace | verify | move [OPTION]... SOURCE MAILBOX
    pmigrate copy | inplace | verify | move [OPTION]... --list FILE

Runs in its own process, with more for -j; nothing else imports it.  Whatever ends it, the same command continues.
Exit codes:

     0  everything was done; with verify, nothing differs
     1  some mailboxes failed or differ
    64  wrong command line
    66  a file that is named cannot be read
    70  an unexpected error
    73  the report cannot be written
"""

import argparse
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TextIO

from popular.addresses import Endpoint, parse_endpoint
from popular.config.parser import Parser
from popular.errors import StoreError
from popular.paths import CONFDIR, RUNDIR, SPOOLDIR
from popular.stderr import complain_as
from popular.tools.pmigrate.crew import Crew, ServerGate, processors, run_alone
from popular.tools.pmigrate.handover import OnDemandMover
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, jobs_of
from popular.tools.pmigrate.moving import Mover
from popular.tools.pmigrate.report import Report
from popular.tools.pmigrate.sources.mbox import QUOTINGS, UIDLS
from popular.tools.printing import main_of
from popular.tools.screen import Screen
from popular.version import VERSION

_INCOMPLETE = 1    # exit code

_MAX_PASSWORD = 4096    # octets of the file that are read

_complain = partial(complain_as, "pmigrate")


class Unusable(Exception):
    """A file cannot be used; `code` is the exit code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def main() -> int:
    """Run `pmigrate`; return its exit code."""
    return main_of(run, _INCOMPLETE)


def run(argv: Sequence[str]) -> int:
    """Move or compare the mailboxes that `argv` names; return the exit code."""
    parser = make_parser()
    arguments = parser.parse_intermixed_args(argv)    # options may stand before and behind SOURCE
    if (arguments.list is None) is (arguments.mailbox is None):
        parser.error("give either SOURCE and MAILBOX or --list")
    command = MoveCommand(arguments.command)
    _prove_sense(parser, arguments, command)
    if arguments.no_verify:
        _complain("WARNING: certificates are not verified, so anybody in between can read passwords and mail")
    try:
        with ExitStack() as stack:
            default = MoveJob(arguments.source or "", arguments.mailbox or "", arguments.user,
                              _password(arguments.passwordfile))
            lines = None if arguments.list is None else stack.enter_context(_opened(arguments.list))
            file = None if arguments.report is None else stack.enter_context(_created(arguments.report))
            screen = Screen()
            report = Report(command, screen, file, is_brief=lines is not None, is_dry=arguments.dry_run)
            jobs = iter([default]) if lines is None else _listed(lines, default, report)
            _work(arguments, jobs, screen, report)
            report.end()
    except Unusable as why:
        _complain(str(why))
        return why.code
    return os.EX_OK if report.is_clean else _INCOMPLETE


def _prove_sense(parser: Parser, arguments: argparse.Namespace, command: MoveCommand) -> None:
    """Prove that the options fit together; a mistake ends the program."""
    moves = command is MoveCommand.MOVE
    if arguments.to and (command not in (MoveCommand.COPY, MoveCommand.MOVE) or arguments.delete_gone
                         or arguments.link):
        parser.error("--to is for copy and move, without --delete-gone and --link")
    if (arguments.to or moves) and not arguments.state:
        parser.error(f"{'move' if moves else '--to'} needs --state")
    if moves is not bool(arguments.switch):
        parser.error("move needs --switch" if moves else "--switch is for move")
    if moves and arguments.to and not arguments.pop3.startswith("xpop://"):
        parser.error("move with --to needs --pop3 xpop://HOST[:PORT]")


def _work(arguments: argparse.Namespace, jobs: Iterator[MoveJob], screen: Screen, report: Report) -> None:
    """Do all jobs, alone or with other processes; raises Unusable if the report cannot be written."""
    options, mover = options_of(arguments), OnDemandMover if arguments.switch else Mover
    gate = ServerGate(arguments.connections, arguments.rate)
    try:
        if arguments.jobs == 1 or arguments.list is None:
            run_alone(mover(options, screen.show).move, jobs, gate, report.add)
        else:
            Crew(mover(options).move, arguments.jobs, gate, report.add).run(jobs)
    except OSError as why:
        if isinstance(why, BrokenPipeError):
            raise
        raise Unusable(os.EX_CANTCREAT, f"{why.filename or arguments.report}: {why.strerror}") from why
    finally:
        screen.clear()


def _listed(lines: TextIO, default: MoveJob, report: Report) -> Iterator[MoveJob]:
    """Yield the jobs of a list; what is wrong with lines goes to the report.  Raises Unusable."""
    status = os.fstat(lines.fileno())
    is_open_to_others = stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o077)
    for job in jobs_of(lines, default):
        if isinstance(job, StoreError):
            report.refuse(str(job))
            continue
        if is_open_to_others and job.password != default.password:
            raise Unusable(os.EX_NOINPUT, "the list has passwords, and other users can read it: chmod 600")
        yield job


def _opened(path: str) -> TextIO:
    """Return a list, open; raises Unusable."""
    try:
        return open(0 if path == "-" else path, encoding="utf-8", errors="surrogateescape", closefd=path != "-")
    except OSError as why:
        raise Unusable(os.EX_NOINPUT, f"{path}: {why.strerror}") from why


def _created(path: str) -> TextIO:
    """Return a report, open; it tells who has mail here, so it is for its owner only.  Raises Unusable."""
    try:
        return open(path, "w", encoding="ascii", errors="backslashreplace", opener=partial(os.open, mode=0o600))
    except OSError as why:
        raise Unusable(os.EX_CANTCREAT, f"{path}: {why.strerror}") from why


def _password(path: str | None) -> str:
    """Return the first line of a file that holds a password; raises Unusable."""
    if path is None:
        return ""
    try:
        with open(path, "rb") as file:
            is_open_to_others = bool(os.fstat(file.fileno()).st_mode & 0o077)
            text = file.readline(_MAX_PASSWORD)
    except OSError as why:
        raise Unusable(os.EX_NOINPUT, f"{path}: {why.strerror}") from why
    if is_open_to_others:
        raise Unusable(os.EX_NOINPUT, f"{path}: other users can read it: chmod 600")
    return text.rstrip(b"\r\n").decode("utf-8", "surrogateescape")


def options_of(arguments: argparse.Namespace) -> MoveOptions:
    """Return how the work is to be done."""
    return MoveOptions(
        MoveCommand(arguments.command), os.path.abspath(arguments.mailboxdir), arguments.owner, arguments.to,
        arguments.state, arguments.dry_run, arguments.delete_gone, arguments.link, arguments.quoting, arguments.uidls,
        arguments.uidl_format, arguments.pop3, arguments.login, arguments.timeout, arguments.wait, arguments.cafile,
        not arguments.no_verify, arguments.cleartext, arguments.dovecot, tuple(arguments.switch), arguments.settle,
        arguments.statefile, "", arguments.config, arguments.namespace, tuple(arguments.backend))


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(
        prog="pmigrate", allow_abbrev=False, add_help=False,
        usage="pmigrate {copy | inplace | verify | move} [OPTION]... {SOURCE MAILBOX | --list FILE}",
        description="Move mailboxes of other servers to POPular, with the ids by which clients know their mail.",
        epilog="Exit code: 0 everything was done and nothing differs; 1 some mailboxes failed or differ; 64 wrong "
               "usage; 66 a named file cannot be read; 73 the report cannot be written.")
    parser.add_argument("command", choices=[command.value for command in MoveCommand], metavar="COMMAND",
                        help="copy: bring what the mailbox does not have yet; inplace: a Maildir becomes the mailbox "
                             "where it is; verify: compare both; move: all of a mailbox in use, by --switch (required)")
    parser.add_argument("source", nargs="?", metavar="SOURCE",
                        help="maildir:PATH, or dovecot:, courier: or qmail:PATH to say whose it is; mbox:PATH, "
                             "doveadm:USER, popular:MAILBOX, pop3://HOST[:PORT], pop3s://HOST[:PORT] or "
                             "xpop://HOST[:PORT]/MAILBOX")
    parser.add_argument("mailbox", nargs="?", metavar="MAILBOX", help="a mailbox below DIR, or user:NAME")
    _add_options_of_work(parser)
    _add_options_of_servers(parser)
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"pmigrate {VERSION}")
    return parser


def _add_options_of_work(parser: Parser) -> None:
    """Add the options that say what is done, and where."""
    parser.add_argument("--list", metavar="FILE",
                        help="lines with SOURCE, MAILBOX and perhaps user and password; - is standard input")
    parser.add_argument("-j", "--jobs", type=number(1, 1000), default=processors(), metavar="N",
                        help="mailboxes at once (default the number of processors)")
    parser.add_argument("-d", "--mailboxdir", default=SPOOLDIR, metavar="DIR",
                        help=f"the spool (default {SPOOLDIR})")
    parser.add_argument("--owner", metavar="USER[:GROUP]", help="whose the mailboxes are (default the owner of DIR)")
    parser.add_argument("--to", type=lmtp_place, metavar="lmtp:PLACE",
                        help="with copy and move: send to plmtpd at HOST:PORT or unix:PATH, in place of writing to DIR")
    parser.add_argument("--state", default="", metavar="DIR",
                        help="with --to and move: where it is remembered what was done")
    add_switch_options(parser)
    parser.add_argument("--link", action="store_true", help="with copy: link files of a Maildir in place of copying")
    parser.add_argument("--delete-gone", action="store_true",
                        help="with copy: remove what was brought earlier and the source no longer has")
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument("--report", metavar="FILE", help="write a line for each mailbox to FILE, and what differs")
    parser.add_argument("--quoting", choices=QUOTINGS, default=QUOTINGS[0],
                        help=f"how an mbox has lines quoted that begin with From (one of {', '.join(QUOTINGS)}; "
                             f"default {QUOTINGS[0]}: leave them as they are)")
    parser.add_argument("--uidls", choices=UIDLS, default=UIDLS[0],
                        help=f"which ids clients of an mbox know (one of {', '.join(UIDLS)}; default {UIDLS[0]}: those "
                             "of this header, and where there is none, Dovecot's)")
    parser.add_argument("--uidl-format", default="", metavar="FORMAT",
                        help="pop3_uidl_format of the Dovecot whose Maildir it is (default what doveconf tells here)")
    parser.add_argument("--dovecot", default="", metavar="FILE", help="the configuration of Dovecot, for doveadm:USER "
                        "and doveconf (default theirs)")
    parser.add_argument("-c", "--config", default=f"{CONFDIR}/pproxy.conf", metavar="FILE",
                        help=f"the INI file of pproxy, for user:NAME (default {CONFDIR}/pproxy.conf)")
    parser.add_argument("-n", "--namespace", default="", metavar="NS", help="the namespace of these users")
    parser.add_argument("-b", "--backend", action="append", default=[], metavar="BACKEND",
                        help="a backend whose mailboxes are here; may be repeated")


def _add_options_of_servers(parser: Parser) -> None:
    """Add the options for sources that are servers."""
    parser.add_argument("--user", default="", metavar="NAME", help="the user at a POP3 server")
    parser.add_argument("--passwordfile", metavar="FILE", help="a file whose first line is the password")
    parser.add_argument("--login", default="%u", metavar="FORMAT",
                        help="how users log in; %%u is the name, as in %%u*master (default %%u)")
    parser.add_argument("--pop3", default="", metavar="SERVER",
                        help="with verify: ask pop3://HOST[:PORT] or pop3s://HOST[:PORT] in place of the files in DIR; "
                             "with move and --to: xpop://HOST[:PORT], the pserv there")
    parser.add_argument("--cafile", default="", metavar="FILE",
                        help="the authorities of servers' certificates (default those of the system)")
    parser.add_argument("--no-verify", action="store_true", help="do not verify servers' certificates")
    parser.add_argument("--cleartext", action="store_true", help="send passwords to servers that offer no TLS")
    parser.add_argument("--connections", type=number(0, 1000), default=0, metavar="N",
                        help="at once to one server; 0 is no limit (default 0)")
    parser.add_argument("--rate", type=number(0, 1000), default=0, metavar="N",
                        help="new connections to one server in a second; 0 is no limit (default 0)")
    parser.add_argument("--timeout", type=number(1, 86400), default=60, metavar="SECONDS",
                        help="wait for an answer of a server, and for the command (default 60)")
    parser.add_argument("--wait", type=number(0, 86400), default=300, metavar="SECONDS",
                        help="go on trying while a mailbox is locked or its server away, and wait for sessions "
                             "(default 300)")


def add_switch_options(parser: Parser) -> None:
    """Add the options with which a mailbox in use is moved."""
    parser.add_argument("--switch", type=_command, default=(), metavar="COMMAND",
                        help="what changes the database when a mailbox moves: run as COMMAND hold, done or undo, with "
                             "user and mailbox behind it")
    parser.add_argument("--settle", type=number(0, 86400), default=10, metavar="SECONDS",
                        help="wait after COMMAND hold, until everything knows of it (default 10)")
    parser.add_argument("--statefile", default=f"{RUNDIR}/pserv.state", metavar="FILE",
                        help="the state file of the pserv here, which tells of sessions "
                             f"(default {RUNDIR}/pserv.state)")


def _command(text: str) -> tuple[str, ...]:
    """Read a command; raises ArgumentTypeError."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as why:
        raise argparse.ArgumentTypeError(str(why).lower()) from None
    if not words:
        raise argparse.ArgumentTypeError("must be a command")
    return words


def number(least: int, most: int) -> "partial[int]":
    """Return a type of options: a number in these limits."""
    return partial(_read_number, least, most)


def _read_number(least: int, most: int, text: str) -> int:
    """Read a number; raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")
    return int(text)


def lmtp_place(text: str) -> Endpoint | str:
    """Read the address of an LMTP server; raises ArgumentTypeError."""
    kind, _, rest = text.partition(":")
    if kind == "lmtp" and rest.startswith("unix:/"):
        return rest.removeprefix("unix:")
    try:
        if kind == "lmtp":
            return parse_endpoint(rest)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be lmtp:HOST:PORT or lmtp:unix:PATH")
