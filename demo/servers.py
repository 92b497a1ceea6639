"""Database servers for `make run DB=NAME`, each started on a port of 127.0.0.1 with the accounts of the demo.

They are set up as simply as possible, without TLS and with one account that may do everything: docs/databases has a
page for each on what a site does.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from demo.accounts import ACCOUNTS, salted

EXAMPLES = Path(__file__).resolve().parents[1] / "etc/examples"
UNPRIVILEGED = "nobody"    # what PostgreSQL runs as, which refuses root
SECONDS = 30.0             # for a server to start or to end

_COLUMNS = ("user", "namespace", "password", "backend", "mailbox", "buser", "bpass")


class Missing(Exception):
    """What a database needs is not installed; the text says what to do."""

    def __init__(self, name: str, package: str, extra: str) -> None:
        """`package` is of Debian, and `extra` of POPular."""
        steps = [f"apt-get install {package}"] if package else []
        steps += [f".venv/bin/pip install -e '.[{extra}]'"] if extra else []
        super().__init__(f"DB={name} needs what is not installed here: {' && '.join(steps)}")


class NotStarted(Exception):
    """A server does not start; the text says why."""


def private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    path.touch(0o600)
    path.write_text(text)
    return path


def module(name: str, database: str, package: str, extra: str) -> Any:
    """Return a driver; raises Missing."""
    try:
        return import_module(name)
    except ImportError:
        raise Missing(database, package, extra) from None


def _pgsql(etc: Path, folder: Path, stack: ExitStack) -> str:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    initdb = _program("initdb", "pgsql", "postgresql", "pgsql", *programs[-1:])
    psycopg = module("psycopg", "pgsql", "postgresql", "pgsql")
    secret, port, data = _secret(etc), _free_port(), folder / "data"
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    pwfile = private(folder / "password", secret.read_text())
    if user is not None:
        for path in (folder, pwfile):
            os.chown(path, pwd.getpwnam(user).pw_uid, -1)
    _prepare(folder, [initdb, "-D", data, "-U", "pproxy", "-A", "scram-sha-256", f"--pwfile={pwfile}", "-E", "UTF8",
                      "--locale=C.UTF-8", "--no-sync"], user)
    _run(stack, folder, port, [initdb.with_name("postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "",
                               "-F"], user)
    login = {"host": "127.0.0.1", "port": port, "user": "pproxy", "password": secret.read_text(), "dbname": "postgres"}
    with closing(_until(lambda: psycopg.connect(**login), psycopg.OperationalError)) as database:
        database.execute((EXAMPLES / "pgsql/users.sql").read_text())
        database.cursor().executemany(_insert('"'), _rows())
        database.commit()
    return f"hosts=127.0.0.1:{port} database=postgres user=pproxy passwordfile={secret} tls=off"


def _mysql(etc: Path, folder: Path, stack: ExitStack) -> str:
    server = _program("mariadbd", "mysql", "mariadb-server", "mysql")
    install = _program("mariadb-install-db", "mysql", "mariadb-server", "mysql")
    pymysql = module("pymysql", "mysql", "mariadb-server", "mysql")
    secret, port, data = _secret(etc), _free_port(), folder / "data"
    setup = private(folder / "setup.sql", (
        "CREATE DATABASE mail;\n"
        f"CREATE USER pproxy@'127.0.0.1' IDENTIFIED BY '{secret.read_text()}';\n"
        "GRANT ALL ON mail.* TO pproxy@'127.0.0.1';\n"
        "DROP USER root@'127.0.0.1', root@'::1';\n"))
    options = ["--no-defaults", f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
    _prepare(folder, [install, *options, "--auth-root-authentication-method=normal", "--skip-test-db",
                      "--skip-name-resolve"])
    _run(stack, folder, port, [server, *options, "--socket=socket", "--bind-address=127.0.0.1", f"--port={port}",
                               "--pid-file=pid", f"--init-file={setup}", "--skip-name-resolve"])
    login = {"host": "127.0.0.1", "port": port, "user": "pproxy", "password": secret.read_text(), "database": "mail"}
    with closing(_until(lambda: pymysql.connect(**login), pymysql.Error)) as database:
        with database.cursor() as cursor:
            cursor.execute((EXAMPLES / "mysql/users.sql").read_text())
            cursor.executemany(_insert("`"), _rows())
        database.commit()
    return f"hosts=127.0.0.1:{port} database=mail user=pproxy passwordfile={secret} tls=off"


_SLAPD_PACKAGES = "slapd gcc python3-dev libldap-dev libsasl2-dev"    # pip compiles the driver
_SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "dc=demo"
rootdn "cn=pproxy,dc=demo"
rootpw "{secret}"
directory {folder}/data
index objectClass,uid eq
access to * by * none
"""
_ENTRY = """
dn: uid={name},ou={namespace},dc=demo
objectClass: inetOrgPerson
objectClass: extensibleObject
uid: {name}
cn: {name}
sn: {name}
userPassword: {password}
mailHost: {backend}
"""


