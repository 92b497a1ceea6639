"""ptestpdm: try database modules outside pproxy, with the same loader and the same chain (spec 7.4).

    ptestpdm [--debug] [-d DIR] COMMAND-FILE DATA-FILE

COMMAND-FILE has lines `ID MODULE-NAME [ARGS]...`, split into words as a shell does; DATA-FILE has
lines `IP PROTOCOL NAMESPACE USER PASSWORD`, where the password reaches to the end of the line and may
hold spaces.  Empty lines and lines that begin with `#` are skipped in both.  All modules are loaded,
then every user is checked.  For each one line goes to stdout:

    USER NAMESPACE ok|denied|unknown|failed MODULE BACKEND PROTOCOL MAILBOX-OR-USER M

`-` stands for what is empty, and for the last word unless the session is a master's.  Octets that a
terminal might obey are written as `\\xNN`.  Passwords are never printed.  Why a check failed goes to
stderr.  Exit codes:

    0   all users were asked
    1   a module was not loaded (then nobody was asked), a check failed, or a line of DATA-FILE is wrong
    64  wrong command line
    66  COMMAND-FILE or DATA-FILE cannot be read
"""

import re
import shlex
import sys
import time
from collections.abc import Sequence

from popular.addresses import is_ip
from popular.config.parser import Parser
from popular.errors import PdmError
from popular.log.message import Message
from popular.names import is_id
from popular.paths import pdm_dir
from popular.pdm.api import Outcome, PdmModule, Request
from popular.pdm.chain import Chain, Verdict
from popular.pdm.loader import load_module
from popular.tools.printing import main_of
from popular.version import VERSION

FAILED, USAGE, NO_INPUT = 1, 64, 66    # exit codes
TIMEOUT = 10.0                         # seconds for one answer, the default of pproxy's pdmtimeout

_HIDDEN = re.compile(rb"[^\x21-\x5b\x5d-\x7e]")


def main() -> int:
    """Run `ptestpdm`; returns its exit code."""
    return main_of(run, FAILED)


def run(argv: Sequence[str]) -> int:
    """Load and ask as `argv` says, print the answers, and return the exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        commands = read_lines(arguments.command_file)
        data = read_lines(arguments.data_file)
    except OSError as why:
        complain(f"{why.filename}: {why.strerror}")
        return NO_INPUT
    modules, is_good = load_all(arguments.dir or pdm_dir(), arguments.command_file, commands)
    if not is_good:
        return FAILED
    chain = Chain(modules, TIMEOUT, show_note if arguments.debug else ignore_note)
    if arguments.debug:
        for line in chain.describe():
            complain(f"debug: module {line}")
    answers = [ask(chain, f"{arguments.data_file}:{number}", line, is_debug=arguments.debug)
               for number, line in data]
    chain.close()
    return 0 if all(answers) else FAILED


def make_parser() -> Parser:
    """Return the parser of the options of spec 7.4."""
    parser = Parser(prog="ptestpdm", description="Try database modules outside pproxy.", allow_abbrev=False,
                    add_help=False)
    parser.add_argument("--help", action="help", help="show this help and exit")
    parser.add_argument("--version", action="version", version=f"ptestpdm {VERSION}")
    parser.add_argument("--debug", action="store_true", help="tell on stderr what is loaded and how long it takes")
    parser.add_argument("-d", "--dir", metavar="DIR", help="folder of the modules; the installed one if left out")
    parser.add_argument("command_file", metavar="COMMAND-FILE", help="lines: ID MODULE-NAME [ARGS]...")
    parser.add_argument("data_file", metavar="DATA-FILE", help="lines: IP PROTOCOL NAMESPACE USER PASSWORD")
    return parser


def read_lines(path: str) -> list[tuple[int, bytes]]:
    """Return numbers and texts of the lines that say something; raises OSError."""
    with open(path, "rb") as file:
        lines = [(number, line.rstrip(b"\r\n")) for number, line in enumerate(file, 1)]
    return [(number, line) for number, line in lines if line.strip() and not line.startswith(b"#")]


def load_all(directory: str, path: str, lines: Sequence[tuple[int, bytes]]) -> tuple[list[PdmModule], bool]:
    """Load what COMMAND-FILE names; complains of each that cannot be, and then returns False too."""
    modules: list[PdmModule] = []
    is_good = True
    for number, line in lines:
        try:
            module = load_line(directory, line.decode("utf-8", "surrogateescape"))
            if any(module.ident == other.ident for other in modules):
                raise PdmError(f"the ID {module.ident} is taken")
            modules.append(module)
        except PdmError as why:
            complain(f"{path}:{number}: {why}")
            is_good = False
    return modules, is_good


def load_line(directory: str, line: str) -> PdmModule:
    """Load the module of one line `ID MODULE-NAME [ARGS]...`; raises PdmError."""
    try:
        ident, name, *args = shlex.split(line)
    except ValueError:
        raise PdmError("wanted: ID MODULE-NAME [ARGS]..., quoted as in a shell") from None
    if not is_id(ident):
        raise PdmError(f"{ident!a} is no ID, wanted letters, digits, _, - and .")
    return load_module(directory, ident, name, args)


def ask(chain: Chain, where: str, line: bytes, *, is_debug: bool) -> bool:
    """Check the user of one line of DATA-FILE and print the answer; returns whether he could be checked."""
    try:
        request = parse_request(line)
    except ValueError as why:
        complain(f"{where}: {why}")
        return False
    began = time.perf_counter()
    verdict = chain.check(request)
    if is_debug:
        complain(f"debug: {where}: {time.perf_counter() - began:.4f} s, {verdict.why or 'no remark'}")
    print(show(request, verdict))
    if verdict.outcome is Outcome.FAILED:
        complain(f"{where}: {verdict.module}: {verdict.why}")
    return verdict.outcome is not Outcome.FAILED


def parse_request(line: bytes) -> Request:
    """Read `IP PROTOCOL NAMESPACE USER PASSWORD`; raises ValueError, whose text holds no password."""
    words = line.split(None, 4)
    if len(words) != 5:
        raise ValueError("wanted: IP PROTOCOL NAMESPACE USER PASSWORD")
    ip, protocol, namespace, user = (word.decode("utf-8", "surrogateescape") for word in words[:4])
    if not is_ip(ip):
        raise ValueError("the first word is no IP address")
    return Request(user=user, password=words[4], ip=ip, protocol=protocol, namespace=namespace)


def show(request: Request, verdict: Verdict) -> str:
    """Return the line that tells a verdict."""
    found = verdict.found
    place = ("", "", "", "") if found is None else (
        found.backend, found.protocol, found.mailbox or found.user, "M" if found.master else "")
    return " ".join(printable(word) for word in (
        request.user, request.namespace, verdict.outcome.value, verdict.module, *place))


def printable(word: str) -> str:
    """Return a word that is one word on any terminal."""
    octets = word.encode("utf-8", "surrogateescape")
    return _HIDDEN.sub(lambda octet: b"\\x%02x" % octet[0][0], octets).decode("ascii") or "-"


def show_note(message: Message, **fields: object) -> None:
    """Tell what would stand in pproxy's log."""
    complain(f"debug: {message.name} " + " ".join(f"{name}={value!a}" for name, value in fields.items()))


def ignore_note(message: Message, **fields: object) -> None:
    """Tell nothing: the verdict says it too."""


def complain(text: str) -> None:
    """Write one line to stderr."""
    print(f"ptestpdm: {text.encode('ascii', 'backslashreplace').decode('ascii')}", file=sys.stderr, flush=True)
