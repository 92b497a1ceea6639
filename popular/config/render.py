"""Texts made from the rows: the commented sample file and man page parts.

For tools.  Pure functions; raises nothing.  The man page parts are plain troff (`.TP`, `.B`, `.I`) for the
templates in man/src/.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping

from popular.config.cmdline import common_options, metavar
from popular.config.ini.text import quote
from popular.config.kinds import Bool, Choice, Float, Int, Kind, Time
from popular.config.setting import Schema, Setting

_WIDTH = 98        # columns of comments in a sample file
_MAN_WIDTH = 78    # columns of the source of a man page

Examples = Mapping[str, Mapping[str, Mapping[str, str]]]    # class → id → key → text


def sample_ini(schema: Schema, examples: Examples) -> str:
    """Return the sample file: every row with its text, kind, bounds and default, all commented out.

    `#name = value` is a setting, `# text` is prose.  A row without a default shows the value of an
    example, and each example object follows the rows of its class.
    """
    lines = [*_comment(f"{schema.program}: sample configuration, generated from the tables of settings. "
                       f"Every line is commented out and shows the default; see {schema.program}(8)."),
             "", f"[{schema.program}]"]
    for row in schema.settings:
        if row.starts:
            lines += ["", *_sample_row(row, {})]
    for cls in schema.classes:
        lines += ["", "", *_comment(cls.doc), f"[{cls.name}]"]
        for ident, values in examples.get(cls.name, {}).items():
            lines += ["", f"#[[{ident}]]", *(line for row in cls.rows for line in _sample_row(row, values))]
    return "\n".join(lines) + "\n"


def man_options(schema: Schema) -> str:
    """Return the options of a daemon, including those of its rows, as troff."""
    entries = [(option.names, option.metavar, f"{option.text[0].upper()}{option.text[1:]}.")
               for option in common_options(schema)]
    entries += [(row.option, "" if isinstance(row.kind, Bool) else metavar(row), f"{row.doc} {_bounds(row)}")
                for row in schema.settings if row.option]
    return "".join(f".TP\n{_option_names(names, value)}\n{man_text(text)}\n" for names, value, text in entries)


def man_settings(schema: Schema) -> str:
    """Return the variables of a program as troff."""
    return man_rows(schema.settings)


def man_rows(rows: Iterable[Setting]) -> str:
    """Return rows as troff, one `.TP` entry for each."""
    return "".join(_man_row(row) for row in rows)


def man_objects(schema: Schema) -> str:
    """Return the object classes of a program as troff: a subsection with its keys for each."""
    return "".join(f".SS [{_escape(cls.name)}]\n{man_text(cls.doc)}\n{man_rows(cls.rows)}"
                   for cls in schema.classes)


def man_text(text: str) -> str:
    """Return prose as lines of troff, each sentence on its own line, as `mandoc -Tlint` requires."""
    lines = []
    for sentence in re.split(r"(?<=\.) +", text):
        lines += textwrap.wrap(_escape(sentence), _MAN_WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in lines)


def _sample_row(row: Setting, values: Mapping[str, str]) -> list[str]:
    """Return the lines of one row, with the value of an example where there is one."""
    shown = _sample_value(row, values)
    return [*_row_comment(row, shown), f"#{row.name} = {shown}".rstrip()]


def _sample_value(row: Setting, values: Mapping[str, str]) -> str:
    text = values.get(row.name, row.show(row.default))
    return "" if text is None else quote(text)


def _row_comment(row: Setting, shown: str) -> list[str]:
    """Return the comment above a row in a sample: its text, kind and bounds, and its default unless that is shown."""
    is_default = not row.required and shown == _sample_value(row, {})
    return _comment(" ".join([row.doc, f"{row.kind.name}.", *_range(row), *([] if is_default else [_default(row)]),
                              *_fixed(row)]))


def _comment(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH, initial_indent="# ", subsequent_indent="# ",
                         break_long_words=False, break_on_hyphens=False)


def _man_row(row: Setting) -> str:
    """Return one `.TP` entry: name and kind, text, bounds and default."""
    return f".TP\n.BR {_escape(row.name)} \" ({row.kind.name})\"\n{man_text(f'{row.doc} {_bounds(row)}')}\n"


def _bounds(row: Setting) -> str:
    """Return the limits of a value, beyond its kind, and what applies without one."""
    return " ".join([*_range(row), _default(row), *_fixed(row)]) if row.starts else "Read-only."


def _default(row: Setting) -> str:
    """Return a sentence on what applies without a value."""
    if row.required:
        return "Required."
    text = row.show(row.default)
    return "Not set by default." if text is None else f"Default: {text or 'empty'}."


def _fixed(row: Setting) -> list[str]:
    """Return a sentence on a value that cannot be changed later, or not by everybody."""
    if row.readonly:
        return ["Fixed once the program runs."]
    return ["Root only at run time."] if row.root_only else []


def _range(row: Setting) -> list[str]:
    """Return a sentence on the bounds of a kind that has some."""
    kind: Kind = row.kind
    match kind:
        case Int(low, None):
            return [f"{low} or more."]
        case Int(low, high):
            return [f"{low} to {high}."]
        case Float() | Time():
            return [f"{kind.show(kind.low)} to {kind.show(kind.high)}."]
        case Choice():
            return [f"One of {', '.join(kind.words)}."]
        case _:
            return []


def _option_names(names: tuple[str, ...], value: str) -> str:
    """Return the head of an option's entry: `-c FILE, --config FILE`."""
    suffix = f" \\fI{value}\\fR" if value else ""
    return ", ".join(f"\\fB{_escape(name)}\\fR{suffix}" for name in names)


def _escape(text: str) -> str:
    """Return text in which troff finds no commands."""
    return text.replace("\\", "\\e").replace("-", "\\-")
