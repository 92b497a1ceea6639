"""The frozen value of everything configured, and the ways to a new one."""

import json

import pytest

from popular.addresses import Endpoint
from popular.config.kinds import Address, Addresses, Bool, Dir, Float, Id, Int, String, Time
from popular.config.mistakes import ConfigError
from popular.config.setting import ObjectClass, Schema, Setting
from popular.config.store import (
    FROM_COMMAND, FROM_FILE, Config, Values, default_config, dump, load, with_fact, with_item, with_variable,
    without_item)
from popular.errors import UsageError

SCHEMA = Schema("pproxy", (
    Setting("pid", Int(0), 0, "Process id.", readonly=True),
    Setting("rundir", Dir(), "/no/such/rundir", "Run directory.", readonly=True, option=("-r", "--rundir")),
    Setting("sessionlimit", Int(1, 100000), 10000, "Slots.", readonly=True, at_start=True),
    Setting("authtimeout", Time(0, 3600), 120.0, "Login."),
    Setting("sidprefix", Id(), None, "Prefix."),
    Setting("password", String(), "", "Secret.", secret=True),
), (
    ObjectClass("vserv", "Virtual servers.", (
        Setting("address", Addresses(), None, "Where.", required=True),
        Setting("banner", String(), "POPular ready", "Greeting."),
        Setting("softfail", Bool(), None, "Override."),
    )),
    ObjectClass("backend", "Backends.", (Setting("address", Address(), None, "Where.", required=True),)),
))
DEFAULT = default_config(SCHEMA)


def vserv(config, ident, **values):
    return with_item(config, SCHEMA, "vserv", ident, values, FROM_FILE)


def test_defaults():
    assert DEFAULT.variables.seconds("authtimeout") == 120.0
    assert DEFAULT.variables["sidprefix"] is None
    assert DEFAULT.items("vserv") == () and DEFAULT.item("vserv", "main") is None
    assert DEFAULT.generation == 0


def test_set_makes_a_new_value_and_leaves_the_old():
    changed = with_variable(DEFAULT, SCHEMA, "authtimeout", "30s")
    assert changed.variables.seconds("authtimeout") == 30.0
    assert DEFAULT.variables.seconds("authtimeout") == 120.0


def test_setting_the_same_again_changes_nothing():
    assert with_variable(DEFAULT, SCHEMA, "authtimeout", "2m") is DEFAULT


@pytest.mark.parametrize("name, text, why", [
    pytest.param("authtimeuot", "1s", "no such variable: 'authtimeuot'; did you mean 'authtimeout'?", id="unknown"),
    pytest.param("pid", "1", "pid is read-only", id="read-only"),
    pytest.param("rundir", "/", "rundir is read-only", id="read-only-with-option"),
    pytest.param("authtimeout", "70m", "authtimeout: '70m' is not between 0s and 1h",
                 id="value"),
    pytest.param("password", "a\nb", "password: *** is not one line of text of at most 1024 characters",
                 id="secret"),
])
def test_set_refuses(name, text, why):
    with pytest.raises(UsageError) as caught:
        with_variable(DEFAULT, SCHEMA, name, text)
    assert str(caught.value) == why


def test_a_start_may_set_some_of_what_is_read_only():
    config = with_variable(DEFAULT, SCHEMA, "rundir", "/", starting=True)
    config = with_variable(config, SCHEMA, "sessionlimit", "5", starting=True)
    assert config.variables.text("rundir") == "/" and config.variables.integer("sessionlimit") == 5
    with pytest.raises(UsageError, match="^pid is read-only$"):
        with_variable(config, SCHEMA, "pid", "1", starting=True)
    assert with_fact(config, "pid", 4711).variables.integer("pid") == 4711


def test_an_optional_value_can_be_taken_away():
    given = with_variable(DEFAULT, SCHEMA, "sidprefix", "p1")
    assert given.variables.optional_text("sidprefix") == "p1"
    assert with_variable(given, SCHEMA, "sidprefix", "") == DEFAULT


