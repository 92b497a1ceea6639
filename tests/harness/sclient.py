"""openssl s_client as a client: it tells what was agreed on, which no mail program does.

    told = s_client(daemon.endpoint(), "-tls1_2")
    assert told.agreed == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")
"""

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from popular.addresses import Endpoint
from tests.harness.needs import need_program

SECONDS = 40.0    # for one session

_AGREED = re.compile(r"^(New|Reused), (\S+), Cipher is (\S+)$", re.MULTILINE)
_SUBJECT = re.compile(r"^subject=CN=(.*)$", re.MULTILINE)
_SIGNATURE = re.compile(r"^Peer signature type: (ECDSA|RSA[-_]PSS)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Told:
    """How s_client ended."""

    code: int
    text: str    # standard output and error

    @property
    def agreed(self) -> tuple[str, str]:
        """Version and cipher, both (NONE) after a handshake that failed."""
        found = _AGREED.search(self.text)
        assert found, self.text
        return found.group(2), found.group(3)

    @property
    def is_resumed(self) -> bool:
        """Tell whether an earlier session was taken up again."""
        found = _AGREED.search(self.text)
        return found is not None and found.group(1) == "Reused"

    @property
    def subject(self) -> str:
        """The name in the server's certificate."""
        found = _SUBJECT.search(self.text)
        assert found, self.text
        return found.group(1)

    @property
    def signature(self) -> str:
        """How the server signed, ECDSA or RSA-PSS; some versions of openssl add curve and hash."""
        found = _SIGNATURE.search(self.text)
        assert found, self.text
        return found.group(1).upper().replace("_", "-")


class SClient:
    """One s_client at work; see `talking`."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._text = b""

    def say(self, line: str) -> None:
        """Send a line, or give s_client a command of one letter."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def await_text(self, wanted: str) -> None:
        """Wait until s_client has written `wanted` after what was awaited before; raises AssertionError."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + SECONDS
        while wanted.encode() not in self._text:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            block = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert block, f"{wanted!r} did not come: {self._text.decode(errors='replace')}"
            self._text += block
        self._text = self._text.partition(wanted.encode())[2]

    def end(self) -> Told:
        """Wait for its end; returns what came since the last text that was awaited."""
        rest, _ = self._process.communicate(timeout=SECONDS)
        return Told(self._process.returncode, (self._text + rest).decode(errors="replace"))


@contextmanager
def talking(endpoint: Endpoint, *options: str) -> Iterator[SClient]:
    """Run s_client, whose input stays open; killed at the end should it still be there."""
    with subprocess.Popen(_command(endpoint, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, bufsize=0) as process:
        try:
            yield SClient(process)
        finally:
            if process.poll() is None:
                process.kill()


def s_client(endpoint: Endpoint, *options: str, text: str = "QUIT\n") -> Told:
    """Say `text` under TLS and return what s_client told when the server had ended the session."""
    ended = subprocess.run([*_command(endpoint, *options), "-ign_eof"], input=text.encode(), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=SECONDS, check=False)
    return Told(ended.returncode, ended.stdout.decode(errors="replace"))


def _command(endpoint: Endpoint, *options: str) -> list[str]:
    return [need_program("openssl"), "s_client", "-connect", f"{endpoint.host}:{endpoint.port}", "-crlf",
            "-nameopt", "RFC2253", *options]
