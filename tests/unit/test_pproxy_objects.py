"""Virtual servers and backends made ready for the children."""

import os
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.config.mistakes import ConfigError, Mistake
from popular.config.store import FROM_COMMAND, Config, default_config, with_fact, with_item, with_variable
from popular.pop3 import capability
from popular.pproxy.backends.health import HealthTerms
from popular.pproxy.check import check
from popular.pproxy.limits.levels import Levels
from popular.pproxy.main import prepare, resolve_backends
from popular.pproxy.objects import proxy_config, sid_prefix
from popular.pproxy.settings import SCHEMA
from popular.pproxy.spec import listens

VSERV = {"address": "127.0.0.1:0, [::1]:0", "namespace": "example.org"}
BACKEND = {"protocol": "cxpop", "address": "127.0.0.5:1110"}


def configured(cls: str, values: dict[str, str], **variables: str) -> Config:
    """A configuration of one object."""
    config = default_config(SCHEMA)
    for name, text in variables.items():
        config = with_variable(config, SCHEMA, name, text)
    return with_item(config, SCHEMA, cls, "it", values, FROM_COMMAND)


def test_a_backend_takes_what_it_lacks_from_the_variables() -> None:
    config = configured("backend", {**BACKEND, "checktries": "7", "softfail": "off"},
                        checktimeout="250ms", checktries="2")
    backend = proxy_config(config).backends["it"]
    assert (backend.checktimeout, backend.checktries, backend.softfail) == (0.25, 7, False)
    assert backend.check == Endpoint("127.0.0.5", 50110)


def test_when_a_backend_is_left_alone() -> None:
    config = configured("backend", {**BACKEND, "slowtime": "5s", "backendsessions": "300", "backendlogins": "0"},
                        downtries="2", probetime="10s", checktimeout="250ms")
    backend = proxy_config(config).backends["it"]
    assert (backend.logins, backend.checks) == (HealthTerms(5.0, 2, 10.0), HealthTerms(0.25, 2, 10.0))
    assert (backend.backendlogins, backend.backendsessions, backend.replica) == (0, 300, "")
    backend = proxy_config(configured("backend", BACKEND)).backends["it"]
    assert backend.logins == HealthTerms(1.5, 3, 4.0) and (backend.backendlogins, backend.backendsessions) == (250, 0)
    assert proxy_config(configured("backend", BACKEND, maxsession="12")).backends["it"].backendlogins == 20


@pytest.mark.parametrize(("replica", "why"), [
    pytest.param("other", "", id="good"),
    pytest.param("it", "a backend is not its own replica", id="itself"),
    pytest.param("nowhere", "no backend 'nowhere' is configured", id="missing"),
    pytest.param("dove", "backend 'dove' has protocol = pop3, and this one cxpop; they must be the same",
                 id="protocol"),
])
def test_the_replica_of_a_backend(replica: str, why: str) -> None:
    config = configured("backend", {**BACKEND, "replica": replica})
    for ident, values in {"other": {**BACKEND, "replica": "it"}, "dove": {**BACKEND, "protocol": "pop3"}}.items():
        config = with_item(config, SCHEMA, "backend", ident, values, FROM_COMMAND)
    assert proxy_config(config).backends["it"].replica == replica
    assert [str(mistake) for mistake in check(config)] == [f"[backend] it: replica: {why}"] * bool(why)


MASTER = {"masteruser": "admin", "masterpasswordfile": "/nowhere/secret"}
POP3 = {**BACKEND, "protocol": "pop3"}


@pytest.mark.parametrize(("values", "found"), [
    pytest.param({**BACKEND, "auth": "plain"}, ["auth: needs protocol = pop3, since no other has logins"],
                 id="no logins"),
    pytest.param({**BACKEND, **MASTER}, ["masteruser: needs protocol = pop3, since no other has logins",
                                         "masterpasswordfile: /nowhere/secret: No such file or directory"],
                 id="no file"),
    pytest.param({**POP3, "auth": "apop", "masteruser": "admin"},
                 ["masteruser: does not go with auth = apop; write user, plain or scram",
                  "masteruser: needs masterpasswordfile, and that needs masteruser"], id="no master"),
    pytest.param({**POP3, "masterpasswordfile": "/x"},
                 ["masteruser: needs masterpasswordfile, and that needs masteruser"], id="no master of the password"),
    pytest.param({**POP3, "auth": "xoauth2"}, ["auth: auth = xoauth2 needs TLS; set tls"], id="token in clear"),
    pytest.param({**POP3, "auth": "external", "tls": "implicit"},
                 ["auth: auth = external needs a certificate, by which the backend knows pproxy"], id="no certificate"),
])
def test_logins_that_a_backend_cannot_have(values: dict[str, str], found: list[str]) -> None:
    assert [str(mistake).removeprefix("[backend] it: ") for mistake in check(configured("backend", values))] == found


