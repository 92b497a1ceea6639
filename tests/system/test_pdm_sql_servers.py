"""The modules pgsql and mysql beyond the contract of all modules: connections, TLS, several hosts, queries, pages."""

import shlex
import shutil
import socket
import tempfile
import threading
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
from tests.harness.daemon import Daemon
from tests.harness.databases import Launch, UserRow, mysql, pgsql
from tests.harness.databases.page import code_of
from tests.harness.pdm import make_module, make_request
from tests.harness.proxy import store
from tests.harness.system import wait_for

JOE = UserRow("joe", "secret", mailbox="j/joe")
OK = Answer(Outcome.OK, Found("store", "", "j/joe"))
FOUND = "SELECT '{PLAIN}secret' AS password, 'store' AS backend, 'j/joe' AS mailbox"

# A function that fails with a code, and the codes after which another connection is tried, and others.
FAILING = {
    "pgsql": ("CREATE FUNCTION fail(code text) RETURNS text LANGUAGE plpgsql AS "
              "$$BEGIN RAISE EXCEPTION 'it failed' USING ERRCODE = code; END$$",
              "08006 0A000 26000 40001 53300 57P01 58030", "22012 42501 42P01"),
    "mysql": ("CREATE FUNCTION fail(code int) RETURNS int DETERMINISTIC BEGIN "
              "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = code, MESSAGE_TEXT = 'it failed'; RETURN 1; END",
              "1040 1047 1053 1317 1927 1969 3024", "1064 1142 1146"),
}

Make = Callable[..., Any]


