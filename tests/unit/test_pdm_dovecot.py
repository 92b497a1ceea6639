"""The module dovecot: lines of a passwd-file, and what it makes of fields; with a stand-in for the auth socket."""

import os
from pathlib import Path

import pytest

from popular.errors import PdmError
from popular.pdm import libcrypt
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from tests.harness.fake_backend import Close, FakeBackend, ReadLines, ReadToEnd, Say
from tests.harness.pdm import make_module, make_request

USERS = f"""\
# a comment: {{PLAIN}}secret
joe:{{PLAIN}}secret:1000:1000::/srv/mail/example.org/joe::
ann@example.org:{{PLAIN}}secret:1000:1000:Ann A.:/srv/mail/example.org/ann::userdb_mail=maildir:/srv/mail/x:LAYOUT=fs \
userdb_folder=a/b
bare:{{PLAIN}}secret
crypt:{libcrypt.crypt(b"secret", "$5$rounds=1000$saltsalt")}
proxy:{{PLAIN}}secret::::::proxy=y host=10.0.0.5
port:{{PLAIN}}secret::::::proxy host=10.0.0.5 port=111 destuser=port@store pass=hidden
where:{{PLAIN}}secret::::::proxy host=10.0.0.9
checked:::::::nopassword=y proxy=y host=10.0.0.5
open:::::::nopassword=y
login:::::::nopassword proxy host=10.0.0.5 pass=hidden
closed:
nologin:{{PLAIN}}secret::::::nologin=y reason=moved
nets:{{PLAIN}}secret::::::allow_nets=192.0.2.0/24,local,2001:db8::/32
local:{{PLAIN}}secret::::::allow_nets=local
badnets:{{PLAIN}}secret::::::allow_nets=192.0.2.0/240
master:{{PLAIN}}secret::::::proxy=y host=10.0.0.5 master=boss pass=hidden
no:{{PLAIN}}secret::::::proxy=no nopassword=n
unknown:{{CRAM-MD5}}abc
long:{{PLAIN}}{"x" * 5000}
last:{{PLAIN}}secret"""
WORDS = ("backend=main", "backends=10.0.0.5=one,10.0.0.5:111=two")


@pytest.fixture
def users(tmp_path: Path) -> str:
    """A passwd-file."""
    path = tmp_path / "users"
    path.write_text(USERS)
    return f"file={path}"


@pytest.mark.parametrize("args, why", [
    (["backend=a"], "give either file or socket"),
    (["file=/f", "socket=/s", "backend=a"], "give either file or socket"),
    (["file=/f"], "give backend, or backends, or both"),
    (["file=/f", "backends=a"], "backends: 'a' is not a list of HOST=ID"),
    (["file=/f", "backends=a=b,a=c"], "is not a list of HOST=ID"),
    (["file=/f", "backends=a="], "is not a list of HOST=ID"),
    (["file=/f", "backend=a", "mailbox=%x"], "%x is unknown in %x"),
    (["file=f", "backend=a"], "does not begin with /"),
])
def test_wrong_arguments(args, why):
    with pytest.raises(PdmError) as caught:
        make_module("dovecot", *args)
    assert why in str(caught.value)


def test_only_the_socket_is_waited_for():
    made = make_module("dovecot", "file=/f", *WORDS)
    assert (made.blocking, made.backends) == (False, ("main", "one", "two"))
    assert make_module("dovecot", "socket=/s", "backend=main").blocking


# the file

@pytest.mark.parametrize("user, found", [
    ("joe", Found("main", "pop3", "", "joe", b"secret")),
    ("bare", Found("main", "pop3", "", "bare", b"secret")),
    ("last", Found("main", "pop3", "", "last", b"secret")),
    ("no", Found("main", "pop3", "", "no", b"secret")),
    ("proxy", Found("one", "pop3", "", "proxy", b"secret")),
    ("port", Found("two", "pop3", "", "port@store", b"hidden")),
])
def test_the_right_password_and_a_wrong_one(users, user, found):
    made = make_module("dovecot", users, *WORDS)
    assert made.check(make_request(user)) == Answer(Outcome.OK, found)
    assert made.check(make_request(user, "Secret")).outcome is Outcome.DENIED
    place = made.find(user, "ns")
    assert (place.backend, place.user) == (found.backend, found.user)


def test_a_hash_without_a_scheme_has_the_given_one(users, tmp_path):
    assert make_module("dovecot", users, *WORDS).check(make_request("crypt")).outcome is Outcome.OK
    (tmp_path / "users").write_text("joe:secret\n")
    assert make_module("dovecot", users, *WORDS).check(make_request("joe")).outcome is Outcome.FAILED
    assert make_module("dovecot", users, "scheme=PLAIN", *WORDS).check(make_request("joe")).outcome is Outcome.OK


@pytest.mark.parametrize("user", ["nobody", "jo", "", "# a comment", "oe", "joe:{PLAIN}secret", "{PLAIN}secret",
                                  "x" * 300, "joe\n", "a\0"])
def test_who_is_not_in_the_file_is_unknown(users, user):
    made = make_module("dovecot", users, *WORDS)
    assert made.check(make_request(user)) == UNKNOWN
    assert made.find(user, "ns") is None


