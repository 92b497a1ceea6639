"""Commands over objects: virtual servers, backends, database modules, servers and capability lists."""

import pytest

from popular.addresses import Endpoint
from popular.config.mistakes import ConfigError
from popular.config.store import FROM_COMMAND, FROM_FILE, with_item
from popular.errors import UsageError
from popular.pproxy.commands import commands
from popular.pproxy.settings import SCHEMA
from popular.pserv.commands import commands as pserv_commands
from popular.pserv.settings import SCHEMA as PSERV
from tests.harness.context import FakeMaster

MAIN = "vserv add main 127.0.0.1:110 [::1]:110 namespace=example.org banner='hello there'"
STORE = "backend add store xpop 10.0.0.1:1110"


@pytest.fixture
def master() -> FakeMaster:
    """A proxy with one virtual server, one backend and one module."""
    return FakeMaster(SCHEMA, commands).feed(MAIN, STORE, "pdm add any any store %u")


@pytest.fixture
def pserv() -> FakeMaster:
    """A pserv with one server."""
    return FakeMaster(PSERV, pserv_commands).feed("server add main 127.0.0.1:1110")


def values(master: FakeMaster, cls: str, ident: str):
    """Return the values of an object."""
    item = master.config.item(cls, ident)
    assert item is not None
    return item.values


def test_add_creates(master):
    found = values(master, "vserv", "main")
    assert found["address"] == (Endpoint("127.0.0.1", 110), Endpoint("::1", 110))
    assert (found["namespace"], found["banner"], found["enabled"]) == ("example.org", "hello there", True)
    assert master.config.item("vserv", "main").origin == FROM_COMMAND


@pytest.mark.parametrize("line", [MAIN, STORE, "pdm add any any store %u", "pdm load any any store '%u'",
                                  "vserv add main 127.0.0.1:110,[::1]:110 banner='hello there' namespace=example.org"])
def test_the_same_words_again_change_nothing(master, line):
    before = master.config
    assert master.run(line).text.endswith("unchanged")
    assert master.config == before


def test_add_replaces_what_is_there(master):
    assert master.run("vserv add main 127.0.0.1:110").text == "vserv main changed"
    assert values(master, "vserv", "main")["banner"] == "POPular ready"


def test_an_object_of_the_file_stays_the_files_when_nothing_changes(master):
    master.config = with_item(master.config, SCHEMA, "vserv", "two", {"address": "127.0.0.1:1"}, FROM_FILE)
    master.run("vserv add two 127.0.0.1:1")
    assert master.config.item("vserv", "two").origin == FROM_FILE
    master.run("vserv set two banner=x")    # a command owns single values
    assert master.config.item("vserv", "two").origin == FROM_FILE
    master.run("vserv add two 127.0.0.1:1 banner=y")
    assert master.config.item("vserv", "two").origin == FROM_COMMAND


def test_values_are_given_back_to_the_file(master):
    master.base = master.config
    master.feed("backend set store checkport=7 softfail=off", "backend drain store", "vserv set main banner=x",
                "pdm add any any store %l")
    assert master.run("backend unset store checkport").text == "backend store changed: checkport"
    assert master.run("backend unset store").text == "backend store changed: drain, softfail"
    assert master.run("backend unset store").text == "backend store unchanged"
    assert master.run("vserv unset main banner").text == "vserv main changed: banner"
    assert master.run("pdm unset any").text == "pdm any changed: args"
    assert {cls: [(item.ident, item.values) for item in items] for cls, items in master.config.objects.items()} == {
        cls: [(item.ident, item.values) for item in items] for cls, items in master.base.objects.items()}


@pytest.mark.parametrize("cls, add", [("vserv", MAIN), ("backend", STORE)])
def test_add_leaves_the_switches_alone(master, cls, add):
    ident = add.split()[2]
    master.run(f"{cls} disable {ident}")
    master.run(add)
    assert values(master, cls, ident)["enabled"] is False
    master.run(f"{add} enabled=on")
    assert values(master, cls, ident)["enabled"] is True


def test_set_changes_only_what_it_names(master):
    assert master.run("vserv set main banner=x").text == "vserv main changed"
    assert (values(master, "vserv", "main")["banner"], values(master, "vserv", "main")["namespace"]) == (
        "x", "example.org")


