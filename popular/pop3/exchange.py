"""The exchange of a SASL mechanism over a wire (RFC 5034 section 4): challenges and responses, in base64.

Used in the children of pproxy.  Raises CommandRefused for what the client does wrong, or if it cancels, and Gone.
"""

import binascii
from contextlib import suppress

from popular.errors import CommandRefused
from popular.net.wire import Wire
from popular.sasl.mechanism import Credentials, Mechanism

MAX_SASL_LINE = 12_288    # octets of a line, from the client or to it

_CANCEL = b"*"
_EMPTY = b"="        # an initial response without octets


class SaslExchange:
    """One exchange; the wire must take lines of `MAX_SASL_LINE` octets."""

    def __init__(self, wire: Wire, mechanism: Mechanism) -> None:
        self._wire = wire
        self._mechanism = mechanism

    def run(self, initial: bytes | None) -> Credentials:
        """Return what the client has shown; `initial` is the argument of AUTH, None without one."""
        mechanism = self._mechanism
        if initial is None:
            response = self._ask(mechanism.challenge)
        elif mechanism.client_begins:
            response = b"" if initial == _EMPTY else _decoded(initial)
        else:
            raise CommandRefused("this mechanism has no initial response")
        while not isinstance(said := mechanism.step(response), Credentials):
            response = self._ask(said)
        return said

    def accept(self, proof: bytes) -> None:
        """Tell the client what the mechanism demands before it is let in."""
        message = self._mechanism.accepted(proof)
        if message and self._ask(message):
            raise CommandRefused("nothing more was to be said")

    def refuse(self) -> None:
        """Tell the client what the mechanism demands before it is refused; the answer does not matter."""
        message = self._mechanism.refused()
        if message:
            self._send(message)
            with suppress(CommandRefused):
                self._wire.readline()

    def _ask(self, challenge: bytes) -> bytes:
        self._send(challenge)
        line = self._wire.readline()
        if line == _CANCEL:
            raise CommandRefused("authentication cancelled")
        return _decoded(line)

    def _send(self, challenge: bytes) -> None:
        self._wire.send(b"+ " + binascii.b2a_base64(challenge, newline=False) + b"\r\n")


def _decoded(line: bytes) -> bytes:
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise CommandRefused("not base64") from None
