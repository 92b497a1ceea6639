"""The command line of a daemon, made from the rows' options, and how it becomes a Config.

Default < INI file < command line.  Starter only: argparse and configobj are heavy.  Wrong usage ends
the process with exit code 64 and a message; --help and --version end it with 0.  An unreadable file raises
ConfigError.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from popular.config.ini.file import Reading, examine_ini
from popular.config.kinds import Bool, Choice, Dir, File
from popular.config.mistakes import Mistake
from popular.config.parser import Parser
from popular.config.setting import Schema, Setting, place
from popular.config.store import Config, Source, Values, default_config, with_variable
from popular.errors import UsageError
from popular.paths import CONFDIR
from popular.version import VERSION

EX_USAGE = 64    # sysexits(3)

_OF_DAEMONS = (":foreground", ":ready_fd")    # options that tools do not take


@dataclass(frozen=True, slots=True)
class Startup:
    """What a command line asks for."""

    config: Config
    foreground: bool          # do not detach
    check: bool               # --check-config: validate and end
    print: bool               # --print-config: print the whole configuration as an INI file and end
    ready_fd: int | None      # where to write "ready" and the addresses once all ports are listening
    config_path: str          # absolute; the default one need not exist
    dump: bool = False        # --dump-config: print what was read for a master, and end
    given: frozenset[str] = frozenset()    # the variables that file and command line set
    argv: tuple[str, ...] = ()             # the command line itself
    mistakes: tuple[Mistake, ...] = ()     # of the file; wrong values are WRONG in `config`
    places: Mapping[str, str] = field(default_factory=dict)    # `[vserv] main: address` → `FILE: line 7`


@dataclass(frozen=True, slots=True)
class CommonOption:
    """An option of every configured program that is not a setting."""

    names: tuple[str, ...]
    text: str
    action: str            # of argparse
    metavar: str = ""      # of the value, if it takes one
    dest: str = ""         # where the parser keeps it; the colon distinguishes it from the rows' names

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add it to `parser`."""
        extra: dict[str, Any] = {"dest": self.dest} if self.dest else {}
        if self.metavar:
            extra |= {"metavar": self.metavar, "type": _descriptor if self.metavar == "FD" else str}
        if self.action == "version":
            extra["version"] = f"{parser.prog} (POPular) {VERSION}"
        parser.add_argument(*self.names, action=self.action, help=self.text, **extra)


def _build_parser(schema: Schema) -> argparse.ArgumentParser:
    """Return the parser for one daemon; each row's option is stored under the row's name."""
    parser = Parser(prog=schema.program, allow_abbrev=False, add_help=False,
                    usage=f"{schema.program} [OPTION]...", description=schema.purpose,
                    argument_default=argparse.SUPPRESS)
    for option in common_options(schema):
        option.add_to(parser)
    parser.add_argument("--dump-config", dest=":dump", action="store_true", help=argparse.SUPPRESS)    # of a master
    for row in schema.settings:
        if row.option:
            _add_option(parser, row)
    return parser


def common_options(schema: Schema) -> tuple[CommonOption, ...]:
    """Return the options that are not settings; `-h` asks for help unless a row takes it.

    A program that never detaches, and so has no option for the foreground, is a tool and does not listen.
    """
    check = "check the configuration and end, with exit code 0 or 78"
    if schema.foreground:
        check = ("try what a start and the first login will need, with the rights of the user, and end: with exit code "
                 "0, 78 for a wrong setting or file, or 69 when only the system lacks something, such as a free port")
    takes_h = any("-h" in row.option for row in schema.settings)
    options = (
        CommonOption(("--help",) if takes_h else ("-h", "--help"), "show a short text and end", "help"),
        CommonOption(("--version",), "show the version and end", "version"),
        CommonOption(("-c", "--config"), f"read this INI file, which must exist; without the option "
                     f"{conf_path(schema.program)} is read if it exists", "store", "FILE", ":config"),
        CommonOption(schema.foreground, "do not detach, stay in the foreground", "store_true", dest=":foreground"),
        CommonOption(("--check-config",), check, "store_true", dest=":check"),
        CommonOption(("--print-config",), "print the whole configuration as an INI file and end", "store_true",
                     dest=":print"),
        CommonOption(("--ready-fd",), "write \"ready\" and all addresses to this open descriptor once the ports "
                     "are listening", "store", "FD", ":ready_fd"),
    )
    return tuple(option for option in options if schema.foreground or option.dest not in _OF_DAEMONS)


