"""Make the man pages and the sample configuration from the tables: `generate.py man sample [--check]`.

A man page is a template `man/src/NAME.SECTION.in`.  Its lines `@OPTIONS@ @SETTINGS@ @OBJECTS@
@SIGNALS@ @FILES@` are filled from the rows of the program NAME, `@INIFILES@` from those of all programs,
`@MESSAGES@` from the catalogue of log messages, `@STATES@ @FAILURES@ @BACKENDSTATES@ @COUNTERS@ @METRICS@` from the
rows of the state file, `@ARGUMENTS:NAME@` from the arguments of the database module NAME (its `OPTIONS`),
`@name.inc@` from the file of this name beside it; `@VERSION@`, `@PROGRAM@` and `@module:CONSTANT@`, a number of the
package, may stand anywhere.  The results are committed.  With --check nothing is written; files that are not what the
tables say are named, and the exit code is 1.
"""

import argparse
import importlib
import pkgutil
import re
import runpy
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import popular  # noqa: E402
from popular.config.cmdline import conf_path  # noqa: E402
from popular.config.render import (  # noqa: E402
    Examples, man_objects, man_options, man_rows, man_settings, man_text, sample_ini)
from popular.config.setting import Schema, Setting  # noqa: E402
from popular.control.grammar import CommandPattern, Shape  # noqa: E402
from popular.daemon.master.single import SingleProcessSpec  # noqa: E402
from popular.daemon.spec import DaemonSpec  # noqa: E402
from popular.log.message import Message  # noqa: E402
from popular.paths import LOGDIR, RUNDIR  # noqa: E402
from popular.statefile.counters import BACKEND_FAILURES, COUNTED, Family  # noqa: E402
from popular.statefile.layout import BACKEND_STATES, FAILURES, STATES  # noqa: E402
from popular.statefile.prometheus import ACTIVE, BACKENDS, FAMILIES, UNKNOWN_STATE  # noqa: E402
from popular.version import VERSION  # noqa: E402

PROGRAMS = ("pproxy", "pserv", "plmtpd", "pcheckd", "ringd")
TOOLS = {"pclean": "popular.tools.pclean.settings"}    # those with an INI file, and where their SCHEMA is
CONFIGURED = (*PROGRAMS, *TOOLS)

EXAMPLES: Mapping[str, Examples] = {
    "pproxy": {
        "vserv": {"main": {"address": "0.0.0.0:110, [::]:110", "namespace": "example.org", "userformat": "lower"}},
        "backend": {"store1": {"protocol": "cxpop", "address": "10.0.0.5:1110"}},
        "pdm": {"users": {"module": "passwd", "args": "/etc/popular/users"}},
        "capa": {"small": {"list": "TOP\\nUIDL\\nUSER"}},
    },
    "pserv": {"server": {"main": {"address": "127.0.0.1:1110"}}, "capa": {"small": {"list": "TOP\\nUIDL"}}},
    "plmtpd": {
        "server": {"main": {"address": "unix:/run/popular/lmtp", "namespace": "example.org", "userformat": "lower"}},
        "pdm": {"users": {"module": "passwd", "args": "/etc/popular/users"}},
    },
    "pcheckd": {},
    "ringd": {},
    "pclean": {
        "rule": {
            "staff": {"mailbox": "staff/*", "keep": "on"},
            "others": {"mailbox": "*", "read": "90d", "unread": "365d", "quota": "100"},
        },
    },
}

SOURCES = ROOT / "man" / "src"

_INCLUDED = re.compile(r"^@([a-z_]+\.inc)@\n", re.MULTILINE)
_TABLE = re.compile(r"^@([A-Z]+)@\n", re.MULTILINE)
_ARGUMENTS = re.compile(r"^@ARGUMENTS:([a-z0-9_]+)@\n", re.MULTILINE)
_CONSTANT = re.compile(r"@(popular\.[a-z0-9_.]+):([A-Z_]+)@")


