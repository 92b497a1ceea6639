"""The module ldap with OpenLDAP: what the contract of all modules (test_database_contract.py) does not know."""

import io
import os
import shlex
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm import libcrypt
from popular.pdm.api import PROVEN, Answer, Found, Outcome
from popular.pdm.proofs import ScramSecret
from popular.pdm.timelimit import TimeUp, limited
from tests.harness.acting_directory import EXTENDED, acting, directory, message
from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT
from tests.harness.databases.ldap import READER, SUFFIX, Slapd, add, launch, ssha
from tests.harness.markdown import code_blocks
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request
from tests.harness.ports import free_port
from tests.harness.scramclient import ScramClient
from tests.harness.system import wait_for

PEOPLE = f"ou=people,{SUFFIX}"
PAGE = ROOT / "docs/databases/ldap.md"
JOE = Found("store1", "", "j/joe", verified=True)


@pytest.fixture(scope="module")
def slapd() -> Iterator[Slapd]:
    """A directory with people."""
    need_module("ldap")
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    try:
        server = launch(folder)
        try:
            with closing(server.admin()) as manager:
                add(manager, PEOPLE, objectClass="organizationalUnit")
                fill(manager)
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder)


def fill(manager: Any) -> None:
    """Add people: joe, two with the same name, and such with odd entries."""
    def person(name: str, **values: Any) -> None:
        values = {"uid": name, "mailHost": "store1", "description": f"j/{name}", "sn": "x", **values}
        add(manager, f"cn={name},{PEOPLE}", objectClass=("inetOrgPerson", "extensibleObject"), **values)

    person("joe", userPassword=ssha("secret"))
    person("two1", uid="two", userPassword=ssha("secret"))
    person("two2", uid="two", userPassword=ssha("secret"))
    person("many1", uid="many")
    person("many2", uid="many")
    person("many3", uid="many")
    person("crypt", userPassword="{CRYPT}" + libcrypt.crypt(b"secret", "$6$salt$"))
    person("several", userPassword=(ssha("first"), ssha("secret")))
    person("clear", userPassword="secret")
    person("scram", userPassword=(ssha("first"), ScramSecret.made("SCRAM-SHA-256", b"secret", b"salt", 4096).stored))
    person("none")
    person("ruled", userPassword=ssha("secret"), title="has not paid", o=("192.0.2.0/24", "127.0.0.0/8"),
           carLicense=("phone:{PLAIN}phone", "laptop:{PLAIN}laptop"))
    person("two boxes", userPassword=ssha("secret"), description=("j/1", "j/2"))
    person("homeless", userPassword=ssha("secret"), description="")
    person("odd \\2c \\2b \\22 \\5c \\3c\\3e", uid="odd", userPassword=ssha("secret"), description="j/odd")


@pytest.fixture
def load(slapd: Slapd) -> Iterator[Callable[..., Any]]:
    """A function that makes an open module; the arguments change the usual ones."""
    made = []

    def make(**more: object) -> Any:
        values: dict[str, object] = {**dict(word.split("=", 1) for word in slapd.access())}
        values |= {"uri": f"ldap://127.0.0.1:{slapd.port}", "base": PEOPLE, "backend": "%{mailHost}",
                   "mailbox": "%{description}"}
        values |= more
        made.append(make_module("ldap", *(f"{name}={value}" for name, value in values.items() if value is not None)))
        made[-1].open()
        return made[-1]
    yield make
    for module in made:
        module.close()
        module.close()


# passwords

def test_an_empty_password_is_never_sent_though_the_server_would_accept_it(slapd, load):
    handle = need_module("ldap").initialize(f"ldap://127.0.0.1:{slapd.port}")
    handle.simple_bind_s(f"cn=joe,{PEOPLE}", "")    # succeeds: RFC 4513 section 5.1.2
    handle.unbind_s()
    module = load()
    assert module.check(make_request("joe", "")) == Answer(Outcome.DENIED, JOE, "wrong password")
    assert module.check(make_request("joe")) == Answer(Outcome.OK, JOE)


