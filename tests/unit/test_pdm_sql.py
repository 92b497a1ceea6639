"""What the SQL modules share: parameters in queries, columns of rows, and several servers that may fail."""

import os
import time

import pytest

from popular.addresses import Endpoint
from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Found, Outcome
from popular.pdm.asking.chain import Chain
from popular.pdm.databases import sql
from tests.harness.pdm import make_request


# the query

@pytest.mark.parametrize("text, marked", [
    ("SELECT 1 WHERE u = :user", "SELECT 1 WHERE u = <user>"),
    (":user:local,:domain", "<user><local>,<domain>"),
    (":user ':ip' \":ip\" `:ip`", "<user> ':ip' \":ip\" `:ip`"),
    (":user 'it''s :ip' ':ip'", "<user> 'it''s :ip' ':ip'"),
    (":user::text", "<user>::text"),
    (":user -- :pass\n:ip", "<user> -- :pass\n<ip>"),
    (":user /* :pass\n' */ :ip", "<user> /* :pass\n' */ <ip>"),
    (":local a[1:2] @x := 1", "<local> a[1:2] @x := 1"),
    (":user ':ip", "<user> '<ip>"),
])
def test_parameters_are_found_where_they_are_none_of_a_text(text, marked):
    assert sql.Query.parse(text).text(lambda name: f"<{name}>") == marked


@pytest.mark.parametrize("text, why", [
    ("SELECT 1", "the query uses neither :user nor :local, so it cannot tell users apart"),
    ("SELECT ':user'", "the query uses neither :user nor :local, so it cannot tell users apart"),
    ("SELECT :usr", "the query has an unknown parameter 'usr'; did you mean 'user'?"),
    ("SELECT :user, :pass", "the query has an unknown parameter 'pass'; there are user, local, domain, namespace, "
                            "vserv, ip, protocol"),
])
def test_queries_that_cannot_work(text, why):
    with pytest.raises(ValueError) as caught:
        sql.Query.parse(text)
    assert str(caught.value) == why


@pytest.mark.parametrize("user, values", [
    ("joe@a.org", {"user": "joe@a.org", "local": "joe", "domain": "a.org"}),
    ("a@b@c", {"user": "a@b@c", "local": "a@b", "domain": "c"}),
    ("joe", {"user": "joe", "local": "joe", "domain": ""}),
    ("@joe", {"user": "@joe", "local": "@joe", "domain": ""}),
    ("jöe", {"user": "jöe", "local": "jöe", "domain": ""}),
    ("ö" * 127, {"user": "ö" * 127, "local": "ö" * 127, "domain": ""}),
    ("ö" * 128, None), ("j\udcff", None), ("j\ud800", None), ("j\0", None),
])
def test_values_of_parameters(user, values):
    found = sql.parameters_of(make_request(user, ip="::1"))
    rest = {"namespace": "example.org", "vserv": "", "ip": "::1", "protocol": "pop3"}
    assert found == (None if values is None else values | rest)


def test_a_namespace_that_is_no_text():
    assert sql.parameters_of(make_request("joe", namespace="a\0")) is None


# its rows

@pytest.mark.parametrize("columns, names", [
    (["backend", "PASSWORD"], ("backend", "password")),
    (["x", "Backend", "password", "y", "z", "a", "b"], ("x", "backend", "password", "y", "z", "a", "b")),
    (["a", "b"], ("password", "backend")),
    (["a", "backend", "c", "d", "e", "f"], ("password", "backend", "protocol", "mailbox", "buser", "bpass")),
])
def test_columns_by_name_or_in_order(columns, names):
    assert sql.names_of(columns) == names


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_wrong_number_of_columns_without_names(count):
    with pytest.raises(ValueError, match=f"the query has {count} columns; they must be password, backend, protocol"):
        sql.names_of(["c"] * count)


@pytest.mark.parametrize("columns", [["password", "store", "p", "m", "disabled"], ["hash", "backend", "", "", "UNTIL"]])
def test_a_rule_needs_the_other_names(columns):
    with pytest.raises(ValueError, match=f"has a column {columns[-1].lower()}, so it needs columns named password and"):
        sql.names_of(columns)


def test_a_record_from_a_row():
    names = ("password", "backend", "protocol", "mailbox", "buser", "bpass", "weight")
    record = sql.record_from(names, (b"{PLAIN}x", "store", None, 12, "u", b"\xff", 1.5))
    assert (record.stored, record.found) == ("{PLAIN}x", Found("store", "", "12", "u", b"\xff"))
    with pytest.raises(ValueError, match="column mailbox is neither text nor a number"):
        sql.record_from(("password", "backend", "mailbox"), ("x", "s", 1.5))


# servers

@pytest.mark.parametrize("text, hosts", [
    ("db1", [Endpoint("db1", 77)]),
    ("db1, db2:78", [Endpoint("db1", 77), Endpoint("db2", 78)]),
    ("[::1],[::1]:78", [Endpoint("::1", 77), Endpoint("::1", 78)]),
    ("/run/postgresql,/tmp:78", [Endpoint("/run/postgresql", 77), Endpoint("/tmp", 78)]),
])
def test_hosts(text, hosts):
    kind = sql.Hosts(77)
    value = kind.parse(text)
    assert value == tuple(hosts) and kind.parse(kind.show(value)) == value


@pytest.mark.parametrize("text", ["", "db1,", "db1,db1", "db1,db1:77", "::1", "db1:x", "/run:x", "d b", "1.2.3",
                                  ",".join(f"db{number}" for number in range(17))])
