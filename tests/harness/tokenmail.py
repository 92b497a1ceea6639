"""A provider's POP3 server for tests: over TLS, and only AUTH XOAUTH2 lets anybody in."""

import base64
import socketserver
import threading
from collections.abc import Mapping

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.harness.certificates import server_of
from tests.harness.leaving import ClientsMayLeave


class TokenMail:
    """The server; one thread for each connection, and `close` waits for their ends."""

    def __init__(self, pair: KeyPair, tokens: Mapping[str, str]) -> None:
        """Let in who shows a token of `tokens`, whose values are users; the map may change."""
        self.tokens, self.logins = tokens, list[str]()
        owner = self

        class Session(_Session):
            server_of_tests = owner
        self._server = _Server(("127.0.0.1", 0), Session)
        self._server.socket = server_of([pair]).wrap_socket(self._server.socket, server_side=True,
                                                            do_handshake_on_connect=False)
        self.endpoint = Endpoint("127.0.0.1", self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ClientsMayLeave, socketserver.ThreadingTCPServer):
    pass


class _Session(socketserver.StreamRequestHandler):
    server_of_tests: TokenMail

    def handle(self) -> None:
        self._say(b"+OK ready")
        while line := self.rfile.readline().rstrip(b"\r\n"):
            verb, _, rest = line.partition(b" ")
            match verb:
                case b"AUTH":
                    self._authenticate(rest)
                case b"STAT":
                    self._say(b"+OK 1 17")
                case b"QUIT":
                    self._say(b"+OK bye")
                    return
                case _:
                    self._say(b"-ERR what?")

    def _authenticate(self, rest: bytes) -> None:
        name, _, message = rest.partition(b" ")
        if name != b"XOAUTH2":
            self._say(b"-ERR no such mechanism")
            return
        if not message:
            self._say(b"+ ")
            message = self.rfile.readline().rstrip(b"\r\n")
        user, bearer, *_ = base64.b64decode(message).decode().split("\1")
        token = bearer.removeprefix("auth=Bearer ")
        if self.server_of_tests.tokens.get(token) == user.removeprefix("user="):
            self.server_of_tests.logins.append(token)
            self._say(b"+OK User successfully authenticated")
            return
        self._say(b"+ " + base64.b64encode(b'{"status":"400","schemes":"Bearer"}'))
        self.rfile.readline()
        self._say(b"-ERR [AUTH] Logon failure: unknown user name or bad password.")

    def _say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")
