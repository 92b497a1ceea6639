"""The commands that every daemon has, one by one, as functions over a Config."""

import pytest

from popular.config.kinds import Address, Bool, Choice, Dir, File, Id, Int, Off, String, Time
from popular.config.netkinds import NetworkList, Prefixes
from popular.config.setting import Setting
from popular.errors import UsageError
from popular.pop3.capability import Expiry
from popular.pproxy.commands import commands
from popular.pproxy.policy.terms import PolicyUrl
from popular.pproxy.settings import SCHEMA
from popular.pserv.commands import commands as pserv_commands
from popular.pserv.settings import SCHEMA as PSERV
from popular.version import VERSION
from tests.harness.context import FakeMaster


@pytest.fixture
def master() -> FakeMaster:
    """A proxy with the defaults."""
    return FakeMaster(SCHEMA, commands)


def test_show_lists_every_variable(master):
    lines = master.run("show").lines
    assert [line.partition(" ")[0] for line in lines] == [row.name for row in SCHEMA.settings]
    assert {"id = pproxy", "pid = 4711", f"version = {VERSION}", "authtimeout = 2m", "sidprefix ="} <= set(lines)


def test_show_reads_one_variable(master):
    assert master.run("show maxsession").lines == ("maxsession = 1000",)


def test_show_of_an_unknown_variable_is_refused(master):
    with pytest.raises(UsageError, match="no such variable: 'nix'"):
        master.run("show nix")


def another(row: Setting) -> str:
    """Return a text for a value that is not the default."""
    match row.kind:
        case Bool():
            return "off" if row.default else "on"
        case Int(low):
            return str(low + 1 if row.default != low + 1 else low + 2)
        case Time():
            return "7s" if row.default != 7.0 else "8s"
        case Choice(words):
            return next(word for word in words if word != row.default)
        case Dir() | File():
            return "/tmp"
        case Id() | String():
            return "other"
        case Address():
            return "127.0.0.1:9110"
        case NetworkList():
            return "192.0.2.0/24"
        case Prefixes():
            return "16 32"
        case Expiry():
            return "never"
        case PolicyUrl():
            return "https://policy.example.org/?x=1&"
    raise AssertionError(row)


ROWS = [pytest.param(schema, words, row, id=f"{schema.program}-{row.name}")
        for schema, words in ((SCHEMA, commands), (PSERV, pserv_commands)) for row in schema.settings]


@pytest.mark.parametrize(("schema", "words", "row"), ROWS)
def test_every_variable_can_be_set_or_is_read_only(schema, words, row):
    master = FakeMaster(schema, words)
    if isinstance(row.kind, Off):
        with pytest.raises(UsageError, match="it can no longer be turned on"):
            master.run(f"set {row.name} on")
        assert master.run(f"set {row.name} off").text == "unchanged"
        return
    if row.readonly:
        with pytest.raises(UsageError, match=f"{row.name} is read-only"):
            master.run(f"set {row.name} {another(row)}")
        return
    master.run(f"set {row.name} {another(row)}")
    assert master.config.variables[row.name] == row.parse(another(row)) != row.default
    assert master.run(f"show {row.name}").lines == (f"{row.name} = {row.show(row.parse(another(row)))}",)


@pytest.mark.parametrize(("line", "why"), [
    pytest.param("set nix 1", "no such variable: 'nix'; try show", id="unknown"),
    pytest.param("set maxerors 1", "no such variable: 'maxerors'; did you mean 'maxerrors'?", id="misspelt"),
    pytest.param("set banner x", "no such variable: 'banner'; it is a key of each vserv", id="of-objects"),
    pytest.param("set maxsession 0", "maxsession: '0' is not between 1 and 10000", id="bounds"),
    pytest.param("set authtimeout -1s", "authtimeout: '-1s' is not a time from 0s to 1h", id="time"),
    pytest.param("set capadir tmp", "capadir: 'tmp' is not a name that begins with /", id="relative"),
    pytest.param("set capadir /no/such", "capadir: '/no/such' is not a directory that exists", id="missing"),
])
def test_wrong_values_change_nothing(master, line, why):
    before = master.config
    with pytest.raises(UsageError) as caught:
        master.run(line)
    assert str(caught.value).startswith(why)
    assert master.config is before