def launched(launch: Launch) -> Iterator[Any]:
    """Run a server with one user."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        made = launch(folder)
        try:
            made.add(JOE)
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def postgres() -> Iterator[pgsql.Postgres]:
    """A PostgreSQL."""
    yield from launched(pgsql.launch)


@pytest.fixture(scope="module")
def mariadb() -> Iterator[mysql.MariaDb]:
    """A MariaDB."""
    yield from launched(mysql.launch)


@pytest.fixture(scope="module", params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each of them."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make() -> Iterator[Make]:
    """A function that makes a module with some arguments instead of the usual ones; all are closed with the test."""
    made = []

    def make_one(server: Any, **words: str) -> Any:
        usual = dict(word.split("=", 1) for word in server.words())
        made.append(make_module(server.module, *(f"{key}={value}" for key, value in {**usual, **words}.items())))
        made[-1].open()
        return made[-1]

    yield make_one
    for each in made:
        each.close()


def ask(module: Any, user: str = "joe", password: str = "secret") -> Answer:
    """Ask a module."""
    answer: Answer = module.check(make_request(user, password, namespace="default").until(time.monotonic() + 10.0))
    return answer


def do(server: Any, *statements: str) -> None:
    """Let the administrator do something."""
    with closing(server.admin()) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


# connections

def test_over_a_unix_socket(server: Any, make: Make) -> None:
    assert ask(make(server, hosts=server.local)) == OK


@pytest.mark.parametrize("words, whys", [
    ({"cafile": "OTHER"}, ("certificate verify failed",)),
    ({"hosts": "127.0.0.1:PORT"}, ("does not match host name", "IP address mismatch")),
    ({"tls": "off"}, ("no pg_hba.conf entry for host", "Access denied for user 'pproxy'")),
    ({"user": "nobody"}, ("no pg_hba.conf entry for host", "Access denied for user 'nobody'")),
    ({"database": "none"}, ('database "none" does not exist', "to database 'none'")),
    ({"passwordfile": "", "password": "wrong"}, ("password authentication failed", "Access denied for user 'pproxy'")),
    ({"passwordfile": ""}, ("no password supplied", "Access denied for user 'pproxy'")),
    ({"hosts": "localhost:1"}, ("Connection refused",)),
    ({"hosts": "no.such.host.invalid"}, ("not known", "not translate host name", "Temporary failure in name")),
    ({"hosts": "/nowhere/socket"}, ("No such file or directory",)),
])
@pytest.mark.filterwarnings("ignore:unclosed <socket")    # PyMySQL leaves one open that cannot connect
def test_connections_that_fail(server: Any, make: Make, tmp_path: Path, words: dict[str, str],
                               whys: tuple[str, ...]) -> None:
    words = {key: text.replace("PORT", str(server.port)) for key, text in words.items()}
    if words.get("cafile") == "OTHER":
        words["cafile"] = Authority.make(tmp_path).cafile
    with pytest.raises(PdmError) as caught:
        ask(make(server, **words))
    text = str(caught.value)
    assert any(why in text for why in whys), text
    assert "\n" not in text and "wrong" not in text and server.secret not in text


def test_nothing_is_read_from_home(postgres: pgsql.Postgres, make: Make, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/postgresql.crt").write_text("no certificate")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ask(make(postgres)) == OK


def test_files_that_cannot_be_used(server: Any, make: Make, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(server.secret)
    path.chmod(0o644)
    with pytest.raises(PdmError, match="can be read by everybody"):
        make(server, passwordfile=str(path))
    with pytest.raises(PdmError, match="/nowhere"):
        ask(make(server, cafile="/nowhere"))
    with pytest.raises(PdmError, match="certificate|no SSL error reported"):
        ask(make(server, cafile=str(path)))


def test_no_password_goes_to_a_server_without_tls(mariadb: mysql.MariaDb, make: Make) -> None:
    salt, flags = b"12345678", (0x80000 | 0x8000 | 0x200).to_bytes(4, "little")    # plugins, a salt, protocol 4.1
    greeting = (b"\x0a10.11\0" + bytes(4) + salt + b"\0" + flags[:2] + b"\x21" + bytes(2) + flags[2:] + b"\x15"
                + bytes(10) + b"123456789012\0mysql_clear_password\0")
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(len(greeting).to_bytes(3, "little") + b"\0" + greeting)
            heard.append(connection.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(PdmError, match="the server has no TLS"):
            ask(make(mariadb, hosts=f"localhost:{listener.getsockname()[1]}"))
        thread.join()
    assert heard == [b""]


# several hosts

def test_the_next_host_is_asked(server: Any, make: Make) -> None:
    module = make(server, hosts=f"localhost:1,localhost:{server.port}")
    assert [ask(module) for _ in range(2)] == [OK, OK]
    assert server.connections() == 1


def test_a_standby_answers_when_the_primary_is_gone(postgres: pgsql.Postgres, make: Make) -> None:
    with postgres.standby() as standby:
        hosts = f"localhost:{postgres.port},localhost:{standby.port}"
        both = make(postgres, hosts=hosts)
        assert ask(both) == OK and (postgres.connections(), standby.connections()) == (1, 0)
        postgres.stop()
        try:
            assert ask(both) == OK and standby.connections() == 1
            assert ask(make(postgres, hosts=hosts)) == OK
        finally:
            postgres.start()
        standby.freeze()    # the connection is kept, and is silent now
        try:
            assert ask(both) == OK and postgres.connections() == 1
        finally:
            standby.thaw()


def test_a_connection_that_was_killed_is_replaced(mariadb: mysql.MariaDb, make: Make) -> None:
    module = make(mariadb, query="SELECT '{PLAIN}secret', 'store', '', 'j/joe', connection_id(), '' "
                                 "WHERE :user <> ''")
    answer = ask(module)
    assert answer.found is not None
    do(mariadb, f"KILL {answer.found.user}")
    again = ask(module)
    assert again.outcome is Outcome.OK and again != answer


# queries

def test_a_query_is_prepared_once(postgres: pgsql.Postgres, make: Make) -> None:
    module = make(postgres, query=f"{FOUND}, min(prepare_time) AS prepared, count(*) AS n FROM pg_prepared_statements "
                                  "HAVING :user = 'joe' AND count(*) = 1")
    assert [ask(module) for _ in range(3)] == [OK] * 3


@pytest.mark.parametrize("where, user", [
    (":user = 'joe@a.org' AND :local = 'joe'", "joe@a.org"), (":local = 'a@b' AND :domain = 'c'", "a@b@c"),
    (":local = 'joe' AND :domain = '' AND :ip = '127.0.0.1' AND :protocol = 'pop3' AND :namespace = 'default'", "joe"),
    (":user = 'jö😀' AND char_length(:user) = 3 /* :nothing */ AND ':ip' <> :ip", "jö😀"),
    (":user = 'o''neil'", "o'neil"),
])
def test_parameters(server: Any, make: Make, where: str, user: str) -> None:
    assert ask(make(server, query=f"{FOUND} WHERE {where}"), user) == OK


def test_parameters_take_the_type_that_is_wanted(postgres: pgsql.Postgres, make: Make) -> None:
    assert ask(make(postgres, query=f"{FOUND} WHERE inet '127.0.0.0/8' >> :ip AND :user::text = 'joe'")) == OK


@pytest.mark.parametrize("query, whys", [
    ("SELECT 1 FROM nowhere WHERE :user = ''", ('PostgreSQL says: relation "nowhere" does not exist',
                                                "the server says: SELECT command denied to user")),
    ("SELECT :user", ("the query has 1 columns; they must be password, backend",)),
    ("SELECT :user, 'store' UNION ALL SELECT 'x', 'y'", ("more than one row",)),
    ("DELETE FROM users WHERE :user = ''", ("PostgreSQL says: permission denied for table users",
                                            "the server says: DELETE command denied to user")),
    ("SELECT NULL, 'store', :user", ("the record has no password",)),
])
def test_queries_that_fail(server: Any, make: Make, query: str, whys: tuple[str, ...]) -> None:
    module = make(server, query=query)
    for _ in range(2):
        answer = ask(module, "")
        assert answer.outcome is Outcome.FAILED and answer.why.startswith(whys)


def test_another_connection_is_tried_where_that_may_help(server: Any, make: Make) -> None:
    function, passing, lasting = FAILING[server.module]
    do(server, function, *(["GRANT EXECUTE ON mail.* TO pproxy"] if server.module == "mysql" else []))
    module = make(server, hosts=f"localhost:{server.port},localhost:1", query="SELECT fail(:user), 'store'")
    for code in passing.split():
        with pytest.raises(PdmError, match="it failed; localhost:.*Connection refused"):
            ask(module, code)
    for code in lasting.split():
        assert ask(module, code).why.endswith(" says: it failed")


def test_a_query_that_takes_too_long_is_given_up_by_both_sides(server: Any, make: Make) -> None:
    sleep = "pg_sleep(60)" if server.module == "pgsql" else "sleep(60)"
    with pytest.raises(PdmError, match="canceling statement|max_statement_time exceeded|no answer within 0.3 s"):
        ask(make(server, query=f"SELECT {sleep}, :user", timeout="300ms"))
    wait_for(lambda: server.connections() == 0, 2.0)


@pytest.mark.parametrize("query", [
    "SELECT password, backend, mailbox FROM users WHERE user = :user",
    "SELECT password, backend, mailbox FROM users WHERE :user = USER",
])
def test_a_query_for_the_wrong_user_is_refused(postgres: pgsql.Postgres, make: Make, query: str) -> None:
    with pytest.raises(PdmError, match='a column called user needs quotes in PostgreSQL: "user" = :user'):
        make(postgres, query=query)
    make(postgres, query=query.replace(" user =", " u.user =").replace("= USER", '= "user"'))


def test_a_table_that_changes_under_a_prepared_query(postgres: pgsql.Postgres, make: Make) -> None:
    do(postgres, "CREATE TABLE other AS SELECT * FROM users", "GRANT SELECT ON other TO pproxy")
    module = make(postgres, query='SELECT * FROM other WHERE "user" = :user')
    assert ask(module) == OK
    do(postgres, "ALTER TABLE other ADD COLUMN more date")
    assert ask(module) == OK
    do(postgres, "DROP TABLE other")
    assert ask(module).why == 'PostgreSQL says: relation "other" does not exist'


def test_a_name_that_the_character_set_lacks_is_unknown(server: Any, make: Make) -> None:
    if server.module == "pgsql":
        do(server, "CREATE DATABASE latin ENCODING latin1 LOCALE 'C' TEMPLATE template0")
    else:
        do(server, "CREATE DATABASE latin CHARACTER SET latin1", "GRANT SELECT ON latin.* TO pproxy")
    with closing(server.admin("latin")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (name varchar(20))")
        cursor.execute("INSERT INTO t VALUES ('jö')")
        if server.module == "pgsql":
            cursor.execute("GRANT SELECT ON t TO pproxy")
    module = make(server, database="latin", query=f"{FOUND} FROM t WHERE name = :user")
    assert [ask(module, user) for user in ("jö", "j😀", "jö")] == [OK, UNKNOWN, OK]


def test_names_are_compared_octet_by_octet(server: Any, make: Make) -> None:
    module = make(server)
    assert [ask(module, user) for user in ("JOE", "jöe", "joe ", " joe")] == [UNKNOWN] * 4


# in a proxy

def test_logins_while_the_server_comes_and_goes(server: Any, start: Callable[..., Daemon], spool: Path,
                                                make_mailbox: Callable[..., Path], pop: Make) -> None:
    make_mailbox("j/joe", new=[b"Subject: x\r\n\r\n"])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    proxy = start("pproxy", {
        "pproxy": {"pdmtimeout": "2s", "authdelay": 0}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(pserv.endpoint()),
        "pdm": {"users": {"module": server.module, "args": shlex.join(server.words())}}})

    def login(password: str = "secret") -> bytes:
        with pop(proxy.endpoint()) as client:
            client.greeting()
            client.ok("USER joe")
            answer: bytes = client.command(f"PASS {password}")
            return answer

    wait_for(lambda: login().startswith(b"+OK"), what="a worker that has loaded its driver")
    assert [login()[:3] for _ in range(10)] == [b"+OK"] * 10 and login("wrong").startswith(b"-ERR [AUTH]")
    for trouble, relief in ((server.freeze, server.thaw), (server.stop, server.start)):
        trouble()
        try:
            assert login().startswith(b"-ERR [SYS/TEMP]")
        finally:
            relief()
        assert login().startswith(b"+OK")


# the pages

def test_users_of_the_page(server: Any, make: Make) -> None:
    module = make(server)
    assert ask(module, "kim@example.org") == Answer(Outcome.OK, Found("store1", "", "kim"))
    assert ask(module, "filed", "passwd") == Answer(Outcome.OK, Found("store", "", "filed"))
    assert [ask(module, name).outcome for name in ("kim", "filed")] == [Outcome.UNKNOWN, Outcome.DENIED]


def test_settings_of_the_page(server: Any, make: Make, tmp_path: Path) -> None:
    own, foreign = [arguments(server.module, text, tmp_path / "pproxy.conf") for text in code_of(server.module, "ini")]
    places = {"hosts": f"localhost:{server.port}", "cafile": server.cafile, "passwordfile": str(server.passwordfile)}
    assert own.keys() >= places.keys() and ask(make(server, **{**own, **places})) == OK
    do(server, "CREATE TABLE accounts (name varchar(99), domain varchar(99), hash varchar(99), maildir varchar(99), "
               "closed boolean)",
       "INSERT INTO accounts VALUES ('joe', 'a.org', '{PLAIN}secret', 'j/joe', false), "
       "('ann', 'a.org', '{PLAIN}secret', 'ann', true)",
       "GRANT SELECT ON accounts TO pproxy")
    module = make(server, **{**foreign, "hosts": server.local})
    assert ask(module, "joe@a.org") == replace(OK, found=Found("store1", "", "j/joe"))
    assert ask(module, "ann@a.org") == UNKNOWN


def arguments(module: str, text: str, path: Path) -> dict[str, str]:
    """Return the arguments of the only module of an INI file."""
    path.write_text(text)
    [item] = read_ini(str(path), SCHEMA, default_config(SCHEMA)).items("pdm")
    assert item.values.text("module") == module
    return dict(word.split("=", 1) for word in shlex.split(item.values.text("args")))