@pytest.mark.parametrize("user, outcome", [
    ("joe", "ok"), ("crypt", "ok"), ("several", "ok"), ("odd", "ok"), ("clear", "ok"), ("none", "denied"),
    ("two", "failed"), ("many", "failed"), ("two boxes", "failed"), ("nobody", "unknown"),
])
def test_the_directory_checks_passwords(load, user, outcome):
    module = load()
    assert module.check(make_request(user)).outcome is Outcome(outcome)
    if outcome == "ok":
        assert module.check(make_request(user, "wrong")) == Answer(
            Outcome.DENIED, Found("store1", "", f"j/{user}"), "wrong password")


@pytest.mark.parametrize("user, password, outcome", [
    ("joe", "secret", "ok"), ("joe", "wrong", "denied"), ("joe", "", "denied"), ("crypt", "secret", "ok"),
    ("several", "secret", "ok"), ("several", "first", "ok"), ("several", "second", "denied"),
    ("clear", "secret", "failed"), ("none", "secret", "failed"), ("two", "secret", "failed"),
])
def test_stored_hashes_are_compared(slapd, load, user, password, outcome):
    module = load(password="%{userPassword}")
    answer = module.check(make_request(user, password))
    assert answer.outcome is Outcome(outcome) and "secret" not in answer.why
    wait_for(lambda: slapd.connections() == 1)


def test_passwords_in_clear_are_compared_if_that_is_said(load):
    module = load(password="{PLAIN}%{userPassword}")
    assert module.check(make_request("clear")).outcome is Outcome.OK
    assert module.check(make_request("clear", "wrong")).outcome is Outcome.DENIED


def test_a_client_shows_by_scram_that_it_knows_a_stored_password(load):
    assert load().mechanisms == {PROVEN}, "not where the directory checks passwords"
    module = load(password="%{userPassword}", protocol="pop3", mailbox=None, buser="%{uid}")
    request = replace(make_request("scram", b""), mechanism="SCRAM-SHA-256")
    salt = module.check(request)
    for client, outcome in ((ScramClient("scram", "secret"), Outcome.OK), (ScramClient("scram", "x"), Outcome.DENIED)):
        answer = module.check(replace(request, password=client.shown(salt.proof)))
        assert answer.outcome is outcome and (answer.proof == client.signature) is (outcome is Outcome.OK)
        assert (answer.found.user, answer.found.password) == ("scram", b""), "no backend is sent the proof"


def test_searches_and_binds_have_a_connection_each(slapd, load):
    module = load()
    for password in ("secret", "wrong", "secret"):
        module.check(make_request("joe", password))
    wait_for(lambda: slapd.connections() == 2)
    module.close()
    wait_for(lambda: slapd.connections() == 0)


# where the mail is

@pytest.mark.parametrize("user, more, found", [
    ("joe", {"backend": "store2", "mailbox": "%1h/%u"}, Found("store2", "", "8/joe")),
    (" JOE ", {"user": "%{uid}", "mailbox": "%1h/%u"}, Found("store1", "", "8/joe")),
    ("joe", {"protocol": "pop3", "mailbox": None, "buser": "%u@%n"},
     Found("store1", "pop3", "", "joe@example.org", b"secret")),
    ("joe", {"protocol": "pop3", "mailbox": None, "buser": "%{UID}", "bpass": "b%%"},
     Found("store1", "pop3", "", "joe", b"b%")),
    ("homeless", {"protocol": "pop3", "buser": "x"}, Found("store1", "pop3", "", "x", b"secret")),
    ("joe@example.org", {"filter": "(&(objectClass=person)(uid=%l))", "base": "ou=people,dc=example,dc=org"}, JOE),
    ("joe", {"base": f"cn=%u,{PEOPLE}", "filter": "(objectClass=*)", "scope": "base"}, JOE),
    ("joe", {"scope": "one"}, JOE),
])
def test_places(load, user, more, found):
    module = load(**more)
    assert module.check(make_request(user)) == Answer(Outcome.OK, found)
    assert module.find(user, "example.org").mailbox == found.mailbox


