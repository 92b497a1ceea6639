"""The INI file: read with configobj, checked against a configspec made from the rows.

`[PROGRAM]` holds variables, `[CLASS]` holds one `[[ID]]` for each object.  Interpolation and lists of
configobj are off; quoting is ours (quoting.py).  Starter only: configobj is heavy.  All mistakes of a
file are told at once, in one ConfigError.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from configobj import ConfigObj, ConfigObjError, NestingError, Section
from configobj.validate import ValidateError, Validator

from popular.config.kinds import Dir, File, Id
from popular.config.quoting import unquote
from popular.config.setting import MAX_FOUND, Schema, Setting, quoted
from popular.config.store import FILE, Config, Source, with_item, with_variable
from popular.errors import ConfigError, Mistake, UsageError
from popular.names import is_id

MAX_BYTES = 8 << 20      # of a file
MAX_LINE = 20_000        # characters: a file name of quotes only, each of them escaped, still fits
MAX_PASSES = 20          # of parsing, each of which takes out what stands below wrong section lines


class _Wrong(ValidateError):    # type: ignore[misc]    # configobj has no types
    """A value that its row does not accept."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(wanted)
        self.found = found
        self.wanted = wanted


def read_ini(path: str, schema: Schema, config: Config) -> Config:
    """Return `config` with what the file `path` says folded over it.

    Relative file names in it count from its own folder, so that a later reload means the same files.
    Raises ConfigError with every mistake: unreadable, wrong lines, unknown or repeated names, wrong values.
    """
    return _IniFile(path, schema).fold(config)


def value_in(path: str, section: str, key: str) -> str | None:
    """Return one value of another program's file, as text; None where it does not say, or cannot be read.

    What is wrong with the file is for that program to tell.
    """
    try:
        root = ConfigObj(path, interpolation=False, list_values=False, file_error=True, encoding="utf-8")
        found = root[section][key]
    except (OSError, ConfigObjError, UnicodeError, KeyError, TypeError):
        return None
    return unquote(found) if isinstance(found, str) else None


class _IniFile:
    """One file while it is read: the parsed sections, and the mistakes so far."""

    def __init__(self, path: str, schema: Schema) -> None:
        self._path = path
        self._schema = schema
        self._mistakes: list[Mistake] = []
        self._digest = ""
        self._root = self._parse(self._lines())

    def fold(self, config: Config) -> Config:
        """Return the new Config; raises ConfigError when there was any mistake."""
        self._check_values()
        self._check_names()
        if not self._mistakes:
            config = self._apply(config)
        if self._mistakes:
            raise ConfigError(self._mistakes)
        return replace(config, source=Source(os.path.abspath(self._path), self._digest))

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
                self._add(self._line(number), f"{len(line)} characters", f"at most {MAX_LINE}")
                lines[number - 1] = ""
        return lines

    def _parse(self, lines: list[str]) -> ConfigObj:
        """Return the sections; what stands below a wrong section line is left out, for it belongs nowhere."""
        wrong: dict[int, ConfigObjError] = {}
        for _ in range(MAX_PASSES):
            try:
                root = ConfigObj(lines, interpolation=False, list_values=False, stringify=True)
                break
            except ConfigObjError as why:
                root = why.config
                headers = [error for error in why.errors if _is_header(error)]
                wrong.update((error.line_number, error) for error in headers or why.errors)
                if not headers:
                    break
                for error in headers:
                    _blank_section(lines, error.line_number - 1)
        for number, error in sorted(wrong.items()):
            self._add(self._line(number), _found_line(error.line), _wanted_line(error))
        return root

    def _check_values(self) -> None:
        """Let configobj check every known value, and turn it into its text without quotes."""
        validator = Validator()
        folder = os.path.dirname(os.path.abspath(self._path))
        specs: dict[str, object] = {}
        rows = [(self._schema.program, self._schema.settings), *((cls.name, cls.rows) for cls in self._schema.classes)]
        for section, settings in rows:
            spec = {}
            for row in settings:
                name = f"{section}_{row.name}"
                validator.functions[name] = _checker(row, folder)
                spec[row.name] = name
            specs[section] = spec if section == self._schema.program else {"__many__": spec}
        self._root.configspec = ConfigObj(specs, interpolation=False, list_values=False, _inspec=True)
        result = self._root.validate(validator, preserve_errors=True)
        for keys, why in _failures(result):
            if isinstance(why, _Wrong):
                self._add(self._place(keys), why.found, why.wanted)

    def _check_names(self) -> None:
        """Find what the rows do not know, and what they miss."""
        program = self._schema.program
        known = [program, *(cls.name for cls in self._schema.classes)]
        self._check_section(self._root, (), keys=(), sections=known)
        if isinstance(self._root.get(program), Section):
            self._check_section(self._root[program], (program,), [row.name for row in self._schema.settings], ())
        for cls in self._schema.classes:
            objects = self._root.get(cls.name)
            if not isinstance(objects, Section):
                continue
            self._check_section(objects, (cls.name,), keys=(), sections=None)
            for ident in objects.sections:
                self._check_section(objects[ident], (cls.name, ident), [row.name for row in cls.rows], ())
                for row in cls.rows:
                    if row.required and row.name not in objects[ident]:
                        self._add(self._place((cls.name, ident, row.name)), "nothing", row.kind.wanted)

    def _check_section(self, section: Section, place: tuple[str, ...], keys: Iterable[str],
                       sections: Iterable[str] | None) -> None:
        """Report names that are not among `keys` and `sections` (None: any id may be a section)."""
        for name in section.scalars:
            if name not in keys:
                self._add(self._place((*place, name)), "an unknown key", _instead(name, keys, "a key"))
        for name in section.sections:
            if sections is None and not is_id(name):
                self._add(self._place((*place, name)), "a wrong name", Id.wanted)
            elif sections is not None and name not in sections:
                self._add(self._place((*place, name)), "an unknown section", _instead(name, sections, "a section"))

    def _apply(self, config: Config) -> Config:
        """Fold the checked texts over `config`, as control commands would."""
        program = self._schema.program
        try:
            for name, text in self._root[program].items():
                config = with_variable(config, self._schema, name, text, starting=True)
            for cls in self._schema.classes:
                for ident, texts in self._root[cls.name].items():
                    config = with_item(config, self._schema, cls.name, ident, dict(texts), FILE)
        except UsageError as why:
            self._add(self._path, "a mistake", str(why))
        return config

    def _add(self, where: str, found: str, wanted: str) -> None:
        self._mistakes.append(Mistake(where, f"{found} is not {wanted}"))

    def _line(self, number: int) -> str:
        return f"{self._path}: line {number}"

    def _place(self, keys: tuple[str, ...]) -> str:
        """Return `FILE: [vserv] main: address`."""
        words = [key if key.isprintable() and len(key) <= MAX_FOUND else quoted(key) for key in keys]
        if len(words) > 1:
            words[:2] = [f"[{words[0]}] {words[1]}"]
        return f"{self._path}: {': '.join(words)}"


