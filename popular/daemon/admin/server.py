"""The control commands for servers, of each program whose listeners belong to objects of that class.

Functions over the frozen Config; they run in the master.  Raise UsageError.
"""

from popular.control.grammar import CommandArguments, CommandSet
from popular.daemon.admin import objectcommands
from popular.daemon.admin.context import CommandContext, Commands, Result

commands: Commands = CommandSet()


@commands.add("server add <id> <address...> [key=value...]", "Listen on some addresses; create or replace a server.",
              objectcommands.mask("server add", "server"))
def server_add(context: CommandContext, given: CommandArguments) -> Result:
    """Add or replace a server."""
    return objectcommands.add(context, "server", given, {"address": objectcommands.addresses(given.words("address"))})


@commands.add("server set <id> <key=value...>", "Change some keys of a server.",
              objectcommands.mask("server set", "server"))
def server_set(context: CommandContext, given: CommandArguments) -> Result:
    """Change a server."""
    return objectcommands.change(context, "server", given.word("id"), given.pairs)


@commands.add("server unset <id> [key...]",
              "Restore the INI file's values of a server: all of them, or those of some keys.")
def server_unset(context: CommandContext, given: CommandArguments) -> Result:
    """Give a server back to the file."""
    return objectcommands.give_back(context, "server", given)


@commands.add("server remove <id>", "Close the ports of a server at once; its running sessions continue.")
def server_remove(context: CommandContext, given: CommandArguments) -> Result:
    """Remove a server."""
    return objectcommands.remove(context, "server", given.word("id"))


@commands.add("server enable <id>", "Listen again.")
def server_enable(context: CommandContext, given: CommandArguments) -> Result:
    """Open the ports."""
    return objectcommands.change(context, "server", given.word("id"), {"enabled": "on"})


@commands.add("server disable <id>", "Close the ports at once but keep the server; its running sessions continue.")
def server_disable(context: CommandContext, given: CommandArguments) -> Result:
    """Close the ports."""
    return objectcommands.change(context, "server", given.word("id"), {"enabled": "off"})


@commands.add("server list", "List the servers as words of add, with the ports that they are bound to.")
def server_list(context: CommandContext, given: CommandArguments) -> Result:
    """List servers."""
    return objectcommands.listed(context, "server", ("address",))