@pytest.mark.parametrize("user, more, outcome", [
    ("joe", {"scope": "base"}, "unknown"), ("joe", {"base": f"ou=none,{SUFFIX}"}, "failed"),
    ("joe", {"base": f"ou=%n,{SUFFIX}"}, "unknown"), ("joe", {"base": f"ou=%d,{SUFFIX}"}, "unknown"),
    (" joe", {"mailbox": "%u"}, "failed"), ("joe,ou=x", {"base": f"cn=%u,{PEOPLE}", "scope": "base"}, "unknown"),
    ("two boxes", {"mailbox": "%n"}, "ok"),
])
def test_other_answers(load, user, more, outcome):
    answer = load(**more).check(make_request(user))
    assert answer.outcome is Outcome(outcome) and bool(answer.why) is (outcome == "failed")


def test_find_tells_what_is_wrong(load):
    with pytest.raises(PdmError, match=r"more than one entry matches \(uid=two\)"):
        load().find("two", "example.org")
    assert load().find("nobody", "example.org") is None


def test_referrals_are_not_followed(slapd, load):
    seen: list[bytes] = []
    with acting(lambda number, kind, request: seen.append(request) or b"") as uri, closing(slapd.admin()) as manager:
        dn = f"ou=far,{PEOPLE}"
        add(manager, dn, objectClass=("referral", "extensibleObject"), ou="far", ref=f"{uri}/{PEOPLE}")
        module = load(starttls="off")
        assert module.check(make_request("far joe")).outcome is Outcome.UNKNOWN
        assert module.check(make_request("joe")).outcome is Outcome.OK
        with pytest.raises(PdmError, match="Referral"):
            load(base=f"cn=far joe,{dn}").check(make_request("far joe"))
    assert seen == []


@pytest.mark.parametrize("password", [None, "%{userPassword}"], ids=["bound", "compared"])
@pytest.mark.parametrize("word, more, outcome, why", [
    ("secret", {}, "ok", ""), ("phone", {}, "ok", ""), ("laptop", {}, "ok", ""),
    ("wrong", {}, "denied", "wrong password"),
    ("secret", {"disabled": "%{title}"}, "denied", "disabled: has not paid"),
    ("laptop", {"disabled": "%{title}"}, "denied", "disabled: has not paid"),
    ("wrong", {"disabled": "%{title}"}, "denied", "wrong password"),
    ("secret", {"networks": "%{o}"}, "ok", ""), ("secret", {"networks": "192.0.2.0/24"}, "denied", "not allowed from"),
    ("secret", {"until": "2020-01-01"}, "denied", "expired"), ("secret", {"until": "%{title}"}, "failed", "until: "),
])
def test_more_passwords_and_rules(load, password, word, more, outcome, why):
    answer = load(password=password, passwords="%{carLicense}", **more).check(make_request("ruled", word))
    assert answer.outcome is Outcome(outcome) and answer.why.startswith(why)
    assert outcome != "ok" or answer.found.label == {"secret": ""}.get(word, word)


# TLS