def test_no_hosts(text):
    with pytest.raises(ValueError, match="a list such as db1"):
        sql.Hosts(77).parse(text)


class FakeLink:
    """A connection to a host, which does what `deeds` says of it now."""

    def __init__(self, host, module):
        self.host, self.module = host, module
        module.did.append(f"connect {host.host}")
        self.act("connect")
        self.fd = os.open("/dev/null", os.O_RDONLY)

    def act(self, what):
        match self.module.deeds.get(self.host.host):
            case "hang":
                time.sleep(30)
            case "break":
                raise sql.Broken(f"{what}\nfailed")
            case "refuse":
                if what == "ask":
                    raise sql.QueryRefused("no such table")
            case "damage":
                if what == "ask":
                    raise UnicodeError("secret")
            case "once":
                del self.module.deeds[self.host.host]
                raise sql.Broken("closed")

    def ask(self, values):
        self.module.did.append(f"ask {self.host.host}")
        self.act("ask")
        rows = {"joe": [("{PLAIN}secret", self.host.host, "m")], "two": [("a", "b", "c")] * 2}
        return ("password", "backend", "mailbox"), rows.get(values["user"], [])

    def close(self):
        self.module.did.append(f"close {self.host.host}")
        os.close(self.fd)

    def abandon(self):
        self.module.did.append(f"abandon {self.host.host}")
        os.close(self.fd)


class FakeModule(sql.SqlModule):
    """A module with such connections."""

    options = sql.server_options(sql.Hosts(77), "Where.", "SELECT :user")

    def __init__(self, *words):
        super().__init__("fake", ["hosts=one,two", "database=d", "user=u", "timeout=100ms", *words])
        self.deeds: dict[str, str] = {}
        self.did: list[str] = []

    def connect(self, host):
        return FakeLink(host, self)


@pytest.fixture
def module():
    made = FakeModule("password=s3cret")
    yield made
    made.close()


def test_one_connection_is_kept(module):
    assert [module.check(make_request(user)).outcome.value for user in ("joe", "ann", "two")] == [
        "ok", "unknown", "failed"]
    assert module.check(make_request("joe\0")) == UNKNOWN
    assert module.find("joe", "n") == Found("one", "", "m") and module.find("ann", "n") is None
    with pytest.raises(PdmError, match="more than one row"):
        module.find("two", "n")
    assert module.did == ["connect one"] + ["ask one"] * 6


@pytest.mark.parametrize("deed", ["break", "hang"])
def test_the_next_host_is_asked_and_kept(module, deed):
    module.deeds["one"] = deed
    assert [module.check(make_request("joe")).found for _ in range(2)] == [Found("two", "", "m")] * 2
    assert module.did == ["connect one", "connect two", "ask two", "ask two"]
    module.deeds = {"two": "break"}
    assert module.check(make_request("joe")).found == Found("one", "", "m")
    assert module.did[4:] == ["ask two", "close two", "connect one", "ask one"]


def test_an_idle_connection_that_broke_is_replaced(module):
    module._hosts.pop()
    module.check(make_request("joe"))
    module.deeds["one"] = "once"
    assert module.check(make_request("joe")).outcome is Outcome.OK
    assert module.did == ["connect one", "ask one", "ask one", "close one", "connect one", "ask one"]


def test_a_connection_is_not_used_after_an_unexpected_error(module):
    module.deeds["one"] = "damage"
    assert module.check(make_request("joe")).outcome is Outcome.FAILED
    del module.deeds["one"]
    assert module.check(make_request("joe")).outcome is Outcome.OK
    assert module.did == ["connect one", "ask one", "close one", "connect one", "ask one"]


def test_a_refused_query_is_a_failure_and_no_reason_to_reconnect(module):
    module.deeds["one"] = "refuse"
    for _ in range(2):
        answer = module.check(make_request("joe"))
        assert (answer.outcome, answer.why) == (Outcome.FAILED, "no such table")
    assert module.did == ["connect one", "ask one", "ask one"]


@pytest.mark.parametrize("seconds, one, two, why", [
    (9, "break", "hang", "one:77: connect failed; two:77: no answer within 0.1 s"),
    (0.05, "hang", "break", "one:77: no answer within 0.0[0-5][0-9]* s; no time was left"),
    (-1, "", "", "no time was left"),
])
def test_all_hosts_fail(module, seconds, one, two, why):
    module.deeds = {"one": one, "two": two}
    began = time.monotonic()
    with pytest.raises(PdmError, match=f"^{why}$"):
        module.check(make_request("joe").until(began + seconds))
    assert time.monotonic() - began < 1.0


def test_the_host_that_took_all_the_time_is_asked_last(module):
    module.deeds["one"] = "hang"
    chain = Chain([module], 0, lambda message, **fields: None)
    verdicts = [chain.check(make_request("joe").until(time.monotonic() + 0.05)) for _ in range(2)]
    assert [verdict.outcome for verdict in verdicts] == [Outcome.FAILED, Outcome.OK]


def test_a_connection_of_another_process_is_left_to_it(module):
    module.check(make_request("joe"))
    module._pid = 1
    assert module.check(make_request("joe")).outcome is Outcome.OK
    assert module.did[2:] == ["abandon one", "connect one", "ask one"]


def test_probe_opens_asks_and_closes(module):
    module.probe()
    assert module.did == ["connect one", "ask one", "close one"]


def test_arguments_are_described_without_the_password(module):
    assert module.describe() == "hosts=one,two database=d user=u timeout=100ms 'password=***'"
    with pytest.raises(ValueError, match="'database' is missing: the name of the database"):
        FakeModule.options.parse(["hosts=one"])
