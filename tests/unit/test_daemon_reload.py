"""What a reload makes of the state there is and the file as it is now."""

import pytest

from popular.config.store import (FROM_COMMAND, FROM_FILE, Config, default_config, given_back, with_fact, with_item,
                                  with_variable)
from popular.daemon.reload.merge import Merged, merge
from popular.errors import UsageError
from popular.pproxy.settings import SCHEMA

DEFAULT = default_config(SCHEMA)


def vserv(config: Config, ident: str, origin: str, **keys: str) -> Config:
    """Add a virtual server."""
    return with_item(config, SCHEMA, "vserv", ident, {"address": "127.0.0.1:0", **keys}, origin)


def setting(config: Config, **texts: str) -> Config:
    """Set variables, as the file may."""
    for name, text in texts.items():
        config = with_variable(config, SCHEMA, name, text, starting=True)
    return config


def unused(merged: Merged) -> list[str]:
    """Return which values of the file are not used."""
    return [each.what for each in merged.unused]


@pytest.mark.parametrize(("present", "base", "fresh", "given", "value", "is_unused"), [
    pytest.param({}, {}, {"maxsession": "7"}, ("maxsession",), 7, False, id="new in the file"),
    pytest.param({"maxsession": "9"}, {}, {}, (), 9, False, id="only a command set it"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {"maxsession": "7"}, ("maxsession",), 9, True,
                 id="both say it"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {"maxsession": "8"}, ("maxsession",), 9, True,
                 id="both changed it"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {"maxsession": "9"}, ("maxsession",), 9, False,
                 id="the file says what the command said"),
    pytest.param({"maxsession": "7"}, {"maxsession": "7"}, {"maxsession": "8"}, ("maxsession",), 8, False,
                 id="the file changed it"),
    pytest.param({"maxsession": "7"}, {"maxsession": "7"}, {}, (), 1000, False, id="gone from the file"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {}, (), 9, False, id="gone from the file, and set"),
    pytest.param({"maxsession": "9"}, {}, {"maxsession": "1000"}, ("maxsession",), 9, True, id="the default, said"),
])
def test_variables(present, base, fresh, given, value, is_unused):
    merged = merge(setting(DEFAULT, **present), setting(DEFAULT, **base), setting(DEFAULT, **fresh), frozenset(given),
                   SCHEMA)
    assert merged.config.variables["maxsession"] == value
    changed = value != setting(DEFAULT, **present).variables["maxsession"]
    assert merged.changes == (("variable maxsession",) if changed else ())
    assert unused(merged) == (["maxsession"] if is_unused else [])


def test_a_value_that_is_not_used_is_told_with_the_command_that_gives_it_back():
    merged = merge(setting(DEFAULT, maxsession="9"), DEFAULT, setting(DEFAULT, maxsession="7"),
                   frozenset(("maxsession",)), SCHEMA)
    assert [str(each) for each in merged.unused] == [
        "maxsession: '7' in the file is not used, because a command set '9'; to use it: unset maxsession"]


def test_a_value_that_the_file_does_not_set_is_not_called_a_value_of_the_file():
    base = setting(DEFAULT, metrics="127.0.0.1:1")
    merged = merge(setting(DEFAULT, metrics="127.0.0.1:2"), base, DEFAULT, frozenset(("metrics",)), SCHEMA)
    assert [str(each) for each in merged.unused] == [
        "metrics: the file sets nothing, and '127.0.0.1:2', which a command set, stays; to drop it: unset metrics"]


def test_what_is_fixed_stays_and_is_told():
    present = setting(DEFAULT, logfile="/a")
    merged = merge(present, present, setting(DEFAULT, logfile="/b"), frozenset(("logfile",)), SCHEMA)
    assert merged.config == present
    assert [str(each) for each in merged.unused] == ["logfile: '/b' in the file is not used before the next start"]


def test_the_pid_is_no_change():
    present = with_fact(DEFAULT, "pid", 4711)
    merged = merge(present, present, DEFAULT, frozenset(), SCHEMA)
    assert (merged.config, merged.changes, merged.unused) == (present, (), ())


def test_objects_of_the_file_follow_it():
    present = vserv(vserv(vserv(DEFAULT, "a", FROM_FILE), "b", FROM_FILE), "c", FROM_FILE)
    fresh = vserv(vserv(vserv(DEFAULT, "d", FROM_FILE), "a", FROM_FILE, banner="x"), "c", FROM_FILE)
    merged = merge(present, present, fresh, frozenset(), SCHEMA)
    assert [item.ident for item in merged.config.items("vserv")] == ["d", "a", "c"]
    assert merged.changes == ("vserv b: removed", "vserv d: added", "vserv a: banner")