def _ldap(etc: Path, folder: Path, stack: ExitStack) -> str:
    slapd = _program("slapd", "ldap", _SLAPD_PACKAGES, "ldap")
    slapadd = _program("slapadd", "ldap", _SLAPD_PACKAGES, "ldap")
    module("ldap", "ldap", _SLAPD_PACKAGES, "ldap")
    secret, port = _secret(etc), _free_port()
    (folder / "data").mkdir()
    config = private(folder / "slapd.conf", _SLAPD.format(secret=secret.read_text(), folder=folder))
    lines = ["dn: dc=demo\nobjectClass: domain\ndc: demo\n"]
    for namespace in dict.fromkeys(account.namespace for account in ACCOUNTS):
        lines.append(f"\ndn: ou={namespace},dc=demo\nobjectClass: organizationalUnit\nou: {namespace}\n")
    for account in ACCOUNTS:
        lines.append(_ENTRY.format(name=account.name, namespace=account.namespace, backend=account.backend,
                                   password=salted(account.password)))
        lines += [f"{attribute}: {value}\n" for attribute, value in (
            ("description", account.mailbox), ("displayName", account.buser), ("street", account.bpass)) if value]
    users = private(etc / "users.ldif", "".join(lines))
    _prepare(folder, [slapadd, "-f", config, "-l", users])
    _run(stack, folder, port, [slapd, "-d0", "-f", config, "-h", f"ldap://127.0.0.1:{port}"])
    return (f"uri=ldap://127.0.0.1:{port} starttls=off binddn=cn=pproxy,dc=demo bindpasswordfile={secret} "
            "base=ou=%n,dc=demo password=%{userPassword} backend=%{mailHost} mailbox=%{description} "
            "buser=%{displayName} bpass=%{street}")


def _redis(etc: Path, folder: Path, stack: ExitStack) -> str:
    name = "valkey-server" if shutil.which("valkey-server") else "redis-server"    # Debian 13 has both
    server = _program(name, "redis", "redis-server", "redis")
    redis = module("redis", "redis", "redis-server", "redis")
    secret, port = _secret(etc), _free_port()
    config = private(folder / "redis.conf", f'bind 127.0.0.1\nport {port}\ndir "{folder}"\nsave ""\n'
                                            f"requirepass {secret.read_text()}\n")
    _run(stack, folder, port, [server, config])
    with redis.Redis(port=port, password=secret.read_text()) as client:
        for user, namespace, *values in _rows():
            client.hset(f"popular:{namespace}:{user}", mapping=dict(zip(_COLUMNS[2:], values)))
    return f"servers=127.0.0.1:{port} passwordfile={secret}"