@pytest.mark.parametrize(("line", "keys"), [
    pytest.param("vserv disable main", {"enabled": False}, id="vserv disable"),
    pytest.param("vserv enable main", {"enabled": True}, id="vserv enable"),
    pytest.param("backend disable store", {"enabled": False, "drain": False}, id="backend disable"),
    pytest.param("backend drain store", {"enabled": True, "drain": True}, id="backend drain"),
    pytest.param("backend enable store", {"enabled": True, "drain": False}, id="backend enable"),
    pytest.param("backend set store softfail=off checkport=7", {"softfail": False, "checkport": 7}, id="backend set"),
    pytest.param("backend set store softfail=", {"softfail": None}, id="an optional key taken away"),
])
def test_objects_are_changed(master, line, keys):
    master.feed("backend disable store", "backend drain store", "backend enable store", line)
    found = values(master, line.split()[0], line.split()[2])
    assert {key: found[key] for key in keys} == keys


@pytest.mark.parametrize("line", ["vserv remove main", "backend remove store", "pdm remove any", "pdm unload any"])
def test_remove_may_be_repeated(master, line):
    cls, _, ident = line.split()
    assert master.run(line).text == f"{cls} {ident} removed"
    assert master.config.items(cls) == ()
    assert master.run(line).text == f"unchanged: no {cls} {ident}"


@pytest.mark.parametrize(("line", "why"), [
    pytest.param("vserv set nix banner=x", "no such vserv: 'nix'", id="set"),
    pytest.param("vserv enable nix", "no such vserv: 'nix'", id="enable"),
    pytest.param("backend drain nix", "no such backend: 'nix'", id="drain"),
    pytest.param("pdm reload nix", "no such pdm: 'nix'", id="pdm reload"),
    pytest.param("vserv add v 1.2.3:4", "vserv v: address: '1.2.3:4' is not a list of", id="address"),
    pytest.param("vserv add v 127.0.0.1:1 colour=red", "vserv v: no such key: 'colour'", id="key"),
    pytest.param("vserv set mian banner=x", "no such vserv: 'mian'; did you mean 'main'?", id="misspelt id"),
    pytest.param("vserv set main baner=x", "vserv main: no such key: 'baner'; did you mean 'banner'?",
                 id="misspelt key"),
    pytest.param("backend add b cxpo 10.0.0.1:1", "backend b: protocol: 'cxpo' is not one of cxpop, xpop, pop3; did "
                 "you mean 'cxpop'?", id="misspelt word"),
    pytest.param("vserv add v 127.0.0.1:1 address=127.0.0.1:2", "address stands there twice", id="twice"),
    pytest.param("vserv set main enabled=maybe", "vserv main: enabled: 'maybe' is not on or off", id="value"),
    pytest.param("backend add b ftp 10.0.0.1:1", "backend b: protocol: 'ftp' is not one of cxpop", id="ftp"),
    pytest.param("backend add b xpop store1:1110", "backend b: address: store1:1110 is not a numeric address",
                 id="name"),
    pytest.param("backend set store address=store1:1", "backend store: address: store1:1 is not a numeric",
                 id="name in set"),
])
def test_wrong_words_change_nothing(master, line, why):
    before = master.config
    with pytest.raises(UsageError) as caught:
        master.run(line)
    assert str(caught.value).startswith(why)
    assert master.config is before


def test_lists_are_in_the_words_of_add(master):
    master.listening = {"main": [Endpoint("127.0.0.1", 34567)]}
    assert master.run("vserv list").lines == (
        "main 127.0.0.1:34567 namespace=example.org 'banner=hello there' enabled=on tls=off tlsmin=1.2 "
        "certificateuser=email plaintextauth=on saslmechanisms=PLAIN,LOGIN,OAUTHBEARER,XOAUTH2,EXTERNAL "
        "utf8user=off implementation=off logindelay=0s smtpafterpop=off proxyprotocol=off",)
    [line] = master.run("backend list").lines
    assert line == ("store xpop 10.0.0.1:1110 checkport=50110 enabled=on drain=off clientaddress=none tls=off "
                    "verify=on auth=user mastersign=*")
    before = master.config
    assert master.run(f"backend add {line}").text == "backend store unchanged"
    assert master.config == before
    assert master.run("pdm list").lines == ("any any store %u",)


