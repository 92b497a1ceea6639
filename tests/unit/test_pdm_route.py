"""The module route: whom a rule is for, and which backend a name chooses among several."""

import hashlib
import math
from collections import Counter

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pdm.asking.chain import Chain
from tests.harness.pdm import make_module, make_request

NAMES = [f"user{number}@example.org" for number in range(10_000)]


def place(*args: str, user: str = "joe@example.org", namespace: str = "ns") -> Found | None:
    """Return where a rule says that a user's mail is."""
    return make_module("route", *args).find(user, namespace)


def chosen(backends: str, *more: str) -> dict[str, str]:
    """Return the backend of every name."""
    module = make_module("route", f"backends={backends}", *more)
    return {name: module.find(name, "ns").backend for name in NAMES}


@pytest.mark.parametrize("args, why", [
    ([], "'backends' is missing: the backend, or several with their weights"),
    (["backends="], "backends: '' is not a list of ids"),
    (["backends=a,a"], "each once"),
    (["backends=a*0"], "is not a list of ids"),
    (["backends=a*1001,b"], "is not a list of ids"),
    (["backends=a*"], "is not a list of ids"),
    (["backends=a b"], "is not a list of ids"),
    (["backends=a", "users=/(/"], "users: '/(/' is not a pattern"),
    (["backends=a", "protocol=imap"], "protocol: 'imap' is not one of pop3, cxpop, xpop"),
    (["backends=a", "protocol=cxpop"], "cxpop and xpop need a mailbox, and pop3 has none"),
    (["backends=a", "mailbox=%u"], "cxpop and xpop need a mailbox, and pop3 has none"),
    (["backends=a", "user=%x"], "%x is unknown in %x"),
])
def test_wrong_arguments(args, why):
    with pytest.raises(PdmError) as caught:
        make_module("route", *args)
    assert why in str(caught.value)


@pytest.mark.parametrize("users, names, others", [
    ("*", ["joe", "j@e", "j\ne"[::2], "ü", "j\udcff"], ["", "a\0b", "a\nb", "x" * 256]),
    ("*@example.org", ["joe@example.org", "@example.org"], ["joe@example.orgs", "joe@EXAMPLE.ORG", "joe"]),
    ("jo?", ["joe", "jon"], ["jo", "joey", "ajoe"]),
    ("[a-m]*", ["ann", "m"], ["zoe", "Ann"]),
    ("/^[a-m]/", ["ann", "mia@a.org"], ["zoe", "xann"]),
    ("/@(a|b)[.]org$/", ["joe@a.org", "@b.org"], ["joe@a.org.uk", "joe@axorg"]),
    ("/", ["/"], ["a/"]),
])
def test_whom_a_rule_is_for(users, names, others):
    module = make_module("route", "backends=store1", f"users={users}")
    for name in names:
        assert module.check(make_request(name)) == Answer(
            Outcome.OK, Found("store1", "pop3", "", name, b"secret", verified=False)), name
    for name in others:
        assert module.check(make_request(name)) == UNKNOWN, name
        assert module.find(name, "ns") is None


@pytest.mark.parametrize("args, found", [
    (["user=%l"], Found("s", "pop3", "", "joe")),
    (["user=%n-%u"], Found("s", "pop3", "", "ns-joe@example.org")),
    (["protocol=cxpop", "mailbox=%d/%l"], Found("s", "cxpop", "example.org/joe")),
    (["protocol=xpop", "mailbox=%1h/%l"], Found("s", "xpop", "4/joe")),
    (["protocol=cxpop", "mailbox=%u"], None),    # no `@` in a mailbox
])
def test_places(args, found):
    assert place("backends=s", *args) == found


def test_the_password_goes_to_the_backend_unchecked():
    answer = make_module("route", "backends=s").check(make_request("joe", b"a \xff"))
    assert answer.found.password == b"a \xff" and answer.found.verified is False


def test_the_first_rule_that_is_for_a_user_counts():
    rules = [make_module("route", "backends=old", "users=*@old.example.org", ident="one"),
             make_module("route", "backends=new", ident="two")]
    chain = Chain(rules, 1.0, lambda *args, **fields: None)
    verdicts = [chain.check(make_request(user)) for user in ("a@old.example.org", "a@example.org")]
    assert [(verdict.module, verdict.found.backend) for verdict in verdicts] == [("one", "old"), ("two", "new")]


def test_backends_are_known_to_the_check_of_the_configuration():
    assert make_module("route", "backends=a,b*2").backends == ("a", "b")
    assert make_module("route", "backends=a,b*2").describe() == "'backends=a,b*2'"


# several backends

@pytest.mark.parametrize("number", [1, 2, 4, 10])
def test_one_store_more_moves_its_share_of_users_and_no_others(number):
    before = chosen(",".join(f"store{one}" for one in range(number)))
    after = chosen(",".join(f"store{one}" for one in range(number + 1)))
    moved = [name for name in NAMES if before[name] != after[name]]
    assert {after[name] for name in moved} == {f"store{number}"}
    assert len(moved) == pytest.approx(len(NAMES) / (number + 1), rel=0.1)


def test_one_store_less_moves_its_users_and_no_others():
    before, after = chosen("a,b,c"), chosen("a,c")
    assert all(before[name] in (after[name], "b") for name in NAMES)


def test_weights_are_shares():
    counts = Counter(chosen("a,b*3,c*6").values())
    for backend, share in (("a", 0.1), ("b", 0.3), ("c", 0.6)):
        assert counts[backend] == pytest.approx(share * len(NAMES), rel=0.1)


def test_a_greater_weight_only_attracts():
    before, after = chosen("a,b,c"), chosen("a,b,c*2")
    assert {after[name] for name in NAMES if before[name] != after[name]} == {"c"}


def test_the_order_of_backends_does_not_matter():
    assert chosen("a,b*2,c") == chosen("c,a,b*2")


def test_a_domain_stays_together():
    names = [f"user{number}@{domain}.example" for number in range(20) for domain in "abcdefgh"]
    module = make_module("route", "backends=a,b,c", "by=%d")
    places = {(name.rpartition("@")[2], module.find(name, "ns").backend) for name in names}
    assert len(places) == 8 and len({backend for _, backend in places}) > 1


def test_the_choice_is_what_the_module_says():
    def score(backend, weight, name):
        bits = int(hashlib.md5(f"{backend}:{name}".encode()).hexdigest()[:13], 16)
        return -weight / math.log((bits + 0.5) / 2 ** 52)

    weights = {"a": 1, "b": 2, "c": 3}
    assert chosen("a,b*2,c*3") == {
        name: max(weights, key=lambda backend: score(backend, weights[backend], name)) for name in NAMES}
