"""Capability lists: files in capadir that the administrator wrote (spec 9.2), held in the Config.

A list is an object of class `capa`: its id is the file's name, its value the lines.  The starter reads the
lists that objects name (`read_lists`); `capa load` reads one in the master.  Children and new configurations
use the lists in memory, so editing or removing a file changes nothing until it is loaded again, and a printed
configuration contains the lists in force.
"""

import os
import stat
from functools import partial

from popular.config.lines import Lines
from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import ObjectClass, Schema, Setting, did_you_mean, place, quoted
from popular.config.store import FROM_COMMAND, FROM_FILE, Config, Item, sound, unknown_item, with_item, without_item
from popular.control.grammar import CommandSet, CommandArguments
from popular.daemon.admin.context import CommandContext, Commands, Result
from popular.errors import UsageError
from popular.pop3.capability import MAXLEN_CAPA, parse_list

CAPA = ObjectClass("capa", "Capability lists. One that is named elsewhere and does not stand here is read from the "
                   "file of this name in capadir.", (
                       Setting("list", Lines(MAXLEN_CAPA), None,
                               "The lines of the answer to CAPA, separated by \\n.", required=True),
                   ), is_read=True)

commands: Commands = CommandSet()


def read_lists(config: Config, schema: Schema, mistakes: list[Mistake]) -> Config:
    """Return `config` with the missing lists that objects name; adds those that cannot be read to `mistakes`.

    A list that cannot be read is added without lines, so that it is reported only once.
    """
    for user, name in _references(config, schema):
        if config.item(CAPA.name, name) is not None:
            continue
        lines: tuple[str, ...] = ()
        try:
            lines = _read_list(config.variables.text("capadir"), name)
        except ConfigError as why:
            mistakes += [Mistake(place(*user.split(), "capa"), str(each)) for each in why.mistakes]
        config = _with_list(config, schema, name, lines, FROM_FILE)
    return config


def _read_list(capadir: str, name: str) -> tuple[str, ...]:
    """Return the lines of the file `name`; raises ConfigError when it cannot be read or used."""
    path = os.path.join(capadir, name)
    try:
        raw = _read_file(path)
    except OSError as why:
        names = os.listdir(capadir) if os.path.isdir(capadir) else ()
        hint = did_you_mean(name, names) if isinstance(why, FileNotFoundError) else ""
        raise ConfigError([Mistake(f"capability list {path}", f"{why.strerror}{hint}")]) from why
    if raw is None:
        raise ConfigError([Mistake(f"capability list {path}", "not a regular file")])
    try:
        return parse_list(raw.decode("utf-8", "surrogateescape"))
    except ValueError as wanted:
        raise ConfigError([Mistake(f"capability list {path}", f"cannot be used: wanted {wanted}")]) from wanted


def _read_file(path: str) -> bytes | None:
    """Return the octets of a file, up to a little more than a list may have; None if it is not a regular file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)    # opening a pipe must not block
    try:
        return os.read(fd, MAXLEN_CAPA * 2) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    finally:
        os.close(fd)


def list_of(item: Item, config: Config, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """Return the list that `item` names, or `otherwise` if it names none; raises ConfigError."""
    name = item.values.optional_text("capa")
    if name is None:
        return otherwise
    found = config.item(CAPA.name, name)
    if found is None:
        what = f"no capability list {quoted(name)} is loaded: capa load {name}"
        raise ConfigError([Mistake(f"{item.ident}: capa", what)])
    return found.values.lines("list")


@commands.add("capa load <id>", "Read a capability list from the file of this name in capadir, or read it anew.")
def capa_load(context: CommandContext, given: CommandArguments) -> Result:
    """Read one list."""
    name = given.word("id")
    lines = _read_list(context.config.variables.text("capadir"), name)
    old = context.config.item(CAPA.name, name)
    if old is not None and old.values.lines("list") == lines:
        return Result(f"capa {name} unchanged")
    origin = FROM_COMMAND if old is None else old.origin    # a list that the INI file needs still belongs to the file
    config = _with_list(context.config, context.schema, name, lines, origin)
    return Result(f"capa {name} {'loaded' if old is None else 'changed'}", config=config)


@commands.add("capa unload <id>", "Forget a capability list that nothing names.")
def capa_unload(context: CommandContext, given: CommandArguments) -> Result:
    """Forget one list."""
    name = given.word("id")
    if context.config.item(CAPA.name, name) is None:
        return Result(f"unchanged: no capa {name}")
    users = [user for user, used in _references(context.config, context.schema) if used == name]
    if users:
        raise UsageError(f"capa {name} is in use: {', '.join(users)}")
    return Result(f"capa {name} unloaded", config=without_item(context.config, context.schema, CAPA.name, name))


@commands.add("capa list", "List the capability lists that are loaded, and what uses them.")
def capa_list(context: CommandContext, given: CommandArguments) -> Result:
    """List ids, sizes and users."""
    references = _references(context.config, context.schema)
    return Result(lines=tuple(
        " ".join([item.ident, f"lines={len(item.values.lines('list'))}",
                  *(user.replace(" ", "=") for user, name in references if name == item.ident)])
        for item in context.config.items(CAPA.name)))


@commands.add("capa show <id>", "Show the lines of a capability list.")
def capa_show(context: CommandContext, given: CommandArguments) -> Result:
    """Show one list."""
    item = context.config.item(CAPA.name, given.word("id"))
    if item is None:
        raise unknown_item(context.config, CAPA.name, given.word("id"))
    return Result(lines=item.values.lines("list"))


def _references(config: Config, schema: Schema) -> list[tuple[str, str]]:
    """Return each object that names a list, such as `vserv main`, with the name of its list."""
    return [(f"{cls.name} {item.ident}", name) for cls in schema.classes if cls.row("capa") is not None
            for item in config.items(cls.name)
            if (name := sound(partial(item.values.optional_text, "capa"), None)) is not None]


def _with_list(config: Config, schema: Schema, name: str, lines: tuple[str, ...], origin: str) -> Config:
    return with_item(config, schema, CAPA.name, name, {"list": Lines(MAXLEN_CAPA).show(lines)}, origin)
