"""The control commands that every daemon has (spec 1.3, design 6.4).

Functions over the frozen Config; they run in the master.  Raise UsageError and ConfigError.
"""

from collections.abc import Mapping

from popular.config.changes import changes, render_changes, to_json
from popular.config.ini.text import render_ini
from popular.config.kinds import Dir, File
from popular.config.setting import Setting, did_you_mean, quoted
from popular.config.store import known_variable, with_fact, with_variable
from popular.control.grammar import CommandSet, CommandArguments, join_words
from popular.daemon.admin.context import CommandContext, Commands, Result
from popular.daemon.confinement import walls_of
from popular.errors import UsageError
from popular.log.line import value
from popular.version import VERSION

commands: Commands = CommandSet()


@commands.add("show config", "Show everything as an INI file that loads to the same state.")
def show_config(context: CommandContext, given: CommandArguments) -> Result:
    """Show the whole configuration."""
    return Result(lines=tuple(render_ini(context.config, context.schema).splitlines()))


@commands.add("show config changed", "Show what of it differs from the INI file, as it was read last.")
def show_config_changed(context: CommandContext, given: CommandArguments) -> Result:
    """Show the changes made by commands."""
    lines = tuple(render_changes(changes(context.config, context.base, context.schema)))
    return Result("" if lines else "nothing differs from the INI file", lines)


@commands.add("config save", "Write what differs into the INI file, whose comments, order and layout stay; the old one "
              "is kept beside it. pcontrol does it, with the rights of whoever runs it.")
def config_save(context: CommandContext, given: CommandArguments) -> Result:
    """Refuse: the daemon's user may not write its INI file."""
    raise UsageError("only pcontrol saves, because this daemon has no right to write its INI file")


@commands.add("config changes", "Tell what differs in a form for programs, one line of JSON; it holds secrets.")
def config_changes(context: CommandContext, given: CommandArguments) -> Result:
    """Report to pcontrol what to save."""
    found = changes(context.config, context.base, context.schema)
    return Result(lines=(to_json(context.schema.program, context.base, found),))


@commands.add("show certificates", "Show the certificates in use: who has it, file, days left, names.")
def show_certificates(context: CommandContext, given: CommandArguments) -> Result:
    """Show a line for each certificate of each owner of listeners."""
    return Result(lines=tuple(
        f"{owner} file={value(one.path)} days={one.days_left()} names={value(' '.join(one.names))}"
        for owner, tls in context.tls.items() for one in tls.certificates))


@commands.add("show confinement", "Show what code that runs in a child cannot do: a line for each wall, with on, off "
              "or missing, and why.")
def show_confinement(context: CommandContext, given: CommandArguments) -> Result:
    """Show a line for each wall."""
    return Result(lines=tuple(f"{name} = {state}" for name, state in walls_of(context.walls)))


@commands.add("show [var]", "Show one variable, or all.")
def show_variables(context: CommandContext, given: CommandArguments) -> Result:
    """Show variables as `name = value`."""
    name = given.word("var")
    if name:
        known_variable(context.schema, name)
    return Result(lines=tuple(_shown(row, context) for row in context.schema.settings if name in ("", row.name)))


def _shown(row: Setting, context: CommandContext) -> str:
    text = row.show(context.config.variables[row.name]) or ""
    return f"{row.name} = {'***' if row.secret and text else text}".rstrip()


def _set_masked(context: CommandContext, given: CommandArguments) -> str:
    row = context.schema.variable(given.word("var"))
    words = ("***",) if row is None or row.secret else given.words("value")
    return join_words(("set", given.word("var"), *words))


@commands.add("set <var> <value...>", "Set a variable; new sessions see it.", _set_masked)
def set_variable(context: CommandContext, given: CommandArguments) -> Result:
    """Set one variable; several words are joined by a space."""
    name, text = given.word("var"), " ".join(given.words("value"))
    row = context.schema.variable(name)
    if row is not None:
        want_absolute(row, text)
    config = with_variable(context.config, context.schema, name, text)
    return Result("unchanged" if config == context.config else "", config=config)


@commands.add("unset <var...>", "Let variables have the value of the INI file again, or their default.")
def unset_variable(context: CommandContext, given: CommandArguments) -> Result:
    """Give variables back to the file."""
    config = context.config
    for name in given.words("var"):
        row = known_variable(context.schema, name)
        if row.readonly:
            raise UsageError(f"{name} is read-only")
        config = with_fact(config, name, context.base.variables[name])
    return Result("unchanged" if config == context.config else "", config=config)