def conf_path(program: str) -> str:
    """Return the INI file that a daemon reads when no option names one."""
    return os.path.join(CONFDIR, f"{program}.conf")


def read_config(schema: Schema, argv: Sequence[str], default_path: str) -> Startup:
    """Return what `argv` (without the program's name) and the INI file say.

    The file is that of `-c`, which must exist, or `default_path`, which need not.  Relative file names
    in `argv` become absolute.  Mistakes in the file are in the result; raises ConfigError for a file that cannot be
    read, and SystemExit for wrong usage.
    """
    parser = _build_parser(schema)
    given = vars(parser.parse_args(list(argv)))
    path = os.path.abspath(given.get(":config", default_path))
    options = {name: text for name, text in given.items() if not name.startswith(":")}
    default = default_config(schema)
    unset = object()
    config = replace(default, variables=Values(dict.fromkeys(default.variables, unset)), source=Source(path, ""))
    _with_options(config, schema, options, parser)    # wrong usage is reported before the file is read
    reading = Reading(config)
    if ":config" in given or os.path.lexists(path):
        reading = examine_ini(path, schema, config)
        config = reading.config
        for name in options:    # these do not come from the file
            reading.places.pop(place(schema.program, name), None)
    config = _with_options(config, schema, options, parser)
    values = {name: value for name, value in config.variables.items() if value is not unset}
    config = replace(config, variables=Values({**default.variables, **values}))
    return Startup(config, foreground=":foreground" in given, check=":check" in given, print=":print" in given,
                   ready_fd=given.get(":ready_fd"), config_path=path, dump=":dump" in given,
                   given=frozenset(values), argv=tuple(argv), mistakes=tuple(reading.mistakes), places=reading.places)


def _add_option(parser: argparse.ArgumentParser, row: Setting) -> None:
    default = row.show(row.default)
    words = f"{row.kind.wanted}; " if isinstance(row.kind, Choice) else ""
    text = row.doc if isinstance(row.kind, Bool) or default is None else f"{row.doc} ({words}default {default})"
    text = text.replace("%", "%%")
    if isinstance(row.kind, Bool):
        parser.add_argument(*row.option, dest=row.name, action="store_const", const="on", help=text)
    else:
        parser.add_argument(*row.option, dest=row.name, metavar=metavar(row), help=text)


def metavar(row: Setting) -> str:
    """Return the placeholder of a row's value in usage texts and man pages."""
    if row.name.endswith("dir"):
        return "DIR"    # also a File, where the directory need not exist yet
    return {"Int": "NUM", "Float": "NUM", "File": "FILE", "Dir": "DIR"}.get(row.kind.name, row.name.upper())


def _with_options(config: Config, schema: Schema, options: dict[str, str], parser: argparse.ArgumentParser) -> Config:
    """Apply the options to `config`; all wrong ones are reported at once."""
    mistakes = []
    for name, text in options.items():
        row = schema.variable(name)
        if row is not None and isinstance(row.kind, (File, Dir)) and text:
            text = os.path.join(os.getcwd(), text)    # not abspath: `..` may follow a symbolic link
        try:
            config = with_variable(config, schema, name, text, starting=True)
        except UsageError as why:
            mistakes.append(f"{'/'.join(row.option) if row else name}: {why}")
    if mistakes:
        parser.error("\n".join(mistakes))
    return config


def _descriptor(text: str) -> int:
    """Read the number of an open descriptor."""
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of an open descriptor")
    return int(text)