def main(argv: list[str]) -> int:
    """Write what is asked for, or compare it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="generate.py", description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", metavar="man|sample", help="what to make; nothing means all")
    parser.add_argument("--check", action="store_true", help="write nothing, name the files that are stale")
    options = parser.parse_args(argv)
    if unknown := set(options.what) - set(MAKERS):
        parser.error(f"found {', '.join(unknown)}, wanted {' or '.join(MAKERS)}")
    texts: dict[str, str] = {}
    for what in options.what or MAKERS:
        texts |= MAKERS[what]()
    if options.check:
        stale = stale_files(ROOT, texts)
        for name in stale:
            print(f"{name} is not what the tables say: run make man sample", file=sys.stderr)
        return 1 if stale else 0
    write(ROOT, texts)
    return 0


def man_pages() -> dict[str, str]:
    """Return every man page by its path below the checkout."""
    return {f"man/{path.stem}": man_page(path.stem.partition(".")[0], path.read_text(encoding="utf-8"))
            for path in sorted(SOURCES.glob("*.in"))}


def samples() -> dict[str, str]:
    """Return every sample configuration by its path below the checkout."""
    return {f"etc/{program}.conf": sample_ini(schema_of(program), EXAMPLES[program]) for program in CONFIGURED}


MAKERS: Mapping[str, Callable[[], dict[str, str]]] = {"man": man_pages, "sample": samples}


def man_page(program: str, template: str) -> str:
    """Return a template with its tables filled in; KeyError for a table that there is none of."""
    text = _INCLUDED.sub(lambda mark: (SOURCES / mark[1]).read_text(encoding="utf-8"), template)
    text = text.replace("@VERSION@", VERSION).replace("@PROGRAM@", program)
    text = _CONSTANT.sub(lambda mark: f"{getattr(importlib.import_module(mark[1]), mark[2]):,}", text)
    text = _ARGUMENTS.sub(lambda mark: man_arguments(ROOT / "pdm_modules" / f"pdm_{mark[1]}.py"), text)
    tables: Mapping[str, Callable[[], str]] = {
        "OPTIONS": lambda: man_options(schema_of(program)),
        "SETTINGS": lambda: man_settings(schema_of(program)),
        "OBJECTS": lambda: man_objects(schema_of(program)),
        "SIGNALS": lambda: man_signals(spec_of(program)),
        "COMMANDS": lambda: man_commands(spec_of(program)),
        "FILES": lambda: man_files(schema_of(program)),
        "INIFILES": man_ini_files,
        "MESSAGES": lambda: man_messages(catalogue()),
        "STATES": lambda: man_words({name: state.help for name, state in STATES.items()}),
        "FAILURES": lambda: man_words(FAILURES),
        "BACKENDSTATES": lambda: man_words({name: state.help for name, state in BACKEND_STATES.items()}),
        "COUNTERS": man_counters,
        "METRICS": lambda: man_metrics(FAMILIES),
    }
    return _TABLE.sub(lambda mark: tables[mark[1]](), text)


def man_arguments(path: Path) -> str:
    """Return the arguments of a database module as troff, a list that may be in another one."""
    return f".RS\n{man_rows(arguments_of(path))}.RE\n"


def arguments_of(path: Path) -> Iterable[Setting]:
    """Return the rows of a database module's arguments; none if it has no table of them."""
    is_table = "\nOPTIONS = " in path.read_text(encoding="utf-8")
    return runpy.run_path(str(path))["OPTIONS"].rows if is_table else ()


def man_signals(spec: DaemonSpec | SingleProcessSpec) -> str:
    """Return the signals that a master obeys as troff."""
    return "".join(f".TP\n.B {row.number.name}\n{man_text(row.text)}\n" for row in spec.signals)


def man_commands(spec: DaemonSpec | SingleProcessSpec) -> str:
    """Return the control commands of a daemon as troff."""
    commands = spec.commands if isinstance(spec, DaemonSpec) else None
    return "".join(f".TP\n{_man_pattern(command.pattern)}\n{man_text(command.doc)}\n" for command in commands or ())


def _man_pattern(pattern: CommandPattern) -> str:
    """Return a pattern with its own words in bold and what is to be filled in in italics."""
    return " ".join(f"\\f{'B' if part.shape is Shape.LITERAL or part.choice else 'I'}{part.text}\\fR"
                    for part in pattern.parts)


