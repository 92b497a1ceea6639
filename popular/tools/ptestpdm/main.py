"""ptestpdm: test database modules outside pproxy, with the same loader and the same chain (spec 7.4).

    ptestpdm [--debug] [-d DIR] [--mechanism NAME] COMMAND-FILE DATA-FILE
    ptestpdm [--debug] [-d DIR] [--mechanism NAME] -c FILE [-n NAMESPACE] [--client IP] [--backend] USER

The second form tries one login with the configuration of pproxy, and asks for the password; see login.py.
The first form:

COMMAND-FILE has lines `ID MODULE-NAME [ARGS]...`, split into words as in a shell; DATA-FILE has lines
`IP PROTOCOL NAMESPACE USER PASSWORD`, where the password extends to the end of the line and may have
spaces.  Empty lines and lines that begin with `#` are skipped in both.  All modules are loaded, then
every user is checked.  For each user one line is written to stdout:

    USER NAMESPACE ok|denied|unknown|failed MODULE BACKEND PROTOCOL MAILBOX-OR-USER M

`-` stands for an empty word, and for the last one unless it is a master session.  Octets that a
terminal might interpret are written as `\\xNN`.  Passwords are never printed.  The reason for a failed
check is written to stderr.  With --mechanism, what is given as passwords is what this mechanism of AUTH would have:
tokens.  Exit codes:

    0   all users were asked; with -c: the user can log in
    1   a module was not loaded (then no user was checked), a check failed, or a line of DATA-FILE is wrong; with -c:
        the user cannot log in
    64  wrong command line
    66  COMMAND-FILE or DATA-FILE cannot be read
    69  with -c: the rights of pproxy's user are not available
    78  with -c: FILE has mistakes
"""

import argparse
import os
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from popular.addresses import is_ip
from popular.config.mistakes import ConfigError
from popular.config.parser import Parser
from popular.errors import PdmError, PopularError, UsageError
from popular.log.message import Message
from popular.names import is_id
from popular.paths import CONFDIR, pdm_dir
from popular.pdm.api import Outcome, PdmModule, Request
from popular.pdm.asking.chain import Chain, Verdict
from popular.pdm.asking.loader import load_module
from popular.stderr import complain_as
from popular.tools.printing import main_of
from popular.version import VERSION

_FAILED = 1       # exit code
_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")
TIMEOUT = 10.0    # seconds for one answer, the default of pproxy's pdmtimeout

_complain = partial(complain_as, "ptestpdm")

_HIDDEN = re.compile(rb"[^\x21-\x5b\x5d-\x7e]")


def main() -> int:
    """Run `ptestpdm`; returns its exit code."""
    return main_of(run, _FAILED)


