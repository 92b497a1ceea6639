"""The frozen value of everything configured, and the few ways to make a new one from it.

The INI reader, the command line and the control commands all use `with_variable`, `with_item` and
`without_item`.  To change something, code makes a new `Config`, compares it, applies it and swaps it
in, or keeps the old one.  A `Config` never changes, so every forked child may hold it.
Lean: used by the starter, the master, the children and the tools.  Wrong names and values raise
UsageError; a damaged hand-over raises ConfigError.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NoReturn, TypeVar

from popular.addresses import Endpoint
from popular.config.kinds import Id
from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import ObjectClass, Schema, Setting, did_you_mean, quoted
from popular.errors import PopularError, UsageError
from popular.names import is_id

FROM_FILE = "file"          # origin of objects from the INI file
FROM_COMMAND = "command"    # origin of objects from control commands

_T = TypeVar("_T")


class WrongValue(PopularError):
    """A check met a value that has been reported as wrong; what depends on it cannot be checked."""


WRONG = object()    # stands for such a value


def sound(work: Callable[[], _T], otherwise: _T) -> _T:
    """Return what `work` returns, or `otherwise` when it meets a wrong value."""
    try:
        return work()
    except WrongValue:
        return otherwise


def gather(checks: Iterable[Callable[[], Iterable[Mistake]]]) -> list[Mistake]:
    """Return the findings of all checks; a check that meets a wrong value finds nothing."""
    nothing: Iterable[Mistake] = ()
    return [mistake for check in checks for mistake in sound(check, nothing)]


class Values(Mapping[str, object]):
    """Names and their values; frozen.  The typed accessors raise TypeError for a value of another type.

    KeyError and TypeError are programming errors, never an administrator's mistakes.
    """

    __slots__ = ("_values",)
    _values: dict[str, object]

    def __init__(self, values: Mapping[str, object]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"values are frozen: {name}")

    def __repr__(self) -> str:
        return f"Values({', '.join(self._values)})"    # no values: some are secret

    def integer(self, name: str) -> int:
        """Return an Int."""
        return self._typed(name, int)

    def seconds(self, name: str) -> float:
        """Return a Time in seconds."""
        return self._typed(name, float)

    def number(self, name: str) -> float:
        """Return a Float or an Int as a float."""
        value = self._values[name]
        return float(value) if type(value) is int else self._typed(name, float)

    def text(self, name: str) -> str:
        """Return a String, File, Dir, Id or Choice."""
        return self._typed(name, str)

    def flag(self, name: str) -> bool:
        """Return a Bool."""
        return self._typed(name, bool)

    def endpoint(self, name: str) -> Endpoint:
        """Return an Address."""
        return self._typed(name, Endpoint)

    def endpoints(self, name: str) -> tuple[Endpoint, ...]:
        """Return Addresses."""
        return self._typed(name, tuple)

    def files(self, name: str) -> tuple[str, ...]:
        """Return Files, empty when they are not given."""
        return () if self._values[name] is None else self._typed(name, tuple)

    def lines(self, name: str) -> tuple[str, ...]:
        """Return Lines."""
        return self._typed(name, tuple)

    def optional_seconds(self, name: str) -> float | None:
        """Return a Time in seconds, or None when it is not given."""
        return None if self._values[name] is None else self.seconds(name)

    def optional_number(self, name: str) -> float | None:
        """Return a Float, or None when it is not given."""
        return None if self._values[name] is None else self.number(name)

    def optional_text(self, name: str) -> str | None:
        """Return a String, File, Dir, Id or Choice, or None when it is not given."""
        return None if self._values[name] is None else self.text(name)

    def optional_endpoint(self, name: str) -> Endpoint | None:
        """Return an Address, or None when it is not given."""
        return None if self._values[name] is None else self.endpoint(name)

    def _typed(self, name: str, wanted: type[_T]) -> _T:
        value = self._values[name]
        if value is WRONG:
            raise WrongValue(name)
        if type(value) is not wanted:    # not isinstance: a Bool is no Int
            raise TypeError(f"{name} is {type(value).__name__}, not {wanted.__name__}")
        return value


@dataclass(frozen=True, slots=True)
class Item:
    """One configured object: a vserv, a backend, a server, a PDM."""

    ident: str
    values: Values
    origin: str    # FROM_FILE or FROM_COMMAND: a command that changes some values leaves "file"


@dataclass(frozen=True, slots=True)
class Source:
    """The INI file that a Config was read from."""

    path: str      # absolute; the file need not exist
    digest: str    # SHA-256 of its content, in hex; empty: there was no file


@dataclass(frozen=True, slots=True)
class Config:
    """Everything configured."""

    variables: Values
    objects: Mapping[str, tuple[Item, ...]]    # by class, in the order in which they were added
    generation: int = field(default=0)         # increased when a new Config takes effect
    source: Source | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objects", MappingProxyType(dict(self.objects)))

    def items(self, cls: str) -> tuple[Item, ...]:
        """Return the objects of class `cls` in their order."""
        return self.objects[cls]

    def item(self, cls: str, ident: str) -> Item | None:
        """Return one object."""
        for item in self.objects[cls]:
            if item.ident == ident:
                return item
        return None


def default_config(schema: Schema) -> Config:
    """Return the Config that applies when nothing is configured."""
    return Config(Values({row.name: row.default for row in schema.settings}), {cls.name: () for cls in schema.classes})


def with_variable(config: Config, schema: Schema, name: str, text: str, *, starting: bool = False) -> Config:
    """Return `config` with one variable set to what `text` says.

    `starting` is for the INI file and the command line, which may set what is read-only afterwards.
    Raises UsageError: no such variable, read-only, or a wrong value.
    """
    row = known_variable(schema, name)
    if not (row.starts if starting else not row.readonly):
        raise UsageError(f"{name} is read-only")
    return with_fact(config, name, _parse(row, text))


def known_variable(schema: Schema, name: str) -> Setting:
    """Return the row of a variable; raises UsageError for an unknown name."""
    row = schema.variable(name)
    if row is None:
        owner = next((cls.name for cls in schema.classes if cls.row(name)), None)
        hint = (f"; it is a key of each {owner}" if owner
                else did_you_mean(name, (each.name for each in schema.settings)) or "; try show")
        raise UsageError(f"no such variable: {quoted(name)}{hint}")
    return row


def with_fact(config: Config, name: str, value: object) -> Config:
    """Return `config` with a variable that the program itself knows, such as `pid`; no check."""
    if config.variables[name] == value:
        return config
    return replace(config, variables=Values({**config.variables, name: value}))


def with_item(config: Config, schema: Schema, cls: str, ident: str, values: Mapping[str, str], origin: str,
              *, keep: bool = False) -> Config:
    """Return `config` with the object `ident` added, or replaced at its position.

    Keys that `values` does not name take their defaults; with `keep` they stay as they are, and the
    object must exist.  Raises UsageError: no such class, object or key, wrong id or value, key missing.
    """
    table = _class(schema, cls)
    if not is_id(ident):
        raise UsageError(f"{cls}: {quoted(ident)} is not {Id.wanted}")
    old = config.item(cls, ident)
    if keep and old is None:
        raise unknown_item(config, cls, ident)
    start = old.values if keep and old is not None else {row.name: row.default for row in table.rows}
    item = Item(ident, Values({**start, **_parse_all(table, ident, values)}), origin)
    for row in table.rows:
        if row.required and item.values[row.name] is None:
            raise UsageError(f"{cls} {ident}: {row.missing}")
    items = config.items(cls)
    if old is None:
        return _with_items(config, cls, (*items, item))
    return _with_items(config, cls, tuple(item if each is old else each for each in items))


def without_item(config: Config, schema: Schema, cls: str, ident: str) -> Config:
    """Return `config` without the object `ident`; raises UsageError if it does not exist."""
    _class(schema, cls)
    old = config.item(cls, ident)
    if old is None:
        raise unknown_item(config, cls, ident)
    return _with_items(config, cls, tuple(each for each in config.items(cls) if each is not old))


def given_back(config: Config, base: Config, cls: str, ident: str, keys: Sequence[str] = ()) -> Config:
    """Return `config` in which an object has the values that `base`, the INI file as it was read, has for it.

    For some keys or, without any, for all.  Raises UsageError: no such object in either of them, no such key.
    """
    own, files = config.item(cls, ident), base.item(cls, ident)
    if own is None:
        raise unknown_item(config, cls, ident)
    if files is None:
        raise UsageError(f"{cls} {ident} is not in the INI file")
    unknown = [key for key in keys if key not in files.values]
    if unknown:
        raise UsageError(f"{cls} {ident}: {_unknown('key', unknown[0], files.values)}")
    values = {**own.values, **{key: files.values[key] for key in keys or files.values}}
    item = Item(ident, Values(values), FROM_FILE if values == dict(files.values) else own.origin)
    return _with_items(config, cls, tuple(item if each is own else each for each in config.items(cls)))


def unknown_item(config: Config, cls: str, ident: str) -> UsageError:
    """Return the error for a missing object."""
    return _unknown(cls, ident, (item.ident for item in config.items(cls)))


def dump(config: Config, schema: Schema) -> str:
    """Return the hand-over from the starter to the master: JSON of the texts of all values."""
    return json.dumps({
        "program": schema.program,
        "generation": config.generation,
        "source": None if config.source is None else [config.source.path, config.source.digest],
        "variables": _texts(schema.settings, config.variables),
        "objects": {cls.name: [[item.ident, _texts(cls.rows, item.values), item.origin]
                               for item in config.items(cls.name)] for cls in schema.classes},
    })


def load(text: str, schema: Schema) -> Config:
    """Return the Config that `dump` wrote down; raises ConfigError when `text` is not this program's.

    It may have been written by another version: unknown values are left out, and missing ones have
    their defaults.
    """
    try:
        raw = json.loads(text)
        if raw["program"] != schema.program:
            raise ValueError(f"the program {schema.program}")
        objects = {cls.name: tuple(Item(ident, _values(cls.rows, texts), origin)
                                   for ident, texts, origin in raw["objects"].get(cls.name, ()))
                   for cls in schema.classes}
        source = Source(*map(str, raw["source"])) if raw.get("source") else None
        return Config(_values(schema.settings, raw["variables"]), objects, int(raw["generation"]), source)
    except (ValueError, KeyError, TypeError, AttributeError) as why:
        raise ConfigError([Mistake("hand-over from the starter", f"cannot be read: {why}")]) from None


def _parse(row: Setting, text: str) -> object:
    try:
        return row.parse(text)
    except ValueError as why:
        raise UsageError(f"{row.name}: {row.complaint(text, why)}") from None


def _parse_all(table: ObjectClass, ident: str, values: Mapping[str, str]) -> dict[str, object]:
    parsed: dict[str, object] = {}
    for name, text in values.items():
        row = table.row(name)
        if row is None:
            raise UsageError(f"{table.name} {ident}: {_unknown('key', name, (each.name for each in table.rows))}")
        try:
            parsed[name] = _parse(row, text)
        except UsageError as why:
            raise UsageError(f"{table.name} {ident}: {why}") from None
    return parsed


def _unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    return UsageError(f"no such {what}: {quoted(name)}{did_you_mean(name, known)}")


def _class(schema: Schema, name: str) -> ObjectClass:
    table = schema.object_class(name)
    if table is None:
        raise UsageError(f"no such class of objects: {quoted(name)}")
    return table


def _with_items(config: Config, cls: str, items: tuple[Item, ...]) -> Config:
    return replace(config, objects={**config.objects, cls: items})


def _texts(rows: tuple[Setting, ...], values: Values) -> dict[str, str | None]:
    return {row.name: row.show(values[row.name]) for row in rows}


def _values(rows: tuple[Setting, ...], texts: Mapping[str, str | None]) -> Values:
    """Read texts of `_texts`, if they exist; defaults are not parsed, because a default directory need not exist."""
    values: dict[str, object] = {}
    for row in rows:
        text = texts.get(row.name, row.show(row.default))
        values[row.name] = row.default if text == row.show(row.default) else row.parse(text or "")
    return Values(values)