_NGINX = """\
{user}
daemon off;
pid "{folder}/pid";
error_log "{folder}/log";
events {{}}
http {{
    access_log off;
    client_body_temp_path "{folder}/body";
    proxy_temp_path "{folder}/proxy";
    fastcgi_temp_path "{folder}/fastcgi";
    uwsgi_temp_path "{folder}/uwsgi";
    scgi_temp_path "{folder}/scgi";
    map "$http_x_popular_namespace:$http_auth_user:$http_auth_pass" $status_line {{
        default "Invalid login or password";
{passwords}
    }}
{maps}
    server {{
        listen 127.0.0.1:{port};
        location = /auth {{
            add_header Auth-Status $status_line;
{headers}
            return 204;
        }}
    }}
}}
"""
_HEADERS = {"X-POPular-Backend": "backend", "X-POPular-Mailbox": "mailbox", "Auth-User": "buser", "Auth-Pass": "bpass"}


def _http(etc: Path, folder: Path, stack: ExitStack) -> str:
    nginx = _program("nginx", "http", "nginx-light", "http")
    module("urllib3", "http", "nginx-light", "http")
    port, maps = _free_port(), []
    for name in _HEADERS.values():
        maps.append(f'    map "$http_x_popular_namespace:$http_auth_user" ${name} {{\n        default "";')
        maps += [f'        "{account.namespace}:{account.name}" "{getattr(account, name)}";' for account in ACCOUNTS]
        maps.append("    }")
    config = private(etc / "nginx.conf", _NGINX.format(
        user="user root;" if os.geteuid() == 0 else "", folder=folder, port=port, maps="\n".join(maps),
        passwords="\n".join(f'        "{account.namespace}:{account.name}:{account.password}" OK;'
                            for account in ACCOUNTS),
        headers="\n".join(f"            add_header {header} ${name};" for header, name in _HEADERS.items())))
    _run(stack, folder, port, [nginx, "-e", folder / "log", "-c", config])
    return f"url=http://127.0.0.1:{port}/auth"


SERVERS: Mapping[str, Callable[[Path, Path, ExitStack], str]] = {
    "pgsql": _pgsql, "mysql": _mysql, "ldap": _ldap, "redis": _redis, "http": _http}


def _rows() -> list[tuple[str, ...]]:
    """Return all accounts as rows with the columns _COLUMNS."""
    return [(account.name, account.namespace, salted(account.password), account.backend, account.mailbox,
             account.buser, account.bpass) for account in ACCOUNTS]


def _insert(quote: str) -> str:
    """Return the statement that adds a row; `user` is a word of SQL and needs quotes."""
    columns = ", ".join(f"{quote}{name}{quote}" for name in _COLUMNS)
    return f"INSERT INTO users ({columns}) VALUES ({', '.join(['%s'] * len(_COLUMNS))})"


def _secret(etc: Path) -> Path:
    """Make the password of the proxy at the server, in a file as the modules read it."""
    return private(etc / "database.secret", secrets.token_hex(16))


def _program(name: str, database: str, package: str, extra: str, *folders: Path) -> Path:
    """Return the path of a program; raises Missing."""
    places = [os.environ.get("PATH", os.defpath), "/usr/sbin", *map(str, folders)]
    found = shutil.which(name, path=":".join(places))
    if found is None:
        raise Missing(database, package, extra)
    return Path(found)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _prepare(folder: Path, command: Sequence[str | Path], user: str | None = None) -> None:
    """Run a command before the server starts; raises NotStarted."""
    with (folder / "log").open("ab") as log:
        try:
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, user=user,
                           extra_groups=None if user is None else ())
        except PermissionError:
            raise NotStarted(f"user {user} must be able to enter {folder}") from None
        except subprocess.CalledProcessError:
            raise NotStarted(f"{command[0]} fails; see {folder}/log") from None


def _run(stack: ExitStack, folder: Path, port: int, command: Sequence[str | Path], user: str | None = None) -> None:
    """Run a server until `stack` is closed or this process is killed, and wait until it listens; raises NotStarted."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, cwd=folder, user=user, extra_groups=None if user is None else ())
    stack.callback(_end, process)
    end = time.monotonic() + SECONDS
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0):
            return
        if process.poll() is not None or time.monotonic() > end:
            raise NotStarted(f"the database server does not start; see {folder}/log")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server."""
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _until(connect: Callable[[], Any], trouble: type[Exception]) -> Any:
    """Return a connection to a server that listens, but may not answer yet."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            return connect()
        except trouble:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
