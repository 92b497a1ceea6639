"""What can be configured in plmtpd, and what its children get of it."""

import os
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.kinds import Kind
from popular.config.store import Config, default_config, with_item, with_variable
from popular.daemon.spec import Listen
from popular.log.writer import Log
from popular.net.unixsocket import SocketAccess
from popular.networks import ClientAddress
from popular.pdm.asking.userformat import UserFormat
from popular.plmtpd.kinds import IdList, Mode, Percents
from popular.plmtpd.objects import lmtp_config
from popular.plmtpd.settings import SCHEMA
from popular.plmtpd.spec import check, listens, make_job, policy


@pytest.fixture
def make(tmp_path: Path) -> "Make":
    """A function that returns a configuration with one server."""
    return Make(tmp_path)


class Make:
    """Makes configurations."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, variables: dict[str, str], address: str = "unix:/run/lmtp", **keys: str) -> Config:
        config = with_variable(default_config(SCHEMA), SCHEMA, "mailboxdir", str(self._folder), starting=True)
        for name, text in variables.items():
            config = with_variable(config, SCHEMA, name, text, starting=True)
        return with_item(config, SCHEMA, "server", "main", {"address": address, **keys}, "file")


def test_what_holds_without_settings(make: Make) -> None:
    config = make({})
    found = lmtp_config(config)
    assert check(config) == []
    assert config.variables.integer("maxuse") == 100
    assert (found.missing, found.backends, found.maxsize, found.maxrecipients) == (
        "refuse", frozenset(), 52_428_800, 100)
    assert (found.idletimeout, found.datatimeout) == (300.0, 600.0)
    assert (found.maxerrors, found.overquota, found.returnpath, found.deliveredto) == (
        25, "defer", True, False)
    assert not found.quota.is_set
    assert (found.quotawarning, found.quotamessage, bool(found.takeover)) == ((), "", False)
    assert found.servers["main"].takeover is False and found.servers["main"].tls is None


def test_what_children_get(make: Make) -> None:
    found = lmtp_config(make({
        "missing": "create", "backends": "store1, store2", "maxsize": "0", "maxrecipients": "7", "idletimeout": "1m",
        "datatimeout": "2m", "maxerrors": "3", "overquota": "refuse", "quota": "2", "maxnum": "5",
        "returnpath": "off", "deliveredto": "on", "quotawarning": "80, 95", "quotamessage": "/etc/popular/full",
        "takeover": "192.0.2.0/24"}, namespace="org", userformat="lower", takeover="on"))
    assert (found.missing, found.backends, found.maxsize, found.maxrecipients) == (
        "create", frozenset(("store1", "store2")), 0, 7)
    assert (found.idletimeout, found.datatimeout) == (60.0, 120.0)
    assert (found.maxerrors, found.overquota, found.returnpath, found.deliveredto) == (
        3, "refuse", False, True)
    assert (found.quota.octets, found.quota.number) == (2 * 1024 * 1024, 5)
    assert (found.quotawarning, found.quotamessage) == ((80, 95), "/etc/popular/full")
    assert ClientAddress.of("192.0.2.7") in found.takeover and ClientAddress.of("192.0.3.7") not in found.takeover
    server = found.servers["main"]
    assert (server.namespace, server.userformat, server.takeover) == ("org", UserFormat().parse("lower"), True)


def test_where_it_listens(make: Make) -> None:
    config = make({"backlog": "7"}, "127.0.0.1:24, unix:/run/lmtp", socketmode="600", socketgroup="postfix")
    access = SocketAccess(0o600, "postfix")
    wanted = [Listen("tcp", "main", Endpoint("127.0.0.1", 24), 7, access=access),
              Listen("unix", "main", Endpoint("/run/lmtp", 0), 7, access=access)]
    assert listens(config) == wanted
    assert listens(make({}, enabled="off")) == []


@pytest.mark.parametrize("variables, keys, wanted", [
    ({}, {"address": "127.0.0.1:24", "takeover": "on"}, "[server] main: takeover: is for peers of Unix sockets"),
    ({"minspare": "9"}, {}, "[plmtpd] maxspare: maxspare = 8 is less than minspare"),
])
def test_what_does_not_go_together(make: Make, variables: dict[str, str], keys: dict[str, str], wanted: str) -> None:
    [mistake] = check(make(variables, **keys))
    assert str(mistake).startswith(wanted)


@pytest.mark.parametrize("kind, text, shown", [
    (IdList(), "a,b", "a, b"), (Percents(), "80%,95", "80, 95"), (Percents(), "100", "100"), (Mode(), "660", "0660"),
    (Mode(), "0007", "0007")])
def test_kinds_show_what_they_have_read(kind: Kind, text: str, shown: str) -> None:
    assert kind.show(kind.parse(text)) == shown
    assert kind.parse(shown) == kind.parse(text)


@pytest.mark.parametrize("kind, text", [
    (IdList(), ""), (IdList(), "a,,b"), (IdList(), "a,a"), (IdList(), "a b"), (Percents(), ""), (Percents(), "0"),
    (Percents(), "101"), (Percents(), "95,80"), (Percents(), "80,80"), (Percents(), "1,2,3,4,5,6,7,8,9"),
    (Mode(), ""), (Mode(), "888"), (Mode(), "1660"), (Mode(), "66"), (Mode(), "rw-")])
def test_mistakes_in_kinds(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match="octal|percent|whole numbers|ids of"):
        kind.parse(text)


@pytest.mark.parametrize("module, args, wanted", [
    ("passwd", "/etc/popular/users", False),
    ("ldap", "uri=ldap://127.0.0.1 base=dc=x filter=(uid=%u) backend=store", True)])
def test_only_children_that_ask_servers_may_set_flags_of_descriptors(make: Make, module: str, args: str,
                                                                     wanted: bool) -> None:
    """libldap takes O_NONBLOCK off its socket when a handshake had to wait; the filter refused that."""
    config = with_item(make({}), SCHEMA, "pdm", "users", {"module": module, "args": args}, "file")
    log = Log.open("plmtpd", os.devnull)
    try:
        assert policy(config, make_job(config, log, None)).asks_servers is wanted
    finally:
        os.close(log.fileno())
