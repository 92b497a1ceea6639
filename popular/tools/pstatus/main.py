"""pstatus: show what pproxy, pserv or plmtpd is doing, according to its state file (spec 6).

A tool in its own process, run by hand and from scripts; nothing else imports it.  Exit codes:

    0   shown; with -l: ended by the user
    1   the file is missing or cannot be read
    64  wrong command line
    65  the file is not a state file, or has another version
    69  --top: its library is missing, or the terminal cannot be drawn on
"""

import argparse
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from popular import stderr
from popular.config.kinds import Time
from popular.config.parser import Parser
from popular.paths import RUNDIR
from popular.statefile.reader import NotAStateFile
from popular.tools.printing import forget_output, harmless
from popular.tools.pstatus import document as pstatus_json, metrics as pstatus_metrics, table as pstatus_table
from popular.tools.pstatus.snapshot import Selection, Snapshot, take
from popular.version import VERSION

PROGRAMS = ("pproxy", "pserv", "plmtpd")
UNREADABLE = 1
_INTERVAL = 1.0    # seconds between two looks, when -l has no time

_RANGE = re.compile(r"([0-9]{1,7})(-)?([0-9]{1,7})?")
_LOOP = Time(0.1, 86400)

_HOME = "\x1b[H"
_CLEAR_SCREEN = "\x1b[2J"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    paths: Sequence[str]      # the first that exists is shown
    selection: Selection
    as_json: bool
    interval: float | None    # seconds; None: once
    is_top: bool = False      # a live view of the whole screen
    metrics: pstatus_metrics.MetricsWanted | None = None    # instead of all other output

    def look(self) -> Snapshot:
        """Read the file; raises OSError and NotAStateFile."""
        for path in self.paths[:-1]:
            try:
                return take(path)
            except FileNotFoundError:
                continue
        return take(self.paths[-1])

    def lines(self, snapshot: Snapshot, before: Snapshot | None, width: int) -> list[str]:
        """Return what to show, with rates if `before` is given."""
        rates = snapshot.rates(before)
        if self.as_json:
            return [pstatus_json.text(snapshot, self.selection, rates)]
        return pstatus_table.lines(snapshot, self.selection, rates, width)


def main() -> int:
    """Run `pstatus`; returns its exit code."""
    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return stderr.INTERRUPTED    # the usual end of a loop