def want_absolute(row: Setting, text: str) -> None:
    """Raise UsageError for a relative file name, because it is unclear which folder it is relative to."""
    if text and isinstance(row.kind, (File, Dir)) and not text.startswith("/"):
        raise UsageError(f"{row.name}: {row.found(text)} is not a name that begins with /")


@commands.add("help [words...]", "List the commands, or those that begin so, such as `ses` or `session k`.")
def help_(context: CommandContext, given: CommandArguments) -> Result:
    """List commands."""
    return Result(lines=tuple(context.commands.help(" ".join(given.words("words")))))


@commands.add("version", "Tell program and version.")
def version(context: CommandContext, given: CommandArguments) -> Result:
    """Tell the version."""
    return Result(lines=(f"{context.schema.program} (POPular) {VERSION}",))


@commands.add("shutdown all", "End all children, whatever they are doing, then end.")
def shutdown_all(context: CommandContext, given: CommandArguments) -> Result:
    """Do as TERM."""
    return Result(effect=lambda master: master.shutdown_all())


@commands.add("shutdown parent", "Stop listening and end at once; running sessions go on.")
def shutdown_parent(context: CommandContext, given: CommandArguments) -> Result:
    """Do as QUIT."""
    return Result(effect=lambda master: master.shutdown_parent())


@commands.add("shutdown children", "End all children, whatever they are doing, and go on with new ones.")
def shutdown_children(context: CommandContext, given: CommandArguments) -> Result:
    """Do as INT."""
    return Result(effect=lambda master: master.shutdown_children())


@commands.add("shutdown delayed", "Stop listening, wait until every session is over, then end.")
def shutdown_delayed(context: CommandContext, given: CommandArguments) -> Result:
    """Do as PWR."""
    return Result(effect=lambda master: master.shutdown_delayed())


@commands.add("reopen", "Reopen the log file, and read certificates anew.")
def reopen(context: CommandContext, given: CommandArguments) -> Result:
    """Do as HUP."""
    return Result(effect=lambda master: master.reopen())


@commands.add("reload", "Read the INI file again; nothing changes if anything in it is wrong.")
def reload(context: CommandContext, given: CommandArguments) -> Result:
    """Read the file in a process of its own."""
    return Result(later=lambda deferring: deferring.reload())


@commands.add("upgrade", "Let a new process, started from the files on disk, take over; no session is lost.")
def upgrade(context: CommandContext, given: CommandArguments) -> Result:
    """Start a new master."""
    return Result(later=lambda deferring: deferring.upgrade())


@commands.add("sync", "Answer when new connections see every change that was made, after 1s at most.")
def sync(context: CommandContext, given: CommandArguments) -> Result:
    """Wait for children of older configurations that have no session."""
    return Result(later=lambda deferring: deferring.sync())


@commands.add("debug <state:on|off>", "Write messages for developers to the log, or stop it: the variable debug.")
def debug(context: CommandContext, given: CommandArguments) -> Result:
    """Set the variable `debug`."""
    return Result(config=with_variable(context.config, context.schema, "debug", given.word("state")))


@commands.add("debug session <state:on|off>", "The same for sessions alone: the variable debugsession.")
def debug_session(context: CommandContext, given: CommandArguments) -> Result:
    """Set the variable `debugsession`."""
    return Result(config=with_variable(context.config, context.schema, "debugsession", given.word("state")))


@commands.add("session list [key=value...]", "List the sessions that run, or those that have these values, such as "
              "user=joe, in the words of the list.")
def session_list(context: CommandContext, given: CommandArguments) -> Result:
    """List sessions."""
    return Result(lines=tuple(context.sessions.lines(_known(context, given))))


def _known(context: CommandContext, given: CommandArguments) -> Mapping[str, str]:
    """Return the keys and values that select sessions; raises UsageError for an unknown key."""
    known = context.sessions.keys
    for key in given.pairs:
        if key not in known:
            hint = did_you_mean(key, known) or f"; there are {', '.join(known)}"
            raise UsageError(f"no such key: {quoted(key)}{hint}")
    return given.pairs


@commands.add("session kill <key=value...>", "End all sessions that have these values, such as user=joe, at once.")
def session_kill_all(context: CommandContext, given: CommandArguments) -> Result:
    """End sessions."""
    count = context.sessions.kill_all(_known(context, given))
    if not count:
        raise UsageError("no such session")
    return Result(f"{count} sessions killed" if count > 1 else "1 session killed")


@commands.add("session kill <sid>", "End a session at once.")
def session_kill(context: CommandContext, given: CommandArguments) -> Result:
    """End a session."""
    sid = given.word("sid")
    if not context.sessions.kill(sid):
        raise UsageError(f"no such session: {quoted(sid)}")
    return Result(f"session {sid} killed")
