"""The control commands of pproxy (spec 1.3, design 6.4): those of every daemon, capability lists, its objects.

Functions over the frozen Config; they run in the master.  Raise UsageError.
"""

from collections.abc import Sequence

from popular.control.grammar import CommandSet, CommandArguments
from popular.daemon.admin import capa, objectcommands, pdm
from popular.daemon.admin.commands import commands as common
from popular.daemon.admin.context import CommandContext, Commands, Result, Steered
from popular.errors import UsageError
from popular.networks import ClientAddress
from popular.pproxy.backends.routing import find_user
from popular.pproxy.limits.clients import keys_counted
from popular.pproxy.limits.inspection import client_line
from popular.pproxy.objects import name_asked

commands: Commands = CommandSet(common, capa.commands, pdm.commands)


@commands.add("vserv add <id> <address...> [key=value...]",
              "Listen on some addresses; create or replace a virtual server.",
              objectcommands.mask("vserv add", "vserv"))
def vserv_add(context: CommandContext, given: CommandArguments) -> Result:
    """Add or replace a virtual server."""
    return objectcommands.add(context, "vserv", given, {"address": objectcommands.addresses(given.words("address"))})


@commands.add("vserv set <id> <key=value...>", "Change some keys of a virtual server.",
              objectcommands.mask("vserv set", "vserv"))
def vserv_set(context: CommandContext, given: CommandArguments) -> Result:
    """Change a virtual server."""
    return objectcommands.change(context, "vserv", given.word("id"), given.pairs)


@commands.add("vserv unset <id> [key...]",
              "Restore the INI file's values of a virtual server: all of them, or those of some keys.")
def vserv_unset(context: CommandContext, given: CommandArguments) -> Result:
    """Give a virtual server back to the file."""
    return objectcommands.give_back(context, "vserv", given)


@commands.add("vserv remove <id>", "Close the ports of a virtual server at once; its running sessions continue.")
def vserv_remove(context: CommandContext, given: CommandArguments) -> Result:
    """Remove a virtual server."""
    return objectcommands.remove(context, "vserv", given.word("id"))


@commands.add("vserv enable <id>", "Serve its users again.")
def vserv_enable(context: CommandContext, given: CommandArguments) -> Result:
    """Enable a virtual server."""
    return objectcommands.change(context, "vserv", given.word("id"), {"enabled": "on"})


@commands.add("vserv disable <id>", "Show its users an empty mailbox.")
def vserv_disable(context: CommandContext, given: CommandArguments) -> Result:
    """Disable a virtual server."""
    return objectcommands.change(context, "vserv", given.word("id"), {"enabled": "off"})


@commands.add("vserv list", "List the virtual servers as words of add, with the ports that they are bound to.")
def vserv_list(context: CommandContext, given: CommandArguments) -> Result:
    """List virtual servers."""
    return objectcommands.listed(context, "vserv", ("address",))


@commands.add("backend add <id> <protocol> <address> [key=value...]", "Create or replace a backend.",
              objectcommands.mask("backend add", "backend"))
def backend_add(context: CommandContext, given: CommandArguments) -> Result:
    """Add or replace a backend."""
    address = given.word("address")
    objectcommands.want_numeric(address, f"backend {given.word('id')}: address")
    return objectcommands.add(context, "backend", given, {"protocol": given.word("protocol"), "address": address})


@commands.add("backend set <id> <key=value...>", "Change some keys of a backend.",
              objectcommands.mask("backend set", "backend"))
def backend_set(context: CommandContext, given: CommandArguments) -> Result:
    """Change a backend."""
    objectcommands.want_numeric(given.pairs.get("address", ""), f"backend {given.word('id')}: address")
    return objectcommands.change(context, "backend", given.word("id"), given.pairs)


@commands.add("backend unset <id> [key...]",
              "Restore the INI file's values of a backend: all of them, or those of some keys.")
def backend_unset(context: CommandContext, given: CommandArguments) -> Result:
    """Give a backend back to the file."""
    return objectcommands.give_back(context, "backend", given)


@commands.add("backend remove <id>", "Forget a backend; running sessions continue.")
def backend_remove(context: CommandContext, given: CommandArguments) -> Result:
    """Remove a backend."""
    return objectcommands.remove(context, "backend", given.word("id"))


@commands.add("backend enable <id>", "Use a backend that was disabled or drained.")
def backend_enable(context: CommandContext, given: CommandArguments) -> Result:
    """Enable a backend."""
    return objectcommands.change(context, "backend", given.word("id"), {"enabled": "on", "drain": "off"})