def test_a_replica_is_logged_in_to_in_the_same_way() -> None:
    config = configured("backend", {**POP3, "replica": "other"})
    config = with_item(config, SCHEMA, "backend", "other", {**POP3, "auth": "apop"}, FROM_COMMAND)
    assert [str(mistake) for mistake in check(config)] == [
        "[backend] it: replica: backend 'other' has another auth or masteruser; they must be the same"]


def test_a_vserv_listens_on_all_its_addresses() -> None:
    config = configured("vserv", VSERV, backlog="5")
    assert [(each.owner, str(each.endpoint), each.backlog) for each in listens(config)] == [
        ("it", "127.0.0.1:0", 5), ("it", "[::1]:0", 5)]


def test_caps_are_derived_without_a_list() -> None:
    vserv = proxy_config(configured("vserv", VSERV)).vservs["it"]
    assert (vserv.login_caps, vserv.mail_caps) == ((), capability.TRANSACTION)
    assert capability.before_login(offers_tls=False, needs_tls=False) == capability.AUTHORIZATION
    assert {"STLS"} == {*capability.before_login(offers_tls=True, needs_tls=True)} - {*capability.AUTHORIZATION}
    assert "USER" not in capability.before_login(offers_tls=True, needs_tls=True)


@pytest.mark.parametrize(("backends", "missing"), [
    pytest.param({}, set(), id="none"),
    pytest.param({"a": BACKEND}, set(), id="pserv"),
    pytest.param({"a": BACKEND, "b": {**BACKEND, "protocol": "pop3"}}, {"UTF8", "LANG"}, id="and a pop3 backend"),
    pytest.param({"a": {**BACKEND, "protocol": "pop3", "enabled": "off"}}, set(), id="disabled"),
    pytest.param({"a": {**BACKEND, "protocol": "pop3", "capa": "all"}}, {"UTF8", "LANG"},
                 id="the language is not told to it"),
    pytest.param({"a": BACKEND, "b": {**BACKEND, "capa": "some"}}, {"RESP-CODES", "PIPELINING", "UTF8"}, id="a list"),
])
def test_only_what_all_backends_can_do_is_told(tmp_path: Path, backends: dict[str, dict[str, str]],
                                               missing: set[str]) -> None:
    (tmp_path / "all").write_bytes(b"TOP\nUIDL\nRESP-CODES\nPIPELINING\nUTF8\nLANG\nUSER\n")
    (tmp_path / "some").write_bytes(b"TOP\nUIDL\nLANG\n")
    config = configured("vserv", VSERV, capadir=str(tmp_path))
    for ident, values in backends.items():
        config = with_item(config, SCHEMA, "backend", ident, values, FROM_COMMAND)
    mistakes: list[Mistake] = []
    told = proxy_config(prepare(config, mistakes)).vservs["it"].extensions
    assert set(capability.AUTHORIZATION) - set(told.caps) == missing == {*capability.TRANSACTION} - {*told.mail_caps}
    assert mistakes == []


def test_settings_that_capa_tells() -> None:
    values = {**VSERV, "utf8user": "on", "implementation": "on", "expire": "60", "logindelay": "1500ms"}
    told = proxy_config(configured("vserv", values), find_delays=lambda: Levels(4)).vservs["it"].extensions
    base = (*capability.AUTHORIZATION[:-2], "UTF8 USER", "LANG")
    assert told.caps == (*base, "EXPIRE 60 USER", "IMPLEMENTATION POPular")
    assert told.mail_caps == (*base, "EXPIRE 60", "IMPLEMENTATION POPular")
    assert told.delay is not None and told.delay.capability == "LOGIN-DELAY 2"
    assert told.delay.take(7) and not told.delay.take(7) and told.delay.take(8)
    told.delay.give_back(7)
    assert told.delay.take(7)


