"""How a Config differs from the INI file that it was read from: what commands have changed.

Lean: the master reports it (`show config changed`, `config changes`), and pcontrol writes it into the file
(config.ini.save).  `changes_from` raises ValueError.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from popular.config.ini.text import quote
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import Config, Item, Values


@dataclass(frozen=True, slots=True)
class Change:
    """What differs in one section of the file."""

    section: str                # the program's, or that of a class
    ident: str                  # of an object; empty: the variables
    values: Mapping[str, str]   # texts by name; an empty one removes an optional value
    is_new: bool = False        # the file has no such object
    is_gone: bool = False       # the file has an object that has been removed


def changes(config: Config, base: Config, schema: Schema) -> list[Change]:
    """Return how `config` differs from `base`, without what commands cannot change or read from separate files."""
    rows = [row for row in schema.settings if not row.readonly]
    found = [Change(schema.program, "", _differing(rows, config.variables, base.variables))]
    for cls in schema.classes:
        if not cls.is_read:
            found += _changes_of(cls, config.items(cls.name), base)
            found += [Change(cls.name, item.ident, {}, is_gone=True) for item in base.items(cls.name)
                      if config.item(cls.name, item.ident) is None]
    return [change for change in found if change.values or change.is_gone]


def render_changes(found: Iterable[Change]) -> Iterator[str]:
    """Yield these changes as lines of an INI file; removed objects are comments."""
    section = ""
    for change in found:
        if change.section != section:
            section = change.section
            yield f"[{section}]"
        if change.is_gone:
            yield f"    # no [[{change.ident}]] any more"
        elif change.ident:
            yield f"    [[{change.ident}]]"
        margin = "    " if change.ident else ""
        yield from (f"{margin}{name} = {quote(text) if text else ''}".rstrip() for name, text in change.values.items())


def to_json(program: str, base: Config, found: Iterable[Change]) -> str:
    """Return the file and the changes as one line of JSON, for `changes_from`."""
    source = base.source
    return json.dumps({"program": program, "path": source.path if source else "",
                       "digest": source.digest if source else "", "changes": [asdict(change) for change in found]})


@dataclass(frozen=True, slots=True)
class Told:
    """What a daemon reports about its file and its changes."""

    program: str
    path: str
    digest: str
    changes: tuple[Change, ...]


def changes_from(text: str) -> Told:
    """Return what `to_json` wrote; raises ValueError for anything else, because a daemon may be hostile."""
    try:
        raw = json.loads(text)
        found = tuple(Change(str(each["section"]), str(each["ident"]),
                             {str(name): str(value) for name, value in each["values"].items()},
                             bool(each["is_new"]), bool(each["is_gone"])) for each in raw["changes"])
        return Told(str(raw["program"]), str(raw["path"]), str(raw["digest"]), found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("the daemon reports its changes in an unknown form") from None


def _changes_of(cls: ObjectClass, items: Iterable[Item], base: Config) -> Iterator[Change]:
    for item in items:
        old = base.item(cls.name, item.ident)
        former = Values({row.name: row.default for row in cls.rows}) if old is None else old.values
        yield Change(cls.name, item.ident, _differing(cls.rows, item.values, former), is_new=old is None)


def _differing(rows: Iterable[Setting], values: Values, former: Values) -> dict[str, str]:
    return {row.name: row.show(values[row.name]) or "" for row in rows if values[row.name] != former[row.name]}
