"""How a Config and single values are written in an INI file, so that any text can be read back unchanged.

A bare value ends at a `#`.  `'…'` is taken literally.  In `"…"` the four characters `\\xNN` stand for
the character of that code, so quotes can contain a quote; nothing else is special.  Anything but one
quoted text, such as `"a b" "c d"`, stays as it is, for code that splits it like a shell.
Lean: used by starters, by the master (`show config`) and by tools.  Raises nothing for a Config of its schema.
"""

import re

from popular.config.kinds import Dir
from popular.config.setting import Schema, Setting
from popular.config.store import Config, Values

_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})", re.ASCII)


def render_ini(config: Config, schema: Schema) -> str:
    """Return an INI file from which `read_ini` makes the same variables and objects.

    What a file cannot express becomes a comment: values that only the program sets, optional values that
    are not given, and default directories, which need not exist.
    """
    lines = [f"[{schema.program}]"]
    lines += [_assignment(row, config.variables) for row in schema.settings]
    for cls in schema.classes:
        lines += ["", f"[{cls.name}]"]
        for item in config.items(cls.name):
            lines += [f"    [[{item.ident}]]"]
            lines += [f"    {_assignment(row, item.values)}" for row in cls.rows]
    return "\n".join(lines) + "\n"


def quote(text: str) -> str:
    """Return `text` as it must be written in an INI file: bare where that is safe."""
    if text and text == text.strip() and "#" not in text and text[0] not in "'\"":
        return text
    escaped = text.replace("\\x", "\\x5cx").replace('"', "\\x22")
    return f'"{escaped}"'


def unquote(value: str) -> str:
    """Return the text that `value`, a value of an INI file without its comment, stands for."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        inside = value[1:-1]
        if value[0] not in inside:
            return inside if value[0] == "'" else _ESCAPE.sub(lambda code: chr(int(code[1], 16)), inside)
    return value


def _assignment(row: Setting, values: Values) -> str:
    """Return `name = value`, as a comment where a file cannot express it."""
    value = values[row.name]
    text = row.show(value)
    line = f"{row.name} = {'' if text is None else quote(text)}".rstrip()
    unsaid = text is None or not row.starts or (isinstance(row.kind, Dir) and value == row.default)
    return f"#{line}" if unsaid else line
