"""The control commands for database modules, of each program that has such objects.

Functions over the frozen Config; they run in the master.  Raise UsageError.
"""

import shlex
from dataclasses import replace

from popular.config.store import FROM_COMMAND, unknown_item, with_item
from popular.control.answer import ControlAnswer, Later
from popular.control.grammar import CommandArguments, CommandSet, join_words
from popular.daemon.admin import objectcommands
from popular.daemon.admin.context import CommandContext, Commands, Deferring, Result, Steered
from popular.daemon.admin.inquiry import DoneAlready
from popular.errors import UsageError
from popular.pdm.asking.configured import describe

commands: Commands = CommandSet()


def _pdm_masked(context: CommandContext, given: CommandArguments) -> str:
    """Return `pdm add` with the arguments as the module itself shows them."""
    ident, module = given.word("id"), given.word("module")
    try:
        config = with_item(context.config, context.schema, "pdm", ident, _pdm_texts(given), FROM_COMMAND)
    except UsageError:
        return join_words(("pdm", "add", ident, module, "***"))
    return f"pdm add {describe(next(item for item in config.items('pdm') if item.ident == ident), config)}"


def _pdm_texts(given: CommandArguments) -> dict[str, str]:
    return {"module": given.word("module"), "args": shlex.join(given.words("args"))}


@commands.add("pdm load <id> <module> [args...]", "The same as pdm add.", _pdm_masked)
@commands.add("pdm add <id> <module> [args...]",
              "Load a database module, to be asked after the others; or replace one in its place.", _pdm_masked)
def pdm_add(context: CommandContext, given: CommandArguments) -> Result:
    """Add or replace a database module."""
    return _checked(objectcommands.add(context, "pdm", given, _pdm_texts(given)), given.word("id"))


@commands.add("pdm unset <id> [key...]", "Restore the INI file's module and args of a database module.")
def pdm_unset(context: CommandContext, given: CommandArguments) -> Result:
    """Give a database module back to the file."""
    return _checked(objectcommands.give_back(context, "pdm", given), given.word("id"))


@commands.add("pdm unload <id>", "The same as pdm remove.")
@commands.add("pdm remove <id>", "Unload a database module.")
def pdm_remove(context: CommandContext, given: CommandArguments) -> Result:
    """Remove a database module."""
    return objectcommands.remove(context, "pdm", given.word("id"))


@commands.add("pdm reload [id]", "Load one or all database modules again, and reopen their databases; empty the cache "
              "of answers, if there is one.")
def pdm_reload(context: CommandContext, given: CommandArguments) -> Result:
    """Replace the children, so that new ones open everything."""
    ident = given.word("id")
    if ident and context.config.item("pdm", ident) is None:
        raise unknown_item(context.config, "pdm", ident)
    return _checked(Result("reloaded", config=context.config, renews=True, effect=_forget_answers), ident)


def _checked(result: Result, ident: str) -> Result:
    """Return the same, with an answer that warns of modules, or of one, that cannot be asked.

    A separate process finds out.  If there can be none now, the answer comes without it.
    """
    done = ControlAnswer(True, result.text, result.lines)

    def check(deferring: Deferring) -> Later | ControlAnswer:
        try:
            return DoneAlready(deferring.inquire(
                lambda job: ControlAnswer(True, "", tuple(job.module_troubles(ident)))), done)
        except (UsageError, OSError):    # the change is in force all the same
            return done
    return replace(result, later=check)


def _forget_answers(master: Steered) -> None:
    master.job.forget_answers()


@commands.add("pdm list", "List the database modules in the order in which they are asked, secrets masked.")
def pdm_list(context: CommandContext, given: CommandArguments) -> Result:
    """List database modules."""
    return Result(lines=tuple(describe(item, context.config) for item in context.config.items("pdm")))
