"""`show config` prints an INI file that loads to the same state, whatever commands led to it."""

import os
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.config.ini.file import read_ini
from popular.config.kinds import MAX_TEXT, Bool, Choice, Dir, File, Id, Int, String, Time
from popular.config.lines import Lines
from popular.config.setting import Schema, Setting
from popular.config.store import Config, default_config, with_fact, with_item
from popular.errors import UsageError
from popular.pproxy.commands import commands as pproxy_commands
from popular.pproxy.settings import SCHEMA as PPROXY
from popular.pserv.commands import commands as pserv_commands
from popular.pserv.settings import SCHEMA as PSERV
from tests.harness.context import FakeMaster

IDS = st.sampled_from(["main", "b-2", "c.d_e", "X"])
WORDS = st.text("abz09 .,;:!#'\"\\=[]{}%$&()<>|~`^*?/-_+@\téß漢", max_size=30)
ADDRESSES = st.sampled_from(["127.0.0.1:0", "[::1]:110", "0.0.0.0:1110"])


def texts(row: Setting) -> st.SearchStrategy[str]:
    """Return texts that a row may accept; with an optional row, also none."""
    optional = [st.just("")] if row.is_optional else []
    match row.kind:
        case Bool():
            found: st.SearchStrategy[str] = st.sampled_from(["on", "off", "yes", "0"])
        case Int(low, high):
            found = st.integers(low, min(10**9, high if high is not None else 10**9)).map(str)
        case Time(low, high):
            found = st.integers(int(low * 1000), int(high * 1000)).map(lambda number: f"{number}ms")
        case Choice(words):
            found = st.sampled_from(words)
        case Dir() | File():
            found = st.sampled_from(["/tmp", "/", os.path.dirname(__file__)])
        case Id():
            found = IDS
        case String(limit):
            found = WORDS.map(lambda text: text[:limit])
        case Lines():
            found = st.lists(WORDS, max_size=3).map(lambda lines: row.kind.show(tuple(lines)))
        case _:
            found = ADDRESSES
    return st.one_of(found, *optional)


def words_of(schema: Schema) -> st.SearchStrategy[str]:
    """Return commands: sets of variables, and the adding of objects."""
    sets = [st.tuples(st.just("set"), st.just(row.name), texts(row)) for row in schema.settings if not row.readonly]
    return st.one_of(sets).map(shlex.join)


def objects_of(schema: Schema) -> st.SearchStrategy[list[tuple[str, str, dict[str, str]]]]:
    """Return objects of all classes."""
    kinds = []
    for cls in schema.classes:
        rows = {row.name: texts(row) for row in cls.rows}
        required = {row.name: rows[row.name] for row in cls.rows if row.required}
        optional = {name: text for name, text in rows.items() if name not in required}
        kinds.append(st.tuples(st.just(cls.name), IDS, st.fixed_dictionaries(required, optional=optional)))
    return st.lists(st.one_of(kinds), max_size=6)


def same_state(one: Config, other: Config) -> bool:
    """Tell whether two Configs mean the same: all but origins, generation and pid."""
    return (one.variables == with_fact(other, "pid", one.variables["pid"]).variables
            and {cls: [(item.ident, item.values) for item in items] for cls, items in one.objects.items()}
            == {cls: [(item.ident, item.values) for item in items] for cls, items in other.objects.items()})


# Made once, as making them takes longer than drawing from them.
STRATEGIES = {schema.program: st.tuples(st.lists(words_of(schema), max_size=6), objects_of(schema))
              for schema in (PPROXY, PSERV)}


@pytest.mark.parametrize(("schema", "commands"), [(PPROXY, pproxy_commands), (PSERV, pserv_commands)],
                         ids=["pproxy", "pserv"])
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_printed_state_loads_to_the_same_state(schema, commands, data):
    master = FakeMaster(schema, commands)
    lines, objects = data.draw(STRATEGIES[schema.program])
    for line in lines:
        try:
            master.run(line)
        except UsageError:    # a word that its row does not take: nothing happened
            pass
    for cls, ident, values in objects:
        try:
            master.config = with_item(master.config, schema, cls, ident, values, "command")
        except UsageError:
            pass
    with TemporaryDirectory() as folder:
        path = Path(folder) / "printed.conf"
        path.write_text("\n".join(master.run("show config").lines) + "\n", encoding="utf-8")
        loaded = read_ini(str(path), schema, default_config(schema))
    assert same_state(master.config, loaded)


def test_the_longest_values_survive(tmp_path):
    master = FakeMaster(PPROXY, pproxy_commands)
    quotes = "'" * MAX_TEXT
    master.config = with_item(master.config, PPROXY, "pdm", "x", {"module": "any", "args": quotes}, "command")
    octets = Lines(4096).show(("\xff" * 2000,))
    assert len(octets) > MAX_TEXT
    master.config = with_item(master.config, PPROXY, "capa", "x", {"list": octets}, "command")
    path = tmp_path / "printed.conf"
    path.write_text("\n".join(master.run("show config").lines) + "\n", encoding="utf-8")
    assert same_state(master.config, read_ini(str(path), PPROXY, default_config(PPROXY)))
