"""The INI file: its lines (config.ini.scan), and their values as the rows define them.

`[PROGRAM]` holds variables, `[CLASS]` holds one `[[ID]]` for each object.  There are no interpolation and no lists;
config.ini.text defines quoting.  Starter only.  All mistakes in a file are reported at once, each with its line.  A
wrong value is `WRONG` in the Config, so that everything else can be checked, too.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from configobj import ConfigObj, ConfigObjError

from popular.config.ini.scan import Block, Scan
from popular.config.ini.text import unquote
from popular.config.kinds import Dir, File, Files
from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import ObjectClass, Schema, Setting, place, quoted
from popular.config.store import FROM_FILE, WRONG, Config, Item, Source, Values

MAX_BYTES = 8 << 20      # of a file
MAX_LINE = 20_000        # characters: a file name of quotes only, each of them escaped, still fits


@dataclass(slots=True)
class Reading:
    """What a file says."""

    config: Config                                             # the earlier one with the file applied to it
    mistakes: list[Mistake] = field(default_factory=list)      # in the order of their lines
    places: dict[str, str] = field(default_factory=dict)       # `[vserv] main: address` → `FILE: line 7`


def read_ini(path: str, schema: Schema, config: Config) -> Config:
    """Return `config` with the file `path` applied to it.

    Relative file names are relative to the folder of the file, so that a later reload means the same files.
    Raises ConfigError with every mistake: unreadable, wrong lines, unknown or repeated names, wrong values.
    """
    reading = examine_ini(path, schema, config)
    if reading.mistakes:
        raise ConfigError(reading.mistakes)
    return reading.config


def examine_ini(path: str, schema: Schema, config: Config) -> Reading:
    """Do the same, but go on after mistakes; raises ConfigError for an unreadable file.

    Wrong values are WRONG, and so are missing required ones.
    """
    return _IniFile(path, schema, Reading(config)).reading


def value_in(path: str, section: str, key: str) -> str | None:
    """Return one value of another program's file, as text; None where it is missing or cannot be read.

    Mistakes in the file are for that program to report.
    """
    try:
        root = ConfigObj(path, interpolation=False, list_values=False, file_error=True, encoding="utf-8")
        found = root[section][key]
    except (OSError, ConfigObjError, UnicodeError, KeyError, TypeError):
        return None
    return unquote(found) if isinstance(found, str) else None


class _IniFile:
    """One file while it is read."""

    def __init__(self, path: str, schema: Schema, reading: Reading) -> None:
        self.reading = reading
        self._path = path
        self._folder = os.path.dirname(os.path.abspath(path))
        self._found: list[tuple[int, str]] = []    # line and mistake
        self._digest = ""
        scan = Scan(self._lines(), schema)
        self._found += [(report.number, report.what) for report in scan.reports]
        for block in scan.blocks:
            if block.section == schema.program:
                self._take_variables(block, schema)
            else:
                self._take_object(block, next(cls for cls in schema.classes if cls.name == block.section))
        reading.config = replace(reading.config, source=Source(os.path.abspath(path), self._digest))
        reading.mistakes += [Mistake(self._line(number), what) for number, what in sorted(self._found)]

    def _lines(self) -> list[str]:
        """Return the lines of the file without their ends."""
        try:
            with open(self._path, "rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as why:
            raise ConfigError([Mistake(self._path, os.strerror(why.errno or 0))]) from None
        except ValueError:    # a NUL in the name
            raise ConfigError([Mistake(quoted(self._path), "not a file name")]) from None
        self._digest = hashlib.sha256(raw).hexdigest()
        if len(raw) > MAX_BYTES:
            raise ConfigError([Mistake(self._path, f"more than {MAX_BYTES} octets")])
        try:
            lines = raw.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as why:
            number = raw.count(b"\n", 0, why.start) + 1
            raise ConfigError([Mistake(self._line(number), f"the octet {raw[why.start]:02x} is not UTF-8")]) from None
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_LINE:
                self._found.append((number, f"{len(line)} characters are too many, at most {MAX_LINE}"))
                lines[number - 1] = ""
        return lines

    def _line(self, number: int) -> str:
        return f"{self._path}: line {number}"

    def _take_variables(self, block: Block, schema: Schema) -> None:
        values = dict(self._values(block, schema.settings))
        config = self.reading.config
        self.reading.config = replace(config, variables=Values({**config.variables, **values}))

    def _take_object(self, block: Block, cls: ObjectClass) -> None:
        values = {row.name: row.default for row in cls.rows} | dict(self._values(block, cls.rows))
        for row in cls.rows:
            if row.required and values[row.name] is None:
                self._found.append((block.number, f"{block.place}: {row.missing}"))
                values[row.name] = WRONG
        if not block.counts:
            return
        self.reading.places[block.place] = self._line(block.number)
        config, item = self.reading.config, Item(block.ident, Values(values), FROM_FILE)
        others = config.items(cls.name)
        items = tuple(item if each.ident == item.ident else each for each in others)
        if config.item(cls.name, item.ident) is None:
            items = (*others, item)
        self.reading.config = replace(config, objects={**config.objects, cls.name: items})

    def _values(self, block: Block, rows: tuple[Setting, ...]) -> Iterator[tuple[str, object]]:
        """Yield name and value of each key of a block."""
        by_name = {row.name: row for row in rows}
        for name, key in block.keys.items():
            where = place(block.section, *filter(None, (block.ident,)), name)
            if block.counts:
                self.reading.places[where] = self._line(key.number)
            if key.value is None:
                yield name, WRONG
                continue
            try:
                yield name, _value(by_name[name], unquote(key.value), self._folder)
            except ValueError as why:
                self._found.append((key.number, f"{where}: {why}"))
                yield name, WRONG


def _value(row: Setting, text: str, folder: str) -> object:
    """Return the value of a text in the file, with absolute file names; raises ValueError with what is wrong."""
    if not row.starts:
        raise ValueError("only the program itself sets it")
    absolute = text
    if isinstance(row.kind, (File, Dir)) and text:
        absolute = os.path.join(folder, text)
    elif isinstance(row.kind, Files) and text.strip():
        absolute = ", ".join(os.path.join(folder, name.strip()) if name.strip() else "" for name in text.split(","))
    try:
        return row.parse(absolute)
    except ValueError as why:
        raise ValueError(row.complaint(absolute, why)) from None
