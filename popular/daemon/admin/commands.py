"""The control commands that every daemon has (spec 1.3, design 6.4).

Functions over the frozen Config; they run in the master.  Raise UsageError and ConfigError.
"""

from collections.abc import Mapping

from popular.config.changes import changes, render_changes, to_json
from popular.config.ini.text import render_ini
from popular.config.kinds import Dir, File
from popular.config.setting import Setting, quoted
from popular.config.store import with_fact, with_variable
from popular.control.grammar import CommandSet, Given, join_words
from popular.daemon.admin.context import Commands, Desk, Result
from popular.errors import UsageError
from popular.log.line import value
from popular.version import VERSION

commands: Commands = CommandSet()


@commands.add("show config", "Show everything as an INI file that loads to the same state.")
def show_config(desk: Desk, given: Given) -> Result:
    """Show the whole configuration."""
    return Result(lines=tuple(render_ini(desk.config, desk.schema).splitlines()))


@commands.add("show config changed", "Show what of it differs from the INI file, as it was read last.")
def show_config_changed(desk: Desk, given: Given) -> Result:
    """Show what commands have changed."""
    lines = tuple(render_changes(changes(desk.config, desk.base, desk.schema)))
    return Result("" if lines else "nothing differs from the INI file", lines)


@commands.add("config save", "Write what differs into the INI file, whose comments, order and layout stay; the old one "
              "is kept beside it. pcontrol does it, with the rights of whoever runs it.")
def config_save(desk: Desk, given: Given) -> Result:
    """Refuse: the daemon's user may not write its INI file."""
    raise UsageError("only pcontrol saves, for this daemon has no right to write its INI file")


@commands.add("config changes", "Tell what differs in a form for programs, one line of JSON; it holds secrets.")
def config_changes(desk: Desk, given: Given) -> Result:
    """Tell pcontrol what to save."""
    return Result(lines=(to_json(desk.schema.program, desk.base, changes(desk.config, desk.base, desk.schema)),))


@commands.add("show certificates", "Show the certificates in use: who has it, file, days left, names.")
def show_certificates(desk: Desk, given: Given) -> Result:
    """Show a line for each certificate of each owner of listeners."""
    return Result(lines=tuple(
        f"{owner} file={value(one.path)} days={one.days_left()} names={value(' '.join(one.names))}"
        for owner, tls in desk.tls.items() for one in tls.certificates))


@commands.add("show [var]", "Show one variable, or all.")
def show(desk: Desk, given: Given) -> Result:
    """Show variables as `name = value`."""
    name = given.word("var")
    if name and desk.schema.variable(name) is None:
        raise UsageError(f"no such variable: {quoted(name)}")
    return Result(lines=tuple(_shown(row, desk) for row in desk.schema.settings if name in ("", row.name)))


def _shown(row: Setting, desk: Desk) -> str:
    text = row.show(desk.config.variables[row.name]) or ""
    return f"{row.name} = {'***' if row.secret and text else text}".rstrip()


def _set_masked(desk: Desk, given: Given) -> str:
    row = desk.schema.variable(given.word("var"))
    words = ("***",) if row is None or row.secret else given.words("value")
    return join_words(("set", given.word("var"), *words))


@commands.add("set <var> <value...>", "Set a variable; new sessions see it.", _set_masked)
def set_variable(desk: Desk, given: Given) -> Result:
    """Set one variable; several words are joined by a space."""
    name, text = given.word("var"), " ".join(given.words("value"))
    row = desk.schema.variable(name)
    if row is not None:
        want_absolute(row, text)
    config = with_variable(desk.config, desk.schema, name, text)
    return Result("unchanged" if config == desk.config else "", config=config)


@commands.add("unset <var...>", "Let variables have the value of the INI file again, or their default.")
def unset(desk: Desk, given: Given) -> Result:
    """Give variables back to the file."""
    config = desk.config
    for name in given.words("var"):
        row = desk.schema.variable(name)
        if row is None:
            raise UsageError(f"no such variable: {quoted(name)}")
        if row.readonly:
            raise UsageError(f"{name} is read-only")
        config = with_fact(config, name, desk.base.variables[name])
    return Result("unchanged" if config == desk.config else "", config=config)


def want_absolute(row: Setting, text: str) -> None:
    """Raise UsageError for a relative file name: nobody knows from where it counts."""
    if text and isinstance(row.kind, (File, Dir)) and not text.startswith("/"):
        raise UsageError(f"{row.name}: {row.found(text)} is not a name that begins with /")