def test_spec_9_2_caps_of_a_list_are_answered_in_both_states(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"TOP\nUIDL\n")
    config = configured("vserv", {**VSERV, "capa": "small"}, capadir=str(tmp_path))
    mistakes: list[Mistake] = []
    vserv = proxy_config(prepare(config, mistakes)).vservs["it"]
    assert vserv.login_caps == vserv.mail_caps == ("TOP", "UIDL")
    assert mistakes == []


def test_a_list_that_is_missing_is_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "smalls").write_bytes(b"TOP\n")
    config = configured("vserv", {**VSERV, "capa": "small"}, capadir=str(tmp_path))
    mistakes: list[Mistake] = []
    assert check(prepare(config, mistakes)) == []
    assert [str(mistake) for mistake in mistakes] == [
        f"[vserv] it: capa: capability list {tmp_path}/small: No such file or directory; did you mean 'smalls'?"]


def test_a_list_that_is_not_loaded_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="it: capa: no capability list 'small' is loaded: capa load small"):
        proxy_config(configured("vserv", {**VSERV, "capa": "small"}))


@pytest.mark.parametrize(("cls", "values", "wanted"), [
    pytest.param("backend", {**BACKEND, "source": "here"}, "[backend] it: source: 'here' is not", id="source"),
    pytest.param("pdm", {"module": "no_such"}, "pdm_no_such.py: No such file", id="module"),
    pytest.param("pdm", {"module": "any", "args": "'"}, "[pdm] it: args cannot be split into words", id="args"),
])
def test_what_rows_cannot_see_is_found(cls: str, values: dict[str, str], wanted: str) -> None:
    [mistake] = check(configured(cls, values))
    assert wanted in str(mistake)


def test_spec_5_1_sidprefix_is_the_host_name_when_not_set() -> None:
    assert sid_prefix(default_config(SCHEMA)) == os.uname().nodename.partition(".")[0]


def test_a_long_sidprefix_is_a_mistake() -> None:
    [mistake] = check(with_variable(default_config(SCHEMA), SCHEMA, "sidprefix", "x" * 33))
    assert "more than 32" in mistake.what


def test_names_of_backends_are_resolved_once_and_all_mistakes_told() -> None:
    config = configured("backend", {**BACKEND, "address": "localhost:1110"})
    address = resolve_backends(config, []).items("backend")[0].values.endpoint("address")
    assert address.is_numeric and address.port == 1110
    config = with_item(config, SCHEMA, "backend", "b2", {**BACKEND, "address": "no.such.invalid:1"}, FROM_COMMAND)
    config = with_item(config, SCHEMA, "backend", "b3", {**BACKEND, "address": "nor.this.invalid:1"}, FROM_COMMAND)
    mistakes: list[Mistake] = []
    resolve_backends(config, mistakes)
    assert len(mistakes) == 2


def test_defaults_have_no_mistakes() -> None:
    assert check(with_fact(default_config(SCHEMA), "sidprefix", "mx1")) == []


@pytest.mark.parametrize(("files", "module", "told"), [
    pytest.param({}, "any", "", id="only installed"),
    pytest.param({"any": "raise ValueError('mine')"}, "any", "{}/pdm_any.py:1: ValueError: mine", id="own first"),
    pytest.param({}, "no_such", "{}/pdm_no_such.py: No such file", id="nowhere"),
])
def test_modules_are_looked_for_in_pdmdir_and_then_where_they_are_installed(
        tmp_path: Path, files: dict[str, str], module: str, told: str) -> None:
    tmp_path.chmod(0o755)
    for name, text in files.items():
        (tmp_path / f"pdm_{name}.py").write_text(text)
        (tmp_path / f"pdm_{name}.py").chmod(0o644)
    found = check(configured("pdm", {"module": module, "args": "store %u"}, pdmdir=str(tmp_path)))
    assert [told.format(tmp_path) in str(mistake) for mistake in found] == ([True] if told else [])
    assert told or not found


def test_a_module_in_pdmdir_that_others_could_write_is_not_replaced_by_the_installed_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "pdm_any.py").touch()
    (tmp_path / "pdm_any.py").chmod(0o666)
    [mistake] = check(configured("pdm", {"module": "any", "args": "store %u"}, pdmdir=str(tmp_path)))
    assert "chmod go-w" in str(mistake)
