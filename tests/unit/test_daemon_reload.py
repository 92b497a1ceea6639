"""What a reload makes of the state there is and the file as it is now."""

import pytest

from popular.config.store import COMMAND, FILE, Config, default_config, with_fact, with_item, with_variable
from popular.daemon.reload import merge
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


@pytest.mark.parametrize(("present", "base", "fresh", "given", "value"), [
    pytest.param({}, {}, {"maxsession": "7"}, ("maxsession",), 7, id="new in the file"),
    pytest.param({"maxsession": "9"}, {}, {}, (), 9, id="only a command set it"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {"maxsession": "7"}, ("maxsession",), 7, id="both say it"),
    pytest.param({"maxsession": "7"}, {"maxsession": "7"}, {}, (), 1000, id="gone from the file"),
    pytest.param({"maxsession": "9"}, {"maxsession": "7"}, {}, (), 1000, id="gone from the file, and set"),
    pytest.param({"maxsession": "9"}, {}, {"maxsession": "1000"}, ("maxsession",), 1000, id="the default, said"),
])
def test_variables(present, base, fresh, given, value):
    merged = merge(setting(DEFAULT, **present), setting(DEFAULT, **base), setting(DEFAULT, **fresh), frozenset(given),
                   SCHEMA)
    assert merged.config.variables["maxsession"] == value
    changed = value != setting(DEFAULT, **present).variables["maxsession"]
    assert merged.changes == (("variable maxsession",) if changed else ())


def test_what_is_fixed_stays_and_is_told():
    present = setting(DEFAULT, logfile="/a")
    merged = merge(present, present, setting(DEFAULT, logfile="/b"), frozenset(("logfile",)), SCHEMA)
    assert merged.config == present
    assert merged.notes == ("logfile: stays as it is until the next start",)


def test_the_pid_is_no_change():
    present = with_fact(DEFAULT, "pid", 4711)
    merged = merge(present, present, DEFAULT, frozenset(), SCHEMA)
    assert (merged.config, merged.changes, merged.notes) == (present, (), ())


def test_objects_of_the_file_follow_it():
    present = vserv(vserv(vserv(DEFAULT, "a", FILE), "b", FILE), "c", FILE)
    fresh = vserv(vserv(vserv(DEFAULT, "d", FILE), "a", FILE, banner="x"), "c", FILE)
    merged = merge(present, present, fresh, frozenset(), SCHEMA)
    assert [item.ident for item in merged.config.items("vserv")] == ["d", "a", "c"]
    assert merged.changes == ("vserv b: removed", "vserv d: added", "vserv a: banner")


def test_objects_of_commands_stay():
    present = vserv(vserv(vserv(DEFAULT, "a", COMMAND, banner="mine"), "b", COMMAND), "c", FILE)
    fresh = vserv(vserv(DEFAULT, "c", FILE), "a", FILE, banner="theirs")
    merged = merge(present, present, fresh, frozenset(), SCHEMA)
    assert [(item.ident, item.origin) for item in merged.config.items("vserv")] == [
        ("c", FILE), ("a", COMMAND), ("b", COMMAND)]
    assert merged.config.item("vserv", "a").values["banner"] == "mine"
    assert merged.notes == ("vserv a: stays as commands set it",)
    assert merge(merged.config, fresh, fresh, frozenset(), SCHEMA).changes == ()


def test_an_order_alone_is_a_change():
    present = vserv(vserv(DEFAULT, "a", FILE), "b", FILE)
    fresh = vserv(vserv(DEFAULT, "b", FILE), "a", FILE)
    assert merge(present, present, fresh, frozenset(), SCHEMA).changes == ("vserv: another order",)


def test_an_object_that_a_command_removed_comes_back():
    fresh = vserv(DEFAULT, "a", FILE)
    assert merge(DEFAULT, fresh, fresh, frozenset(), SCHEMA).changes == ("vserv a: added",)