@commands.add("help [words...]", "List the commands, or those that begin so, such as `ses` or `session k`.")
def help_(desk: Desk, given: Given) -> Result:
    """List commands."""
    return Result(lines=tuple(desk.commands.help(" ".join(given.words("words")))))


@commands.add("version", "Tell program and version.")
def version(desk: Desk, given: Given) -> Result:
    """Tell the version."""
    return Result(lines=(f"{desk.schema.program} (POPular) {VERSION}",))


@commands.add("shutdown all", "End all children, whatever they are doing, then end.")
def shutdown_all(desk: Desk, given: Given) -> Result:
    """Do as TERM."""
    return Result(effect=lambda master: master.shutdown_all())


@commands.add("shutdown parent", "Stop listening and end at once; running sessions go on.")
def shutdown_parent(desk: Desk, given: Given) -> Result:
    """Do as QUIT."""
    return Result(effect=lambda master: master.shutdown_parent())


@commands.add("shutdown children", "End all children, whatever they are doing, and go on with new ones.")
def shutdown_children(desk: Desk, given: Given) -> Result:
    """Do as INT."""
    return Result(effect=lambda master: master.shutdown_children())


@commands.add("shutdown delayed", "Stop listening, wait until every session is over, then end.")
def shutdown_delayed(desk: Desk, given: Given) -> Result:
    """Do as PWR."""
    return Result(effect=lambda master: master.shutdown_delayed())


@commands.add("reopen", "Reopen the log file, and read certificates anew.")
def reopen(desk: Desk, given: Given) -> Result:
    """Do as HUP."""
    return Result(effect=lambda master: master.reopen())


@commands.add("reload", "Read the INI file again; nothing changes if anything in it is wrong.")
def reload(desk: Desk, given: Given) -> Result:
    """Read the file in a process of its own."""
    return Result(later=lambda deferring: deferring.reload())


@commands.add("upgrade", "Let a new process, started from the files on disk, take over; no session is lost.")
def upgrade(desk: Desk, given: Given) -> Result:
    """Start a successor."""
    return Result(later=lambda deferring: deferring.upgrade())


@commands.add("sync", "Answer when new connections see every change that was made, after 1s at most.")
def sync(desk: Desk, given: Given) -> Result:
    """Wait for children of older configurations that have no session."""
    return Result(later=lambda deferring: deferring.sync())


@commands.add("debug <state:on|off>", "Write messages for developers to the log, or stop it: the variable debug.")
def debug(desk: Desk, given: Given) -> Result:
    """Set the variable `debug`."""
    return Result(config=with_variable(desk.config, desk.schema, "debug", given.word("state")))


@commands.add("debug session <state:on|off>", "The same for sessions alone: the variable debugsession.")
def debug_session(desk: Desk, given: Given) -> Result:
    """Set the variable `debugsession`."""
    return Result(config=with_variable(desk.config, desk.schema, "debugsession", given.word("state")))


@commands.add("session list [key=value...]", "List the sessions that run, or those that have these values, such as "
              "user=joe, in the words of the list.")
def session_list(desk: Desk, given: Given) -> Result:
    """List sessions."""
    return Result(lines=tuple(desk.sessions.lines(_known(desk, given))))


def _known(desk: Desk, given: Given) -> Mapping[str, str]:
    """Return by what sessions are chosen; raises UsageError for what is not known of them."""
    unknown = [key for key in given.pairs if key not in desk.sessions.keys]
    if unknown:
        raise UsageError(f"found {unknown[0]}, wanted one of {', '.join(desk.sessions.keys)}")
    return given.pairs


@commands.add("session kill <key=value...>", "End all sessions that have these values, such as user=joe, at once.")
def session_kill_all(desk: Desk, given: Given) -> Result:
    """End sessions."""
    count = desk.sessions.kill_all(_known(desk, given))
    if not count:
        raise UsageError("no such session")
    return Result(f"{count} sessions killed" if count > 1 else "1 session killed")


@commands.add("session kill <sid>", "End a session at once.")
def session_kill(desk: Desk, given: Given) -> Result:
    """End a session."""
    sid = given.word("sid")
    if not desk.sessions.kill(sid):
        raise UsageError(f"no such session: {quoted(sid)}")
    return Result(f"session {sid} killed")