def test_set_again_changes_nothing(master):
    master.run("set maxsession 7")
    before = master.config
    assert master.run("set maxsession 7").text == "unchanged"
    assert master.config == before


def test_variables_are_given_back_to_the_file(master):
    master.feed("set maxsession 7", "set maxline 99")
    assert master.run("unset maxsession maxline").text == ""
    assert master.config == master.base
    assert master.run("unset maxsession").text == "unchanged"
    for line, why in (("unset nix", "no such variable: 'nix'; try show"), ("unset pid", "pid is read-only")):
        with pytest.raises(UsageError, match=why):
            master.run(line)


def test_several_words_are_joined(master):
    master.run("vserv add v 127.0.0.1:0").config
    master.run("set sidprefix 'mx1'")
    assert master.config.variables["sidprefix"] == "mx1"
    master.run("set sidprefix ''")
    assert master.config.variables["sidprefix"] is None


@pytest.mark.parametrize(("line", "shown"), [
    ("set maxsession 7", "set maxsession 7"), ("set nix secret", "set nix ***"),
    ("set sidprefix 'a b'", "set sidprefix 'a b'")])
def test_the_log_shows_a_set_without_secrets(master, line, shown):
    assert master.public(line) == shown


def test_help_tells_of_every_command(master):
    assert len(master.run("help").lines) == len(list(commands))
    assert [line.split("  ")[0] for line in master.run("help debug").lines] == ["debug on|off", "debug session on|off"]
    assert [line.split("  ")[0].rstrip() for line in master.run("help session k").lines] == [
        "session kill <key=value...>", "session kill <sid>"]
    assert all(line.startswith("session") for line in master.run("help ses").lines)
    with pytest.raises(UsageError, match="no command begins with 'nix'"):
        master.run("help nix")


def test_version_tells_program_and_version(master):
    assert master.run("version").lines == (f"pproxy (POPular) {VERSION}",)


@pytest.mark.parametrize("what", ["all", "parent", "children", "delayed"])
def test_spec_1_3_shutdown_is_an_effect(master, what):
    result = master.run(f"shutdown {what}")
    assert result.config is None and master.done == []
    result.effect(master)
    assert master.done == [f"shutdown_{what}"]


def test_reopen_is_an_effect(master):
    master.run("reopen").effect(master)
    assert master.done == ["reopen"]


@pytest.mark.parametrize("what", ["sync", "reload"])
def test_what_takes_longer_is_answered_later(master, what):
    master.run(what).later(master)
    assert master.done == [what]


@pytest.mark.parametrize(("line", "name"), [("debug", "debug"), ("debug session", "debugsession")])
def test_debug_is_a_variable(master, line, name):
    master.run(f"{line} on")
    assert master.config.variables[name] is True
    master.run(f"{line} off")
    assert master.config.variables[name] is False


def test_sessions_are_listed_and_killed(master):
    assert master.run("session list").lines == ("a-1", "b-2")
    assert master.run("session list user=b").lines == ("b-2",)
    for line in ("session list owner=x", "session kill owner=x"):
        with pytest.raises(UsageError, match="^no such key: 'owner'; there are user"):
            master.run(line)
    with pytest.raises(UsageError, match="no such session"):
        master.run("session kill user=c")
    assert master.run("session kill user=b").text == "1 session killed"
    master.sessions.sids = ["a-1", "b-2"]
    master.run("session kill a-1")
    assert master.sessions.sids == ["b-2"]
    with pytest.raises(UsageError, match="no such session: 'a-1'"):
        master.run("session kill a-1")


def test_pserv_has_no_words_of_the_proxy():
    words = {command.pattern.parts[0].name for command in pserv_commands}
    assert {"vserv", "backend", "pdm", "prng"}.isdisjoint(words)
    assert {"server", "capa", "show", "set", "shutdown", "debug"} <= words
