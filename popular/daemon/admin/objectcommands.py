"""Commands for configured objects, common to all classes; the programs' `commands.py` define their words.

Functions over the frozen Config; they run in the master.  Raise UsageError.
"""

from collections.abc import Callable, Mapping

from popular.config.kinds import Address, Addresses
from popular.config.setting import ObjectClass, Setting
from popular.config.store import FROM_COMMAND, Config, Item, given_back, with_item, without_item
from popular.control.grammar import CommandArguments, join_words
from popular.daemon.admin.commands import want_absolute
from popular.daemon.admin.context import CommandContext, Result
from popular.errors import UsageError

SWITCHES = ("enabled", "drain")    # set by operators; `add` keeps them unless it names them


def add(context: CommandContext, cls: str, given: CommandArguments, leading: Mapping[str, str]) -> Result:
    """Create or replace the object `<id>`; `leading` are the keys that are given without their names."""
    twice = [key for key in leading if key in given.pairs]
    if twice:
        raise UsageError(f"{twice[0]} stands there twice")
    ident = given.word("id")
    old = context.config.item(cls, ident)
    kept = {} if old is None else {row.name: row.show(old.values[row.name]) or "" for row in _table(context, cls).rows
                                   if row.name in SWITCHES}
    return _put(context, cls, ident, {**kept, **leading, **given.pairs})


def change(context: CommandContext, cls: str, ident: str, texts: Mapping[str, str]) -> Result:
    """Change some keys of an object that must exist."""
    return _put(context, cls, ident, texts, keep=True)


def give_back(context: CommandContext, cls: str, given: CommandArguments) -> Result:
    """Restore an object's values from the INI file: those of the named keys, or all."""
    ident = given.word("id")
    config = given_back(context.config, context.base, cls, ident, given.words("key"))
    changed = _keys_that_differ(context.config, config, cls, ident)
    if not changed:
        return Result(f"{cls} {ident} unchanged", config=config)
    return Result(f"{cls} {ident} changed: {', '.join(changed)}", config=config)


def _keys_that_differ(before: Config, after: Config, cls: str, ident: str) -> list[str]:
    old, new = before.item(cls, ident), after.item(cls, ident)
    if old is None or new is None:
        return []
    return [key for key in new.values if new.values[key] != old.values[key]]


def remove(context: CommandContext, cls: str, ident: str) -> Result:
    """Remove an object; a missing one is no mistake, because commands may be repeated."""
    if context.config.item(cls, ident) is None:
        return Result(f"unchanged: no {cls} {ident}")
    return Result(f"{cls} {ident} removed", config=without_item(context.config, context.schema, cls, ident))


def listed(context: CommandContext, cls: str, leading: tuple[str, ...]) -> Result:
    """List the objects of a class in the words of `add`, addresses as they are bound."""
    table = _table(context, cls)
    return Result(lines=tuple(_line(context, table, item, leading) for item in context.config.items(cls)))


def addresses(words: tuple[str, ...]) -> str:
    """Return the text of an Addresses value for the words of a command, with commas or without."""
    return ", ".join(word for each in words for word in each.split(",") if word)


def mask(command: str, cls: str) -> Callable[[CommandContext, CommandArguments], str]:
    """Return the mask of a command that takes pairs: values of secret rows are not logged."""
    def public(context: CommandContext, given: CommandArguments) -> str:
        rows = {row.name: row for row in _table(context, cls).rows}
        words = [word for values in given.values.values() for word in values]
        pairs = [f"{key}={'***' if key not in rows or rows[key].secret else text}" for key, text in given.pairs.items()]
        return join_words([*command.split(), *words, *pairs])
    return public


def _put(context: CommandContext, cls: str, ident: str, texts: Mapping[str, str], *, keep: bool = False) -> Result:
    table = _table(context, cls)
    for key, text in texts.items():
        row = table.row(key)
        if row is not None:
            want_absolute(row, text)
    old = context.config.item(cls, ident)
    origin = old.origin if keep and old is not None else FROM_COMMAND
    config = with_item(context.config, context.schema, cls, ident, texts, origin, keep=keep)
    new = config.item(cls, ident)
    if old is not None and new is not None and old.values == new.values:
        return Result(f"{cls} {ident} unchanged")
    return Result(f"{cls} {ident} {'added' if old is None else 'changed'}", config=config)


def _table(context: CommandContext, cls: str) -> ObjectClass:
    table = context.schema.object_class(cls)
    if table is None:
        raise UsageError(f"no such class of objects: {cls}")
    return table


def _line(context: CommandContext, table: ObjectClass, item: Item, leading: tuple[str, ...]) -> str:
    words = [item.ident]
    for name in leading:
        row = table.row(name)
        if row is not None:
            words += _leading_words(context, row, item)
    for row in table.rows:
        text = row.show(item.values[row.name])
        if row.name not in leading and text is not None:
            words.append(f"{row.name}={'***' if row.secret else text}")
    return join_words(words)


def _leading_words(context: CommandContext, row: Setting, item: Item) -> list[str]:
    if isinstance(row.kind, Addresses):
        bound = context.listening.get(item.ident)
        return [str(endpoint) for endpoint in bound or item.values.endpoints(row.name)]
    if isinstance(row.kind, Address):
        return [str(item.values.endpoint(row.name))]
    return [row.show(item.values[row.name]) or ""]


def want_numeric(endpoint: str, what: str) -> None:
    """Raise UsageError for a host name: the master never asks the DNS."""
    try:
        numeric = Address().parse(endpoint).is_numeric
    except ValueError:    # the row itself will report the mistake
        return
    if not numeric:
        raise UsageError(f"{what}: {endpoint} is not a numeric address; names are resolved in the INI "
                         "file, at start and by reload")
