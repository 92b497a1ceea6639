"""pcheck: ask a pcheckd for the state of a mailbox or for its load, for tests (spec 3.4).

Runs in its own process, by hand and from scripts; nothing else imports it.  The answer is printed as
it came, but octets that a terminal might interpret are written as `\\xNN`.  Exit codes:

    0  success; with -m: no mail, or the server's load is too high to check (state 3: pproxy treats both alike)
    1  success with -m: there is mail, new or read
    2  no answer, no usable answer, or an answer that begins with -ERR
    3  wrong command line

An illegal mailbox name is sent like any other, so that the server's refusal can be seen.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from popular.addresses import Endpoint
from popular.config.parser import Parser
from popular.errors import MailcheckError, StartError
from popular.mailcheck import packet
from popular.mailcheck.client import exchange
from popular.mailcheck.packet import MailState
from popular.net.listen import resolve
from popular.stderr import complain
from popular.tools.printing import harmless
from popular.version import VERSION

_NO_MAIL, _MAIL, _FAILED, _USAGE = 0, 1, 2, 3    # exit codes

DEFAULT_SERVER = "127.0.0.1"
DEFAULT_TIMEOUT = 5.0    # seconds


class CheckParser(Parser):
    """Usage errors end with the exit code of spec 3.4."""

    USAGE_CODE = _USAGE


def main() -> int:
    """Run `pcheck`; returns its exit code."""
    return run(sys.argv[1:])


def run(argv: Sequence[str]) -> int:
    """Ask as `argv` says, print the answer, and return the exit code."""
    arguments = make_parser().parse_args(argv)
    request = packet.load_request() if arguments.get_load else b"*M" + os.fsencode(arguments.get_mailbox)
    try:
        server = resolve(Endpoint(arguments.server, arguments.port))
        answer = exchange(server, request, bytes, arguments.timeout, tries=1)
        print(_printable(answer), flush=True)
    except (StartError, MailcheckError, OSError) as why:
        complain(f"pcheck: {why}")
        return _FAILED
    return judge_load(answer) if arguments.get_load else judge_mailbox(answer)


def make_parser() -> CheckParser:
    """Return the parser of the options of spec 3.4."""
    parser = CheckParser(
        prog="pcheck", add_help=False, allow_abbrev=False,
        usage="pcheck [-s SERVER] [-p PORT] [-t SECONDS] (-l | -m MAILBOX)",
        description="Ask a pcheckd by hand whether a mailbox has mail, or what the load of its host is.",
        epilog="Exit code: 0 success, with -m: no mail; 1 with -m: mail; 2 error or -ERR; 3 wrong usage.")
    parser.add_argument("-s", "--server", default=DEFAULT_SERVER,
                        help=f"address or name of the host to ask (default {DEFAULT_SERVER})")
    parser.add_argument("-p", "--port", type=port_number, default=packet.DEFAULT_PORT,
                        help=f"UDP port to ask (default {packet.DEFAULT_PORT})")
    parser.add_argument("-t", "--timeout", metavar="SECONDS", type=seconds, default=DEFAULT_TIMEOUT,
                        help=f"seconds to wait for the answer (default {DEFAULT_TIMEOUT:g})")
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("-l", "--get-load", action="store_true",
                          help="ask for the 1-minute load (this or -m is required)")
    question.add_argument("-m", "--get-mailbox", metavar="MAILBOX",
                          help="ask for the state of a mailbox (this or -l is required)")
    parser.add_argument("--help", action="help", help="show this help and end")
    parser.add_argument("--version", action="version", version=f"pcheck {VERSION}")
    return parser


def port_number(text: str) -> int:
    """Read a UDP port; raises ValueError."""
    port = int(text)
    if not 1 <= port <= 65535:
        raise argparse.ArgumentTypeError("must be a port from 1 to 65535")
    return port


def seconds(text: str) -> float:
    """Read a timeout in seconds; raises ValueError."""
    value = float(text)
    if not 0 < value <= 3600:    # also refuses nan
        raise argparse.ArgumentTypeError("must be more than 0 and at most 3600 seconds")
    return value


def _printable(answer: bytes) -> str:
    """Return an answer as one line for a terminal, without its line end."""
    line = answer.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")
    return harmless(line, lambda char: " " <= char <= "~")


def judge_mailbox(answer: bytes) -> int:
    """Return the exit code for an answer about a mailbox."""
    try:
        state = packet.parse_mail_answer(answer)
    except MailcheckError:    # -ERR
        return _FAILED
    if state is None:
        return _FAILED
    return _MAIL if state in (MailState.OLD_MAIL, MailState.NEW_MAIL) else _NO_MAIL


def judge_load(answer: bytes) -> int:
    """Return the exit code for an answer about the load."""
    try:
        return _FAILED if packet.parse_load_answer(answer) is None else _NO_MAIL
    except MailcheckError:
        return _FAILED
