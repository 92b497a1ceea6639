"""The module pgsql beyond the contract of all modules: connections, TLS, several hosts, and what PostgreSQL may say."""

import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popular.config.ini.file import read_ini
from popular.config.store import default_config
from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pproxy.settings import SCHEMA
from tests.harness.certificates import Authority
from tests.harness.databases import UserRow, pgsql
from tests.harness.databases.page import code_of
from tests.harness.pdm import make_module, make_request
from tests.harness.system import wait_for

JOE = UserRow("joe", "secret", mailbox="j/joe")
OK = Answer(Outcome.OK, Found("store", "", "j/joe"))


@pytest.fixture(scope="module")
def server() -> Iterator[pgsql.Postgres]:
    """A server with one user."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        made = pgsql.launch(folder)
        try:
            made.add(JOE)
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def module(server: pgsql.Postgres) -> Iterator[Callable[..., Any]]:
    """A function that makes a module with some arguments instead of the usual ones; all are closed with the test."""
    made = []

    def make(**words: str) -> Any:
        usual = dict(word.split("=", 1) for word in server.words())
        made.append(make_module("pgsql", *(f"{key}={value}" for key, value in {**usual, **words}.items())))
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(module: Any, user: str = "joe", password: str = "secret", seconds: float = 10.0) -> Answer:
    """Ask a module."""
    answer: Answer = module.check(make_request(user, password, namespace="default").until(time.monotonic() + seconds))
    return answer


# connections

def test_over_a_unix_socket(server: pgsql.Postgres, module: Callable[..., Any]) -> None:
    assert ask(module(hosts=f"{server.folder}:{server.port}", cafile="/nowhere")) == OK


@pytest.mark.parametrize("words, why", [
    ({"cafile": "/nowhere"}, '"/nowhere" does not exist'),
    ({"cafile": "OTHER"}, "certificate verify failed"),
    ({"hosts": "127.0.0.1:PORT"}, 'does not match host name "127.0.0.1"'),
    ({"tls": "off"}, "no pg_hba.conf entry for host"),
    ({"user": "nobody"}, "no pg_hba.conf entry for host"),
    ({"database": "none"}, 'database "none" does not exist'),
    ({"passwordfile": "", "password": "wrong"}, 'password authentication failed for user "pproxy"'),
    ({"passwordfile": ""}, "no password supplied"),
    ({"hosts": "localhost:1"}, "Connection refused"),
    ({"hosts": "no.such.host.invalid"}, "could not translate host name"),
    ({"hosts": "/nowhere"}, "No such file or directory"),
])
def test_connections_that_fail(server: pgsql.Postgres, module: Callable[..., Any], tmp_path: Path,
                               words: dict[str, str], why: str) -> None:
    words = {key: text.replace("PORT", str(server.port)) for key, text in words.items()}
    if words.get("cafile") == "OTHER":
        words["cafile"] = Authority.make(tmp_path).cafile
    with pytest.raises(PdmError) as caught:
        ask(module(**words))
    assert why in str(caught.value) and "\n" not in str(caught.value) and "wrong" not in str(caught.value)


def test_the_password_file_is_read_when_the_module_opens(server: pgsql.Postgres, module: Callable[..., Any],
                                                         tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(server.secret)
    path.chmod(0o644)
    with pytest.raises(PdmError, match="can be read by everybody"):
        module(passwordfile=str(path))


# several hosts

def test_a_standby_answers_when_the_primary_is_gone(server: pgsql.Postgres, module: Callable[..., Any]) -> None:
    with server.standby() as standby:
        hosts = f"localhost:{server.port},localhost:{standby.port}"
        both = module(hosts=hosts)
        assert ask(both) == OK and (server.connections(), standby.connections()) == (1, 0)
        server.stop()
        try:
            assert ask(both) == OK and standby.connections() == 1
            assert ask(module(hosts=hosts)) == OK
        finally:
            server.start()
        standby.freeze()    # the connection is kept, and is silent now
        try:
            assert ask(both) == OK and server.connections() == 1
        finally:
            standby.thaw()


# queries

def test_a_query_is_prepared_once(module: Callable[..., Any]) -> None:
    made = module(query="SELECT '{PLAIN}secret' AS password, 'store' AS backend, 'j/joe' AS mailbox, "
                        "min(prepare_time) AS prepared, count(*) AS n FROM pg_prepared_statements "
                        "HAVING :user = 'joe' AND count(*) = 1")
    assert [ask(made) for _ in range(3)] == [OK] * 3


@pytest.mark.parametrize("where, user", [
    (":user || :local = 'joe@a.orgjoe'", "joe@a.org"), (":local = 'a@b' AND :domain = 'c'", "a@b@c"),
    (":user::text <> ':ip' AND :ip::inet << '127.0.0.0/8' AND :protocol = 'pop3' AND :namespace = 'default'", "joe"),
    ("length(:user) = 3 /* :nothing */", "jö😀"),
])
def test_parameters(module: Callable[..., Any], where: str, user: str) -> None:
    assert ask(module(query=f"SELECT '{{PLAIN}}secret', 'store', NULL, 'j/joe' WHERE {where}"), user) == OK


@pytest.mark.parametrize("query, why", [
    ("SELECT 1 FROM nowhere WHERE :user = ''", 'PostgreSQL says: relation "nowhere" does not exist'),
    ("SELECT 1 / length(:user), 'x'", "PostgreSQL says: division by zero"),
    ("SELECT :user", "the query has 1 columns; they must be password, backend"),
    ("SELECT :user, 'store' FROM generate_series(1, 3)", "more than one row"),
    ("DELETE FROM users WHERE \"user\" = :user", "PostgreSQL says: permission denied for table users"),
    ("SELECT NULL, 'store', :user", "the record has no password"),
])
def test_queries_that_fail(module: Callable[..., Any], query: str, why: str) -> None:
    made = module(query=query)
    for _ in range(2):
        answer = ask(made, "")
        assert answer.outcome is Outcome.FAILED and answer.why.startswith(why)


def test_a_query_that_takes_too_long_is_given_up_by_both_sides(server: pgsql.Postgres,
                                                               module: Callable[..., Any]) -> None:
    with pytest.raises(PdmError, match="canceling statement due to statement timeout|no answer within 0.3 s"):
        ask(module(query="SELECT pg_sleep(60), :user", timeout="300ms"))
    wait_for(lambda: server.connections() == 0, 2.0)


@pytest.mark.parametrize("query", [
    "SELECT password, backend, mailbox FROM users WHERE user = :user",
    "SELECT password, backend, mailbox FROM users WHERE :user = USER",
])
def test_a_query_for_the_wrong_user_is_refused(module: Callable[..., Any], query: str) -> None:
    with pytest.raises(PdmError, match='a column called user needs quotes in PostgreSQL: "user" = :user'):
        module(query=query)
    module(query=query.replace(" user =", " u.user =").replace("= USER", '= "user"'))


def test_a_table_that_changes_under_a_prepared_query(server: pgsql.Postgres, module: Callable[..., Any]) -> None:
    with closing(server.admin()) as admin:
        admin.execute("CREATE TABLE other AS SELECT * FROM users; GRANT SELECT ON other TO pproxy")
        made = module(query='SELECT * FROM other WHERE "user" = :user')
        assert ask(made) == OK
        admin.execute("ALTER TABLE other ADD COLUMN more date")
        assert ask(made) == OK
        admin.execute("DROP TABLE other")
    assert ask(made).why == 'PostgreSQL says: relation "other" does not exist'


def test_a_name_that_the_character_set_lacks_is_unknown(server: pgsql.Postgres, module: Callable[..., Any]) -> None:
    with closing(server.admin()) as admin:
        admin.execute("CREATE DATABASE latin ENCODING latin1 LOCALE 'C' TEMPLATE template0")
    with closing(server.admin("latin")) as admin:
        admin.execute("CREATE TABLE t AS SELECT 'jö'::text AS name; GRANT SELECT ON t TO pproxy")
    made = module(database="latin", query="SELECT '{PLAIN}secret', 'store', '', 'j/joe' FROM t WHERE name = :user")
    assert [ask(made, user) for user in ("jö", "j😀", "jö")] == [OK, UNKNOWN, OK]


# the page

def test_users_of_the_page(server: pgsql.Postgres, module: Callable[..., Any]) -> None:
    made = module()
    assert ask(made, "kim@example.org") == Answer(Outcome.OK, Found("store1", "", "kim"))
    assert ask(made, "filed", "passwd") == Answer(Outcome.OK, Found("store", "", "filed"))
    assert [ask(made, name).outcome for name in ("kim", "filed")] == [Outcome.UNKNOWN, Outcome.DENIED]


def test_settings_of_the_page(server: pgsql.Postgres, module: Callable[..., Any], tmp_path: Path) -> None:
    own, foreign = [arguments(text, tmp_path / "pproxy.conf") for text in code_of("pgsql", "ini")]
    places = {"hosts": f"localhost:{server.port}", "cafile": server.cafile, "passwordfile": str(server.passwordfile)}
    assert own.keys() >= places.keys() and ask(module(**{**own, **places})) == OK
    with closing(server.admin()) as admin:
        admin.execute("CREATE TABLE accounts (name text, domain text, hash text, maildir text, closed boolean)")
        admin.execute("INSERT INTO accounts VALUES ('joe', 'a.org', '{PLAIN}secret', 'j/joe', false), "
                      "('ann', 'a.org', '{PLAIN}secret', 'ann', true)")
        admin.execute("GRANT SELECT ON accounts TO pproxy")
    made = module(**{**foreign, "hosts": f"{server.folder}:{server.port}"})
    assert ask(made, "joe@a.org") == replace(OK, found=Found("store1", "", "j/joe"))
    assert ask(made, "ann@a.org") == UNKNOWN


def arguments(text: str, path: Path) -> dict[str, str]:
    """Return the arguments of the only module of an INI file."""
    path.write_text(text)
    [item] = read_ini(str(path), SCHEMA, default_config(SCHEMA)).items("pdm")
    assert item.values.text("module") == "pgsql"
    return dict(word.split("=", 1) for word in shlex.split(item.values.text("args")))
