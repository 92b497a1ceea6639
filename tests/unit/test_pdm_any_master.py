"""The modules any, master and template, and what all shipped modules have in common."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm import libcrypt
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pdm.asking.chain import Chain
from popular.pdm.proofs import ScramSecret
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request

PLACE = Found("store1", "cxpop", "3/2d/joe")
SHIPPED = {    # with arguments
    "any": ["s", "%u"],
    "cdb": ["/c"],
    "db": ["/d"],
    "dovecot": ["socket=/s", "backend=s"],
    "exec": ["program=/p"],
    "http": ["url=http://h/"],
    "ldap": ["uri=ldap://h", "base=o=x", "backend=s"],
    "lmdb": ["/l"],
    "oauth": ["introspect=https://h/"],
    "poauth": ["provider=google", "backends=s", "clientid=c"],
    "master": ["/m"],
    "mysql": ["hosts=h", "database=d", "user=u"],
    "pam": ["backend=s"],
    "passwd": ["/p"],
    "pgsql": ["hosts=h", "database=d", "user=u"],
    "redis": [],
    "route": ["backends=s"],
    "sqlite": ["/s"],
    "template": ["u", "p", "b", "m"],
}
BLOCKING = {"dovecot", "exec", "http", "ldap", "mysql", "oauth", "pam", "pgsql", "poauth", "redis"}
HASH = libcrypt.crypt(b"open sesame", "$5$rounds=1000$saltsalt")


@pytest.mark.parametrize("name", SHIPPED)
def test_spec_7_3_shipped_modules_load_and_touch_no_file(name):
    if name in ("db", "lmdb"):
        need_module({"db": "berkeleydb"}.get(name, name))
    module = make_module(name, *SHIPPED[name])
    assert (module.ident, module.name, module.blocking) == (name, name, name in BLOCKING)
    module.close()


def test_every_module_in_the_folder_is_tried_above():
    assert {name for name in os.listdir(pdm_dir()) if name.endswith(".py")} == {f"pdm_{name}.py" for name in SHIPPED}


@pytest.mark.parametrize("name", ["passwd", "cdb", "db", "sqlite"])
@pytest.mark.parametrize("args", [[], ["relative/users"], ["", "x"]], ids=["none", "relative", "empty"])
def test_files_are_named_with_their_whole_path(name, args):
    if name == "db":
        need_module("berkeleydb")
    with pytest.raises(PdmError, match="'args' is missing: the |does not begin with /"):
        make_module(name, *args)


# any

@pytest.mark.parametrize("pattern, user, namespace, mailbox", [
    ("%u", "joe", "n", "joe"),
    ("%u", "Joe.Doe", "n", "Joe.Doe"),
    ("%n/%u", "joe", "a.org", "a.org/joe"),
    ("%d/%l", "joe@a.org", "n", "a.org/joe"),
    ("%d/%l", "a=b@c%d@a.org", "n", None),          # `@` is no letter of a mailbox
    ("%l", "joe", "n", "joe"),
    ("%l", "@x", "n", None),
    ("%d/%l", "joe", "n", None),
    ("%l/x", "joe@", "n", "joe/x"),
    ("%%%u", "joe", "n", "%joe"),
    ("fixed", "who@ever ü", "n", "fixed"),
    ("%u", "joe@a.org", "n", None),
    ("%u", "../joe", "n", None),
    ("%u", "a/b", "n", None),
    ("%u", ".", "n", None),
    ("x%u", ".joe", "n", None),
    ("%u%u", "a.", "n", "a.a."),
    ("%u.%u", "a.", "n", None),
    ("%u", "", "n", None),
    ("%u", "j\udcffe", "n", None),
    ("%u", "jo e", "n", None),
    ("%u", "joe\n", "n", None),
    ("%u", "%n", "n", "%n"),
    ("/%u", "joe", "n", None),
])
def test_any_makes_the_mailbox_by_its_pattern(pattern, user, namespace, mailbox):
    answer = make_module("any", "store1", pattern, "protocol=xpop").check(make_request(user, namespace=namespace))
    assert answer == (UNKNOWN if mailbox is None else Answer(Outcome.OK, Found("store1", "xpop", mailbox)))


@pytest.mark.parametrize("args, found", [
    (["s", "%u"], Found("s", "", "joe", "joe", b"pw \xff")),
    (["s", "%u", "protocol=cxpop"], Found("s", "cxpop", "joe")),
    (["s", "protocol=pop3"], Found("s", "pop3", "", "joe", b"pw \xff")),
    (["protocol=pop3", "s", "%u@%n"], Found("s", "pop3", "", "joe@example.org", b"pw \xff")),
])
def test_any_and_the_protocols(args, found):
    assert make_module("any", *args).check(make_request("joe", b"pw \xff")) == Answer(Outcome.OK, found)


def test_any_passes_every_name_through_to_a_pop3_backend():
    user = "Jöe Doe\udcff@x"
    assert make_module("any", "s", "protocol=pop3").check(make_request(user)).found.user == user


@pytest.mark.parametrize("args", [[], ["s"], ["s", ""], ["s", "%u", "x"], ["s", "%u", "protocol=imap"], ["s", "%x"],
                                  ["s", "a%"], ["s", "%u", "protocol=pop3", "protocol=xpop"]])
def test_any_with_wrong_arguments(args):
    with pytest.raises(PdmError, match="any: .*(wanted|allowed)"):
        make_module("any", *args)


# master

@pytest.fixture
def grants(tmp_path):
    """A function that writes the file and returns a module on it."""
    def write(*lines):
        path = tmp_path / "masterauth.conf"
        path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
        return make_module("master", path)
    return write


def vouched(module, password="open sesame", **asked):
    return module.auth(make_request("joe", password, **asked), PLACE)


def test_spec_7_3_the_default_file_of_master():
    assert make_module("master").path == "/etc/popular/masterauth.conf"


@pytest.mark.parametrize("line, ip, namespace, is_granted", [
    pytest.param(f"127.0.0.1:example.org:{HASH}", "127.0.0.1", "example.org", True, id="all match"),
    pytest.param(f"127.0.0.1:example.org:{HASH}", "127.0.0.2", "example.org", False, id="another client"),
    pytest.param(f"127.0.0.1:example.org:{HASH}", "127.0.0.1", "example.com", False, id="another namespace"),
    pytest.param("127.0.0.1:example.org:" + libcrypt.crypt(b"x", "ab"), "127.0.0.1", "example.org", False,
                 id="another password"),
])
def test_spec_7_3_ip_namespace_and_password_must_match_one_line(grants, line, ip, namespace, is_granted):
    module = grants("", "# support", f"1.2.3.4:example.org:{HASH}", line, f"4.3.2.1:*:{HASH}")
    answer = vouched(module, ip=ip, namespace=namespace)
    assert answer.outcome is (Outcome.OK if is_granted else Outcome.UNKNOWN)


def test_spec_7_3_the_three_must_stand_in_the_same_line(grants):
    other = libcrypt.crypt(b"other", "ab")
    module = grants(f"127.0.0.1:example.org:{other}", f"127.0.0.9:example.org:{HASH}", f"127.0.0.1:x.org:{HASH}")
    assert vouched(module) == UNKNOWN
    assert vouched(module, "other").outcome is Outcome.OK


def test_spec_7_3_a_master_session_is_marked(grants):
    assert vouched(grants(f"*:*:{HASH}")).found == Found("store1", "cxpop", "3/2d/joe", master=True)


@pytest.mark.parametrize("ip, line", [
    ("10.1.2.3", "10.0.0.0/8:*"), ("10.1.2.3", "10.1.2.3/8:*"), ("10.1.2.3", "*:example.org"), ("::1", "*:*"),
    ("::1", "[::1]:*"), ("2001:db8::9", "[2001:db8::/32]:example.org"), ("2001:db8:0::9", "[2001:0db8::9]:*"),
    ("::ffff:10.1.2.3", "10.0.0.0/8:*"), ("10.1.2.3", "[10.1.2.3]:*"), ("10.1.2.3", "  10.1.2.3:*"),
])
def test_master_networks_and_wildcards(grants, ip, line):
    assert vouched(grants(f"{line}:{HASH}\r"), ip=ip).outcome is Outcome.OK
    assert vouched(grants(f"{line}:{HASH}\r"), "wrong", ip=ip) == UNKNOWN


@pytest.mark.parametrize("ip", ["11.0.0.1", "2001:db8::1", "not an address", ""])
def test_master_other_clients(grants, ip):
    assert vouched(grants(f"10.0.0.0/8:*:{HASH}"), ip=ip) == UNKNOWN


@pytest.mark.parametrize(("line", "master", "is_granted"), [
    ("admin@*:*", "admin", True), ("admin@*:*", "", False), ("admin@*:*", "Admin", False), ("*:*", "admin", False),
    ("a@b.org@127.0.0.1:example.org", "a@b.org", True), ("admin@10.0.0.0/8:*", "admin", False),
    ("admin@[::ffff:127.0.0.1]:*", "admin", False), ("admin@*:example.com", "admin", False),
])
def test_master_users_have_a_name(grants, line, master, is_granted):
    request = replace(make_request("joe", "open sesame"), master=master)
    assert (grants(f"{line}:{HASH}").auth(request, PLACE).outcome is Outcome.OK) is is_granted


def test_spec_7_1_master_answers_in_the_second_pass_only(grants):
    assert grants(f"*:*:{HASH}").check(make_request("joe", "open sesame")) == UNKNOWN


@pytest.mark.parametrize("line", ["127.0.0.1", "127.0.0.1:a.org", "127.0.0.1:a.org:", ":*:x", "127.0.0.1::x",
                                  "::1:*:x", "300.0.0.1:*:x", "[::1:*:x", "localhost:*:x", "10.0.0.0/33:*:x",
                                  b"\xff\0", "@*:*:x"])
def test_master_a_line_that_cannot_be_read_is_named(grants, line):
    module = grants(f"*:*:{HASH}", "", line)
    for _ in range(2):
        with pytest.raises(PdmError, match="masterauth.conf: line 3: (it is not|before the first)"):
            vouched(module)


def test_master_a_damaged_password_is_a_failure_unless_another_line_grants(grants):
    module = grants("*:*:x", f"*:*:{HASH}")
    assert vouched(module).outcome is Outcome.OK
    assert vouched(module, "wrong").outcome is Outcome.FAILED
    assert "line 1" in vouched(module, "wrong").why


def test_master_the_file_is_read_again_when_it_changed(grants, tmp_path):
    module = grants(f"127.0.0.1:*:{HASH}")
    assert vouched(module).outcome is Outcome.OK
    (tmp_path / "new").write_text("# nobody\n")
    os.rename(tmp_path / "new", module.path)
    assert vouched(module) == UNKNOWN
    os.unlink(module.path)
    with pytest.raises(FileNotFoundError):
        vouched(module)


def test_master_an_endless_file_is_refused():
    with pytest.raises(PdmError, match="more than"):
        vouched(make_module("master", "/dev/zero"))


# together

def test_spec_7_1_a_master_password_opens_a_mailbox_whose_own_did_not_match(grants, tmp_path):
    users = tmp_path / "users"
    users.write_text("joe:{PLAIN}own:store1:cxpop:3/2d/joe\n")
    notes = []
    chain = Chain([grants(f"127.0.0.1:*:{HASH}"), make_module("passwd", users)], 5.0,
                  lambda message, **fields: notes.append(fields))
    own, master, wrong, nobody = (chain.check(make_request(user, password)) for user, password in (
        ("joe", "own"), ("joe", "open sesame"), ("joe", "wrong"), ("nobody", "open sesame")))
    assert (own.outcome, own.module, own.found) == (Outcome.OK, "passwd", PLACE)
    assert (master.outcome, master.module, master.found) == (Outcome.OK, "master", replace(PLACE, master=True))
    assert (wrong.outcome, wrong.found) == (Outcome.DENIED, None)
    assert nobody.outcome is Outcome.UNKNOWN
    assert notes == []
    chain.close()


@pytest.mark.parametrize(("user", "master", "password", "outcome"), [
    ("joe", "admin", "open sesame", Outcome.OK), ("joe", "admin", "own", Outcome.DENIED),
    ("joe", "joe", "own", Outcome.DENIED), ("joe", "", "open sesame", Outcome.DENIED),
    ("closed", "admin", "open sesame", Outcome.OK), ("ann", "admin", "open sesame", Outcome.OK),
    ("nobody", "admin", "open sesame", Outcome.UNKNOWN),
])
def test_a_master_user_opens_a_mailbox_with_their_own_password(grants, tmp_path, user, master, password, outcome):
    """Also that of a user whose module compares no passwords, and that of one who must not log in."""
    users = tmp_path / "users"
    users.write_text("closed:!:store1:cxpop:3/2d/closed\njoe:{PLAIN}own:store1:cxpop:3/2d/joe\n")
    template = make_module("template", "ann", "own", "store1", "3/2d/ann")
    notes = []
    chain = Chain([grants(f"admin@127.0.0.1:*:{HASH}"), make_module("passwd", users), template], 5.0,
                  lambda message, **fields: notes.append(fields))
    verdict = chain.check(replace(make_request(user, password), master=master))
    assert (verdict.outcome, notes) == (outcome, [])
    if outcome is Outcome.OK:
        assert (verdict.found.mailbox, verdict.found.master) == (f"3/2d/{user}", True)
    chain.close()


def test_the_template_works():
    module = make_module("template", "joe", "sécret", "store1", "3/2d/joe")
    assert module.check(make_request("joe", "sécret")) == Answer(Outcome.OK, Found("store1", "", "3/2d/joe"))
    assert module.check(make_request("joe", "x")).outcome is Outcome.DENIED
    assert module.check(make_request("ann", "x")) == UNKNOWN
    assert "sécret" not in module.describe()


def test_master_knows_that_no_user_is_its_own(tmp_path):
    (tmp_path / "master").write_text("*:*:{PLAIN}secret\n")
    steps = Chain([make_module("master", tmp_path / "master")], 1, lambda *_, **__: None).find("joe", "example.org")
    assert [step.answer for step in steps] == [UNKNOWN]


def test_the_salt_of_a_master_does_not_tell_who_exists(tmp_path: Path) -> None:
    users, masters = tmp_path / "users", tmp_path / "masters"
    users.write_text("joe:{PLAIN}x:store1:cxpop:3/2d/joe\n")
    masters.write_text(f"admin@*:*:{ScramSecret.made('SCRAM-SHA-256', b'pw').stored}\n")
    chain = Chain([make_module("passwd", users), make_module("master", masters)], 10.0, lambda *args, **fields: None)

    def ask(user: str, master: str, shown: bytes = b"") -> tuple[Outcome, bytes]:
        verdict = chain.check(replace(make_request(user, shown), mechanism="SCRAM-SHA-256", master=master))
        return verdict.outcome, verdict.proof

    outcome, salt = ask("joe", "admin")
    assert (outcome, ask("nobody", "admin"), ask("nobody", "other")[1]) == (Outcome.DENIED, (outcome, salt), b"")
    assert salt and ask("nobody", "admin", salt + b",AAAA,x") == (Outcome.UNKNOWN, b"")