def test_modules_are_asked_in_the_order_of_their_adding(master):
    master.feed("pdm add two any store %l", "pdm add any any store %l")
    assert [item.ident for item in master.config.items("pdm")] == ["any", "two"]


@pytest.mark.parametrize("line", ["pdm reload", "pdm reload any"])
def test_pdm_reload_replaces_the_children(master, line):
    result = master.run(line)
    assert result.renews and result.config == master.config


@pytest.mark.parametrize(("line", "shown"), [
    pytest.param("pdm add u any store %u", "pdm add u any store %u", id="as the module shows it"),
    pytest.param("pdm add u sql dsn=secret", "pdm add u sql ***", id="no such module"),
    pytest.param("pdm add u any", "pdm add u any ***", id="wrong arguments"),
    pytest.param("vserv set main banner='a b'", "vserv set main 'banner=a b'", id="quoted"),
    pytest.param("vserv set main colour=red", "vserv set main colour=***", id="unknown key"),
    pytest.param("backend add b xpop 10.0.0.1:1 drain=on", "backend add b xpop 10.0.0.1:1 drain=on", id="pairs"),
])
def test_the_log_shows_no_secrets(master, line, shown):
    assert master.public(line) == shown


@pytest.mark.parametrize("line", ["prng", "prng add /dev/random 12"])
def test_prng_is_no_longer_needed(master, line):
    assert "no longer needed" in master.run(line).text
    assert master.run(line).config is None


def test_servers_of_pserv(pserv):
    pserv.listening = {"main": [Endpoint("127.0.0.1", 1110)]}
    assert pserv.run("server list").lines == ("main 127.0.0.1:1110 enabled=on tls=off tlsmin=1.2",)
    pserv.run("server disable main")
    assert values(pserv, "server", "main")["enabled"] is False
    pserv.run("server enable main")
    assert values(pserv, "server", "main")["enabled"] is True
    pserv.base = pserv.config
    pserv.run("server set main address=127.0.0.1:1111")
    assert values(pserv, "server", "main")["address"] == (Endpoint("127.0.0.1", 1111),)
    assert pserv.run("server unset main").text == "server main changed: address"
    assert values(pserv, "server", "main")["address"] == (Endpoint("127.0.0.1", 1110),)
    assert pserv.run("server remove main").text == "server main removed"


@pytest.fixture
def capadir(master, tmp_path):
    """A folder of lists."""
    (tmp_path / "small").write_bytes(b"TOP\nUIDL\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "huge").write_bytes(b"X" * 100_000)
    master.run(f"set capadir {tmp_path}")
    return tmp_path


def test_spec_1_3_a_list_is_loaded_by_its_file_name(master, capadir):
    assert master.run("capa load small").text == "capa small loaded"
    master.run("vserv set main capa=small")
    assert master.run("capa list").lines == ("small lines=2 vserv=main",)
    assert master.run("capa show small").lines == ("TOP", "UIDL")


def test_an_edited_list_is_seen_when_it_is_loaded_again(master, capadir):
    master.run("capa load small")
    assert master.run("capa load small").text == "capa small unchanged"
    (capadir / "small").write_bytes(b"TOP\n")
    assert master.run("capa show small").lines == ("TOP", "UIDL")
    assert master.run("capa load small").text == "capa small changed"
    assert master.run("capa show small").lines == ("TOP",)


def test_a_list_in_use_is_not_unloaded(master, capadir):
    master.feed("capa load small", "vserv set main capa=small")
    with pytest.raises(UsageError, match="capa small is in use: vserv main"):
        master.run("capa unload small")
    master.run("vserv set main capa=")
    assert master.run("capa unload small").text == "capa small unloaded"
    assert master.run("capa unload small").text == "unchanged: no capa small"


@pytest.mark.parametrize(("name", "why"), [
    ("none", "No such file or directory"), ("folder", "not a regular file"), ("huge", "cannot be used: wanted at most"),
    ("..", "not a regular file")])
def test_a_list_that_cannot_be_read_changes_nothing(master, capadir, name, why):
    before = master.config
    with pytest.raises(ConfigError, match=why):
        master.run(f"capa load {name}")
    assert master.config is before


def test_a_list_that_is_not_there_is_not_shown(master):
    with pytest.raises(UsageError, match="no such capa: 'none'"):
        master.run("capa show none")