@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the directory does not know."""
    return Authority.make(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
@pytest.mark.parametrize("host, signer, why", [
    ("127.0.0.1", "own", ""),
    ("localhost", "own", "TLS: certificate verify failed: Hostname mismatch"),
    ("127.0.0.1", "other", "TLS: certificate verify failed: .*self.signed certificate"),
])
def test_certificates_are_checked(slapd, load, other, scheme, host, signer, why):
    port = slapd.port if scheme == "ldap" else slapd.tls_port
    module = load(uri=f"{scheme}://{host}:{port}", cafile=(other if signer == "other" else slapd.authority).cafile)
    if why:
        with pytest.raises(PdmError, match=f"^{scheme}://{host}:{port}: {why}"):
            module.check(make_request("joe"))
    else:
        assert module.check(make_request("joe")).outcome is Outcome.OK


@pytest.mark.parametrize("scheme", ["ldap", "ldaps"])
def test_a_client_certificate(slapd, load, other, scheme):
    uri = f"{scheme}://127.0.0.1:{slapd.port if scheme == 'ldap' else slapd.tls_port}"
    good, bad = (authority.sign("pproxy", stem=f"client-{scheme}") for authority in (slapd.authority, other))
    assert load(uri=uri, certificate=good.certificate, key=good.key).check(make_request("joe")).outcome is Outcome.OK
    with pytest.raises(PdmError, match=f"^{uri}: "):
        load(uri=uri, certificate=bad.certificate, key=bad.key).check(make_request("joe"))
    with pytest.raises(PdmError, match="/no/ca.pem: No such file"):
        load(uri=uri, cafile="/no/ca.pem")
    with pytest.raises(PdmError, match=f"^{uri}: .*{good.key}"):
        load(uri=uri, cafile=good.key).check(make_request("joe"))


def test_settings_that_the_library_refuses_are_explained(slapd, load, tmp_path, monkeypatch):
    def refuse(handle: object, option: int, value: object) -> None:
        if option == ldap.OPT_X_TLS_NEWCTX:
            raise ValueError("option error")
    ldap = need_module("ldap")
    monkeypatch.setattr(ldap.ldapobject.SimpleLDAPObject, "set_option", refuse)
    path = tmp_path / "ca.pem"
    path.write_text("none")
    with pytest.raises(PdmError, match=f"^ldap://127.0.0.1:{slapd.port}: {path}: "):
        load(cafile=path).check(make_request("joe"))


def test_without_tls_only_if_that_is_said(slapd, load):
    assert load(starttls="off", cafile=None).check(make_request("joe")).outcome is Outcome.OK
    uri = f"ldapi://{str(slapd.folder / 'ldapi').replace('/', '%2f')}"
    assert load(uri=uri, cafile=None).check(make_request("joe")).outcome is Outcome.OK


# the page on it (docs/databases)

def test_the_page_describes_a_directory_that_works(slapd, load):
    blocks = {block.language: block.text for block in reversed([*code_blocks(PAGE.read_text())])}
    records = need_module("ldif").LDIFRecordList(io.BytesIO(blocks["ldif"].encode()))
    records.parse()
    with closing(slapd.admin()) as manager:
        for dn, entry in records.all_records:
            if dn != PEOPLE:    # which is there already
                manager.add_s(dn, [*entry.items()])
    account = need_module("ldap").initialize(f"ldap://127.0.0.1:{slapd.port}")
    account.simple_bind_s(f"cn=pproxy,{SUFFIX}", "change me")
    account.unbind_s()
    module = load(**{**arguments(blocks["ini"]), **dict(word.split("=", 1) for word in slapd.access()),
                     "uri": f"ldap://127.0.0.1:{slapd.port}"})
    assert module.check(make_request("Kim")) == Answer(Outcome.OK, Found("store1", "", "f/kim"))


def arguments(ini: str) -> dict[str, str]:
    """Return the arguments of a module from an INI file."""
    [line] = [line for line in ini.splitlines() if line.lstrip().startswith("args = ")]
    return dict(word.split("=", 1) for word in shlex.split(line.partition(" = ")[2]))


def test_arguments_on_the_page_are_right():
    for block in code_blocks(PAGE.read_text()):
        if block.language == "ini":
            make_module("ldap", *(f"{name}={value}" for name, value in arguments(block.text).items()))


# servers in trouble

@pytest.mark.parametrize("code, text, outcome, why", [
    (49, "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 533, v4563", "denied",
     "the account is disabled"),
    (49, "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 52e, v4563", "denied",
     "wrong password"),
    (49, "", "denied", "wrong password"), (48, "", "denied", "the entry has no password"), (0, "", "ok", ""),
])
def test_why_a_directory_refuses(load, code, text, outcome, why):
    with acting(directory(code, text)) as uri:
        module = load(uri=uri, starttls="off", binddn=None, bindpasswordfile=None, backend="store1", mailbox="%{uid}")
        assert module.check(make_request("joe")) == Answer(Outcome(outcome), Found("store1", "", "joe"), why)
        module.close()


@pytest.mark.parametrize("code, text, why", [
    (51, "", "bind: Server is busy"), (52, "later", "bind: Server is unavailable: later"),
    (53, "no\nway", "Server is unwilling to perform: no way"), (1, "", "Operations error"),
])
def test_other_results_are_no_refusals(load, code, text, why):
    with acting(directory(code, text)) as uri:
        module = load(uri=uri, starttls="off", binddn=None, bindpasswordfile=None)
        with pytest.raises(PdmError, match=f"^{uri}: {why}$"):
            module.check(make_request("joe"))
        module.close()


def test_no_tls_no_password(load):
    seen: list[bytes] = []
    with acting(lambda number, kind, request: seen.append(request) or message(number, EXTENDED, 2, "none")) as uri:
        with pytest.raises(PdmError, match="Protocol error: none"):
            load(uri=uri).check(make_request("joe"))
    assert seen and all(b"1.3.6.1.4.1.1466.20037" in request for request in seen)


def test_a_handshake_that_stalls_ends_in_time_without_work(load):
    with acting(lambda number, kind, request: message(number, EXTENDED, 0)) as uri:
        module = load(uri=uri, timeout="300ms")
        began, work = time.monotonic(), time.process_time()
        with pytest.raises(PdmError, match=f"^{uri}: "):
            module.check(make_request("joe"))
        assert time.monotonic() - began < 3 and time.process_time() - work < 0.3
        module.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The URI of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"ldap://127.0.0.1:{listener.getsockname()[1]}"


def test_an_alarm_that_strikes_in_a_question_leaves_no_lock_closed(load, silent):
    module = load(uri=silent)
    for _ in range(3):
        with pytest.raises(TimeUp):
            limited(0.05, module.check, make_request("joe").until(time.monotonic() + 0.2))
        module.close()    # would not return


@pytest.mark.parametrize("kind", ["closed", "silent", "stranger"])
def test_the_next_server_is_asked(slapd, load, silent, kind):
    first = {"closed": f"ldap://127.0.0.1:{free_port()}", "silent": silent,
             "stranger": f"ldap://localhost:{slapd.port}"}
    module = load(uri=f"{first[kind]},ldap://127.0.0.1:{slapd.port}", timeout="300ms")
    assert module.check(make_request("joe")).outcome is Outcome.OK
    assert module.check(make_request("joe", "wrong")).outcome is Outcome.DENIED


def test_the_last_server_has_its_share_of_the_time(slapd, load, silent):
    module = load(uri=f"{silent},ldap://127.0.0.1:{slapd.port}", timeout="1m")
    assert module.check(make_request("joe").until(time.monotonic() + 2)).outcome is Outcome.OK


def test_all_servers_are_named_when_none_answers(load, silent):
    closed = f"ldap://127.0.0.1:{free_port()}"
    with pytest.raises(PdmError, match=f"^{closed}: Connection refused; {silent}: StartTLS: no answer in time$"):
        load(uri=f"{closed},{silent}", timeout="100ms").check(make_request("joe"))


def test_a_wrong_password_of_the_module_itself_is_told_and_not_shown(load, tmp_path):
    path = tmp_path / "secret"
    path.write_text("s3cret")
    os.chmod(path, 0o600)
    with pytest.raises(PdmError, match=f"cannot bind as {READER}: Invalid credentials") as caught:
        load(bindpasswordfile=path).check(make_request("joe"))
    assert "s3cret" not in str(caught.value)
