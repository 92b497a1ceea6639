"""A Dovecot that demands TLS, and takes access tokens and a master user; and whom it asks about tokens.

    with Introspection({"a-token": "anna"}) as tokens, strict_dovecot(folder, authority, users, tokens) as dovecot: …
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs

from tests.harness.certificates import Authority
from tests.harness.dovecot import Dovecot, NoDovecot, find_dovecot
from tests.harness.dovecot_config import configure
from tests.harness.leaving import ClientsMayLeave
from tests.harness.needs import lacking

MASTER, MASTER_PASSWORD = "admin", "master secret"

_MORE = """
auth_mechanisms = {mechanisms}
auth_master_user_separator = *
{passdb_of_masters}
{tokens}
"""
_OAUTH2 = """\
introspection_mode = post
introspection_url = {url}
username_attribute = username
active_attribute = active
active_value = true
"""


class Introspection:
    """A server that knows tokens and their users (RFC 7662)."""

    def __init__(self, users: Mapping[str, str]) -> None:
        owner = self

        class Handler(_Handler):
            asked = owner
        self.users = users
        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/introspect"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "Introspection":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ClientsMayLeave, HTTPServer):
    pass


class _Handler(BaseHTTPRequestHandler):
    asked: Introspection

    def do_POST(self) -> None:
        """Answer one question."""
        body = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        user = self.asked.users.get(body.get("token", [""])[0])
        answer = json.dumps({"active": bool(user), **({"username": user} if user else {})}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def strict_dovecot(folder: Path, authority: Authority, users: Mapping[str, str], tokens: Introspection,
                   mechanisms: str) -> Iterator[Dovecot]:
    """Yield the Dovecot; ends the test with `lacking` if there is none."""
    pair = authority.sign("127.0.0.1", stem="dovecot")
    masters, oauth2 = folder / "masters", folder / "oauth2"
    masters.write_text(f"{MASTER}:{MASTER_PASSWORD}\n")
    oauth2.write_text(_OAUTH2.format(url=tokens.url))
    try:
        more = configure(_MORE, find_dovecot().language, mechanisms=mechanisms, masters=masters, oauth2=oauth2,
                         introspection=tokens.url)
        server = Dovecot.start(folder / "dovecot", users, pair, more.replace("{", "{{").replace("}", "}}"))
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with server:
        yield server