@pytest.mark.parametrize("user, outcome, why", [
    ("where", "failed", "host '10.0.0.9' with port '110' is not among backends="),
    ("open", "failed", "nopassword, and no other server checks the password"),
    ("login", "failed", "nopassword, and no other server checks the password"),
    ("master", "failed", "the password of a master user"),
    ("unknown", "failed", "password scheme {CRAM-MD5} is not known"),
    ("long", "failed", "the user's line has more than 4096 octets"),
    ("badnets", "failed", "networks: not a list of networks"),
    ("closed", "denied", "wrong password"),
    ("nologin", "denied", "disabled: moved"),
    ("nets", "denied", "not allowed from this address"),
    ("local", "denied", "disabled: allow_nets has no network"),
])
def test_who_may_not_log_in(users, user, outcome, why):
    answer = make_module("dovecot", users, *WORDS).check(make_request(user, ip="198.51.100.7"))
    assert answer.outcome is Outcome(outcome) and why in answer.why


@pytest.mark.parametrize("ip", ["192.0.2.9", "2001:db8::1"])
def test_networks_of_a_user(users, ip):
    assert make_module("dovecot", users, *WORDS).check(make_request("nets", ip=ip)).outcome is Outcome.OK


def test_a_backend_that_checks_the_password_itself_is_told_so(users):
    answer = make_module("dovecot", users, *WORDS).check(make_request("checked", "any"))
    assert answer == Answer(Outcome.OK, Found("one", "pop3", "", "checked", b"any"))
    assert answer.found.verified is False


@pytest.mark.parametrize("user, words, mailbox", [
    ("joe", ["mailbox=%u"], "joe"),
    ("joe", ["mailbox=%{home}", "root=/srv/mail"], "example.org/joe"),
    ("joe", ["mailbox=%{home}/Maildir", "root=/srv/mail/"], "example.org/joe/Maildir"),
    ("ann@example.org", ["mailbox=%{folder}/%l"], "a/b/ann"),
])
def test_mailboxes(users, user, words, mailbox):
    made = make_module("dovecot", users, *WORDS, *words)
    assert made.check(make_request(user)).found == Found("main", "", mailbox)
    assert made.check(make_request("proxy")).found.backend == "one"


def test_a_mailbox_that_cannot_be_made(users):
    answer = make_module("dovecot", users, *WORDS, "mailbox=%u").check(make_request("ann@example.org"))
    assert answer == Answer(Outcome.FAILED, why="%u makes 'ann@example.org', which is no name of a mailbox")


def test_names_in_the_file_by_a_pattern(users):
    made = make_module("dovecot", users, "key=%l", *WORDS)
    assert made.check(make_request("joe@anywhere")).outcome is Outcome.OK


def test_an_empty_file(tmp_path):
    made = make_module("dovecot", f"file={tmp_path}/users", *WORDS)
    (tmp_path / "users").touch()
    made.probe()
    assert made.check(make_request("joe")) == UNKNOWN


# the socket

HELLO = b"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t2\nCOOKIE\tc\nDONE\n"


@pytest.mark.parametrize("answer, outcome, found, why", [
    (b"OK\t1\tuser=joe\n", "ok", Found("main", "pop3", "", "joe", b"secret"), ""),
    (b"FAIL\t7\tuser=joe\nOK\t1\tuser=j\x01to\x011e\tproxy\thost=10.0.0.5\tpass=a\x010b\n", "ok",
     Found("one", "pop3", "", "j\to\1e", b"a\0b"), ""),
    (b"OK\t1\tuser=joe\tnologin\treason=moved\n", "denied", Found("main", "pop3", "", "joe", b"secret"),
     "disabled: moved"),
    (b"FAIL\t1\tuser=joe\n", "denied", None, "refused by Dovecot"),
    (b"FAIL\t1\tuser=joe\tcode=user_disabled\n", "denied", None, "user_disabled"),
    (b"FAIL\t1\tuser=joe\treason=sorry\n", "denied", None, "sorry"),
    (b"FAIL\t1\tuser=joe\ttemp\n", "failed", None, "refused by Dovecot"),
    (b"FAIL\t1\tuser=joe\tcode=temp_fail\n", "failed", None, "temp_fail"),
    (b"CONT\t1\tabc\n", "failed", None, "Dovecot wants to know more than a password"),
    (b"OK\t1\tuser=joe\tproxy\thost=10.0.0.9\n", "failed", None,
     "host '10.0.0.9' with port '110' is not among backends="),
])
def test_answers(tmp_path, answer, outcome, found, why):
    path = f"{tmp_path}/auth"
    with FakeBackend([ReadLines(2), Say(HELLO), ReadLines(1), Say(answer), ReadToEnd()], path) as server:
        made = make_module("dovecot", f"socket={path}", *WORDS)
        told = made.check(make_request("joe", "secret", ip="192.0.2.7"))
        made.close()
        lines = server.result().splitlines()
    assert (told.outcome, told.found, told.why) == (Outcome(outcome), found, why)
    assert lines == [b"VERSION\t1\t1", b"CPID\t%d" % os.getpid(), b"AUTH\t1\tPLAIN\tservice=pop3\tnologin\tsecured"
                     b"\tno-penalty\trip=192.0.2.7\tresp=AGpvZQBzZWNyZXQ="]


@pytest.mark.parametrize("hello, why", [
    (b"DONE\n", "does not offer AUTH PLAIN"), (b"x" * 50_000, "the connection was closed"),
    (b"MECH\tPLAIN\n", "the connection was closed")])
def test_what_is_no_dovecot(tmp_path, hello, why):
    path = f"{tmp_path}/auth"
    with FakeBackend([ReadLines(2), Say(hello), Close()], path):
        with pytest.raises(PdmError, match=why):
            make_module("dovecot", f"socket={path}", *WORDS).check(make_request("joe"))