def run(argv: Sequence[str]) -> int:
    """Show what `argv` asks for; returns the exit code."""
    wanted = read_arguments(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")    # for names with letters that the terminal lacks
    try:
        if wanted.is_top:
            return live(wanted)
        if wanted.metrics is not None:
            pstatus_metrics.tell(wanted.metrics)
            return os.EX_OK
        snapshot = wanted.look()
        if wanted.interval is None:
            show(wanted.lines(snapshot, None, _width()))
        else:
            loop(wanted, snapshot, wanted.interval)
    except NotAStateFile as why:
        return _complain(str(why) if wanted.metrics else f"{wanted.paths[-1]}: {why}", os.EX_DATAERR)
    except BrokenPipeError:    # the reader has seen enough
        forget_output()
    except OSError as why:
        if why.filename is None:
            forget_output()
        return _complain(f"{why.filename or 'standard output'}: {why.strerror}", UNREADABLE)
    return os.EX_OK


def live(wanted: _Wanted) -> int:
    """Show the live view; returns the exit code."""
    try:
        # only here: it takes 0.3 s, and pstatus is useful without the library
        from popular.tools.pstatus.top.screen import run as run_screen
        from popular.tools.pstatus.top.terminal import NoScreen, check_terminal
    except ModuleNotFoundError as why:
        if why.name is None or why.name.partition(".")[0] == "popular":
            raise
        return _complain(f"--top needs the Python module {why.name}, which comes with prompt_toolkit "
                         "(the package python3-prompt-toolkit of Debian)", os.EX_UNAVAILABLE)
    try:
        snapshot = wanted.look()
        return run_screen(snapshot, wanted.selection, wanted.interval or _INTERVAL, check_terminal())
    except NoScreen as why:
        return _complain(str(why), os.EX_UNAVAILABLE)
    except EOFError:    # the terminal is gone
        return UNREADABLE


def loop(wanted: _Wanted, snapshot: Snapshot, interval: float) -> None:
    """Show it again and again until the user ends it; waits for a daemon that is gone for a while."""
    draw = in_place() if is_screen() and not wanted.as_json else show
    before: Snapshot | None = None
    now: Snapshot | None = snapshot
    try:
        while True:    # until Ctrl-C
            if now is not None:
                draw([*wanted.lines(now, before, _width()), *([] if wanted.as_json else [""])])
            time.sleep(interval)
            before, now = now, None
            try:
                now = wanted.look()
            except (NotAStateFile, OSError) as why:
                if not wanted.as_json:
                    draw([f"pstatus: {getattr(why, 'strerror', None) or why}"])
    except KeyboardInterrupt:
        if is_screen():
            print()


def show(lines: Sequence[str]) -> None:
    """Print lines."""
    print("\n".join(lines), flush=True)


def in_place() -> Callable[[Sequence[str]], None]:
    """Return a function that prints lines over those printed before, as many as the screen holds."""
    print(_CLEAR_SCREEN, end="")

    def draw(lines: Sequence[str]) -> None:
        columns, rows = shutil.get_terminal_size()
        room = max(2, rows - 1)
        if len(lines) > room:
            lines = [*lines[:room - 1], f"... and {len(lines) - room + 1} more lines (-a and -r choose slots)"]
        print(_HOME + "\n".join(line[:columns - 1] + _CLEAR_LINE for line in lines) + _CLEAR_BELOW, end="", flush=True)

    return draw


def is_terminal() -> bool:
    """Tell whether output goes to a terminal; output may be closed."""
    return isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty()


def is_screen() -> bool:
    """Tell whether that terminal can be written over."""
    return is_terminal() and os.environ.get("TERM", "dumb") != "dumb"


def _complain(text: str, code: int) -> int:
    """Report what is wrong; returns `code`."""
    stderr.complain(f"pstatus: {harmless(text)}")
    return code


def read_arguments(argv: Sequence[str]) -> _Wanted:
    """Read the command line; ends with EX_USAGE when it is wrong."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.file is not None and arguments.rundir is not None:
        parser.error("argument -R/--rundir: not allowed with argument -f/--file")
    if arguments.top and arguments.json:
        parser.error("argument --json: not allowed with argument --top")
    first, last = arguments.range
    paths = tuple(candidates(arguments))
    return _Wanted(paths, Selection(arguments.active, first, last), arguments.json, arguments.loop, arguments.top,
                   metrics_wanted(parser, arguments, paths))


def metrics_wanted(parser: Parser, arguments: argparse.Namespace,
                   paths: tuple[str, ...]) -> pstatus_metrics.MetricsWanted | None:
    """Return what --metrics should output, None without it; ends with EX_USAGE for options that exclude each other."""
    if not arguments.metrics:
        if arguments.output is not None:
            parser.error("argument --output: only allowed with argument --metrics")
        return None
    others = (arguments.active, arguments.json, arguments.top, arguments.loop is not None, arguments.range != (0, None))
    if any(others):
        parser.error("argument --metrics: not allowed with -a, -l, -r, --json or --top")
    return pstatus_metrics.MetricsWanted(paths, arguments.output)


def candidates(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the files to try."""
    if arguments.file is not None:
        yield arguments.file
        return
    rundir = RUNDIR if arguments.rundir is None else arguments.rundir
    for program in PROGRAMS if arguments.program is None else [arguments.program]:
        yield os.path.join(rundir, f"{program}.state")


def make_parser() -> Parser:
    """Return the parser of the options of spec 6."""
    parser = Parser(
        prog="pstatus", add_help=False, allow_abbrev=False, usage="pstatus [OPTION]...",
        description="Show what a running pproxy, pserv or plmtpd is doing: its sessions, one a line, and its totals.",
        epilog="Nothing is required. Exit code: 0 shown; 1 no such file; 64 wrong usage; 65 not a state file of this "
               "version; 69 no screen for --top.")
    parser.add_argument("-a", "--active", action="store_true", help="only slots that have a session")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("-f", "--file", metavar="FILE",
                       help=f"the state file, or a copy of one (default in {RUNDIR}: the first that there is)")
    which.add_argument("-p", "--program", metavar="PRG", choices=PROGRAMS,
                       help="pproxy, pserv or plmtpd (default: the first of them that has a state file)")
    parser.add_argument("-l", "--loop", metavar="TIME", nargs="?", type=interval, const=_INTERVAL,
                        help="show it again every TIME, such as 5s or 500ms (default 1s), with rates per second")
    parser.add_argument("-r", "--range", metavar="RANGE", type=slots, default=(0, None),
                        help="only these slots: 7, 5-10 or 5- (default: all); not the run folder, which is -R here and "
                             "-r in pcontrol")
    parser.add_argument("-R", "--rundir", metavar="DIR",
                        help=f"the run folder, where the state files are (default {RUNDIR})")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object in a line")
    parser.add_argument("--top", action="store_true",
                        help="a live view of the whole screen, steered by keys; h shows them")
    parser.add_argument("--metrics", action="store_true",
                        help="for Prometheus: the metrics of all of them, or of one")
    parser.add_argument("--output", metavar="FILE", help="with --metrics: write FILE, whole or not at all")
    parser.add_argument("--help", action="help", help="show this help and end")
    parser.add_argument("--version", action="version", version=f"pstatus {VERSION}")
    return parser


def interval(text: str) -> float:
    """Read the time of -l; raises ArgumentTypeError."""
    try:
        return _LOOP.parse(text)
    except ValueError as why:
        raise argparse.ArgumentTypeError(f"{text!r} is not {why}") from None


def slots(text: str) -> tuple[int, int | None]:
    """Read a range of slots: first and last, None for no last one; raises ArgumentTypeError."""
    found = _RANGE.fullmatch(text)
    if found is None or (found[2] is None and found[3] is not None) or (found[3] and int(found[3]) < int(found[1])):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of slots such as 7, 5-10 or 5-")
    first = int(found[1])
    if found[2] is None:
        return first, first
    return first, int(found[3]) if found[3] else None


def _width() -> int:
    return shutil.get_terminal_size().columns if is_terminal() else pstatus_table.WIDTH
