"""A policy server as a site may have one: it notes what it is told, and answers as the test says."""

import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness.leaving import ClientsMayLeave
from tests.harness.system import wait_for

NONCE = "a nonce of the tests"


class PolicySite:
    """Serves from `with` to the end of the block."""

    def __init__(self, pair: KeyPair | None = None) -> None:
        """Serve over TLS, as localhost, if there is a `pair`."""
        self.told: list[tuple[str, dict[str, str], dict[str, Any]]] = []    # command, headers, body
        self.answer: tuple[int, bytes] | None = None    # None: it answers only when it closes
        self.allow()
        self._released = threading.Event()
        self._server = _Server(self)
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="policy-server")
        self.endpoint = Endpoint("127.0.0.1", self._server.server_address[1])
        self.url = f"https://localhost:{self.endpoint.port}/" if pair else f"http://{self.endpoint}/"

    def allow(self, status: object = 0, msg: str = "", *, http: int = 200, body: bytes | None = None) -> None:
        """Give this answer from now on; forget what was told."""
        self.answer = http, json.dumps({"status": status, "msg": msg}).encode() if body is None else body
        self.told.clear()

    def freeze(self) -> None:
        """Answer no more."""
        self.answer = None

    def hold(self) -> None:
        """Wait for the end; called by a connection's thread."""
        self._released.wait()

    def bodies(self, command: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until there are so many questions with this command; return what was in them."""
        def found() -> list[dict[str, Any]]:
            return [body for known, _, body in self.told if known == command]

        wait_for(lambda: len(found()) >= count, 10.0, f"{count} questions {command}")
        return found()

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._server.socks)

    def close(self) -> None:
        """Close all connections, and serve no more."""
        self._released.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def __enter__(self) -> "PolicySite":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class _Server(ClientsMayLeave, ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, site: PolicySite) -> None:
        self.site = site
        self.socks: list[socket.socket] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection: the client keeps it open."""
        self.socks.append(request)
        super().process_request(request, client_address)

    def server_close(self) -> None:
        """Close the connections, too, and wait for their threads."""
        for sock in self.socks:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:    # gone
                pass
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:    # noqa: N802
        """Answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        site = self.server.site
        site.told.append((self.path.rpartition("command=")[2], dict(self.headers), body))
        if site.answer is None:
            site.hold()
            self.close_connection = True
            return
        status, answer = site.answer
        self.send_response(status)
        if 300 <= status <= 399:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""
