"""Servers of tests whose clients may leave at any time, as a daemon does that has its answer."""

import socketserver
import sys
from typing import Any


class ClientsMayLeave(socketserver.BaseServer):
    """A mixin, named before the class of the server: it prints nothing of connections that fail.

    A thread could print after the end of its test, when there is no output any more.
    """

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print whatever else fails."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
