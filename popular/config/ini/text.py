"""A Config as the text of an INI file that loads to the same state.

Lean: used by starters, by the master (`show config`) and by tools.  Raises nothing for a Config of its schema.
"""

from popular.config.ini.quoting import quote
from popular.config.kinds import Dir
from popular.config.setting import Schema, Setting
from popular.config.store import Config, Values


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


def _assignment(row: Setting, values: Values) -> str:
    """Return `name = value`, as a comment where a file cannot say it."""
    value = values[row.name]
    text = row.show(value)
    line = f"{row.name} = {'' if text is None else quote(text)}".rstrip()
    unsaid = text is None or not row.starts or (isinstance(row.kind, Dir) and value == row.default)
    return f"#{line}" if unsaid else line
