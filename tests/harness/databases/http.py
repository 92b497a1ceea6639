"""nginx as a service of its `auth_http` dialect, which knows the users of a map.

What it answers is in the headers that other such services send: Auth-Server and Auth-Port for rows with protocol pop3,
X-POPular-* for the others.
"""

import os
import re
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from popular.net.tls.context import KeyPair
from tests.harness.databases import UserRow
from tests.harness.databases.keeper import Keeper, KeptServer, connections_to
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_module, need_program
from tests.harness.ports import free_port
from tests.harness.system import wait_for

_CONFIG = """\
{user}
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{
    worker_connections 1024;
}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map_hash_max_size 262144;
    map_hash_bucket_size 1024;
    large_client_header_buffers 4 32k;
    geo $dollar {{
        default "$";
    }}
    map $http_x_popular_namespace:$http_auth_user $similar {{
{numbers}
    }}
    map "$name $http_x_popular_namespace:$http_auth_user" $row {{
        "~^(.+) \\1$" $similar;
    }}
    map "$password $http_auth_pass" $status_line {{
        default "Invalid login or password";
        "~^(.+) \\1$" OK;
    }}
{maps}
    server {{
        listen 127.0.0.1:{port}{tls};
        location = /auth {{
            add_header Auth-Status $status_line;
            add_header Auth-Wait 3;
            if ($http_x_auth_key != "{secret}") {{ return 403; }}
{headers}
            return 204;
        }}
    }}
}}
"""
_BACKEND_PORT = 110
_HEADERS = {"Auth-Server": "server", "Auth-Port": "port", "Auth-User": "buser", "Auth-Pass": "bpass",
            "X-POPular-Backend": "backend", "X-POPular-Protocol": "protocol", "X-POPular-Mailbox": "mailbox"}


class Nginx(KeptServer):
    """A running nginx and its users."""

    module = "http"
    driver = "urllib3"
    secret = "key of pproxy"
    lacks = LACKS["http"]

    def __init__(self, folder: Path, pair: KeyPair | None = None) -> None:
        """Start it without users; with `pair` it speaks TLS."""
        need_module(self.driver)
        self._folder, self._pair, self.port = folder, pair, free_port()
        self._secretfile = folder / "secret"
        self._secretfile.write_text(self.secret)
        self._secretfile.chmod(0o600)
        config = folder / "nginx.conf"
        command: list[str | Path] = [need_program("nginx"), "-e", folder / "error.log", "-c", config]
        super().__init__(Keeper(command, folder / "nginx.err"))
        self._rows: list[UserRow] = []
        self.start()

    @property
    def url(self) -> str:
        """The service's URL."""
        return f"http://127.0.0.1:{self.port}/auth" if self._pair is None else f"https://localhost:{self.port}/auth"

    def words(self) -> list[str]:
        """Return the arguments of the module, each backend at an address of its own."""
        pairs = ",".join(f"{_address(backend)}:{_BACKEND_PORT}={backend}" for backend in ("store", "other", "old"))
        return [f"url={self.url}", f"backends={pairs}", "header=X-Auth-Key", f"secretfile={self._secretfile}"]

    def add(self, *rows: UserRow) -> None:
        """Add users: nginx reads its configuration again."""
        self._rows += rows
        self.stop()
        self.start()

    def start(self) -> None:
        """Start it."""
        (self._folder / "nginx.conf").write_bytes(self._config().encode("utf-8", "surrogateescape"))
        self._keeper.start()
        wait_for(self._is_up, 10.0, f"nginx in {self._folder}")

    def connections(self) -> int:
        """Return how many connections it has."""
        return connections_to(self.port)

    def _is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5.0):
            return True
        return False

    def _config(self) -> str:
        tls = ""
        if self._pair is not None:
            tls = (f" ssl;\n        ssl_certificate {self._pair.certificate};\n"
                   f"        ssl_certificate_key {self._pair.key}")
        rows, told = [*enumerate(self._rows, 1)], [*enumerate(map(_told, self._rows), 1)]
        maps = [_map("similar", "name", ((number, _key(row)) for number, row in rows)),
                _map("row", "password", ((number, _sent(row.password)) for number, row in rows)),
                *(_map("row", name, ((number, values[name]) for number, values in told)) for name in _HEADERS.values())]
        return _CONFIG.format(
            folder=self._folder, port=self.port, secret=self.secret, tls=tls,
            user="user root;" if os.geteuid() == 0 else "",
            numbers="\n".join(f"        {_quoted(_key(row))} {number};" for number, row in rows),
            maps="\n".join(maps),
            headers="\n".join(f"            add_header {header} ${name};" for header, name in _HEADERS.items()))


def _map(source: str, target: str, values: Iterable[tuple[int, str]]) -> str:
    """Return a map from the number of a user, in one variable, to a value, in another."""
    lines = (f"        {number} {_quoted(text.replace('$', '${dollar}'))};" for number, text in values if text)
    return "\n".join([f"    map ${source} ${target} {{", *lines, "    }"])


def _told(row: UserRow) -> dict[str, str]:
    """Return the values of the headers about a user."""
    if row.protocol == "pop3":
        return {"server": _address(row.backend), "port": str(_BACKEND_PORT), "buser": row.buser, "bpass": row.bpass,
                "backend": "", "protocol": "", "mailbox": ""}
    return {"server": "", "port": "", "buser": row.buser, "bpass": row.bpass, "backend": row.backend,
            "protocol": row.protocol, "mailbox": row.mailbox}


def _address(backend: str) -> str:
    """Return an address for a backend, the same for the same id."""
    return f"10.9.8.{sum(backend.encode()) % 250 + 1}"


def _key(row: UserRow) -> str:
    """Return what a question says of a user; nginx ignores the case when it looks for it."""
    return f"{row.namespace}:{_sent(row.user)}"


def _sent(text: str) -> str:
    """Return a text as questions have it."""
    return re.sub("[\0- %]", lambda match: f"%{ord(match[0]):02X}", text)


def _quoted(text: str) -> str:
    """Return a word of nginx's configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def launch(folder: Path) -> Nginx:
    """Start nginx."""
    return Nginx(folder)
