"""The command line of pdeliver: one table, from which its usual form is read at once, and the rest by argparse.

pdeliver is a new process for each mail, and argparse takes as long to load as all else.  Whatever `read_command_line`
does not understand goes to argparse: helps, mistakes and unusual forms.  Part of the tool pdeliver.
"""

import os
from collections.abc import Callable, Sequence

from popular.lean import TYPE_CHECKING, Any
from popular.paths import CONFDIR, LOGDIR, SPOOLDIR
from popular.store.lineends import MAIL_FORMS, MailForm
from popular.version import VERSION

if TYPE_CHECKING:
    from popular.config.parser import Parser

_MAX_ADDRESS = 512    # octets


class Arguments:
    """What a command line says; the attributes have the names of the options."""

    mailbox: str         # None with --user, until it is found
    quota: int
    maxnum: int
    mailboxdir: str
    format: str
    logfile: str
    id: str
    create: bool
    user: str            # None without --user
    config: str
    namespace: str
    backend: list[str]
    warn: tuple[int, ...]
    warning: str
    return_path: str | None
    delivered_to: str | None


class Option:
    """One option; `dest` is its attribute, `read` makes its value of a word and raises ValueError."""

    __slots__ = ("names", "text", "default", "metavar", "read", "dest")

    def __init__(self, names: tuple[str, ...], text: str, default: object = None, metavar: str = "",
                 read: Callable[[str], object] = str) -> None:
        self.names = names
        self.text = text          # for the help
        self.default = default    # False: the option takes no value; a list: it may be given several times
        self.metavar = metavar
        self.read = read
        self.dest = names[-1][2:].replace("-", "_")


