"""A plain LMTP client for tests: it sends what it is told, octet for octet, and reads an answer for each recipient."""

import socket
from collections.abc import Sequence
from types import TracebackType

from popular.addresses import Endpoint


class LmtpClient:
    """One connection to an LMTP server; raises AssertionError on answers that are not as wanted."""

    def __init__(self, endpoint: Endpoint, timeout: float = 40.0) -> None:
        if endpoint.is_unix:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(endpoint.host)
        else:
            self.sock = socket.create_connection((endpoint.host, endpoint.port), timeout)
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> "LmtpClient":
        self.want(220)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.sock.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.sock.sendall(octets)

    def answer(self) -> str:
        """Return the last line of the next answer, without its end; empty at the end of the connection."""
        while (line := self._file.readline().decode("ascii"))[3:4] == "-":
            pass
        return line.removesuffix("\r\n")

    def want(self, *codes: int) -> list[str]:
        """Read answers with these codes; return them."""
        answers = [self.answer() for _ in codes]
        assert [answer[:3] for answer in answers] == [str(code) for code in codes], answers
        return answers

    def say(self, command: str, code: int) -> str:
        """Send a command and return its answer, which must have this code."""
        self.send(command.encode() + b"\r\n")
        return self.want(code)[0]

    def begin(self, recipients: Sequence[str], sender: str = "chris@example.org") -> list[str]:
        """Say everything up to the recipients; return the answers to them, both codes of each."""
        self.send(f"LHLO mta\r\nMAIL FROM:<{sender}>\r\n".encode())
        self.want(250, 250)
        self.send("".join(f"RCPT TO:{each if each[0] == '<' else f'<{each}>'}\r\n" for each in recipients).encode())
        return [" ".join(self.answer().split()[:2]) for _ in recipients]

    def mail(self, recipients: Sequence[str], text: bytes, sender: str = "chris@example.org") -> list[str]:
        """Send a message whose recipients are all accepted; return an answer for each, both codes."""
        answers = self.begin(recipients, sender)
        assert answers == ["250 2.1.5"] * len(recipients), answers
        self.say("DATA", 354)
        self.send(text + b".\r\n")
        return [" ".join(self.answer().split()[:2]) for _ in recipients]