def man_files(schema: Schema) -> str:
    """Return the files of a daemon in their default places as troff."""
    program = schema.program
    files = [
        (conf_path(program), "The configuration."),
        (f"{LOGDIR}/{program}", "The log file."),
        (f"{RUNDIR}/{program}.pid", "The process id of the master; locked as long as it runs."),
    ]
    if program in PROGRAMS and getattr(spec_of(program), "statefile", None) is not None:
        files.append((f"{RUNDIR}/{program}.state", "The state of all sessions and children, which pstatus(1) shows."))
    if program in PROGRAMS and getattr(spec_of(program), "commands", None) is not None:
        files.append((f"{RUNDIR}/{program}.ctrl", "The control socket: a link to that of the running master."))
    return "".join(f".TP\n.I {path}\n{man_text(text)}\n" for path, text in files)


def man_ini_files() -> str:
    """Return the INI files of all programs, each with its sections, as troff."""
    entries = []
    for program in CONFIGURED:
        schema = schema_of(program)
        sections = ", ".join(f"[{name}]" for name in (program, *(cls.name for cls in schema.classes)))
        entries.append(f".TP\n.I {man_text(conf_path(program))}\nOf\n.BR {program} (8);\n{man_text(sections)}.\n")
    return "".join(entries)


def man_messages(rows: Iterable[Message]) -> str:
    """Return messages of the logs as troff."""
    return "".join(f".TP\n\\fB{row.number:04x} {row.level} {row.name}\\fR \\fI{row.fields}\\fR\n{man_text(row.help)}\n"
                   for row in rows)


def man_words(words: Mapping[str, str]) -> str:
    """Return words with their texts as troff."""
    return "".join(f".TP\n.B {word}\n{man_text(text)}\n" for word, text in words.items())


def man_counters() -> str:
    """Return the counters, first those of all programs, as troff."""
    lines = ""
    for programs in (("pproxy", "pserv", "plmtpd"), ("pproxy",), ("pserv",), ("plmtpd",)):
        lines += f".SS Of {', '.join(programs)}\n"
        lines += man_words({counter.name: counter.help or family.help for family in COUNTED
                            for counter in family.counters if counter.programs == programs})
    return lines


def man_metrics(families: Iterable[Family]) -> str:
    """Return the metrics, with their labels and what is known to stand in them, as troff."""
    lines = ""
    for family in families:
        labels = "\\fR, \\fI".join(("program", *family.labels))
        values = ", ".join(values_of(family))
        text = f"{family.help} Values of {family.labels[-1]}: {values}." if values else family.help
        lines += f".TP\n\\fB{family.name}\\fR {{\\fI{labels}\\fR}} {family.kind}\n{man_text(text)}\n"
    return lines


def values_of(family: Family) -> Iterable[str]:
    """Return what can stand in the last label of a metric, where it is no name of an object."""
    if family is ACTIVE:
        return [*(name for name, state in STATES.items() if state.has_session), UNKNOWN_STATE]
    if family is BACKENDS:
        return BACKEND_STATES
    if family is BACKEND_FAILURES:
        return FAILURES
    return dict.fromkeys(counter.value for counter in family.counters if counter.value)


def catalogue() -> list[Message]:
    """Return every message that some program can log, by number."""
    names = [module.name for module in pkgutil.walk_packages(popular.__path__, "popular.")
             if module.name.endswith("messages")]
    rows = {row for name in names for row in vars(importlib.import_module(name)).values() if isinstance(row, Message)}
    return sorted(rows, key=lambda row: row.number)


def spec_of(program: str) -> DaemonSpec | SingleProcessSpec:
    """Return what makes one daemon."""
    spec: DaemonSpec | SingleProcessSpec = importlib.import_module(f"popular.{program}.spec").SPEC
    return spec


def schema_of(program: str) -> Schema:
    """Return what can be configured in a daemon or a tool."""
    if program not in TOOLS:
        return spec_of(program).schema
    schema: Schema = importlib.import_module(TOOLS[program]).SCHEMA
    return schema


def write(root: Path, texts: Mapping[str, str]) -> None:
    """Write the texts to their paths below `root`."""
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def stale_files(root: Path, texts: Mapping[str, str]) -> list[str]:
    """Return the paths below `root` whose files are missing or say something else."""
    return [name for name, text in texts.items()
            if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != text]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
