"""How a reload merges three configurations: the one in force, the file as it was last read, and the file now.

Each value belongs to the file or to a command.  A value in force that equals that of the file as last read
belongs to the file, and follows it.  Any other value was set by a command, and stays until `unset` or until the
file has the same value.  Objects of the file are added and removed with it, whatever commands have set in them; an
object that a command added stays.  Values that cannot change at run time stay until the next start.

Pure functions; master only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import FROM_COMMAND, FROM_FILE, Config, Item, Values


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of a reload."""

    config: Config
    changes: tuple[str, ...]     # a line for each difference
    unused: tuple["Unused", ...]    # values of the file


@dataclass(frozen=True, slots=True)
class Unused:
    """A value of the file that is not used."""

    what: str    # "maxsession", "backend store1: address"
    why: str     # and how it would be used

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


def merge(present: Config, base: Config, fresh: Config, given: frozenset[str], schema: Schema) -> Merged:
    """Return `present` updated from `fresh`, the file now; `base` is the file before, `given` names its variables."""
    values: dict[str, object] = dict(present.variables)
    changes: list[str] = []
    unused: list[Unused] = []
    for row in schema.settings:
        name = row.name
        says, holds = fresh.variables[name], values[name]
        if says == holds or row.readonly and name not in given:
            continue
        if row.readonly:
            unused.append(Unused(name, f"{_told(row, says)} in the file is not used before the next start"))
        elif holds == base.variables[name]:
            values[name] = says
            changes.append(f"variable {name}")
        elif name in given:
            unused.append(_unused(name, row, says, holds, f"unset {name}"))
    objects: dict[str, tuple[Item, ...]] = {}
    for cls in schema.classes:
        before = present.items(cls.name)
        objects[cls.name] = items = _merge_items(cls, before, _by_id(base.items(cls.name)), fresh.items(cls.name))
        changes += _differences(cls.name, before, items)
        unused += _unused_values(cls, items, _by_id(fresh.items(cls.name)))
    return Merged(replace(present, variables=Values(values), objects=objects), tuple(changes), tuple(unused))


def _merge_items(cls: ObjectClass, present: Sequence[Item], base: Mapping[str, Item],
                 fresh: Sequence[Item]) -> tuple[Item, ...]:
    """Return the objects of one class: those of the file in its order, then those that only commands know."""
    left = dict(_by_id(present))
    from_file = [_merge_item(cls, left.pop(item.ident, None), base.get(item.ident), item) for item in fresh]
    return (*from_file, *(item for item in left.values() if item.origin == FROM_COMMAND))


def _merge_item(cls: ObjectClass, own: Item | None, base: Item | None, fresh: Item) -> Item:
    """Return one object of the file with those values that commands have set."""
    if own is None or cls.is_read:
        return fresh
    values = {key: fresh.values[key] if base is not None and value == base.values[key] else value
              for key, value in own.values.items()}
    is_the_files = own.origin == FROM_FILE or values == dict(fresh.values)
    return Item(own.ident, Values(values), FROM_FILE if is_the_files else FROM_COMMAND)


def _unused_values(cls: ObjectClass, items: Sequence[Item], fresh: Mapping[str, Item]) -> list[Unused]:
    """Return the values of the file for objects of one class that are not used."""
    return [_unused(f"{cls.name} {item.ident}: {row.name}", row, said.values[row.name], item.values[row.name],
                    f"{cls.name} unset {item.ident} {row.name}")
            for item in items if (said := fresh.get(item.ident)) is not None
            for row in cls.rows if said.values[row.name] != item.values[row.name]]


def _unused(what: str, row: Setting, says: object, holds: object, command: str) -> Unused:
    if row.show(says) is None:
        return Unused(what, f"the file sets nothing, and {_told(row, holds)}, which a command set, stays; "
                            f"to drop it: {command}")
    where = "in the file, or by default," if says == row.default else "in the file"
    return Unused(what, f"{_told(row, says)} {where} is not used, because a command set {_told(row, holds)}; "
                        f"to use it: {command}")


def _told(row: Setting, value: object) -> str:
    """Return a value as an answer may show it."""
    text = row.show(value)
    return "nothing" if text is None else row.found(text)


def _by_id(items: Sequence[Item]) -> Mapping[str, Item]:
    return {item.ident: item for item in items}


def _differences(cls: str, before: Sequence[Item], after: Sequence[Item]) -> list[str]:
    """Return a line for each object that was added, removed or changed, and one if only the order changed."""
    old, new = _by_id(before), _by_id(after)
    lines = [f"{cls} {ident}: removed" for ident in old if ident not in new]
    for ident, item in new.items():
        if ident not in old:
            lines.append(f"{cls} {ident}: added")
        elif keys := [key for key in item.values if item.values[key] != old[ident].values[key]]:
            lines.append(f"{cls} {ident}: {', '.join(keys)}")
    if not lines and list(old) != list(new):
        lines.append(f"{cls}: another order")
    return lines