def run(argv: Sequence[str]) -> int:
    """Load and ask as `argv` says, and print the answers; return the exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.config is not None:
        if len(arguments.words) != 1:
            parser.error("with -c, give only USER")
        return run_login(arguments)
    if len(arguments.words) != 2:
        parser.error("give COMMAND-FILE and DATA-FILE, or -c FILE and USER")
    if arguments.namespace is not None or arguments.client is not None or arguments.backend:
        parser.error("-n, --client and --backend are only allowed with -c")
    command_file, data_file = arguments.words
    try:
        commands = read_lines(command_file)
        data = read_lines(data_file)
    except OSError as why:
        _complain(f"{why.filename}: {why.strerror}")
        return os.EX_NOINPUT
    modules, is_good = load_all(arguments.dir or pdm_dir(), command_file, commands)
    if not is_good:
        return _FAILED
    chain = Chain(modules, TIMEOUT, show_note if arguments.debug else ignore_note)
    if arguments.debug:
        for line in chain.describe():
            _complain(f"debug: module {line}")
    answers = [_ask(chain, f"{data_file}:{number}", line, arguments.mechanism, is_debug=arguments.debug)
               for number, line in data]
    chain.close()
    return 0 if all(answers) else _FAILED


def run_login(arguments: argparse.Namespace) -> int:
    """Try one login as pproxy would, and print each step; return the exit code."""
    from popular.tools.ptestpdm.login import Login, try_login    # imported here: it loads all of pproxy

    client = arguments.client or "127.0.0.1"
    login = Login(arguments.config, arguments.words[0], arguments.namespace or "", client, arguments.dir or "",
                  arguments.backend, arguments.mechanism)
    is_good = is_ip(client)
    try:
        if not is_good:
            raise UsageError(f"--client: {client!a} is not an IP address")
        for finding in try_login(login, show_note if arguments.debug else ignore_note):
            print(finding.line, flush=True)
            is_good = is_good and finding.is_good
    except (PopularError, KeyError) as why:
        for line in str(why.args[0] if isinstance(why, KeyError) else why).splitlines():
            _complain(line)
        if isinstance(why, UsageError):
            return os.EX_USAGE
        return os.EX_CONFIG if isinstance(why, ConfigError) else os.EX_UNAVAILABLE
    return 0 if is_good else _FAILED


def make_parser() -> Parser:
    """Return the parser of the options of spec 7.4, and of ours for one login."""
    parser = Parser(
        prog="ptestpdm", allow_abbrev=False, add_help=False,
        usage="ptestpdm [OPTION]... COMMAND-FILE DATA-FILE\n"
              "       ptestpdm [OPTION]... -c FILE [-n NAMESPACE] [--client IP] [--backend] USER",
        description="Test the database modules of pproxy for many users or, with -c, all steps of one login.",
        epilog="Exit code: 0 all users were asked, with -c: the user can log in; 1 a module or a check failed, with "
               "-c: the user cannot log in; 64 wrong usage; 66 a file cannot be read; 69 the rights of pproxy's user "
               "are not available; 78 FILE has mistakes.")
    parser.add_argument("words", metavar="COMMAND-FILE DATA-FILE | USER", nargs="*",
                        help="required: files with lines ID MODULE-NAME [ARGS]... and IP PROTOCOL NAMESPACE USER "
                             "PASSWORD or, with -c, the user, whose password is asked for")
    parser.add_argument("-c", "--config", metavar="FILE", help="try one login with this INI file of pproxy, for "
                        f"example {CONFDIR}/pproxy.conf")
    parser.add_argument("-n", "--namespace", metavar="NAMESPACE",
                        help="with -c: the namespace (default: that of the virtual servers, if they have the same)")
    parser.add_argument("--client", metavar="IP", help="with -c: the address of the client (default 127.0.0.1)")
    parser.add_argument("--backend", action="store_true", help="with -c: log in at the backend, too, and leave at once")
    parser.add_argument("--mechanism", metavar="NAME", choices=_MECHANISMS, default="", help="what is checked are no "
                        f"passwords, but what this mechanism of AUTH has: {', '.join(_MECHANISMS)} (a token each; "
                        "default: passwords are checked)")
    parser.add_argument("-d", "--dir", metavar="DIR",
                        help=f"the folder of the modules (default {pdm_dir()}; with -c: as in FILE)")
    parser.add_argument("--debug", action="store_true",
                        help="print on stderr what is loaded and how long it takes; with -c: what pproxy would log")
    parser.add_argument("--help", action="help", help="show this help and end")
    parser.add_argument("--version", action="version", version=f"ptestpdm {VERSION}")
    return parser


def read_lines(path: str) -> list[tuple[int, bytes]]:
    """Return numbers and texts of the lines that are neither empty nor comments; raises OSError."""
    with open(path, "rb") as file:
        lines = [(number, line.rstrip(b"\r\n")) for number, line in enumerate(file, 1)]
    return [(number, line) for number, line in lines if line.strip() and not line.startswith(b"#")]


def load_all(directory: str, path: str, lines: Sequence[tuple[int, bytes]]) -> tuple[list[PdmModule], bool]:
    """Load the modules of COMMAND-FILE; the second result is False if one failed, which is reported."""
    modules: list[PdmModule] = []
    is_good = True
    for number, line in lines:
        try:
            module = load_line(directory, line.decode("utf-8", "surrogateescape"))
            if any(module.ident == other.ident for other in modules):
                raise PdmError(f"the ID {module.ident} is taken")
            modules.append(module)
        except PdmError as why:
            _complain(f"{path}:{number}: {why}")
            is_good = False
    return modules, is_good


def load_line(directory: str, line: str) -> PdmModule:
    """Load the module of one line `ID MODULE-NAME [ARGS]...`; raises PdmError."""
    try:
        ident, name, *args = shlex.split(line)
    except ValueError:
        raise PdmError("must be ID MODULE-NAME [ARGS]..., quoted as in a shell") from None
    if not is_id(ident):
        raise PdmError(f"{ident!a} is not an ID; allowed are letters, digits, _, - and .")
    return load_module(directory, ident, name, args)


def _ask(chain: Chain, where: str, line: bytes, mechanism: str, *, is_debug: bool) -> bool:
    """Check the user of one line of DATA-FILE and print the answer; return whether that was possible."""
    try:
        request = replace(parse_request(line), mechanism=mechanism)
    except ValueError as why:
        _complain(f"{where}: {why}")
        return False
    began = time.perf_counter()
    verdict = chain.check(request)
    if is_debug:
        _complain(f"debug: {where}: {time.perf_counter() - began:.4f} s, {verdict.why or 'no remark'}")
    print(_verdict_line(request, verdict))
    if verdict.outcome is Outcome.FAILED:
        _complain(f"{where}: {verdict.module}: {verdict.why}")
    return verdict.outcome is not Outcome.FAILED


def parse_request(line: bytes) -> Request:
    """Read `IP PROTOCOL NAMESPACE USER PASSWORD`; raises ValueError, whose text holds no password."""
    words = line.split(None, 4)
    if len(words) != 5:
        raise ValueError("must be IP PROTOCOL NAMESPACE USER PASSWORD")
    ip, protocol, namespace, user = (word.decode("utf-8", "surrogateescape") for word in words[:4])
    if not is_ip(ip):
        raise ValueError("the first word is not an IP address")
    return Request(user=user, password=words[4], ip=ip, protocol=protocol, namespace=namespace)


def _verdict_line(request: Request, verdict: Verdict) -> str:
    """Return the line that shows a verdict."""
    found = verdict.found
    place = ("", "", "", "") if found is None else (
        found.backend, found.protocol, found.mailbox or found.user, "M" if found.master else "")
    return " ".join(printable_word(word) for word in (
        verdict.user or request.user, request.namespace, verdict.outcome.value, verdict.module, *place))


def printable_word(word: str) -> str:
    """Return a text as one printable word for any terminal."""
    octets = word.encode("utf-8", "surrogateescape")
    return _HIDDEN.sub(lambda octet: b"\\x%02x" % octet[0][0], octets).decode("ascii") or "-"


def show_note(message: Message, **fields: object) -> None:
    """Print what pproxy would log."""
    _complain(f"debug: {message.name} " + " ".join(f"{name}={value!a}" for name, value in fields.items()))


def ignore_note(message: Message, **fields: object) -> None:
    """Print nothing: the verdict has the same text."""
