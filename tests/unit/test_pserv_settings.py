"""What can be configured in pserv: names and defaults that administrators know, and what the checks find."""

from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.mistakes import ConfigError
from popular.config.store import Config, default_config, with_item, with_variable
from popular.pop3 import capability
from popular.pserv import spec
from popular.pserv.objects import serv_config
from popular.pserv.settings import SCHEMA


def configured(spool: Path, **server: str) -> Config:
    config = with_variable(default_config(SCHEMA), SCHEMA, "mailboxdir", str(spool))
    return with_item(config, SCHEMA, "server", "main", {"address": "127.0.0.1:1110, [::1]:1110", **server}, "test")


@pytest.mark.parametrize(("option", "name", "default"), [
    ("-l", "logfile", "/var/log/popular/pserv"),
    ("--logfile", "logfile", "/var/log/popular/pserv"),
    ("-r", "rundir", "/var/run/popular"),
    ("--rundir", "rundir", "/var/run/popular"),
    ("-m", "mailboxdir", "/pop"),
    ("--mailboxdir", "mailboxdir", "/pop"),
])
def test_spec_2_1_options_and_their_defaults(option: str, name: str, default: str) -> None:
    (row,) = [row for row in SCHEMA.settings if option in row.option]
    assert (row.name, row.default) == (name, default)


def test_spec_2_2_read_only_variables() -> None:
    read_only = {row.name: row.default for row in SCHEMA.settings if row.readonly}
    assert {"id", "pid", "rundir", "sessionlimit", "version"} <= set(read_only)
    assert read_only["id"] == "pserv"


@pytest.mark.parametrize(("value", "is_good"), [("4", False), ("5", True), ("1024", True), ("1025", False)])
def test_spec_2_2_backlog_is_from_5_to_1024(value: str, is_good: bool) -> None:
    (row,) = [row for row in SCHEMA.settings if row.name == "backlog"]
    if is_good:
        assert row.parse(value) == int(value)
    else:
        with pytest.raises(ValueError):
            row.parse(value)


@pytest.mark.parametrize(("name", "shown"), [
    ("maxsession", "1000"), ("maxerrors", "25"), ("minspare", "4"), ("maxspare", "8"), ("maxuse", "1"),
    ("backlog", "1024"), ("maxlocalload", "0"), ("idletimeout", "10m"), ("preambletimeout", "10s"), ("maxline", "255"),
    ("capadir", "/etc/popular/capa"), ("user", "pop"), ("group", None), ("debug", "off")])
def test_defaults_of_the_design(name: str, shown: str) -> None:
    (row,) = [row for row in SCHEMA.settings if row.name == name]
    assert row.show(row.default) == shown


def test_a_server_listens_on_all_its_addresses(spool: Path) -> None:
    listens = spec.listens(configured(spool))
    assert [(listen.kind, listen.owner, listen.endpoint, listen.backlog) for listen in listens] == [
        ("tcp", "main", Endpoint("127.0.0.1", 1110), 1024), ("tcp", "main", Endpoint("::1", 1110), 1024)]


def test_a_server_that_is_disabled_does_not_listen(spool: Path) -> None:
    assert spec.listens(configured(spool, enabled="off")) == []


def test_without_a_list_capa_tells_what_is_supported(spool: Path) -> None:
    assert serv_config(configured(spool)).servers["main"].caps == tuple(capability.TRANSACTION)


def test_a_good_configuration_has_no_mistakes(spool: Path) -> None:
    assert spec.check(configured(spool)) == []


def test_all_mistakes_are_found_at_once(spool: Path) -> None:
    config = configured(spool, capa="missing")
    config = with_variable(config, SCHEMA, "maxspare", "1")
    spool.rmdir()
    found = [str(mistake) for mistake in spec.check(config)]
    assert len(found) == 3
    assert all(any(word in mistake for mistake in found) for word in ("maxspare", "mailboxdir", "missing"))
    with pytest.raises(ConfigError):
        serv_config(config)
