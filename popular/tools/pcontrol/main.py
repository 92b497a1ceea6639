"""pcontrol: give control commands to a running pproxy, pserv or plmtpd (spec 4).

A command-line tool.  Exit codes: 0 all commands were carried out, 1 a command was refused or a file cannot
be read, 2 no daemon answers, 64 wrong usage.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from popular.config.parser import Parser
from popular.control.answer import WARNING
from popular.control.client import ControlClient, NoDaemon, Reply, default_path
from popular.control.grammar import MAX_COMMAND_LINE
from popular.paths import RUNDIR
from popular.stderr import INTERRUPTED, complain
from popular.tools.pcontrol.console import Console, carry_out
from popular.version import VERSION

_PROGRAMS = ("pproxy", "pserv", "plmtpd")    # tried in this order

EX_REFUSED = 1
EX_NO_DAEMON = 2


@dataclass(frozen=True, slots=True)
class _Line:
    """One command, and where it was read."""

    where: str
    text: str


class _Stop(Exception):
    """Nothing more is to be done; pcontrol ends with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Run pcontrol; returns its exit code."""
    options = make_parser().parse_args(argv)
    try:
        with connect(options) as client:
            if not options.command and not options.files and sys.stdin.isatty():
                return Console(client, lambda: connect(options), quiet=options.quiet).run()
            return _Batch(client, options).run()
    except NoDaemon as why:
        _complain(str(why))
        return EX_NO_DAEMON
    except _Stop as stop:
        return stop.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:    # the reader of the answers has left
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
        return EX_REFUSED


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options of spec 4, and of our --rundir."""
    parser = Parser(
        prog="pcontrol", allow_abbrev=False, usage="pcontrol [OPTION]... [FILE]...",
        description="Give control commands to a running pproxy, pserv or plmtpd: from options, files, or a prompt.",
        epilog="Nothing is required: without -c and FILE, at a terminal, there is a prompt. Exit code: 0 all "
               "commands were carried out; 1 one was refused or has failed, or a file cannot be read; 2 no daemon "
               "answers; 64 wrong usage. The command help lists the commands.")
    parser.add_argument("-c", "--command", metavar="CMD", action="append", default=[],
                        help="send CMD instead of reading files; may be given several times")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-s", "--socket", metavar="FILE",
                       help=f"the control socket (default in {RUNDIR}: that of the first program that runs)")
    where.add_argument("-p", "--program", metavar="PRG", choices=_PROGRAMS,
                       help="pproxy, pserv or plmtpd (default: the first of them that runs)")
    parser.add_argument("-r", "--rundir", metavar="DIR", default=RUNDIR,
                        help=f"the run folder of the daemon (default {RUNDIR}); of pstatus this is -R")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only what was asked for, and errors")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each command and its result")
    parser.add_argument("-i", "--ignore-errors", action="store_true", help="continue after a command that was refused")
    parser.add_argument("--version", action="version", version=f"pcontrol (POPular) {VERSION}")
    parser.add_argument("files", metavar="FILE", nargs="*",
                        help="a file of commands, one per line, for example /etc/popular/pproxy.rc; - is standard "
                             "input")
    return parser


def connect(options: argparse.Namespace) -> ControlClient:
    """Return a connection to the daemon that the options name; raises NoDaemon."""
    if options.socket is not None:
        return ControlClient(options.socket)
    reasons: list[str] = []
    for program in (options.program,) if options.program else _PROGRAMS:
        try:
            return ControlClient(default_path(options.rundir, program))
        except NoDaemon as why:
            reasons.append(str(why))
    raise NoDaemon("\n".join(reasons))


class _Batch:
    """Commands from the command line or from files, run one after the other."""

    def __init__(self, client: ControlClient, options: argparse.Namespace) -> None:
        """Send the commands of `options` to `client`."""
        self._client = client
        self._options = options
        self._code = os.EX_OK
        self._is_ended = False    # by a command that ends the daemon

    def run(self) -> int:
        """Send everything, and wait until new connections use it; return the exit code."""
        try:
            for line in self._lines():
                self._send(line)
        except _Stop as stop:
            self._code = stop.code
        self._sync()
        return self._code

    def _lines(self) -> Iterator[_Line]:
        if self._options.command:
            if self._options.files:
                _complain("give either -c or files, not both")
                raise _Stop(os.EX_USAGE)
            yield from (_Line(f"command {number}", text) for number, text in enumerate(self._options.command, 1))
            return
        for name in self._options.files or ["-"]:
            if name == "-":
                yield from _commands("standard input", sys.stdin)
                continue
            try:
                with open(name, encoding="utf-8", errors="surrogateescape") as file:
                    yield from _commands(name, file)
            except OSError as why:
                _complain(f"{name}: {why.strerror}")
                self._fail()

    def _send(self, line: _Line) -> None:
        if self._options.verbose:
            print(f"> {line.text}", flush=True)
        if "\n" in line.text or len(line.text.encode("utf-8", "surrogateescape")) > MAX_COMMAND_LINE:
            _complain(f"{line.where}: a command must be one line of at most {MAX_COMMAND_LINE} octets")
            self._fail()
            return
        reply = carry_out(self._client, line.text)
        _show(reply, quiet=self._options.quiet, verbose=self._options.verbose)
        if not reply.ok:
            _complain(f"{line.where}: {reply.text}")
            self._fail()
        self._is_ended = reply.ok and line.text.split()[:1] == ["shutdown"]

    def _fail(self) -> None:
        self._code = EX_REFUSED
        if not self._options.ignore_errors:
            raise _Stop(EX_REFUSED)

    def _sync(self) -> None:
        """Wait until new connections use what was changed; a daemon that was told to end need not answer."""
        try:
            reply = self._client.ask("sync")
            if reply.text:
                _complain(f"warning: not yet used by all new connections: {reply.text}")
        except NoDaemon:
            if not self._is_ended:
                raise


def _show(reply: Reply, *, quiet: bool, verbose: bool) -> None:
    """Print an answer: its lines, with warnings on standard error, and the text after +OK unless `quiet`."""
    for line in reply.lines:
        print(line, file=sys.stderr if not reply.ok or line.startswith(WARNING) else sys.stdout)
    if reply.ok and verbose:
        print(f"+OK {reply.text}".rstrip())
    elif reply.ok and reply.text and not quiet:
        print(reply.text)


def _commands(name: str, lines: Iterable[str]) -> Iterator[_Line]:
    """Yield the commands of a file, without empty lines and lines that begin with # (spec 4)."""
    for number, text in enumerate(lines, 1):
        text = text.rstrip("\r\n")
        if text.strip() and not text.lstrip().startswith("#"):
            yield _Line(f"{name}:{number}", text)


def _complain(text: str) -> None:
    for line in text.splitlines():
        complain(f"pcontrol: {line}")