def test_add_replace_and_remove():
    one = vserv(vserv(DEFAULT, "a", address="1.1.1.1:110"), "b", address="2.2.2.2:110", banner="hi")
    assert [item.ident for item in one.items("vserv")] == ["a", "b"]
    item = one.item("vserv", "a")
    assert item is not None
    assert item.values.text("banner") == "POPular ready" and item.origin == FROM_FILE
    assert vserv(one, "b", address="2.2.2.2:110", banner="hi") == one
    two = vserv(one, "a", address="3.3.3.3:110")
    assert [item.ident for item in two.items("vserv")] == ["a", "b"], "a replaced object keeps its place"
    assert two.items("vserv")[0].values.endpoints("address") == (Endpoint("3.3.3.3", 110),)
    assert without_item(without_item(two, SCHEMA, "vserv", "a"), SCHEMA, "vserv", "b") == DEFAULT


def test_replace_takes_defaults_and_keep_keeps():
    config = vserv(DEFAULT, "a", address="1.1.1.1:110", banner="hi")
    kept = with_item(config, SCHEMA, "vserv", "a", {"softfail": "off"}, FROM_COMMAND, keep=True)
    assert kept.items("vserv")[0].values == {"address": (Endpoint("1.1.1.1", 110),), "banner": "hi", "softfail": False}
    assert kept.items("vserv")[0].origin == FROM_COMMAND
    replaced = vserv(kept, "a", address="1.1.1.1:110")
    assert replaced.items("vserv")[0].values["softfail"] is None
    assert replaced.items("vserv")[0].values.text("banner") == "POPular ready"


@pytest.mark.parametrize("cls, ident, values, keep, why", [
    pytest.param("vserver", "a", {}, False, "no such class of objects: 'vserver'", id="class"),
    pytest.param("vserv", "a b", {"address": "a:1"}, False,
                 "vserv: 'a b' is not an id of 1 to 64 letters, digits, ., - and _", id="id"),
    pytest.param("vserv", "a", {"adress": "a:1"}, False,
                 "vserv a: no such key: 'adress'; did you mean 'address'?", id="key"),
    pytest.param("backend", "a", {"address": "x"}, False,
                 "backend a: address: 'x' is not an address and port such as 10.0.0.5:110, [::1]:110 or store1:110",
                 id="value"),
    pytest.param("vserv", "a", {}, False,
                 "vserv a: 'address' is missing: where",
                 id="required"),
    pytest.param("vserv", "a", {"banner": "x"}, True, "no such vserv: 'a'", id="keep-nothing"),
])
def test_add_refuses(cls, ident, values, keep, why):
    with pytest.raises(UsageError) as caught:
        with_item(DEFAULT, SCHEMA, cls, ident, values, FROM_COMMAND, keep=keep)
    assert str(caught.value) == why


@pytest.mark.parametrize("cls, ident, why", [
    pytest.param("vserv", "a", "no such vserv: 'a'", id="object"),
    pytest.param("x", "a", "no such class of objects: 'x'", id="class"),
])
def test_remove_refuses(cls, ident, why):
    with pytest.raises(UsageError, match=f"^{why}$"):
        without_item(DEFAULT, SCHEMA, cls, ident)


def test_nothing_in_it_can_be_changed():
    config = vserv(DEFAULT, "a", address="a:1")
    with pytest.raises(AttributeError):
        config.generation = 2
    with pytest.raises(AttributeError):
        config.variables.pid = 2
    with pytest.raises(AttributeError):
        config.variables._values = {}
    with pytest.raises(TypeError):
        config.variables["pid"] = 2
    with pytest.raises(TypeError):
        config.objects["vserv"] = ()
    with pytest.raises(AttributeError):
        config.items("vserv")[0].origin = FROM_COMMAND


def test_a_dictionary_given_is_not_kept():
    given = {"a": 1}
    values = Values(given)
    given["a"] = 2
    assert values.integer("a") == 1