def _checker(row: Setting, folder: str) -> Callable[[str], str]:
    """Return the check function of one row: a value of the file to its text, with file names made absolute."""
    def check(value: str) -> str:
        text = unquote(value)
        if not row.starts:
            raise _Wrong(row.found(text), "nothing: the program itself sets it")
        if isinstance(row.kind, (File, Dir)) and text:
            text = os.path.join(folder, text)
        try:
            row.parse(text)
        except ValueError as wanted:
            raise _Wrong(row.found(text), str(wanted)) from None
        return text
    return check


def _failures(result: object, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Walk through what `validate` returned: True, False, an exception, or a dictionary of such."""
    if isinstance(result, Mapping):
        for name, inner in result.items():
            yield from _failures(inner, (*place, name))
    elif result is not True:
        yield place, result


def _is_header(error: ConfigObjError) -> bool:
    return isinstance(error, NestingError) or error.line.lstrip().startswith("[")


def _blank_section(lines: list[str], start: int) -> None:
    """Empty a section line and everything up to the next one."""
    lines[start] = ""
    for index in range(start + 1, len(lines)):
        if lines[index].lstrip().startswith("["):
            return
        lines[index] = ""


def _found_line(line: str) -> str:
    """Return what a report says of a wrong line; not what stands behind `=`, for it may be secret."""
    key, equals, _ = line.strip().partition("=")
    return quoted(f"{key.strip()} = ...") if equals and not key.startswith("[") else quoted(line.strip())


def _wanted_line(error: ConfigObjError) -> str:
    """Return what is wanted in place of a wrong line."""
    text = str(error)
    if text.startswith("Duplicate section"):
        return "each section once"
    if text.startswith("Duplicate keyword"):
        return "each key once in a section"
    if _is_header(error):
        return "[SECTION], or [[ID]] inside of a section"
    if "=" in error.line:
        return "KEY = VALUE, the value with closing quotes if it has opening ones"
    return "[SECTION], [[ID]] or KEY = VALUE"


def _instead(name: str, known: Iterable[str], what: str) -> str:
    """Return a hint at a name that looks like a wrong one."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"{what} that exists, such as {near[0]}" if near else f"{what} that exists"