def test_objects_of_commands_stay():
    present = vserv(vserv(vserv(DEFAULT, "a", FROM_COMMAND, banner="mine"), "b", FROM_COMMAND), "c", FROM_FILE)
    base = vserv(DEFAULT, "c", FROM_FILE)
    fresh = vserv(base, "a", FROM_FILE, banner="theirs")
    merged = merge(present, base, fresh, frozenset(), SCHEMA)
    assert [(item.ident, item.origin) for item in merged.config.items("vserv")] == [
        ("c", FROM_FILE), ("a", FROM_COMMAND), ("b", FROM_COMMAND)]
    assert merged.config.item("vserv", "a").values["banner"] == "mine"
    assert unused(merged) == ["vserv a: banner"]
    assert merge(merged.config, fresh, fresh, frozenset(), SCHEMA).changes == ()
    assert [item.ident for item in merge(merged.config, fresh, base, frozenset(), SCHEMA).config.items("vserv")] == [
        "c", "a", "b"]


def backend(config: Config, address: str, **keys: str) -> Config:
    """Have the backend `store`, of the file."""
    return with_item(config, SCHEMA, "backend", "store", {"protocol": "pop3", "address": address, **keys}, FROM_FILE)


@pytest.mark.parametrize("commanded", [{"drain": "on"}, {"enabled": "off"}, {"drain": "on", "softfail": "off"}])
def test_a_command_owns_what_it_set_and_the_file_the_rest(commanded):
    base = backend(DEFAULT, "10.0.0.5:110")
    present = with_item(base, SCHEMA, "backend", "store", commanded, FROM_FILE, keep=True)
    merged = merge(present, base, backend(DEFAULT, "10.0.0.9:110", softfail="on"), frozenset(), SCHEMA)
    values = merged.config.item("backend", "store").values
    assert str(values["address"]) == "10.0.0.9:110"
    assert {key: with_item(DEFAULT, SCHEMA, "backend", "x", {"protocol": "pop3", "address": "1.1.1.1:1", **commanded},
                           FROM_FILE).item("backend", "x").values[key] for key in commanded} == {
        key: values[key] for key in commanded}
    assert "address" in merged.changes[0]
    assert set(unused(merged)) == {f"backend store: {key}" for key in commanded}


def test_an_object_of_the_file_goes_with_the_file_though_a_command_drained_it():
    base = backend(DEFAULT, "10.0.0.5:110")
    present = with_item(base, SCHEMA, "backend", "store", {"drain": "on"}, FROM_FILE, keep=True)
    merged = merge(present, base, DEFAULT, frozenset(), SCHEMA)
    assert merged.config.items("backend") == ()
    assert (merged.changes, merged.unused) == (("backend store: removed",), ())


def test_drained_and_enabled_again_is_as_if_nothing_had_been():
    base = backend(DEFAULT, "10.0.0.5:110")
    present = base
    for keys in ({"drain": "on"}, {"drain": "off", "enabled": "on"}):
        present = with_item(present, SCHEMA, "backend", "store", keys, FROM_FILE, keep=True)
    fresh = backend(DEFAULT, "10.0.0.9:110", enabled="off")
    merged = merge(present, base, fresh, frozenset(), SCHEMA)
    assert (merged.config, merged.unused) == (fresh, ())


def test_a_list_that_a_command_read_anew_follows_the_file():
    base = with_item(DEFAULT, SCHEMA, "capa", "ours", {"list": "TOP"}, FROM_FILE)
    present = with_item(base, SCHEMA, "capa", "ours", {"list": "UIDL"}, FROM_FILE)
    fresh = with_item(base, SCHEMA, "capa", "ours", {"list": "STLS"}, FROM_FILE)
    merged = merge(present, base, fresh, frozenset(), SCHEMA)
    assert (merged.config, merged.unused) == (fresh, ())


def test_values_are_given_back_to_the_file():
    base = backend(DEFAULT, "10.0.0.5:110")
    commanded = {"drain": "on", "address": "10.0.0.6:110"}
    present = with_item(base, SCHEMA, "backend", "store", commanded, FROM_COMMAND, keep=True)
    once = given_back(present, base, "backend", "store", ("address",)).item("backend", "store")
    assert (str(once.values["address"]), once.values["drain"], once.origin) == ("10.0.0.5:110", True, FROM_COMMAND)
    assert given_back(present, base, "backend", "store") == base
    for ident, keys, why in (("none", (), "no such backend"), ("store", ("colour",), "no such key")):
        with pytest.raises(UsageError, match=why):
            given_back(present, base, "backend", ident, keys)
    with pytest.raises(UsageError, match="backend store is not in the INI file"):
        given_back(present, DEFAULT, "backend", "store")


def test_an_order_alone_is_a_change():
    present = vserv(vserv(DEFAULT, "a", FROM_FILE), "b", FROM_FILE)
    fresh = vserv(vserv(DEFAULT, "b", FROM_FILE), "a", FROM_FILE)
    assert merge(present, present, fresh, frozenset(), SCHEMA).changes == ("vserv: another order",)


def test_an_object_that_a_command_removed_comes_back():
    fresh = vserv(DEFAULT, "a", FROM_FILE)
    assert merge(DEFAULT, fresh, fresh, frozenset(), SCHEMA).changes == ("vserv a: added",)
