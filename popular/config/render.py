"""Texts made from the rows: the configuration as an INI file, the commented sample file, man page parts.

For starters and tools.  Pure functions; raises nothing for a Config of its schema.  The man page
parts are plain troff (`.TP`, `.B`, `.I`), which the templates in man/src/ take in.
"""

import textwrap
from collections.abc import Mapping

from popular.config.cmdline import common_options, metavar
from popular.config.kinds import Bool, Dir
from popular.config.quoting import quote
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import Config, Values

WIDTH = 98    # columns of comments in a sample file

Examples = Mapping[str, Mapping[str, Mapping[str, str]]]    # class → id → key → text


def render_ini(config: Config, schema: Schema) -> str:
    """Return an INI file that `read_ini` folds back to the same variables and objects.

    What a file cannot say stands there as a comment: what only the program sets, optional values that
    are not given, and directories that are the default and hence need not exist.
    """
    lines = [f"[{schema.program}]"]
    lines += [_assignment(row, config.variables) for row in schema.settings]
    for cls in schema.classes:
        lines += ["", f"[{cls.name}]"]
        for item in config.items(cls.name):
            lines += [f"    [[{item.ident}]]"]
            lines += [f"    {_assignment(row, item.values)}" for row in cls.rows]
    return "\n".join(lines) + "\n"


def sample_ini(schema: Schema, examples: Examples) -> str:
    """Return the sample file: every row with its text, kind and default, all of it commented out.

    `#name = value` is a setting, `# text` is prose; a row without a default shows the value of an
    example, and each example object stands below the rows of its class.
    """
    lines = [*_comment(f"{schema.program}: sample configuration, generated from the tables of settings. "
                       f"Every line is commented out and shows the default; see {schema.program}(8)."),
             "", f"[{schema.program}]"]
    for row in schema.settings:
        if row.starts:
            lines += ["", *_row_comment(row), f"#{row.name} = {_sample_value(row, {})}".rstrip()]
    for cls in schema.classes:
        lines += ["", "", *_comment(cls.doc), f"[{cls.name}]"]
        for ident, values in examples.get(cls.name, {}).items():
            lines += ["", f"#[[{ident}]]", *_sample_object(cls, values)]
    return "\n".join(lines) + "\n"


def man_options(schema: Schema) -> str:
    """Return the options of a daemon, those of its rows among them, as troff."""
    entries = [(option.names, option.metavar, f"{option.text[0].upper()}{option.text[1:]}.")
               for option in common_options(schema)]
    entries += [(row.option, "" if isinstance(row.kind, Bool) else metavar(row), f"{row.doc} {_bounds(row)}")
                for row in schema.settings if row.option]
    return "".join(f".TP\n{_option_names(names, value)}\n{_prose(text)}\n" for names, value, text in entries)


def man_settings(schema: Schema) -> str:
    """Return the variables of a program as troff."""
    return "".join(_man_row(row) for row in schema.settings)


def man_objects(schema: Schema) -> str:
    """Return the object classes of a program as troff: a subsection with its keys for each."""
    return "".join(f".SS [{_escape(cls.name)}]\n{_prose(cls.doc)}\n{''.join(_man_row(row) for row in cls.rows)}"
                   for cls in schema.classes)


def _assignment(row: Setting, values: Values) -> str:
    """Return `name = value`, as a comment where a file cannot say it."""
    value = values[row.name]
    text = row.show(value)
    line = f"{row.name} = {'' if text is None else quote(text)}".rstrip()
    unsaid = text is None or not row.starts or (isinstance(row.kind, Dir) and value == row.default)
    return f"#{line}" if unsaid else line


def _sample_object(cls: ObjectClass, values: Mapping[str, str]) -> list[str]:
    lines = []
    for row in cls.rows:
        lines += [*_row_comment(row), f"#{row.name} = {_sample_value(row, values)}".rstrip()]
    return lines


def _sample_value(row: Setting, values: Mapping[str, str]) -> str:
    text = values.get(row.name, row.show(row.default))
    return "" if text is None else quote(text)


def _row_comment(row: Setting) -> list[str]:
    return _comment(f"{row.doc} {row.kind.name}, {row.kind.wanted}.")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ",
                         break_long_words=False, break_on_hyphens=False)


def _man_row(row: Setting) -> str:
    """Return one `.TP` entry: name and kind, text, bounds and default."""
    return f".TP\n.BR {_escape(row.name)} \" ({row.kind.name})\"\n{_prose(f'{row.doc} {_bounds(row)}')}\n"


def _bounds(row: Setting) -> str:
    """Return what a value must be and what holds without one."""
    text = row.show(row.default)
    if row.readonly and not row.starts:
        return "Read-only."
    sentences = [f"{row.kind.wanted[0].upper()}{row.kind.wanted[1:]}."]
    if row.required:
        sentences.append("Required.")
    elif text is None:
        sentences.append("Not set by default.")
    else:
        sentences.append(f"Default: {text or 'empty'}.")
    if row.readonly:
        sentences.append("Fixed once the program runs.")
    return " ".join(sentences)


def _option_names(names: tuple[str, ...], value: str) -> str:
    """Return the head of an option's entry: `-c FILE, --config FILE`."""
    suffix = f" \\fI{value}\\fR" if value else ""
    return ", ".join(f"\\fB{_escape(name)}\\fR{suffix}" for name in names)


def _prose(text: str) -> str:
    """Return text as troff lines, one sentence a line as mandoc likes it."""
    lines = textwrap.wrap(_escape(text).replace(". ", ".\n"), 110, replace_whitespace=False, break_long_words=False,
                          break_on_hyphens=False)
    joined = "\n".join(lines)
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in joined.splitlines())


def _escape(text: str) -> str:
    """Return text in which troff finds no commands."""
    return text.replace("\\", "\\e").replace("-", "\\-")