def test_no_value_stands_in_a_representation():
    config = with_variable(DEFAULT, SCHEMA, "password", "hunter2")
    assert "hunter2" not in repr(config)


ACCESSORS = [
    pytest.param("integer", 3, True, id="integer"),
    pytest.param("seconds", 3.0, 3, id="seconds"),
    pytest.param("number", 3.5, "3", id="number"),
    pytest.param("text", "x", 3, id="text"),
    pytest.param("flag", True, 1, id="flag"),
    pytest.param("endpoint", Endpoint("a", 1), "a:1", id="endpoint"),
    pytest.param("endpoints", (Endpoint("a", 1),), [Endpoint("a", 1)], id="endpoints"),
]


@pytest.mark.parametrize("accessor, value, other", [
    *ACCESSORS,
    *(pytest.param(f"optional_{each.id}", *each.values[1:], id=f"optional {each.id}")
      for each in ACCESSORS if hasattr(Values, f"optional_{each.id}")),
])
def test_typed_access(accessor, value, other):
    values = Values({"right": value, "wrong": other, "none": None})
    read = getattr(values, accessor)
    assert read("right") == value
    with pytest.raises(TypeError, match="^wrong is "):
        read("wrong")
    with pytest.raises(KeyError):
        read("missing")
    if accessor.startswith("optional_"):
        assert read("none") is None
    else:
        with pytest.raises(TypeError, match="^none is NoneType"):
            read("none")


def test_a_number_may_be_whole():
    assert Values({"load": 3}).number("load") == 3.0


def full_config() -> Config:
    config = vserv(DEFAULT, "a", address="1.1.1.1:110, [::1]:110", banner="\"it's\" # \\x22 ü", softfail="on")
    config = with_item(config, SCHEMA, "backend", "store1", {"address": "store1:1110"}, FROM_COMMAND)
    config = with_variable(config, SCHEMA, "authtimeout", "1m500ms")
    return Config(config.variables, config.objects, generation=7)


def test_the_hand_over_keeps_everything():
    config = full_config()
    assert load(dump(config, SCHEMA), SCHEMA) == config
    assert load(dump(DEFAULT, SCHEMA), SCHEMA) == DEFAULT, "a default directory need not exist"


def test_the_hand_over_is_text():
    texts = json.loads(dump(full_config(), SCHEMA))["variables"]
    assert texts["authtimeout"] == "1m500ms" and texts["sidprefix"] is None


@pytest.mark.parametrize("text", [
    pytest.param("", id="empty"),
    pytest.param("{", id="cut"),
    pytest.param("[]", id="list"),
    pytest.param("{}", id="nothing"),
    pytest.param(dump(DEFAULT, SCHEMA).replace("pproxy", "pserv"), id="other-program"),
    pytest.param(dump(DEFAULT, SCHEMA).replace('"2m"', '"2y"'), id="wrong-value"),
    pytest.param(dump(DEFAULT, SCHEMA).replace('"2m"', "null"), id="missing-value"),
    pytest.param(dump(DEFAULT, SCHEMA).replace('"vserv": []', '"vserv": [["a"]]'), id="short-object"),
])
def test_a_damaged_hand_over_is_a_config_error(text):
    with pytest.raises(ConfigError, match="^hand-over from the starter"):
        load(text, SCHEMA)


def test_what_another_version_hands_over_is_taken_as_far_as_it_is_known():
    other = dump(full_config(), SCHEMA).replace('"authtimeout"', '"authtime"').replace('"backend": [', '"backends": [')
    config = load(other, SCHEMA)
    assert config.variables["authtimeout"] == DEFAULT.variables["authtimeout"]
    assert config.items("backend") == () and config.items("vserv") == full_config().items("vserv")


def test_a_float_is_handed_over_exactly():
    schema = Schema("p", (Setting("load", Float(0, 100), 0.1 + 0.2, ""),))
    config = with_variable(default_config(schema), schema, "load", "3.3000000000000003")
    assert load(dump(config, schema), schema) == config