def amount(text: str) -> int:
    """Read a limit; raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError("must be a number, 0 or more")
    return int(text)


def mail_form(text: str) -> str:
    """Read the form of a mail; raises ValueError."""
    if text not in MAIL_FORMS:
        raise ValueError(f"must be one of {', '.join(MAIL_FORMS)}")
    return text


def warning_levels(text: str) -> tuple[int, ...]:
    """Read levels in percent, separated by commas; raises ValueError."""
    words = text.split(",")
    if not all(word.isascii() and word.isdigit() and len(word) <= 3 and 0 < int(word) <= 100 for word in words):
        raise ValueError("must be numbers from 1 to 100, separated by commas")
    return tuple(map(int, words))


def header_address(text: str) -> str:
    """Read an address for a header line, without angle brackets, empty for none; raises ValueError."""
    octets = os.fsencode(text.removeprefix("<").removesuffix(">"))
    if len(octets) > _MAX_ADDRESS or any(octet < 0x20 or octet in b"\x7f<>" for octet in octets):
        raise ValueError(f"must be an address of at most {_MAX_ADDRESS} octets, without control characters")
    return os.fsdecode(octets)


DELIVERY_OPTIONS = (
    Option(("-q", "--quota"), "deliver only if the mailbox holds less than QUOTA times 1024*1024 octets "
           "(default 0: no check)", 0, "QUOTA", amount),
    Option(("-Q", "--maxnum"), "deliver only if the mailbox holds fewer than NUM mails (default 0: no check)", 0, "NUM",
           amount),
    Option(("-m", "--mailboxdir"), f"folder of the mailboxes (default {SPOOLDIR})", SPOOLDIR, "DIR"),
    Option(("-f", "--format"), "LF or CRLF: how lines end; NET: CRLF, leading dots doubled, a line with a single dot "
           "ends the mail (default LF)", MailForm.LF, "FORMAT", mail_form),
    Option(("-l", "--logfile"), f"log file, /dev/null for no log (default {LOGDIR}/pdeliver)", f"{LOGDIR}/pdeliver",
           "FILE"),
    Option(("-i", "--id"), "an id for every log line, for example the MTA's message id (default -)", "-", "ID"),
    Option(("--create",), "make the mailbox's folders if they are missing", False),
    Option(("-u", "--user"), "deliver into the mailbox that the database modules of pproxy find for USER", None,
           "USER"),
    Option(("-c", "--config"), f"with --user: INI file of pproxy (default {CONFDIR}/pproxy.conf)",
           f"{CONFDIR}/pproxy.conf", "FILE"),
    Option(("-n", "--namespace"), "with --user: the namespace (default: that of the virtual servers, if they have the "
           "same)", "", "NAMESPACE"),
    Option(("-b", "--backend"), "with --user: the backend that has the mailboxes in DIR; may be given several times "
           "(default: the only one that has mailboxes)", [], "ID"),
    Option(("--return-path",), "begin the mail with a Return-Path header that has this address, empty for a bounce "
           "(default: no such header)", None, "ADDRESS", header_address),
    Option(("--delivered-to",), "begin the mail with a Delivered-To header that has this address (default: no such "
           "header)", None, "ADDRESS", header_address),
    Option(("--warn",), "levels of the quota in percent, such as 80,95: when the mail takes the mailbox to one, "
           "deliver a warning, too (default: none)", (), "LEVELS", warning_levels),
    Option(("--warning",), "with --warn: file with the text of the warning (default: a short one in English)", "",
           "FILE"),
)


def read_command_line(argv: Sequence[str]) -> Arguments:
    """Return what a command line says; argparse ends the process after --help, or a mistake."""
    arguments = _read_usual(argv)
    if arguments is None:
        arguments = make_parser().parse_args(argv, Arguments())
    return arguments


def _read_usual(argv: Sequence[str]) -> Arguments | None:
    """Do that for the usual forms `-q 5`, `-q5`, `--quota 5` and `--quota=5`; None if there is anything else."""
    known = {name: option for option in DELIVERY_OPTIONS for name in option.names}
    values: dict[str, Any] = {"mailbox": None} | {option.dest: option.default for option in DELIVERY_OPTIONS}
    words = iter(argv)
    for word in words:
        if word[:1] != "-":
            if values["mailbox"] is not None:
                return None
            values["mailbox"] = word
            continue
        name, given, text = word.partition("=") if word[:2] == "--" else (word[:2], word[2:], word[2:])
        option = known.get(name)
        if option is None or text[:1] == "=":
            return None
        if option.default is False:
            if given:
                return None
            values[option.dest] = True
            continue
        if not given:
            text = next(words, "-")
            if text[:1] == "-":
                return None
        try:
            value = option.read(text)
        except ValueError:
            return None
        values[option.dest] = [*values[option.dest], value] if isinstance(option.default, list) else value
    arguments = Arguments()
    arguments.__dict__.update(values)
    return arguments


def make_parser() -> "Parser":
    """Return the parser of the table."""
    from argparse import ArgumentTypeError

    from popular.config.parser import Parser

    def reader(read: Callable[[str], object]) -> Callable[[str], object]:
        def checked(text: str) -> object:
            try:
                return read(text)
            except ValueError as why:
                raise ArgumentTypeError(str(why)) from None
        return checked

    parser = Parser(prog="pdeliver", add_help=False, allow_abbrev=False,
                    description="Deliver one mail from standard input into a mailbox.",
                    epilog="Exit code: 0 delivered, 1 over quota, 64 wrong usage, 67 no such mailbox or user, 69 the "
                           "user's mail is elsewhere, 75 not delivered, try again.")
    for option in DELIVERY_OPTIONS:
        if option.default is False:
            parser.add_argument(*option.names, action="store_true", help=option.text)
        else:
            parser.add_argument(*option.names, action="append" if isinstance(option.default, list) else "store",
                                type=reader(option.read), default=option.default, metavar=option.metavar,
                                help=option.text)
    parser.add_argument("--help", action="help", help="show this help and end")
    parser.add_argument("--version", action="version", version=f"pdeliver {VERSION}")
    parser.add_argument("mailbox", nargs="?", help="the mailbox, relative to DIR (required without --user)")
    return parser