@commands.add("backend disable <id>", "Show its users an empty mailbox.")
def backend_disable(context: CommandContext, given: CommandArguments) -> Result:
    """Disable a backend."""
    return objectcommands.change(context, "backend", given.word("id"), {"enabled": "off"})


@commands.add("backend drain <id>", "Send no new sessions there, as if it were unreachable; running ones finish.")
def backend_drain(context: CommandContext, given: CommandArguments) -> Result:
    """Drain a backend."""
    return objectcommands.change(context, "backend", given.word("id"), {"drain": "on"})


@commands.add("backend list", "List the backends as words of add.")
def backend_list(context: CommandContext, given: CommandArguments) -> Result:
    """List backends."""
    return objectcommands.listed(context, "backend", ("protocol", "address"))


@commands.add("user find <user> [namespace]", "Show which database module knows a user, and where their mail is; in "
              "one namespace, or in those of all virtual servers, whose userformat is applied. No password is "
              "needed, and nobody is logged in.")
def user_find(context: CommandContext, given: CommandArguments) -> Result:
    """Ask the modules, in a separate process."""
    user, namespace = given.word("user"), given.word("namespace")
    known = dict.fromkeys(item.values.text("namespace") for item in context.config.items("vserv"))
    names = {space: name_asked(context.config, user, space)
             for space in ([namespace] if namespace else list(known) or ["default"])}
    return Result(later=lambda deferring: deferring.inquire(lambda job: find_user(job.proxy, names)))


@commands.add("user forget <user>", "Drop the answers about a user from the cache, in all namespaces: the next login "
              "asks the database. Forget their failed logins, which all clients together had. As with user find, "
              "userformat is applied to the name.")
def user_forget(context: CommandContext, given: CommandArguments) -> Result:
    """Forget one user; running sessions continue."""
    user = given.word("user")
    names = _names_of(context, user)

    def forget(master: Steered) -> None:
        workers = master.job.workers
        if workers is not None and workers.cache is not None:
            for name in {user, *(name for _, name in names)}:
                workers.cache.forget(name)
        _forgive(master, None, names)

    return Result("forgotten", effect=forget)


@commands.add("client show <address> [user]", "Show for each virtual server whether a client at an address is served, "
              "why not, and how near it is to each limit; with a user, also whether their password is checked there.")
def client_show(context: CommandContext, given: CommandArguments) -> Result:
    """Show what the limits say now."""
    address, user = _address(given), given.word("user")
    proxy, others = context.job.proxy, context.sessions.clients()
    names = dict(_names_of(context, user)) if user else {}
    return Result(lines=tuple(
        f"{vserv.ident} " + client_line(proxy.clients, vserv.limits, address, others, vserv.namespace,
                                        names.get(vserv.namespace, ""))
        for vserv in proxy.config.vservs.values()))


@commands.add("client forget <address> [user]", "Forget the failed logins of an address and its network; with a user, "
              "also theirs, there and everywhere. Then they may log in again at once.")
def client_forget(context: CommandContext, given: CommandArguments) -> Result:
    """Forget one client; what else is counted stays."""
    address, user = _address(given), given.word("user")
    names = _names_of(context, user) if user else []
    text = "forgotten"
    if not user:
        text += f"; for a user who has logged in there before: client forget {address} USER"
    return Result(text, effect=lambda master: _forgive(master, address, names or [("", "")]))


def _address(given: CommandArguments) -> str:
    """Return the address that a command names."""
    address = given.word("address")
    try:
        ClientAddress.of(address)
    except ValueError as why:
        raise UsageError(str(why)) from why
    return address


def _names_of(context: CommandContext, user: str) -> list[tuple[str, str]]:
    """Return the namespaces of all virtual servers, each with the name of the user there."""
    spaces = dict.fromkeys(item.values.text("namespace") for item in context.config.items("vserv"))
    return [(space, name_asked(context.config, user, space)) for space in spaces]


def _forgive(master: Steered, address: str | None, names: Sequence[tuple[str, str]]) -> None:
    """Forget failed logins at an address, and those of a user by each of their names."""
    proxy = master.job.proxy
    for vserv in proxy.config.vservs.values():
        keys = (0, 0) if address is None else keys_counted(vserv.limits, address)
        proxy.clients.forgive(vserv.limits, keys, names)


@commands.add("prng [words...]", "Does nothing; for old rc files.")
def prng(context: CommandContext, given: CommandArguments) -> Result:
    """Say that it is not needed."""
    return Result("no longer needed: the system's random numbers are used")
