"""SCRAM and CRAM-MD5: the examples of their RFCs, from the first message to the stored password; what is refused."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from popular.errors import CommandRefused
from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.pdm import proofs, records, secrets
from popular.pdm.api import Answer, Outcome, Request
from popular.pdm.asking.cache import AnswerCache, CachedModule, Lifetimes
from popular.pdm.asking.chain import Chain, Verdict
from popular.pdm.asking.channel import Channel
from popular.pdm.asking.question import MAX_PACKET, Question, QuestionKind
from popular.pdm.proofs import ScramSecret
from popular.pproxy.modules.worker import WorkerJob
from popular.pproxy.vserv.salts import made_up_salt
from popular.sasl import scram
from popular.sasl.crammd5 import CramMd5Mechanism
from popular.sasl.mechanism import Credentials
from popular.sasl.scram import ScramMechanism
from tests.harness.memory import NoMeans
from tests.harness.pdm import make_module, make_request, working
from tests.harness.scramclient import ScramClient

PLACE = {"backend": "store1", "mailbox": "3/2d/user"}
EXAMPLES = {
    "SCRAM-SHA-1": (    # RFC 5802 section 5
        "QSXCR+Q6sek8bf92", b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", b"3rfcNHYJY1ZVvWVs7j",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ="),
    "SCRAM-SHA-256": (    # RFC 7677 section 3
        "W22ZaJ0SNY7soEsUEjb6gQ==", b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
}


class Means(NoMeans):
    """What SCRAM needs, from one record; made up from `salt` if that has none."""

    def __init__(self, record: Mapping[str, str], salt: bytes = b"4096,QSXCR+Q6sek8bf92") -> None:
        self.record, self.made_up = records.record_of({**PLACE, **record}), salt

    def salt(self, credentials: Credentials) -> bytes:
        return self.answer(credentials).proof or self.made_up

    def answer(self, credentials: Credentials) -> Answer:
        request = replace(make_request(credentials.user, credentials.password), mechanism=credentials.mechanism)
        return records.answer_to(request, self.record)


def made(mechanism: str, password: str, salt: str = "QSXCR+Q6sek8bf92") -> str:
    return ScramSecret.made(mechanism, password.encode(), base64.b64decode(salt), 4096).stored


def log_in(means: Means, client: ScramClient, mechanism: str = "SCRAM-SHA-256") -> tuple[Answer, ScramMechanism]:
    """Return what the database says in the end, and the mechanism."""
    server = ScramMechanism(mechanism, means)
    challenge = server.step(client.first)
    assert isinstance(challenge, bytes)
    shown = server.step(client.final(challenge))
    assert isinstance(shown, Credentials)
    return means.answer(shown), server


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("in_clear", [True, False])
def test_the_examples_of_rfc_5802_and_7677(name: str, in_clear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    salt, first, nonce, challenge, final, verdict = EXAMPLES[name]
    stored = "{PLAIN}pencil" if in_clear else made(name, "pencil", salt)
    means = Means({"password": stored}, f"4096,{salt}".encode())
    monkeypatch.setattr(scram, "_new_nonce", lambda: nonce)
    server = ScramMechanism(name, means)
    assert server.step(first) == challenge
    shown = server.step(final)
    assert isinstance(shown, Credentials) and (shown.user, shown.mechanism) == ("user", name)
    assert "pencil" not in repr(shown) and b"pencil" not in shown.password
    answer = means.answer(shown)
    assert answer.outcome is Outcome.OK and answer.found is not None
    assert server.accepted(answer.proof) == verdict


@pytest.mark.parametrize(("record", "password", "told"), [
    pytest.param({"password": made("SCRAM-SHA-256", "x")}, "y", "wrong password", id="wrong"),
    pytest.param({"password": "{PLAIN}x"}, "y", "wrong password", id="wrong, stored in clear"),
    pytest.param({"password": made("SCRAM-SHA-1", "x")}, "x", "no stored password fits SCRAM-SHA-256", id="other hash"),
    pytest.param({"password": "$5$x$" + "." * 43}, "x", "no stored password fits SCRAM-SHA-256", id="crypt"),
    pytest.param({"password": "{PLAIN}x", "disabled": "moved"}, "x", "disabled: moved", id="disabled"),
    pytest.param({"password": "{PLAIN}x", "networks": "10.0.0.0/8"}, "x", "not allowed from this address", id="far"),
    pytest.param({"passwords": f"a:{made('SCRAM-SHA-256', 'x')}\nb:{made('SCRAM-SHA-256', 'y', 'AAAA')}"}, "y",
                 "wrong password", id="app password with another salt"),
])
def test_scram_refused(record: Mapping[str, str], password: str, told: str) -> None:
    answer, _ = log_in(Means(record), ScramClient("user", password))
    assert (answer.outcome, answer.why, answer.proof) == (Outcome.DENIED, told, b"")


@pytest.mark.parametrize(("record", "label"), [
    pytest.param({"password": "{PLAIN}other", "passwords": "phone:{PLAIN}x"}, "phone", id="in clear"),
    pytest.param({"passwords": f"old:$5$x${'.' * 43}\ntab:{made('SCRAM-SHA-256', 'x')}"}, "tab",
                 id="the first that fits"),
    pytest.param({"password": made("SCRAM-SHA-256", "other"), "passwords": "phone:{PLAIN}x"}, "phone",
                 id="in clear, with the salt of another"),
])
def test_app_passwords(record: Mapping[str, str], label: str) -> None:
    answer, _ = log_in(Means(record), ScramClient("user", "x"))
    assert answer.outcome is Outcome.OK and answer.found is not None and answer.found.label == label


@pytest.mark.parametrize(("user", "header", "credentials"), [
    pytest.param("a=2Cb=3Dc", "n,,", ("a,b=c", ""), id="escaped"),
    pytest.param("joe", "y,,", ("joe", ""), id="a client that could bind to the channel"),
    pytest.param("joe", "n,a=joe,", ("joe", ""), id="the same twice"),
    pytest.param("admin", "n,a=j=2Coe,", ("j,oe", "admin"), id="a master"),
])
def test_names(user: str, header: str, credentials: tuple[str, str]) -> None:
    means = Means({"password": "{PLAIN}x"})
    server = ScramMechanism("SCRAM-SHA-256", means)
    client = ScramClient(user, "x", header=header)
    challenge = server.step(client.first)
    assert isinstance(challenge, bytes)
    shown = server.step(client.final(challenge))
    assert isinstance(shown, Credentials) and (shown.user, shown.master) == credentials


@pytest.mark.parametrize("message", [
    b"", b"n=joe,r=x", b"n,,n=,r=x", b"n,,n=joe", b"n,,n=joe,r=", b"n,,m=x,n=joe,r=x", b"n,,n=a=2cb,r=x",
    b"n,,n=a=,r=x", b"n,,n=j\noe,r=x", b"p=tls-unique,,n=joe,r=x", b"x,,n=joe,r=x", b"n,a=,n=joe,r=x",
    b"n,,n=joe,r=a b"])
def test_first_messages_that_are_none(message: bytes) -> None:
    with pytest.raises(CommandRefused):
        ScramMechanism("SCRAM-SHA-256", Means({"password": "{PLAIN}x"})).step(message)


@pytest.mark.parametrize(("old", "new"), [
    (b"c=biws", b"c=eSws"), (b"c=biws", b"c=biw"), (b",r=r", b",r=x"), (b",p=", b",p=AA"), (b",p=", b""), (b"c=", b"")])
def test_final_messages_that_are_none(old: bytes, new: bytes) -> None:
    server, client = ScramMechanism("SCRAM-SHA-256", Means({"password": "{PLAIN}x"})), ScramClient("joe", "x")
    challenge = server.step(client.first)
    assert isinstance(challenge, bytes)
    with pytest.raises(CommandRefused):
        server.step(client.final(challenge).replace(old, new))


CRAM = Credentials("tim", b"b913a602c7eda7a495b4e6e7334d3890 <1896.697170952@postoffice.reston.mci.net>", "CRAM-MD5")
APOP = b"c4c9334bac560ecc979e58001b3e22fb <1896.697170952@dbc.mtview.ca.us>"


def test_rfc_2195_cram_md5() -> None:
    server = CramMd5Mechanism("CRAM-MD5", NoMeans())
    assert server.challenge == b"<1896.697170952@postoffice.reston.mci.net>"
    assert server.step(b"tim b913a602c7eda7a495b4e6e7334d3890") == CRAM
    for message in (b"", b"tim", b"tim b913a602c7eda7a495b4e6e7334d389", b" b913a602c7eda7a495b4e6e7334d3890"):
        with pytest.raises(CommandRefused):
            server.step(message)


@pytest.mark.parametrize(("mechanism", "shown", "stored", "why"), [
    ("CRAM-MD5", CRAM.password, "{PLAIN}tanstaaftanstaaf", ""),
    ("CRAM-MD5", CRAM.password, "{PLAIN.hex}" + b"tanstaaftanstaaf".hex(), ""),
    ("CRAM-MD5", CRAM.password, "{PLAIN}tanstaaf", "wrong password"),
    ("CRAM-MD5", CRAM.password, "{SHA}AAAA", "no stored password fits CRAM-MD5"),
    ("APOP", APOP, "{CLEAR}tanstaaf", ""),    # RFC 1939 section 7
    ("APOP", APOP, "{CLEAR}tanstaaF", "wrong password"),
    ("APOP", APOP, made("SCRAM-SHA-1", "tanstaaf"), "no stored password fits APOP"),
])
def test_digests(mechanism: str, shown: bytes, stored: str, why: str) -> None:
    judgement = proofs.judge(mechanism, shown, [("", stored)])
    assert (judgement.is_right, judgement.why) == (not why, why)


def test_apop_takes_a_password_that_the_client_has_prepared() -> None:
    """With UTF8 USER the client prepares it (RFC 6856 section 2.2); others take it as it was typed."""
    stamp = b"<1@x>"
    for password, is_right in (("pa\u0308ss", True), ("p\u00e4ss", True), ("pass", False)):
        shown = hashlib.md5(stamp + password.encode()).hexdigest().encode() + b" " + stamp
        assert proofs.judge("APOP", shown, [("", "{CLEAR}pa\u0308ss")]).is_right is is_right


@pytest.mark.parametrize(("mechanism", "password"), [
    ("SCRAM-SHA-1", "pencil"), ("SCRAM-SHA-256", "p\u00e4ss\u00a0w\u00ad\ufb01")])
def test_a_secret_serves_pass_too(mechanism: str, password: str) -> None:
    stored = made(mechanism, password)
    assert ScramSecret.parse(stored).stored == stored    # type: ignore[union-attr]
    assert secrets.verify(stored, password.encode())
    assert not secrets.verify(stored, b"pencils")
    assert secrets.verify(made(mechanism, "p\u00e4ss wfi"), password.encode()) is (password != "pencil")    # SASLprep


def test_a_secret_that_dovecot_has_made() -> None:
    """With `doveadm pw -s SCRAM-SHA-256`."""
    stored = ("{SCRAM-SHA-256}4096,/EA1Pe4WTERwyCn/UUtOtg==,IzYEQJKBcqR2oD50keAtpnrw7VK4mTPUdcJvixOXvQ0=,"
              "AiEq1tHPT4jwROXvVV5y1LcolcnY2epxSYoMNdW/9n8=")
    assert secrets.verify(stored, b"pencil")


@pytest.mark.parametrize("stored", [
    "{SCRAM-SHA-256}", "{SCRAM-SHA-512}4096,AAAA,AAAA,AAAA", made("SCRAM-SHA-1", "x").replace("SHA-1", "SHA-256"),
    made("SCRAM-SHA-1", "x").replace("4096", "1000001"), made("SCRAM-SHA-1", "x").replace("4096", "0"),
    made("SCRAM-SHA-256", "x").replace("4096", "-1"), made("SCRAM-SHA-256", "x").replace("QSXC", "QSX")])
def test_damaged_secrets(stored: str) -> None:
    with pytest.raises(ValueError, match="SCRAM secret|base64"):
        secrets.verify(stored, b"x")
    request: Any = Request("joe", b"", "127.0.0.1", "pop3", "x", mechanism="SCRAM-SHA-256")
    assert records.answer_to(request, records.record_of({**PLACE, "password": stored})).outcome is Outcome.FAILED


def test_a_hostile_child_cannot_make_a_worker_compute_forever() -> None:
    shown = b"999999999,AAAA,AAAA,n=joe"
    assert proofs.judge("SCRAM-SHA-256", shown, [("", "{PLAIN}x")]).why == "no stored password fits SCRAM-SHA-256"
    for junk in (b"x", b"1,AAAA,AAAA", b"1,A,AAAA,x"):
        with pytest.raises(ValueError, match="not"):
            proofs.judge("SCRAM-SHA-256", junk, [("", "{PLAIN}x")])


def test_a_master_user_shows_that_they_know_theirs(tmp_path: Any) -> None:
    path = tmp_path / "masterauth.conf"
    path.write_text(f"admin@*:*:{made('SCRAM-SHA-256', 'x')}\n*:*:{made('SCRAM-SHA-256', 'all')}\n")
    module = make_module("master", path)
    place = records.record_of({**PLACE, "password": "*"}).found
    asked = replace(make_request("user", b""), mechanism="SCRAM-SHA-256", master="admin")
    salt = module.auth(asked, place)
    assert (salt.outcome, salt.proof) == (Outcome.DENIED, b"4096,QSXCR+Q6sek8bf92")
    client = ScramClient("admin", "x", header="n,a=user,")
    server = ScramMechanism("SCRAM-SHA-256", Means({"password": made("SCRAM-SHA-256", "x")}))
    challenge = server.step(client.first)
    assert isinstance(challenge, bytes)
    shown = server.step(client.final(challenge))
    assert isinstance(shown, Credentials)
    answer = module.auth(replace(asked, password=shown.password), place)
    assert (answer.outcome, answer.found) == (Outcome.OK, replace(place, master=True))
    assert module.auth(replace(asked, master=""), place).outcome is Outcome.UNKNOWN


def test_scram_in_pdm_workers(tmp_path: Any) -> None:
    """Both questions go there, and neither the cache nor the answers have what could be used twice."""
    path = tmp_path / "users"
    path.write_text(f"joe:{made('SCRAM-SHA-256', 'x')}:store1:cxpop:3/2d/joe\n")
    cache, module = AnswerCache(16, Lifetimes(60, 60, 60)), make_module("passwd", path)
    job = WorkerJob([module], Channel(), 10.0, None, Log("test", FileSink(2)), cache)
    with working(job) as channel:
        chain = Chain([CachedModule(module, channel, cache)], 10.0, lambda message, **fields: None)

        def ask(credentials: Credentials) -> Verdict:
            return chain.check(Request(credentials.user, credentials.password, "127.0.0.1", "pop3", "example.org",
                                       mechanism=credentials.mechanism))

        for password in ("x", "y", "x"):
            means = Means({"password": "*"})
            means.salt = lambda credentials: ask(credentials).proof    # type: ignore[method-assign]
            server, client = ScramMechanism("SCRAM-SHA-256", means), ScramClient("joe", password)
            challenge = server.step(client.first)
            assert isinstance(challenge, bytes) and b",i=4096" in challenge
            shown = server.step(client.final(challenge))
            assert isinstance(shown, Credentials)
            verdict = ask(shown)
            assert (verdict.outcome is Outcome.OK) is (password == "x")
            assert password == "y" or server.accepted(verdict.proof) == client.verdict
            assert getattr(verdict.steps[0].answer, "counter") == "cache_misses"
    cache.close()


def test_a_made_up_salt_is_what_a_new_secret_has() -> None:
    iterations, salt = made_up_salt("SCRAM-SHA-256", "default", "nobody").split(b",")
    secret = ScramSecret.made("SCRAM-SHA-256", b"x")
    assert (int(iterations), len(base64.b64decode(salt))) == (secret.iterations, len(secret.salt))


def test_the_longest_messages_fit_into_a_question() -> None:
    """Else a client could have logins fail as if a database were away."""
    first = (b"n,a=" + b"\xff" * 250 + b",n=" + b"\xfe" * 250 + b",r=" + b"x" * 512 + b",").ljust(4096, b"\xff")
    server = ScramMechanism("SCRAM-SHA-256", Means({"password": made("SCRAM-SHA-256", "x")}))
    challenge = server.step(first)
    assert isinstance(challenge, bytes)
    header = base64.b64encode(first[:first.index(b"n=")])
    final = b"c=" + header + b"," + challenge.split(b",")[0] + b",%b,p=" + base64.b64encode(bytes(32))
    shown = server.step(final.replace(b"%b", b"\xff" * (4096 - len(final) + 2)))
    assert isinstance(shown, Credentials)
    request = replace(make_request(shown.user, shown.password), mechanism=shown.mechanism, master=shown.master)
    assert len(Question(QuestionKind.CHECK, "m" * 64, 1 << 64, request).packed()) <= MAX_PACKET
    with pytest.raises(CommandRefused, match="too long"):
        ScramMechanism("SCRAM-SHA-256", Means({"password": "{PLAIN}x"})).step(first + b"x")
